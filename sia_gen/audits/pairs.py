"""Pairs of attributes moved together, on request: whether two do what neither does alone.

Letters: N correct faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.results import outcomes
from sia_gen.audits.statistics import bootstrap, wilson
from sia_gen.core.errors import RequestError, unknown

Pair: TypeAlias = tuple[str, str]

JOINED = " + "


def checked(pairs: Sequence[Pair], audited: AttributeSpace) -> list[Pair]:
    """The pairs asked for, as tuples; raises `RequestError` for one of the same attribute twice or an unknown one."""
    found: list[Pair] = []
    for pair in pairs:
        if len(pair) != 2 or pair[0] == pair[1]:
            raise RequestError(f"'{JOINED.join(pair)}' is no pair of attributes; name two different ones")
        for name in pair:
            if name not in audited.names:
                raise unknown("attribute of the audit", name, audited.names)
        if any(set(pair) == set(other) for other in found):
            raise RequestError(f"the pair '{JOINED.join(pair)}' is asked for twice; name it once")
        found.append((pair[0], pair[1]))
    return found


def arm_of(pair: Pair) -> str:
    return JOINED.join(pair)


def pair_rows(folder: Path, pairs: Sequence[Pair], seed: int) -> list[dict[str, Any]]:
    """A row for each pair: how many faces failed, the mean |change of output|, and how far beyond the stronger alone.

    "beyond" is the mean, over faces, of the pair's |change of output| less the larger of the two alone, with its 95 %
    interval: above 0, the two together do what neither does.
    """
    rows = []
    for pair in pairs:
        found = outcomes(folder, arm_of(pair))
        change = found.change
        alone = np.maximum(*(outcomes(folder, name).change for name in pair))
        faces, failed = len(change), int(found.success.sum())
        beyond = change - alone
        rows.append(
            {
                "name": arm_of(pair),
                "attempted": faces,
                "successes": failed,
                "success": failed / faces if faces else 0.0,
                "interval": wilson(failed, faces),
                "output_change": float(change.mean()) if faces else None,
                "beyond": float(beyond.mean()) if faces else None,
                "beyond_interval": bootstrap(beyond, np.arange(faces), seed) if faces else None,
            }
        )
    return sorted(rows, key=lambda row: -(row["beyond"] or 0.0))
