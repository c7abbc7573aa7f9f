"""A transformers image classifier, or a regression in the same format, as a target."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sia_gen.core.errors import RequestError
from sia_gen.core.images import Images
from sia_gen.targets.formats.pretrained import ImageModel, load_image_model
from sia_gen.targets.outputs import as_logits, task_of
from sia_gen.targets.target import Label
from sia_gen.targets.task import Classification, MultiLabel, Regression


@dataclass(frozen=True)
class Classifier:
    """Logits ``[B, C]``, or values, of a frozen network that resizes and normalises for itself."""

    name: str
    model: ImageModel
    task: Classification | MultiLabel | Regression
    label: Label | None
    differentiable: bool = True

    def predict(self, images: Images) -> Tensor:
        output = self.model(images)  # [B, C]
        return as_logits(output, len(images)) if isinstance(self.task, Classification) else output


def load_classifier(folder: Path, name: str, device: torch.device | str = "cpu") -> Classifier:
    """The classifier in a transformers model folder, see `task_of` for what its config says.

    Where its image processor cannot be reproduced differentiably, the processor itself is used and the model can only
    be asked. Raises `RequestError` for a folder that holds something else, `WorkError` for damaged files.
    """
    model = load_image_model(folder, device, exact=False)
    kind = model.config["sia_gen"].get("kind", "target")
    if kind != "target":
        raise RequestError(f"'{name}' is a {kind}, not a target; see 'sia-gen list targets'")
    task, label = task_of({**model.network.config.to_dict(), "sia_gen": model.config["sia_gen"]}, name)
    if not model.differentiable:
        logging.getLogger(__name__).warning(
            "'%s': its image processor is not reproduced differentiably; it is used as it is, and the model only asked",
            name,
        )
    return Classifier(name, model, task, label, model.differentiable)
