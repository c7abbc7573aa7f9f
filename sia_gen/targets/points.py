"""Keypoints as a task, and how their error is counted.

Letters: B images, K points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sia_gen.targets.task import check_prediction


@dataclass(frozen=True)
class Keypoints:
    """Points ``[B, K, 2]`` in picture widths; fails when they are off by more than ``tolerance`` on average.

    Distances are counted in that between the reference's two points ``ends``: the normalised mean error, with the outer
    eye corners for faces (Sagonas et al., 300 Faces In-The-Wild Challenge, 2013). Loss and output are this error.
    """

    measured: ClassVar[str] = "the normalised mean error"

    points: int
    ends: tuple[int, int]
    tolerance: float = 0.08

    def check(self, prediction: Tensor, images: int) -> None:
        check_prediction(prediction, (images, self.points, 2))

    def decide(self, prediction: Tensor) -> Tensor:
        return prediction.detach()

    def loss(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return normalised_error(prediction.float(), reference, self.ends).mean(dim=1)

    def failed(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return self.loss(prediction, reference) > self.tolerance

    def output(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return self.loss(prediction, reference)


FACE_POINTS = Keypoints(68, (36, 45))
"""The landmarks of a face in iBUG order; 36 and 45 are the outer eye corners."""
PARTS = {"jaw": (0, 17), "brows": (17, 27), "nose": (27, 36), "eyes": (36, 48), "mouth": (48, 68)}
"""Which of them lie on each part of a face: from, and up to."""


def normalised_error(points: Tensor, truth: Tensor, ends: tuple[int, int] = FACE_POINTS.ends) -> Tensor:
    """How far each of K points ``[B, K, 2]`` is from the truth, ``[B, K]``, in distances between the true ``ends``."""
    apart = (truth[:, ends[0]] - truth[:, ends[1]]).norm(dim=-1).clamp(min=1e-6)
    return (points - truth).norm(dim=-1) / apart[:, None]


def by_part(error: Tensor) -> Tensor:
    """Errors of the 68 landmarks ``[B, 68]`` → their means over each of `PARTS`, ``[B, 5]``."""
    return torch.stack([error[:, first:last].mean(dim=1) for first, last in PARTS.values()], dim=1)
