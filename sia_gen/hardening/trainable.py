"""A target's network as something to train, and to save again in its own format.

Letters: B images, C classes, L labels, F values, K points, h and w of a heat map.
"""

from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sia_gen.core.errors import RequestError
from sia_gen.core.files import is_file, read_tensors, write_tensors
from sia_gen.core.foreign import one_line, quiet_transformers
from sia_gen.core.images import Images
from sia_gen.targets.adapted import MARK, Adapted
from sia_gen.targets.formats.classifier import Classifier
from sia_gen.targets.formats.keypoints import KeypointNetwork, prepared
from sia_gen.targets.formats.pretrained import NEW_PROCESSOR, PROCESSOR, WEIGHTS
from sia_gen.targets.load import load_target
from sia_gen.targets.module import ModuleTarget, as_prediction
from sia_gen.targets.target import Target, within


class Trainable(nn.Module):
    """A copy of a target's network and what it does to pictures: images ``[B, 3, H, W]`` in [0, 1] → its prediction.

    That is logits ``[B, C]`` or ``[B, L]``, values ``[B, F]``, or points ``[B, K, 2]``; of a ViTPose the heat maps
    ``[B, K, h, w]`` that its points are read from.
    """

    def __init__(self, target: Target) -> None:
        super().__init__()
        asked = within(target)
        if not target.differentiable:
            raise RequestError(
                f"'{target.name}' gives no gradients, so it cannot be trained; give its weights as a model"
            )
        self.prepare: Any = None
        self.source: Path | None = None  # a folder in transformers' format that it comes from
        if isinstance(asked, Classifier):
            network: Any = asked.model.network
            self.prepare, self.source = asked.model.preprocessing, asked.model.folder
        elif isinstance(asked, KeypointNetwork):
            network = asked.network
            self.prepare = partial(prepared, size=asked.size, mean=asked.mean, std=asked.std)
            self.source = asked.folder
        elif isinstance(asked, ModuleTarget) and isinstance(asked.module, nn.Module):
            network = asked.module
        else:
            raise RequestError(f"'{target.name}' is no network that can be trained; give a model's folder or a module")
        self.form, self.task = target.form if isinstance(target, Adapted) else None, asked.task
        self.network = deepcopy(network).float()
        learnt = [each.requires_grad_(True) for each in self.network.parameters() if each.is_floating_point()]
        if not learnt:
            raise RequestError(f"'{target.name}' has no parameters to train; give another model")

    def forward(self, images: Images) -> Tensor:
        if self.form is not None:
            images = self.form(images)
        said: Any = self.network(images if self.prepare is None else self.prepare(images))
        return said.heatmaps if hasattr(said, "heatmaps") else as_prediction(self.task, said, len(images))

    def put_into(self, target: Target) -> Target:
        """The same target with this network in place of its own, frozen."""
        network = deepcopy(self.network).eval().requires_grad_(False)
        if isinstance(target, Adapted):
            return replace(target, target=self.put_into(target.target))
        if isinstance(target, Classifier):
            return replace(target, model=replace(target.model, network=network))
        if isinstance(target, KeypointNetwork):
            return replace(target, network=network)
        assert isinstance(target, ModuleTarget)
        return replace(target, module=network)

    def save(self, folder: Path) -> None:
        """Write the network in its own format: transformers' with the processor beside it, or its tensors alone."""
        if self.source is None:
            write_tensors(folder / WEIGHTS, self.network.state_dict())
            return
        saved: Any = self.network
        with quiet_transformers(), one_line(f"writing the model to '{folder}'"):
            saved.save_pretrained(folder)
        for name in (PROCESSOR, NEW_PROCESSOR):
            if is_file(self.source / name):
                shutil.copyfile(self.source / name, folder / name)

    def found_again(self, folder: Path, target: Target, device: str) -> Target:
        """``target`` as `save` wrote it to ``folder``, shown pictures as before; one that was in hand stays in hand."""
        if self.source is None:
            state, _ = read_tensors(folder / WEIGHTS)
            self.network.load_state_dict(state)
            return replace(self.put_into(target), name=folder.name)  # type: ignore[type-var]
        if not isinstance(target, Adapted):
            return load_target(folder, device)
        _, mark, form = target.name.partition(MARK)
        name = f"{folder.resolve()}{mark}{form}" if mark else folder.name
        return Adapted.of(load_target(folder, device), target.form, name)
