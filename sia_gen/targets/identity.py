"""The identity model: faces → points on a sphere, close together for pictures of one person.

Letters: B images, E numbers of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.executors import resolve_device
from sia_gen.core.images import Images
from sia_gen.core.locate import locate
from sia_gen.targets.formats.pretrained import ImageModel, load_image_model
from sia_gen.targets.task import Verification


@dataclass(frozen=True)
class Identity:
    """A frozen embedding network; pictures whose cosine reaches ``threshold`` are taken for one person."""

    model: ImageModel
    threshold: float

    def embed(self, images: Images) -> Tensor:
        """Images ``[B, 3, H, W]`` in [0, 1] → unit vectors ``[B, E]``, differentiable."""
        return F.normalize(self.model(images).float(), dim=1)

    def likeness(self, images: Images, others: Images) -> Tensor:
        """Cosine ``[B]`` of each pair of images, −1…1."""
        return (self.embed(images) * self.embed(others)).sum(1)


def load_identity(name: str | Path = "identity", device: torch.device | str = "cpu") -> Identity:
    """The identity model behind a shipped name, a folder or a hub id.

    Raises `RequestError` for a model that is none, `WorkError` on damaged files.
    """
    place = locate("identity", name)
    if not isinstance(place, Path):
        raise RequestError(f"identity model '{name}' must be a model folder; see 'sia-gen train identity'")
    model = load_image_model(place, resolve_device(str(device)))
    extra = model.config["sia_gen"]
    if extra.get("kind") != "identity":
        raise RequestError(f"'{name}' is no identity model; train one with 'sia-gen train identity'")
    try:
        return Identity(model, float(extra["threshold"]))
    except (KeyError, TypeError, ValueError) as error:
        raise WorkError(f"the threshold in '{place}' is damaged ({error!r}); fetch config.json again") from None


@dataclass(frozen=True)
class FaceVerifier:
    """The identity model as a target: it fails where it takes an edited face for another person than the unedited."""

    name: str
    identity: Identity
    task: Verification
    label: None = None
    differentiable: bool = True

    def predict(self, images: Images) -> Tensor:
        return self.identity.embed(images)  # [B, E]


def as_target(identity: Identity, name: str) -> FaceVerifier:
    return FaceVerifier(name, identity, Verification(identity.model.network.config.num_labels, identity.threshold))
