"""How right a target is on renders whose labels are exact: over all, in its worst group, and where its cause works.

Letters: N renders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sia_gen.core.executors import Batches
from sia_gen.core.images import Images, from_bytes
from sia_gen.studio.factors import NAMES
from sia_gen.studio.renders import RenderSet
from sia_gen.targets.points import FACE_POINTS, Keypoints
from sia_gen.targets.target import Target, ask, classify
from sia_gen.targets.task import Classification, Regression
from sia_gen.training.groups import groups

BATCH = 64
JUDGED = 2000  # shipped renders, the first ones, that models are measured on


def measured(target: Target) -> str | None:
    """What `figures` gives of a target, in words; None where renders do not say what is right of it."""
    task, label = target.task, target.label
    if isinstance(task, Keypoints):
        return f"faces with an error up to {task.tolerance:g}" if task.points == FACE_POINTS.points else None
    if label is None or label.attribute not in NAMES:
        return None
    if isinstance(task, Classification):
        return "balanced accuracy"
    return f"faces read within {task.tolerance:g}" if isinstance(task, Regression) else None


class Truths:
    """What a target says of renders, against what is right of them."""

    def __init__(self, target: Target, data: RenderSet) -> None:
        self.target, self.data = target, data
        self.truth, self.classes = _truth(target, data)

    def right(self, images: Callable[[slice], Images]) -> Tensor:
        """Whether the target is right on each render ``[N]``, of which it is shown the ``images`` of a part."""

        def wrong(part: slice) -> Tensor:
            with torch.no_grad():
                shown = images(part)
                return self.target.task.failed(ask(self.target, shown), self.truth[part].to(shown.device))

        return ~torch.cat(list(Batches(BATCH)(len(self.data), wrong))).cpu()

    def share(self, images: Callable[[slice], Images]) -> float:
        """The share that it is right on, balanced over the classes, if there are any."""
        return balanced(self.right(images), self.classes)


def figures(target: Target, data: RenderSet, focus: Sequence[str], device: torch.device) -> dict[str, Any]:
    """The share of renders that a target is right on, over all, in each subgroup, and on either side of each focus.

    Of a classifier "balanced" and the groups' shares are balanced over its classes. "cells" are by attribute the shares
    of each class (all faces, of a target without classes) below and above the attribute's median: a cause of failure
    is a class that is read worse on one of the sides; "worst" is the least of all. The target is one of which
    `measured` says something.
    """
    truths = Truths(target, data)
    right, classes = truths.right(lambda part: from_bytes(data.images[part]).to(device)), truths.classes
    found: dict[str, Any] = {"renders": len(data), "balanced": balanced(right, classes)}
    own = None if target.label is None else target.label.attribute
    by_group = {
        name: balanced(right[rows], classes[rows])
        for name, rows in groups(data, 0, without=own).items()
        if set(classes[rows].tolist()) == set(classes.tolist())
    }
    found["groups"] = by_group
    cells = {}
    for name in (name for name in focus if name in NAMES):
        values = data.value(name)
        above = values > values.median()
        cells[name] = [
            [_share(right[(classes == each) & (above == side)]) for side in (False, True)]
            for each in range(len(getattr(target.task, "classes", [""])))
        ]
    found["cells"] = cells
    shares = [share for rows in cells.values() for row in rows for share in row if share is not None]
    found["worst"] = min([*by_group.values(), *shares], default=found["balanced"])
    return found


def _truth(target: Target, data: RenderSet) -> tuple[Tensor, Tensor]:
    """What is right of each render ``[N, ...]``, and its class ``[N]``, 0 for a target without classes."""
    none = torch.zeros(len(data), dtype=torch.int64)
    if isinstance(target.task, Keypoints):
        return data.landmarks, none
    assert target.label is not None
    values = data.value(target.label.attribute)
    if isinstance(target.task, Classification):
        classes = classify(values, target.label.thresholds)
        return classes, classes
    return values[:, None], none


def balanced(right: Tensor, classes: Tensor) -> float:
    """The mean over classes of the share that is right, of bool ``[N]``."""
    shares = [right[classes == each].float().mean() for each in classes.unique()]
    return round(float(torch.stack(shares).mean()), 4)


def _share(right: Tensor) -> float | None:
    return round(float(right.float().mean()), 4) if len(right) else None
