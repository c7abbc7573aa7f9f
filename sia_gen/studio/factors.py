"""Everything that determines one rendered face: names, units, ranges and how faces are drawn.

Every factor is a monotone function of one latent number: were that a standard normal one, the factor would be
distributed as said here. A face is therefore a point among latents, which is what pairs a generator with renders.
Faces are drawn in two ways: as people go together in a population (`sia_gen.studio.people`), and spread evenly.

Letters: B faces, F factors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sia_gen.core.errors import RequestError, unknown

EDGE = (
    3.0  # latents beyond ±3 sd (0.3 % of each factor's) are drawn in to it, so that every factor keeps within its range
)


@dataclass(frozen=True)
class Factor:
    """One factor: its distribution is uniform over ``low``…``high``, or normal (``mean``, ``sd``) cut off there."""

    name: str
    unit: str
    low: float
    high: float
    shape: Literal["uniform", "normal"]
    mean: float
    sd: float
    negative: str
    positive: str

    def value(self, latent: Tensor) -> Tensor:
        """Standard normal latent → value in the factor's unit."""
        if self.shape == "uniform":
            return self.low + (self.high - self.low) * torch.special.ndtr(latent)
        return (self.mean + self.sd * latent).clamp(self.low, self.high)

    def latent(self, value: Tensor) -> Tensor:
        """Value → latent, the inverse of `value` inside the range."""
        if self.shape == "uniform":
            share = (value - self.low) / (self.high - self.low)
            return torch.special.ndtri(share.clamp(1e-3, 1 - 1e-3))
        return (value - self.mean) / self.sd


def _uniform(name: str, unit: str, low: float, high: float, negative: str = "less", positive: str = "more") -> Factor:
    return Factor(name, unit, low, high, "uniform", (low + high) / 2, (high - low) / math.sqrt(12), negative, positive)


def _normal(
    name: str,
    unit: str,
    low: float,
    high: float,
    mean: float,
    sd: float,
    negative: str = "less",
    positive: str = "more",
) -> Factor:
    return Factor(name, unit, low, high, "normal", mean, sd, negative, positive)


IDENTITY = (
    "nose_width", "nose_length", "nose_projection", "nose_bridge", "nose_tip", "nose_curve", "nose_ridge", "nostrils",
    "jaw_width", "jaw_drop", "chin_height", "chin_prominence", "chin_cleft", "prognathism",
    "face_width", "face_height", "face_taper", "face_square", "temples", "cheekbones", "cheek_volume", "cheek_hollow",
    "eye_size", "eye_spacing", "eye_tilt", "eye_height", "eye_fold", "eye_depth", "eye_droop",
    "brow_height", "brow_angle", "brow_ridge",
    "mouth_width", "mouth_height", "lip_fullness", "upper_lip", "cupids_bow", "forehead", "ear_size", "ear_wing",
    "neck_width",
)  # fmt: skip
"""Shape coefficients of identity, each between a MakeHuman pair of opposite targets, from −1 to +1."""
ASYMMETRY = ("asymmetry_jaw", "asymmetry_mouth", "asymmetry_eyes", "asymmetry_nose", "asymmetry_brows")
"""How far one half of a face differs from the other, from −1 to +1, which is the mirror image."""
AGEING = (
    "ageing", "forehead_lines", "eye_lines", "folds", "bags", "sagging", "skin_texture", "redness", "greying",
)  # fmt: skip
"""A person's own pattern of age: how much more or less of each mark than others of that age."""
PERSON = (
    "age", "sex", "african", "asian", "skin_tone", "weight", *IDENTITY, *ASYMMETRY, *AGEING, "skin_pattern",
    "iris_colour", "freckles", "hairline", "baldness",
)  # fmt: skip
"""What two pictures of one person share; the rest is how that person looks at the time, and the camera."""

