"""What every model under audit offers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.foreign import foreign
from sia_gen.core.images import Images
from sia_gen.core.modules import eval_mode
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


def ask(target: Target, images: Images) -> Tensor:
    """What a target says of images ``[B, 3, H, W]``, of which it gets a copy of its own: it may write into it.

    A module is asked in eval mode, wrapped or not. What it gives is copied, too: it may write its next answer there.
    Raises `WorkError` where it fails, whatever it raises, or gives something else than real numbers in a dense tensor;
    of what shape these are to be, its task says.
    """
    network = within(target)
    frozen = eval_mode(network) if isinstance(network, nn.Module) else nullcontext()
    with foreign(f"target '{target.name}'"), frozen:
        prediction: Any = target.predict(images.clone())
    if not isinstance(prediction, Tensor):
        wrong = f"a {type(prediction).__name__}"
    elif prediction.layout != torch.strided or prediction.is_quantized:
        wrong = f"a tensor of layout {prediction.layout}".replace("torch.", "")
    elif prediction.is_complex():
        wrong = "complex numbers"
    elif prediction.is_meta:
        wrong = "a tensor without numbers (device meta)"
    else:
        return prediction.to(images.device, copy=True)
    raise WorkError(f"target '{target.name}' gave {wrong}; return a dense tensor of real numbers, one row per image")


def without_answer(prediction: Tensor) -> Tensor:
    """Of which images a prediction ``[B, ...]`` says nothing, NaN, ``[B]`` bool."""
    return prediction.isnan().reshape(len(prediction), -1).any(dim=1)


def unanswered(target: Target, prediction: Tensor) -> Tensor:
    """Of which images ``[B]`` a black box says nothing: it gave NaN, as where it found no face.

    A target with gradients always answers; its NaN is a fault. Raises `WorkError` where it says nothing of any image.
    """
    silent = without_answer(prediction)
    if target.differentiable:
        return torch.zeros_like(silent)
    if len(silent) and silent.all():
        raise WorkError(
            f"target '{target.name}' gave NaN or Inf on each of {len(silent)} faces; check its weights and input range"
        )
    return silent


def within(target: Target) -> Target:
    """The target itself, of one that is shown other pictures or is followed by a verifier."""
    while isinstance(inner := getattr(target, "target", None), Target):
        target = inner
    return target


def configured(target: Target, label: str | None, towards: str | None) -> Target:
    """The same target with its label and its targeted class set, where they are given: see `labelled` and `aim`."""
    target = target if label is None else labelled(target, label)
    return target if towards is None else aim(target, towards)


def aim(target: Target, towards: str) -> Target:
    """The same classifier, to be driven towards one class; raises `RequestError` for another task or class."""
    if not isinstance(target.task, Classification):
        raise RequestError(f"'{target.name}' has no classes, so nothing to be driven towards; leave 'towards' out")
    aimed = copy(target)
    object.__setattr__(aimed, "task", replace(target.task, towards=towards))  # of a copy, frozen or not
    return aimed


def labelled(target: Target, text: str) -> Target:
    """The same target, said to predict an attribute: ``smile:0.5``, ``age:21,37,53,69``, or ``age`` for a value.

    The numbers are where the classes meet, in the attribute's unit and in the order of the classes. Raises
    `RequestError` for any other text, and unless there is one number fewer than classes.
    """
    said = copy(target)
    object.__setattr__(said, "label", label_of(target.task, target.name, text))  # of a copy, frozen or not
    return said


def label_of(task: Task, name: str, text: str) -> Label:
    """What a target of this task and name predicts, in the words of `labelled`; raises `RequestError` as that does."""
    attribute, _, rest = text.partition(":")
    try:
        thresholds = tuple(float(part) for part in rest.split(",")) if rest else ()
        if not all(map(math.isfinite, thresholds)):
            raise ValueError
    except ValueError:
        raise RequestError(f"label {text} is no attribute and thresholds; write it as smile:0.5 or age:30,60") from None
    needed = len(task.classes) - 1 if isinstance(task, Classification) else 0
    if not attribute or len(thresholds) != needed or list(thresholds) != sorted(set(thresholds)):
        raise RequestError(
            f"label {text} has {len(thresholds)} thresholds, but '{name}' needs {needed}, rising; write it as "
            "smile:0.5 or age:30,60"
        )
    return Label(attribute, thresholds)
