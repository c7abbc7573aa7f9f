"""How right a classifier is on renders whose labels are exact: over all, in its worst group, and where its cause works.

Letters: N renders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sia_gen.audits.evidence.rendered import class_of
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Batches
from sia_gen.core.images import from_bytes
from sia_gen.studio.renders import RenderSet
from sia_gen.targets.target import Target, ask
from sia_gen.training.groups import groups

BATCH = 64


def figures(target: Target, data: RenderSet, focus: Sequence[str], device: torch.device) -> dict[str, Any]:
    """Balanced accuracy, that of each subgroup, and of the faces that lie on either side of each focus attribute.

    "cells" are by attribute the accuracies of each class below and above the attribute's median: a cause of failure is
    a class that is read worse on one of the sides; "worst" is the least of all.
    """
    truth = class_of(target, data.values)
    if truth is None:
        raise RequestError(f"'{target.name}' has no label among the studio's factors, so that renders cannot judge it")
    parts = Batches(BATCH)(len(data), lambda part: _decided(target, from_bytes(data.images[part]).to(device)))
    right = torch.cat(list(parts)).cpu() == truth
    found: dict[str, Any] = {"renders": len(data), "balanced": _balanced(right, truth)}
    own = None if target.label is None else target.label.attribute
    by_group = {
        name: _balanced(right[rows], truth[rows])
        for name, rows in groups(data, 0, without=own).items()
        if len(truth[rows].unique()) > 1
    }
    found["groups"] = by_group
    cells = {}
    for name in focus:
        values = data.value(name)
        above = values > values.median()
        cells[name] = [
            [_share(right[(truth == each) & (above == side)]) for side in (False, True)]
            for each in truth.unique().tolist()
        ]
    found["cells"] = cells
    shares = [share for rows in cells.values() for row in rows for share in row if share is not None]
    found["worst"] = min([*by_group.values(), *shares], default=found["balanced"])
    return found


@torch.no_grad()
def _decided(target: Target, images: Tensor) -> Tensor:
    return target.task.decide(ask(target, images))


def _balanced(right: Tensor, truth: Tensor) -> float:
    shares = [right[truth == each].float().mean() for each in truth.unique()]
    return round(float(torch.stack(shares).mean()), 4)


def _share(right: Tensor) -> float | None:
    return round(float(right.float().mean()), 4) if len(right) else None