FACTORS: tuple[Factor, ...] = (
    _uniform("age", "years", 5, 85, "younger", "older"),
    _uniform("sex", "fraction male", 0, 1, "more female", "more male"),
    _normal("african", "logit", -3, 3, 0, 1, "less African", "more African"),
    _normal("asian", "logit", -3, 3, 0, 1, "less Asian", "more Asian"),
    _uniform("skin_tone", "° ITA", -45, 55, "darker skin", "lighter skin"),
    _uniform("weight", "fraction", -1, 1, "thinner", "heavier"),
    *(_normal(name, "fraction", -1, 1, 0, 0.42) for name in IDENTITY),
    *(_normal(name, "fraction", -1, 1, 0, 0.35, "more at image left", "more at image right") for name in ASYMMETRY),
    *(_normal(name, "fraction", -1, 1, 0, 0.4) for name in AGEING),
    _uniform("skin_pattern", "fraction", -1, 1, "other spots", "other spots"),
    _normal("yaw", "degrees", -60, 60, 0, 20, "faces image left", "faces image right"),
    _normal("pitch", "degrees", -25, 25, 0, 9, "looks down", "looks up"),
    _normal("roll", "degrees", -15, 15, 0, 5, "tilts to image left", "tilts to image right"),
    _normal("gaze_x", "degrees", -30, 30, 0, 10, "eyes to image left", "eyes to image right"),
    _normal("gaze_y", "degrees", -20, 20, 0, 6, "eyes down", "eyes up"),
    _uniform("smile", "fraction", 0, 1, "no smile", "full smile"),
    _normal("mouth_open", "fraction", 0, 1, 0.2, 0.25, "closed", "open"),
    _normal("brow_raise", "fraction", -1, 1, 0, 0.4, "lowered brows", "raised brows"),
    _normal("eye_closure", "fraction", 0, 1, 0.1, 0.25, "open eyes", "closed eyes"),
    _uniform("light_azimuth", "degrees", -90, 90, "light from image left", "light from image right"),
    _uniform("light_elevation", "degrees", -20, 70, "light from below", "light from above"),
    _normal("light_strength", "EV", -1.5, 1.5, 0, 0.5, "dimmer light", "brighter light"),
    _normal("ambient_strength", "EV", -1.5, 1.5, 0, 0.5, "darker shadows", "lighter shadows"),
    _uniform("light_softness", "fraction", 0, 1, "hard light", "soft light"),
    _normal("light_warmth", "fraction", -1, 1, 0, 0.4, "bluer light", "redder light"),
    _normal("rim_light", "fraction", 0, 1, 0.3, 0.3, "no light from behind", "light from behind"),
    _uniform("hair_colour", "fraction blond", 0, 1, "darker hair", "lighter hair"),
    _normal("hair_red", "fraction", 0, 1, 0.25, 0.25, "less red hair", "redder hair"),
    _normal("hair_volume", "fraction", 0, 1, 0.5, 0.25, "flatter hair", "fuller hair"),
    _uniform("hair_length", "fraction", 0, 1, "shorter hair", "longer hair"),
    _uniform("curl", "fraction", 0, 1, "straight hair", "curly hair"),
    _normal("frizz", "fraction", 0, 1, 0.3, 0.25, "smooth hair", "frizzy hair"),
    _normal("hair_sides", "fraction", 0, 1, 0.55, 0.35, "cropped sides", "full sides"),
    _normal("hair_lift", "fraction", 0, 1, 0.3, 0.3, "flat front", "front swept up"),
    _normal("tied", "fraction", 0, 1, 0.2, 0.4, "loose hair", "tied hair"),
    _normal("parting", "fraction", -1, 1, 0, 0.5, "parted at image left", "parted at image right"),
    _normal("fringe", "fraction", 0, 1, 0.25, 0.4, "forehead free", "fringe"),
    _normal("hairline", "fraction", -1, 1, 0, 0.4, "lower hairline", "receding hairline"),
    _normal("baldness", "fraction", 0, 1, 0.2, 0.4, "full hair", "bald crown"),
    _normal("brow_colour", "fraction", -1, 1, 0, 0.4, "darker brows", "lighter brows"),
    _normal("brow_thickness", "fraction", 0, 1, 0.5, 0.2, "thinner brows", "thicker brows"),
    _normal("stubble", "fraction", 0, 1, 0.3, 0.3, "lighter stubble", "denser stubble"),
    _normal("beard", "fraction", 0, 1, 0.15, 0.4, "no beard", "full beard"),
    _normal("beard_length", "fraction", 0, 1, 0.35, 0.3, "trimmed beard", "long beard"),
    _normal("moustache", "fraction", -1, 1, 0, 0.5, "less moustache", "more moustache"),
    _normal("freckles", "fraction", 0, 1, 0.2, 0.3, "even skin", "freckled skin"),
    _uniform("iris_colour", "fraction blue", 0, 1, "browner eyes", "bluer eyes"),
    _normal("lip_colour", "fraction", 0, 1, 0.1, 0.35, "bare lips", "painted lips"),
    _normal("eye_makeup", "fraction", 0, 1, 0.1, 0.35, "bare lids", "painted lids"),
    _uniform("glasses", "fraction", 0, 1, "no glasses", "glasses"),
    _normal("lens_tint", "fraction", 0, 1, 0.3, 0.3, "clear lenses", "dark lenses"),
    _normal("frame_size", "fraction", 0, 1, 0.5, 0.25, "smaller glasses", "larger glasses"),
    _normal("frame_thickness", "fraction", 0, 1, 0.4, 0.25, "thinner frames", "thicker frames"),
    _uniform("frame_lightness", "fraction", 0, 1, "darker frames", "lighter frames"),
    _uniform("clothes_lightness", "fraction", 0.05, 0.9, "darker clothes", "lighter clothes"),
    _normal("clothes_warmth", "fraction", -1, 1, 0, 0.5, "bluer clothes", "redder clothes"),
    _uniform("background_lightness", "fraction", 0.05, 0.9, "darker background", "lighter background"),
    _normal("background_warmth", "fraction", -1, 1, 0, 0.4, "bluer background", "redder background"),
    _normal("background_green", "fraction", -1, 1, 0, 0.3, "magenta background", "greener background"),
    _normal("background_slope", "fraction", -1, 1, 0, 0.4, "lighter at the left", "lighter at the right"),
    _normal("background_scene", "fraction", 0, 1, 0.3, 0.4, "plain background", "blurred scene"),
    _normal("background_detail", "fraction", 0, 1, 0.3, 0.35, "out of focus", "sharp background"),
    _normal("background_shift", "fraction", -1, 1, 0, 0.4, "scene from further left", "scene from further right"),
    _normal("camera_distance", "metres", 0.4, 1.6, 1.0, 0.25, "closer camera", "further camera"),
    _normal("blur", "% of the picture's width", 0, 0.8, 0.15, 0.25, "sharper", "more blurred"),
    _normal("noise", "8-bit levels", 0, 8, 1.5, 2, "less noise", "more noise"),
    _normal("compression", "fraction", 0, 1, 0.25, 0.3, "no traces of compression", "coarse compression"),
)
NAMES: tuple[str, ...] = tuple(factor.name for factor in FACTORS)
MIRRORED = (*ASYMMETRY, "yaw", "roll", "gaze_x", "light_azimuth", "parting", "background_slope", "background_shift")
"""What changes its sign in a mirror."""


