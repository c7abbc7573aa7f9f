"""A target's network as something to train, and to save again in its own format.

Letters: B images, C classes.
"""

from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sia_gen.core.errors import RequestError
from sia_gen.core.files import is_file, write_tensors
from sia_gen.core.foreign import quiet_transformers
from sia_gen.core.images import Images
from sia_gen.targets.adapted import Adapted
from sia_gen.targets.formats.classifier import Classifier
from sia_gen.targets.formats.pretrained import NEW_PROCESSOR, PROCESSOR, WEIGHTS
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.outputs import as_logits
from sia_gen.targets.target import Target, within
from sia_gen.targets.task import Classification


class Trainable(nn.Module):
    """A copy of a classifier's network and its preprocessing: images ``[B, 3, H, W]`` in [0, 1] → logits ``[B, C]``."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        asked = within(target)
        if not isinstance(target.task, Classification):
            raise RequestError(f"'{target.name}' is no classifier; only those are hardened so far")
        if not target.differentiable:
            raise RequestError(
                f"'{target.name}' gives no gradients, so it cannot be trained; give its weights as a model"
            )
        if isinstance(asked, Classifier):
            network: Any = asked.model.network
            self.prepare: Any = asked.model.preprocessing
        elif isinstance(asked, ModuleTarget) and isinstance(asked.module, nn.Module):
            network, self.prepare = asked.module, None
        else:
            raise RequestError(f"'{target.name}' is no network that can be trained; give a model's folder or a module")
        self.form = target.form if isinstance(target, Adapted) else None
        self.network = deepcopy(network).float().requires_grad_(True)
        if not any(True for _ in self.network.parameters()):
            raise RequestError(f"'{target.name}' has no parameters to train; give another model")

    def forward(self, images: Images) -> Tensor:
        if self.form is not None:
            images = self.form(images)
        said: Any = self.network(images if self.prepare is None else self.prepare(images))
        return as_logits(getattr(said, "logits", said), len(images))

    def put_into(self, target: Target) -> Target:
        """The same target with this network in place of its own, frozen."""
        network = deepcopy(self.network).eval().requires_grad_(False)
        if isinstance(target, Adapted):
            return replace(target, target=self.put_into(target.target))
        if isinstance(target, Classifier):
            return replace(target, model=replace(target.model, network=network))
        assert isinstance(target, ModuleTarget)
        return replace(target, module=network)

    def save(self, folder: Path, source: Path | None) -> None:
        """Write the network in its own format: transformers' with the processor of ``source``, or its tensors."""
        if hasattr(self.network, "save_pretrained"):
            with quiet_transformers():
                self.network.save_pretrained(folder)
            for name in (PROCESSOR, NEW_PROCESSOR):
                if source is not None and is_file(source / name):
                    shutil.copyfile(source / name, folder / name)
        else:
            write_tensors(
                folder / WEIGHTS, {name: value.contiguous() for name, value in self.network.state_dict().items()}
            )
