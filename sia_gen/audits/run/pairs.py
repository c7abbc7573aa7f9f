"""Pairs of attributes moved together, on request: whether two do what neither does alone.

Letters: N correct faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.evidence.statistics import mean_interval, wilson
from sia_gen.audits.run.results import outcomes, valid_of
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


def pair_rows(folder: Path, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """A row for each pair: how many faces failed, the mean |change of output|, and how far beyond the stronger alone.

    "beyond" is the mean, over faces, of the pair's |change of output| less the larger of the two alone, with its 95 %
    interval: above 0, the two together do what neither does.
    """
    rows = []
    for pair in pairs:
        found, *alone = (outcomes(folder, arm, ["valid"]) for arm in (arm_of(pair), *pair))
        kept = np.all([each.kept for each in (found, *alone)], axis=0)
        faces, failed, change = len(kept), int(found.success.sum()), found.change[found.kept]
        beyond = (found.change - np.maximum(*(each.change for each in alone)))[kept]
        rows.append(
            {
                "name": arm_of(pair),
                "attempted": faces,
                "successes": failed,
                "success": failed / faces if faces else 0.0,
                "interval": wilson(failed, faces),
                **valid_of(found.rows["valid"], faces),
                "output_change": float(change.mean()) if len(change) else None,
                "beyond": float(beyond.mean()) if len(beyond) else None,
                "beyond_interval": mean_interval(beyond, np.arange(len(beyond))),
            }
        )
    return sorted(rows, key=lambda row: -(row["beyond"] or 0.0))