@dataclass(frozen=True)
class FaceSpec:
    """B faces as factor values, float32 ``[B, F]`` in the order of `FACTORS`; raises `RequestError` out of range."""

    values: Tensor

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(FACTORS):
            raise RequestError(f"face values of shape {list(self.values.shape)}, not [B, {len(FACTORS)}]; see FACTORS")
        low = torch.tensor([factor.low for factor in FACTORS], device=self.values.device)
        high = torch.tensor([factor.high for factor in FACTORS], device=self.values.device)
        outside = ~((self.values >= low - 1e-4) & (self.values <= high + 1e-4))
        if outside.any():
            face, index = outside.nonzero()[0].tolist()
            factor = FACTORS[index]
            raise RequestError(
                f"{factor.name}={self.values[face, index]:g} is outside {factor.low:g}…{factor.high:g} {factor.unit}; "
                "choose a value inside"
            )

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, name: str) -> Tensor:
        """One factor's values ``[B]``."""
        return self.values[:, NAMES.index(name)]

    def with_values(self, **changes: float | Tensor) -> FaceSpec:
        """The same faces with some factors set, each to one value or to ``[B]`` values."""
        values = self.values.clone()
        for name, value in changes.items():
            if name not in NAMES:
                raise unknown("factor", name, list(NAMES))
            values[:, NAMES.index(name)] = torch.as_tensor(value, dtype=values.dtype, device=values.device)
        return FaceSpec(values)

    def to(self, device: torch.device | str) -> FaceSpec:
        return FaceSpec(self.values.to(device))


def values_of(latents: Tensor) -> FaceSpec:
    """Latents ``[B, F]`` → the faces they stand for."""
    latents = latents.clamp(-EDGE, EDGE)
    return FaceSpec(torch.stack([factor.value(latents[:, i]) for i, factor in enumerate(FACTORS)], dim=1))
