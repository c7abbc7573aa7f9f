"""What a target does: the loss to ascend, the error to report, and the criterion of failure.

Letters: B images, C classes, F values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from sia_gen.core.errors import WorkError


class Task(Protocol):
    """Each method takes a prediction and a reference with B as first axis and gives one number per image."""

    def check(self, prediction: Tensor, images: int) -> None:
        """Raise `WorkError` unless the prediction is finite and shaped as this task expects for ``images`` images."""
        ...

    def decide(self, prediction: Tensor) -> Tensor:
        """The reference that this prediction amounts to (a class, a value …): ``[B, ...]``."""
        ...

    def loss(self, prediction: Tensor, reference: Tensor) -> Tensor:
        """``[B]`` float32, higher = closer to failing."""
        ...

    def failed(self, prediction: Tensor, reference: Tensor) -> Tensor:
        """``[B]`` bool."""
        ...

    def output(self, prediction: Tensor, reference: Tensor) -> Tensor:
        """``[B]``: the number whose change is reported (probability of the reference class, a value …)."""
        ...


def _check(prediction: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(prediction.shape) != shape:
        raise WorkError(f"the target gave shape {list(prediction.shape)}, not {list(shape)}; return one row per image")
    bad = ~torch.isfinite(prediction).reshape(len(prediction), -1).all(dim=1)
    if bad.any():
        faces = bad.nonzero().flatten().tolist()
        raise WorkError(
            f"the target gave NaN or Inf on image {faces[0]} of the batch; check its input range and weights"
        )


@dataclass(frozen=True)
class Classification:
    """Multi-class logits ``[B, C]``, C ≥ 2; fails when another class wins.

    The loss is the margin of the best wrong class over the reference class (Carlini & Wagner, arXiv 1608.04644),
    which keeps its gradient where cross-entropy saturates.
    """

    classes: tuple[str, ...]

    def check(self, prediction: Tensor, images: int) -> None:
        _check(prediction, (images, len(self.classes)))

    def decide(self, prediction: Tensor) -> Tensor:
        return prediction.argmax(dim=1)  # [B]

    def loss(self, prediction: Tensor, reference: Tensor) -> Tensor:
        prediction = prediction.float()
        own = prediction.gather(1, reference[:, None]).squeeze(1)  # [B]
        others = prediction.scatter(1, reference[:, None], -torch.inf)  # [B, C]
        return others.amax(dim=1) - own

    def failed(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return self.loss(prediction, reference) > 0

    def output(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return F.softmax(prediction.float(), dim=1).gather(1, reference[:, None]).squeeze(1)


@dataclass(frozen=True)
class Regression:
    """Values ``[B, F]``; fails when their root mean square error exceeds ``tolerance`` (in the values' own unit).

    The output of one value is its signed error; errors of several would cancel, so theirs is the root mean square.
    """

    values: tuple[str, ...]
    tolerance: float

    def check(self, prediction: Tensor, images: int) -> None:
        _check(prediction, (images, len(self.values)))

    def decide(self, prediction: Tensor) -> Tensor:
        return prediction.detach()

    def loss(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return (prediction.float() - reference).square().mean(dim=1)

    def failed(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return self.loss(prediction, reference) > self.tolerance**2

    def output(self, prediction: Tensor, reference: Tensor) -> Tensor:
        error = prediction.float() - reference  # [B, F]
        return error.squeeze(1) if error.shape[1] == 1 else error.square().mean(dim=1).sqrt()


@dataclass(frozen=True)
class Keypoints:
    """Points ``[B, K, 2]`` in picture widths; fails when they are off by more than ``tolerance`` on average.

    Distances are counted in that between the reference's two points ``ends``: the normalised mean error, with the outer
    eye corners for faces (Sagonas et al., 300 Faces In-The-Wild Challenge, 2013). Loss and output are this error.
    """

    points: int
    ends: tuple[int, int]
    tolerance: float = 0.08

    def check(self, prediction: Tensor, images: int) -> None:
        _check(prediction, (images, self.points, 2))

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


def normalised_error(points: Tensor, truth: Tensor, ends: tuple[int, int] = FACE_POINTS.ends) -> Tensor:
    """How far each of K points ``[B, K, 2]`` is from the truth, ``[B, K]``, in distances between the true ``ends``."""
    apart = (truth[:, ends[0]] - truth[:, ends[1]]).norm(dim=-1).clamp(min=1e-6)
    return (points - truth).norm(dim=-1) / apart[:, None]


@dataclass(frozen=True)
class Following:
    """A task whose reference moves with the image: every prediction ``[B, 2, ...]`` brings its own, in second place.

    So an edit may move the truth, as a turned head moves its landmarks, without that being held against the target.
    """

    task: Task

    def check(self, prediction: Tensor, images: int) -> None:
        for part in prediction.unbind(1) if prediction.ndim > 1 and prediction.shape[1] == 2 else [prediction]:
            self.task.check(part, images)

    def decide(self, prediction: Tensor) -> Tensor:
        return prediction[:, 1].detach()

    def loss(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return self.task.loss(prediction[:, 0], prediction[:, 1])

    def failed(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return self.task.failed(prediction[:, 0], prediction[:, 1])

    def output(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return self.task.output(prediction[:, 0], prediction[:, 1])
