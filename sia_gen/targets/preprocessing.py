"""Resizing, cropping and normalising as a transformers image processor does, but differentiable.

Letters: B images, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.errors import RequestError
from sia_gen.core.images import Images

# PIL's numbers for the filters that torch has as well; with antialiasing both use the same kernels.
FILTERS = {2: "bilinear", 3: "bicubic"}
# Room for float error, so that flat black and white areas keep their gradient.
ROUNDING = 1e-5
# ConvNeXt's processor crops below this side and warps from it on.
CROP_BELOW = 384


class Preprocessing(nn.Module):
    """Images ``[B, 3, H, W]`` in [0, 1] → what a model was trained on, from the settings of its image processor.

    Raises `RequestError` where the settings ask for something that this class does not do.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.size = dict(settings.get("size") or {}) if settings.get("do_resize") else {}
        self.size = {key: value for key, value in self.size.items() if value is not None}
        self.crop_fraction = settings.get("crop_pct")
        crop = settings.get("crop_size") if settings.get("do_center_crop") else None
        self.crop = (crop["height"], crop["width"]) if crop else None
        if set(self.size) not in ({"height", "width"}, {"shortest_edge"}, set()):
            raise RequestError(f"resizing to {self.size} is not supported; wrap the model as module:callable")
        resample = settings.get("resample", 2)
        if resample not in FILTERS:
            raise RequestError(
                f"resample={resample} is not 2 (bilinear) or 3 (bicubic); wrap the model as module:callable"
            )
        self.filter = FILTERS[resample]
        # Processors count in 0 … 255 before they rescale.
        scale = 255 * (settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0)
        mean, std = [0.0] * 3, [1.0] * 3
        if settings.get("do_normalize"):
            mean, std = settings["image_mean"], settings["image_std"]
        self.register_buffer("scale", (scale / torch.tensor(std)).reshape(3, 1, 1), persistent=False)
        self.register_buffer("shift", (torch.tensor(mean) / torch.tensor(std)).reshape(3, 1, 1), persistent=False)

    def forward(self, images: Images) -> Tensor:
        images = self._resize(images)
        if self.crop is not None:
            images = _center_crop(images, *self.crop)
        return images * self.scale - self.shift

    def _resize(self, images: Images) -> Images:
        if not self.size:
            return images
        if "height" in self.size:
            return _scale(images, self.size["height"], self.size["width"], self.filter)
        edge = self.size["shortest_edge"]
        if self.crop_fraction is None:
            return _scale(images, *_shortest(images, edge), self.filter)
        if edge >= CROP_BELOW:
            return _scale(images, edge, edge, self.filter)
        images = _scale(images, *_shortest(images, int(edge / self.crop_fraction)), self.filter)
        return _center_crop(images, edge, edge)


def _shortest(images: Images, edge: int) -> tuple[int, int]:
    height, width = images.shape[-2:]
    shorter = min(height, width)
    return int(edge * height / shorter), int(edge * width / shorter)


def _scale(images: Images, height: int, width: int, mode: str) -> Images:
    # Columns first and clipped in between, as PIL does: bicubic overshoots at edges, an 8-bit image cannot.
    for size in ((images.shape[-2], width), (height, width)):
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode=mode, antialias=True)  # [B, 3, *size]
            if mode == "bicubic":
                images = images.clamp(-ROUNDING, 1 + ROUNDING)
    return images


def _center_crop(images: Images, height: int, width: int) -> Images:
    """Crop, or pad with black where the image is smaller."""
    down, right = images.shape[-2] - height, images.shape[-1] - width
    top, left = down // 2, right // 2
    return F.pad(images, (-left, left - right, -top, top - down))  # [B, 3, height, width]
