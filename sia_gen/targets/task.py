"""What a target does: the loss to ascend, the error to report, and the criterion of failure.

Letters: B images, C classes, L labels, F values, E numbers of an embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from sia_gen.core.errors import RequestError, WorkError, unknown


@runtime_checkable
class Task(Protocol):
    """Each method takes a prediction and a reference with B as first axis and gives one number per image."""

    @property
    def measured(self) -> str:
        """What `output` is, in words."""
        ...

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


def eligible(task: Task, prediction: Tensor, reference: Tensor) -> Tensor:
    """Which faces ``[B]`` are attacked, by their prediction before any edit: those that do not fail already.

    With a class to drive towards, those that are of another one and are read right.
    """
    if isinstance(task, Classification) and task.towards is not None:
        untargeted = replace(task, towards=None)
        return ~untargeted.failed(prediction, reference) & (reference != task.classes.index(task.towards))
    return ~task.failed(prediction, reference)


def check_prediction(prediction: Tensor, shape: tuple[int, ...]) -> None:
    """Raise `WorkError` unless a target gave finite numbers of this shape, one row an image."""
    if tuple(prediction.shape) != shape:
        rows = prediction.ndim == len(shape) and len(prediction) == shape[0]
        remedy = "as many numbers per image as its task has" if rows else "one row per image"
        raise WorkError(f"the target gave shape {list(prediction.shape)}, not {list(shape)}; return {remedy}")
    bad = ~torch.isfinite(prediction).reshape(len(prediction), -1).all(dim=1)
    if bad.any():
        faces = bad.nonzero().flatten().tolist()
        raise WorkError(
            f"the target gave NaN or Inf on image {faces[0]} of the batch; check its input range and weights"
        )


@dataclass(frozen=True)
class Classification:
    """Multi-class logits ``[B, C]``, C ≥ 2; fails when another class wins, or with ``towards`` when that one does.

    The ``measure`` that is ascended is the margin of the best wrong class over the reference class (Carlini & Wagner,
    arXiv 1608.04644), which keeps its gradient where the other, "cross-entropy", saturates. Faces whose reference is
    the class ``towards``, and those read wrongly, are not attacked.
    """

    measured: ClassVar[str] = "the probability of the right class"

    classes: tuple[str, ...]
    towards: str | None = None
    measure: Literal["margin", "cross-entropy"] = "margin"

    def __post_init__(self) -> None:
        if self.towards is not None and self.towards not in self.classes:
            raise unknown("class", self.towards, list(self.classes))

    def check(self, prediction: Tensor, images: int) -> None:
        check_prediction(prediction, (images, len(self.classes)))

    def decide(self, prediction: Tensor) -> Tensor:
        return prediction.argmax(dim=1)  # [B]

    def loss(self, prediction: Tensor, reference: Tensor) -> Tensor:
        prediction, sign, pivot = prediction.float(), -1.0, reference
        if self.towards is not None:
            sign, pivot = 1.0, torch.full_like(reference, self.classes.index(self.towards))
        if self.measure == "cross-entropy":
            return -sign * F.cross_entropy(prediction, pivot, reduction="none")
        return sign * _margin(prediction, pivot)

    def failed(self, prediction: Tensor, reference: Tensor) -> Tensor:
        if self.towards is None:
            return _margin(prediction.float(), reference) < 0
        return _margin(prediction.float(), torch.full_like(reference, self.classes.index(self.towards))) > 0

    def output(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return F.softmax(prediction.float(), dim=1).gather(1, reference[:, None]).squeeze(1)


def _margin(logits: Tensor, which: Tensor) -> Tensor:
    """By how much the class ``which`` ``[B]`` wins over the best other one, ``[B]``."""
    own = logits.gather(1, which[:, None]).squeeze(1)
    return own - logits.scatter(1, which[:, None], -torch.inf).amax(dim=1)


@dataclass(frozen=True)
class MultiLabel:
    """Logits ``[B, L]`` of L things that are each there or not; fails when one changes sides.

    The reference is bool ``[B, L]``; the loss is the margin of the label that is nearest to changing, the output the
    lowest probability that a label is given to be as the reference says.
    """

    measured: ClassVar[str] = "the probability that the worst label is right"

    labels: tuple[str, ...]

    def check(self, prediction: Tensor, images: int) -> None:
        check_prediction(prediction, (images, len(self.labels)))

    def decide(self, prediction: Tensor) -> Tensor:
        return prediction > 0

    def loss(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return torch.where(reference, -prediction.float(), prediction.float()).amax(dim=1)

    def failed(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return ((prediction > 0) != reference).any(dim=1)

    def output(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return (-self.loss(prediction, reference)).sigmoid()


@dataclass(frozen=True)
class Detection:
    """One score ``[B]``, above 0 where what is looked for was found; every image shows it, so failing is to miss it."""

    measured: ClassVar[str] = "the score, above 0 where something is found"

    def check(self, prediction: Tensor, images: int) -> None:
        check_prediction(prediction, (images,))

    def decide(self, prediction: Tensor) -> Tensor:
        return torch.ones_like(prediction, dtype=torch.bool)

    def loss(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return -prediction.float()

    def failed(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return prediction <= 0

    def output(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return prediction.float()


@dataclass(frozen=True)
class Verification:
    """Embeddings ``[B, E]``; fails when the cosine with the reference's falls below ``threshold``: another person."""

    measured: ClassVar[str] = "the cosine with the reference"

    numbers: int
    threshold: float

    def __post_init__(self) -> None:
        if not -1 <= self.threshold <= 1:
            raise RequestError(f"threshold={self.threshold:g} is outside -1…1; give the least cosine of one person")

    def check(self, prediction: Tensor, images: int) -> None:
        check_prediction(prediction, (images, self.numbers))

    def decide(self, prediction: Tensor) -> Tensor:
        return prediction.detach()

    def loss(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return -F.cosine_similarity(prediction.float(), reference.float(), dim=1)

    def failed(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return -self.loss(prediction, reference) < self.threshold

    def output(self, prediction: Tensor, reference: Tensor) -> Tensor:
        return -self.loss(prediction, reference)


@dataclass(frozen=True)
class Regression:
    """Values ``[B, F]``; fails when their root mean square error exceeds ``tolerance`` (in the values' own unit).

    The output of one value is its signed error; errors of several would cancel, so theirs is the root mean square.
    """

    measured: ClassVar[str] = "the error, in the value's unit (of several, the root mean square)"

    values: tuple[str, ...]
    tolerance: float

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < math.inf:
            raise RequestError(f"tolerance={self.tolerance:g} is no error; give 0 or more, in the unit of the values")

    def check(self, prediction: Tensor, images: int) -> None:
        check_prediction(prediction, (images, len(self.values)))

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
class Following:
    """A task whose reference moves with the image: every prediction ``[B, 2, ...]`` brings its own, in second place.

    So an edit may move the truth, as a turned head moves its landmarks, without that being held against the target.
    """

    task: Task

    @property
    def measured(self) -> str:
        return self.task.measured

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
