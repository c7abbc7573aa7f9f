"""What every model under audit offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from sia_gen.core.images import Images
from sia_gen.targets.task import Task


@dataclass(frozen=True)
class Label:
    """What a target predicts, as an attribute: the classes are cut by thresholds on its value.

    ``attribute`` is left out of every attribute space that audits this target; class i holds values from
    ``thresholds[i-1]`` up to ``thresholds[i]`` (in the attribute's unit, ascending, one fewer than the classes).
    """

    attribute: str
    thresholds: tuple[float, ...]


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
