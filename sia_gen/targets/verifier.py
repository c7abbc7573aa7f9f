"""The verifier: reads every factor of the studio, and 68 landmarks, off an image, independently of any target.

Letters: B images, F factors.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sia_gen.core.errors import RequestError, WorkError, named_file
from sia_gen.core.executors import resolve_device
from sia_gen.core.images import Images
from sia_gen.core.locate import locate
from sia_gen.targets.formats.pretrained import ImageModel, load_image_model

LEAST = 0.25  # slope of a reading that is worth stretching
SURE = 0.2  # sd of a factor: no reading is taken to be nearer to the truth


@dataclass(frozen=True)
class Factor:
    """One thing that is read: ``mean`` and ``sd`` over faces are in ``unit``.

    ``slope`` is by how much the reading follows the truth: what hardly shows is read closer to its mean than it is.
    """

    name: str
    unit: str
    mean: float
    sd: float
    slope: float = 1.0

    @property
    def follows(self) -> float:
        """``slope``, but no less than what readings are worth stretching by."""
        return max(self.slope, LEAST)

    @property
    def off(self) -> float:
        """How far a reading lies from the truth, in the factor's unit: what a regression of this slope leaves open."""
        return max((1 - self.slope) ** 0.5 if self.slope < 1 else 0.0, SURE) * self.sd

    def change(self, before: float, after: float) -> float:
        """How far the truth went between two readings, which follow it by ``slope`` only."""
        return (after - before) / self.follows


@dataclass(frozen=True)
class Verifier:
    """A frozen regression network whose output is standardised, ``(value − mean) / sd``: F factors, then landmarks.

    ``point_mean`` and ``point_sd`` ``[2 · 68]``, in picture widths, are empty for a network that reads no landmarks.
    """

    factors: tuple[Factor, ...]
    model: ImageModel
    mean: Tensor
    sd: Tensor
    point_mean: Tensor
    point_sd: Tensor

    def read(self, images: Images) -> Tensor:
        """Images ``[B, 3, H, W]`` in [0, 1] → values ``[B, F]`` in units, differentiable."""
        return self._in_units(self.model(images))

    def read_landmarks(self, images: Images) -> Tensor:
        """Images ``[B, 3, H, W]`` in [0, 1] → landmarks ``[B, 68, 2]`` in picture widths, x right, y down, iBUG order.

        Differentiable; raises `RequestError` for a verifier that was not taught any.
        """
        if not len(self.point_mean):
            raise RequestError("this verifier reads no landmarks; train one with 'sia-gen train verifier'")
        points = self.model(images)[:, len(self.factors) :] * self.point_sd + self.point_mean
        return points.view(len(images), -1, 2)

    def look(self, images: Images) -> tuple[Tensor, Tensor]:
        """Images ``[B, 3, H, W]`` in [0, 1] → what `read` gives, and the network's last hidden layer ``[B, C]``."""
        hidden = self.model.network.base_model(self.model.preprocessing(images)).pooler_output
        return self._in_units(self.model.network.classifier(hidden)), hidden.flatten(1)

    def _in_units(self, standardised: Tensor) -> Tensor:
        return standardised[:, : len(self.factors)] * self.sd + self.mean

    def digest(self) -> str:
        """Tells this verifier from others: its factors and weights."""
        return hashlib.sha256((repr(self.factors) + self.model.digest()).encode()).hexdigest()[:16]


def load_verifier(name: str | Path = "verifier", device: torch.device | str = "cpu") -> Verifier:
    """The verifier behind a shipped name, a folder or a hub id.

    Raises `RequestError` for a model that is no verifier, `WorkError` on damaged files.
    """
    place = locate("verifier", name)
    if not isinstance(place, Path):
        raise RequestError(f"verifier '{name}' must be a model folder; see 'sia-gen train verifier'")
    device = resolve_device(str(device))
    with named_file():
        model = load_image_model(place, device)
    extra = model.config["sia_gen"]
    if extra.get("kind") != "verifier":
        raise RequestError(f"'{name}' is no verifier; train one with 'sia-gen train verifier'")
    try:
        factors = tuple(Factor(**entry) for entry in extra["factors"])
        points = extra.get("landmarks", {"mean": [], "sd": []})
        point_mean, point_sd = (torch.tensor(points[name], device=device) for name in ("mean", "sd"))
    except (KeyError, TypeError, ValueError) as error:
        raise WorkError(f"the factors in '{place}' are damaged ({error!r}); fetch config.json again") from None
    outputs = model.network.config.num_labels
    named = len(factors) + len(point_mean)
    if named != outputs or len(point_mean) != len(point_sd):
        raise WorkError(
            f"'{place}' names {named} factors and coordinates for {outputs} outputs; fetch config.json again"
        )
    mean = torch.tensor([factor.mean for factor in factors], device=device)
    sd = torch.tensor([factor.sd for factor in factors], device=device)
    return Verifier(factors, model, mean, sd, point_mean, point_sd)
