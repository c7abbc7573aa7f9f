"""Any torch module or function as a target."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Thread
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.foreign import first_line
from sia_gen.core.images import Images, to_bytes
from sia_gen.core.modules import device_of, eval_mode
from sia_gen.targets.formats.keypoints import decoded
from sia_gen.targets.outputs import as_logits, task_of
from sia_gen.targets.points import Keypoints
from sia_gen.targets.target import Label
from sia_gen.targets.task import Classification, Task

UNNAMED = "module"
# The usual sides of face crops and of ImageNet networks, smallest first.
PROBE_SIDES = (64, 96, 112, 128, 160, 224, 256, 384, 512)


@dataclass(frozen=True)
class ModuleTarget:
    """Calls ``module`` with images ``[B, 3, H, W]`` in [0, 1]; a module runs in eval mode and comes out as it was.

    Under `Keypoints` it may give heat maps ``[B, K, h, w]`` over the whole picture instead of points. One that is not
    ``differentiable``, a black box, may give a numpy array or a list of numbers instead of a tensor, and be given a
    ``timeout`` in seconds for one call. With ``pictures`` it is given what a camera gives, a numpy array of its own,
    uint8 ``[B, H, W, 3]``, RGB.
    """

    module: Callable[[Any], Any]
    task: Task
    name: str = UNNAMED
    label: Label | None = None
    differentiable: bool = True
    timeout: float | None = None
    pictures: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.task, Task):
            raise RequestError(
                f"task={self.task!r} is no task; give one of sia_gen's, as Classification(('no smile', 'smile'))"
            )
        if self.timeout is not None and (self.differentiable or not 0 < self.timeout < math.inf):
            raise RequestError(
                f"timeout={self.timeout:g} s with differentiable={self.differentiable}; give a time above 0, and only "
                "to a target with differentiable=False"
            )

        if self.pictures and self.differentiable:
            raise RequestError("pictures=True passes no gradient; set differentiable=False with it")

    def predict(self, images: Images) -> Tensor:
        frozen = eval_mode(self.module) if isinstance(self.module, nn.Module) else nullcontext()
        with frozen:
            return as_prediction(self.task, self._asked(images), len(images))

    def _asked(self, images: Images) -> Any:
        if self.differentiable:
            return self.module(images)
        shown: Any = images.detach()
        if self.pictures:
            shown = np.ascontiguousarray(to_bytes(shown).permute(0, 2, 3, 1).cpu().numpy())
        output = self.module(shown) if self.timeout is None else _in_time(self.module, shown, self.timeout)
        if isinstance(output, (list, np.ndarray)):  # copied: a box may use its array again
            output = torch.tensor(np.asarray(output), device=images.device)
        return output.float() if isinstance(output, Tensor) and output.is_floating_point() else output


def as_prediction(task: Task, output: Any, images: int) -> Any:
    """What a module gave of ``images`` images, as its task expects it."""
    output = getattr(output, "logits", output)  # transformers' networks return an output class
    if isinstance(task, Classification) and isinstance(output, Tensor):
        output = as_logits(output, images)
    if isinstance(task, Keypoints) and isinstance(output, Tensor) and output.ndim == 4:  # heat maps
        sides = output.new_tensor([output.shape[3], output.shape[2]])
        output = (decoded(output) * (sides - 1) + 0.5) / sides  # from pixel middles to shares of the picture
    return output


def _in_time(module: Callable[[Any], Any], images: Any, seconds: float) -> Any:
    """What ``module`` gives within that time; raises `WorkError` after it, and leaves the call to itself."""
    answers: Queue[tuple[bool, Any]] = Queue()

    def ask() -> None:
        try:
            with torch.no_grad():  # which a thread does not inherit
                answers.put((True, module(images)))
        except BaseException as error:  # raised again where it is waited for
            answers.put((False, error))

    Thread(target=ask, daemon=True).start()  # a daemon does not keep a finished program waiting
    try:
        answered, answer = answers.get(timeout=seconds)
    except Empty:
        raise WorkError(
            f"the target gave no answer on {len(images)} images within {seconds:g} s; mend it or give it more time, "
            "and run the same again"
        ) from None
    if not answered:
        raise answer
    return answer


def infer(module: nn.Module, name: str) -> ModuleTarget:
    """A module as a target: as its transformers config says, see `task_of`, else of one class per column it gives.

    Raises `RequestError` where neither tells, `WorkError` for a damaged config.
    """
    config = getattr(module, "config", None)
    if getattr(config, "id2label", None):
        said = config.to_dict() if hasattr(config, "to_dict") else vars(config)
        task, label = task_of(said, name)
        return ModuleTarget(module, task, name, label)
    return ModuleTarget(module, _classes(module, name), name)


def _classes(module: nn.Module, name: str) -> Classification:
    probe = ModuleTarget(module, Classification(()))
    given: list[str] = []
    for side in PROBE_SIDES:
        try:
            with torch.no_grad():
                output = probe.predict(torch.full((2, 3, side, side), 0.5, device=device_of(module)))
        except Exception as error:  # a network that takes one size only says so in its own way
            given.append(f"{type(error).__name__} ({first_line(error)}) at {side} px")
            continue
        if isinstance(output, Tensor) and output.ndim == 2 and output.shape[1] >= 2:
            return Classification(tuple(f"class {index}" for index in range(output.shape[1])))
        what = f"shape {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        given.insert(0, f"{what} at {side} px")
        break
    else:
        raise WorkError(
            f"target '{name}' fails with {given[0]}, and at every other side that was tried; mend it, or give a target "
            "(sia_gen.targets.module.ModuleTarget) that shows it what it takes"
        )
    raise RequestError(
        f"'{name}' gives {given[0]}, not logits [B] or [B, C], for images [2, 3, H, W]; "
        "return logits, or a target (sia_gen.targets.module.ModuleTarget) with its own task"
    )
