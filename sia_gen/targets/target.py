"""What every model under audit offers."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sia_gen.core.errors import RequestError
from sia_gen.core.images import Images
from sia_gen.targets.task import Classification, Task


@dataclass(frozen=True)
class Label:
    """What a target predicts, as an attribute: the classes are cut by thresholds on its value.

    ``attribute`` is left out of every attribute space that audits this target; class i holds values from
    ``thresholds[i-1]`` up to ``thresholds[i]`` (in the attribute's unit, ascending, one fewer than the classes).
    """

    attribute: str
    thresholds: tuple[float, ...]


def classify(values: Tensor, thresholds: Sequence[float]) -> Tensor:
    """The class of each value, int64 of the same shape: how many thresholds lie at or below it."""
    return torch.bucketize(values.contiguous(), torch.tensor(thresholds, device=values.device), right=True)


@runtime_checkable
class Target(Protocol):
    """A model under audit. It resizes and normalises for itself."""

    name: str
    task: Task
    differentiable: bool
    label: Label | None

    def predict(self, images: Images) -> Tensor:
        """Images ``[B, 3, H, W]`` in [0, 1] → prediction ``[B, ...]`` as the task expects it."""
        ...


def aim(target: Target, towards: str) -> Target:
    """The same classifier, to be driven towards one class; raises `RequestError` for another task or class."""
    if not isinstance(target.task, Classification):
        raise RequestError(f"'{target.name}' has no classes, so nothing to be driven towards; leave 'towards' out")
    aimed = copy(target)
    object.__setattr__(aimed, "task", replace(target.task, towards=towards))  # of a copy, frozen or not
    return aimed
