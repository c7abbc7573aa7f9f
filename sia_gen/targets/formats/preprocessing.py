"""Resizing, cropping and normalising as a transformers image processor does, but differentiable.

Letters: B images, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.images import Images

# PIL's numbers for its filters. With antialiasing torch has two of them with the same kernels.
NEAREST, LANCZOS, BILINEAR, BICUBIC, BOX, HAMMING = range(6)
TORCH = {BILINEAR: "bilinear", BICUBIC: "bicubic"}
# Room for float error, so that flat black and white areas keep their gradient.
ROUNDING = 1e-5
# ConvNeXt's processor crops below this side and warps from it on.
CROP_BELOW = 384
LEVIT, LEVIT_MARGIN = "Levit", 256 / 224  # resizes to so much more than it crops to
# How the pictures of timm's models are resized, and what they are normalised by unless their config says.
TIMM_FILTERS = {"nearest": NEAREST, "lanczos": LANCZOS, "bilinear": BILINEAR, "bicubic": BICUBIC, "box": BOX}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MOST = 4096  # pixels of a side


class Preprocessing(nn.Module):
    """Images ``[B, 3, H, W]`` in [0, 1] → what a model was trained on, from the settings of its image processor.

    Raises `RequestError` where the settings ask for something that this class does not do, `WorkError` where they are
    damaged.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.size = _sides(settings, "size") if settings.get("do_resize") else {}
        self.crop_fraction = settings.get("crop_pct")
        if self.crop_fraction is not None and not _number(self.crop_fraction, 0.05, 1):
            raise _damaged("crop_pct", self.crop_fraction, "a share above 0.05")
        crop = _sides(settings, "crop_size") if settings.get("do_center_crop") else {}
        if crop and set(crop) != {"height", "width"}:
            raise RequestError(f"cropping to {crop} is not supported; wrap the model as module:callable")
        self.crop = (crop["height"], crop["width"]) if crop else None
        self.margin = LEVIT_MARGIN if str(settings.get("image_processor_type")).startswith(LEVIT) else 1.0
        known = ({"height", "width"}, {"shortest_edge"}, {"longest_edge"}, {"shortest_edge", "longest_edge"})
        if set(self.size) not in (*known, {"max_height", "max_width"}, set()):
            raise RequestError(f"resizing to {self.size} is not supported; wrap the model as module:callable")
        self.filter = settings.get("resample", BILINEAR)
        if self.filter not in range(6):
            raise RequestError(
                f"resample={self.filter} is none of PIL's filters 0 to 5; wrap the model as module:callable"
            )
        self.flip = bool(settings.get("do_flip_channel_order"))
        scale, shift = _line(settings)
        self.register_buffer("scale", scale.reshape(3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.reshape(3, 1, 1), persistent=False)

    def forward(self, images: Images) -> Tensor:
        images = self._resize(images)
        if self.crop is not None:
            images = _center_crop(images, *self.crop)
        if self.flip:
            images = images.flip(1)
        return images * self.scale - self.shift

    def _resize(self, images: Images) -> Images:
        if not self.size:
            return images
        if "height" in self.size:
            return _scale(images, self.size["height"], self.size["width"], self.filter)
        if "shortest_edge" not in self.size or "longest_edge" in self.size:
            return _scale(images, *_inside(images, self.size), self.filter)
        edge = int(self.size["shortest_edge"] * self.margin)
        if self.crop_fraction is None:
            return _scale(images, *_shortest(images, edge), self.filter)
        if edge >= CROP_BELOW:
            return _scale(images, edge, edge, self.filter)
        images = _scale(images, *_shortest(images, int(edge / self.crop_fraction)), self.filter)
        return _center_crop(images, edge, edge)


def of_timm(config: Mapping[str, Any]) -> Preprocessing:
    """The evaluation preprocessing that a timm model's ``pretrained_cfg`` asks for, which no processor is saved of."""
    given = config.get("pretrained_cfg") or {}
    if not isinstance(given, Mapping):
        raise _damaged("pretrained_cfg", given, "settings by name")
    size, mode, fraction = (
        given.get("input_size", (3, 224, 224)),
        given.get("crop_mode", "center"),
        given.get("crop_pct"),
    )
    if not isinstance(size, Sequence) or len(size) != 3 or size[0] != 3 or mode != "center" or size[1] != size[2]:
        raise RequestError(
            f"input_size={size} with crop_mode={mode} is not supported; wrap the model as module:callable"
        )
    side, fraction = size[1], 0.875 if fraction is None else fraction
    if not _number(fraction, 0.05, 1):
        raise _damaged("crop_pct", fraction, "a share above 0.05")
    interpolation = given.get("interpolation") or "bicubic"
    return Preprocessing(
        {
            "do_resize": True,
            "size": {"shortest_edge": math.floor(side / fraction)},
            "do_center_crop": True,
            "crop_size": {"height": side, "width": side},
            "resample": TIMM_FILTERS.get(interpolation, interpolation),
            "do_normalize": True,
            "image_mean": given.get("mean") or IMAGENET_MEAN,
            "image_std": given.get("std") or IMAGENET_STD,
        }
    )


def _line(settings: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """What a processor makes of colours in [0, 1], as ``colour · scale − shift``, ``[3]`` each."""
    factor = settings.get("rescale_factor", 1 / 255)
    if not _number(factor, 0, math.inf):
        raise _damaged("rescale_factor", factor, "a number above 0")
    # Processors count in 0 … 255 before they rescale.
    rescaled = settings.get("do_rescale", True)
    scale, shift = torch.tensor(255.0 * (factor if rescaled else 1.0)).repeat(3), torch.zeros(3)
    if rescaled and settings.get("rescale_offset"):
        shift += 1
    normalises = settings.get("do_normalize") and not settings.get("do_flip_channel_order")  # MobileViT's never does
    std = _three(settings, "image_std") if normalises or settings.get("include_top") else torch.ones(3)
    if normalises:
        scale, shift = scale / std, (shift + _three(settings, "image_mean")) / std
    if settings.get("include_top"):  # EfficientNet's divides once more
        scale, shift = scale / std, shift / std
    return scale, shift


def _three(settings: Mapping[str, Any], name: str) -> Tensor:
    """A number for each channel, or one for all of them; standard deviations above 0."""
    value = settings.get(name)
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    low = 1e-6 if name.endswith("std") else -math.inf
    if len(values) not in (1, 3) or not all(_number(each, low, math.inf) for each in values):
        raise _damaged(name, value, f"three numbers{' above 0' if low > 0 else ''}")
    return torch.tensor([float(each) for each in values]).expand(3).clone()


def _sides(settings: Mapping[str, Any], name: str) -> dict[str, int]:
    """Sides of a picture by name; a single number is the shortest edge's."""
    value = {} if settings.get(name) is None else settings[name]
    value = {"shortest_edge": value} if isinstance(value, int) else value
    sides = {key: side for key, side in value.items() if side is not None} if isinstance(value, Mapping) else None
    if sides is None or not all(isinstance(side, int) and 1 <= side <= MOST for side in sides.values()):
        raise _damaged(name, value, f"sides of 1 to {MOST} pixels")
    return sides


def _number(value: Any, low: float, high: float) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and low <= value <= high
    )


def _damaged(name: str, value: Any, wanted: str) -> WorkError:
    return WorkError(f"the image processor's {name}={value!r} is not {wanted}; fetch its file again")


def _shortest(images: Images, edge: int) -> tuple[int, int]:
    height, width = images.shape[-2:]
    shorter = min(height, width)
    return int(edge * height / shorter), int(edge * width / shorter)


def _inside(images: Images, size: Mapping[str, int]) -> tuple[int, int]:
    """The sides of a picture that keeps its shape within these bounds, as large as they let it."""
    height, width = images.shape[-2:]
    ratio = size["shortest_edge"] / min(height, width) if "shortest_edge" in size else math.inf
    ratio = min(ratio, size.get("longest_edge", math.inf) / max(height, width))
    ratio = min(ratio, size.get("max_height", math.inf) / height, size.get("max_width", math.inf) / width)
    return max(1, int(height * ratio + ROUNDING)), max(1, int(width * ratio + ROUNDING))


def _scale(images: Images, height: int, width: int, mode: int) -> Images:
    # Columns first and clipped in between, as PIL does: bicubic overshoots at edges, an 8-bit image cannot.
    for axis, size in ((-1, width), (-2, height)):
        if images.shape[axis] == size:
            continue
        if mode in TORCH:
            sides = (images.shape[-2], size) if axis == -1 else (size, images.shape[-1])
            images = F.interpolate(images, sides, mode=TORCH[mode], antialias=True)  # [B, 3, *sides]
        else:
            weights = resampling(images.shape[axis], size, mode).to(images)  # [size, side]
            images = (images.transpose(axis, -1) @ weights.T).transpose(axis, -1)
        if mode in (BICUBIC, LANCZOS):
            images = images.clamp(-ROUNDING, 1 + ROUNDING)
    return images


@cache
def resampling(side: int, size: int, mode: int) -> Tensor:
    """The weights ``[size, side]`` by which PIL's filters make a row of ``size`` pixels of one of ``side``.

    Each new pixel is a mean of those under the filter about its place, which is as wide as the picture shrinks; the
    nearest filter takes a single one.
    """
    ratio = side / size
    if mode == NEAREST:  # steps of a ratio are summed up, as PIL does: at a half their rounding decides
        places = torch.tensor([int(place) for place in accumulate([ratio] * (size - 1), initial=ratio / 2)])
        return F.one_hot(places.clamp(max=side - 1), side).float()
    middle = (torch.arange(size, dtype=torch.float64) + 0.5) * ratio
    kernel, reach = KERNELS[mode]
    wide = max(ratio, 1.0)
    place = torch.arange(side, dtype=torch.float64) + 0.5
    apart = (place - middle[:, None]) / wide  # [size, side]
    first = (middle - reach * wide + 0.5).floor().clamp(min=0)[:, None]
    last = (middle + reach * wide + 0.5).floor().clamp(max=side)[:, None]
    under = (torch.arange(side) >= first) & (torch.arange(side) < last)
    weights = torch.where(under, kernel(apart), 0.0)
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def _box(x: Tensor) -> Tensor:
    return ((x > -0.5) & (x <= 0.5)).double()


def _hamming(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 1, torch.sinc(x) * (0.54 + 0.46 * torch.cos(math.pi * x)), 0.0)


def _lanczos(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)


KERNELS: dict[int, tuple[Callable[[Tensor], Tensor], float]] = {
    BOX: (_box, 0.5), HAMMING: (_hamming, 1.0), LANCZOS: (_lanczos, 3.0),
}  # fmt: skip


def _center_crop(images: Images, height: int, width: int) -> Images:
    """Crop, or pad with black where the image is smaller."""
    down, right = images.shape[-2] - height, images.shape[-1] - width
    top, left = down // 2, right // 2
    return F.pad(images, (-left, left - right, -top, top - down))  # [B, 3, height, width]
