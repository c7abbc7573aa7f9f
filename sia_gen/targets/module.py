"""Any torch module or function as a target."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sia_gen.core.errors import RequestError
from sia_gen.core.images import Images
from sia_gen.core.modules import device_of, eval_mode
from sia_gen.targets.target import Label
from sia_gen.targets.task import Classification, Task

# The usual sides of face crops and of ImageNet networks, smallest first.
PROBE_SIDES = (64, 96, 112, 128, 160, 224, 256, 384, 512)


@dataclass(frozen=True)
class ModuleTarget:
    """Calls ``module`` with images ``[B, 3, H, W]`` in [0, 1]; a module runs in eval mode and comes out as it was."""

    module: Callable[[Images], Any]
    task: Task
    name: str = "module"
    label: Label | None = None
    differentiable: bool = True

    def predict(self, images: Images) -> Tensor:
        frozen = eval_mode(self.module) if isinstance(self.module, nn.Module) else nullcontext()
        with frozen:
            output = self.module(images)
        output = getattr(output, "logits", output)  # transformers' networks return an output class
        count = len(images)
        if (
            isinstance(self.task, Classification)
            and isinstance(output, Tensor)
            and output.shape in ((count,), (count, 1))
        ):
            output = output.view(count, 1)
            output = torch.cat([torch.zeros_like(output), output], dim=1)  # one logit is the second class's log-odds
        return output


def infer_classification(module: nn.Module, name: str) -> Classification:
    """The classes of a module that gives logits: from its transformers config, else one per column of its output.

    Raises `RequestError` where neither tells.
    """
    names = getattr(getattr(module, "config", None), "id2label", None)
    if names:
        return Classification(tuple(label for _, label in sorted(names.items())))
    probe = ModuleTarget(module, Classification(()))
    given: list[str] = []
    for side in PROBE_SIDES:
        try:
            with torch.no_grad():
                output = probe.predict(torch.full((2, 3, side, side), 0.5, device=device_of(module)))
        except Exception as error:  # a network that takes one size only says so in its own way
            reason = (str(error).splitlines() or [""])[0]
            given.append(f"{type(error).__name__} ({reason}) at {side} px")
            continue
        if isinstance(output, Tensor) and output.ndim == 2 and output.shape[1] >= 2:
            return Classification(tuple(f"class {index}" for index in range(output.shape[1])))
        what = f"shape {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        given.insert(0, f"{what} at {side} px")
        break
    raise RequestError(
        f"'{name}' gives {given[0]}, not logits [B] or [B, C], for images [2, 3, H, W]; "
        "return logits, or a target (sia_gen.targets.module.ModuleTarget) with its own task"
    )
