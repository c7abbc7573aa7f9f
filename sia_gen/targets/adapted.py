"""A target that is shown pictures in another form: cropped, of another size, range of values or order of channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import parse_qsl, quote, urlencode

from torch import Tensor
from torch.nn import functional as F

from sia_gen.core.errors import RequestError
from sia_gen.core.images import Images
from sia_gen.targets.formats.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from sia_gen.targets.target import Label, Target
from sia_gen.targets.task import Task

Channels: TypeAlias = Literal["rgb", "bgr"]
IMAGENET = "imagenet"  # in place of a range
MARK = "?"  # between a target's name and how it is shown pictures
LARGEST = 4096  # pixels of a side


@dataclass(frozen=True)
class Form:
    """How pictures are shown: resized to ``size`` (None: as they are), ``low`` to ``high`` in place of 0 to 1.

    With ``imagenet`` each channel is normalised by ImageNet's mean and standard deviation instead. Below 1, ``crop`` is
    the share of each side that is shown of the middle, as large as the whole was.

    Raises `RequestError` for a size outside 1…4096, channels other than "rgb" and "bgr", an empty range, and a crop
    outside 0…1.
    """

    size: int | None = None
    channels: Channels = "rgb"
    low: float = 0.0
    high: float = 1.0
    imagenet: bool = False
    crop: float = 1.0

    def __post_init__(self) -> None:
        if self.size is not None and not 1 <= self.size <= LARGEST:
            raise RequestError(f"size={self.size} is outside 1…{LARGEST}; give the side of a picture in pixels")
        if self.channels not in ("rgb", "bgr"):
            raise RequestError(f"channels={self.channels} is neither rgb nor bgr; choose one of these")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low != self.high):
            raise RequestError(f"input range {self.low:g},{self.high:g} holds no values; write it as 0,255 or -1,1")
        if not 0 < self.crop <= 1:
            raise RequestError(f"crop={self.crop:g} is outside 0…1; give the share of the picture's side to show")

    def __call__(self, images: Images) -> Tensor:
        """Images ``[B, 3, H, W]`` in [0, 1] in this form; differentiable."""
        sides = tuple(images.shape[-2:]) if self.size is None else (self.size, self.size)
        if self.crop < 1:
            (top, height), (left, width) = (_middle(side, self.crop) for side in images.shape[-2:])
            images = images[..., top : top + height, left : left + width]
        if images.shape[-2:] != sides:
            images = F.interpolate(images, sides, mode="bilinear", antialias=True)
        if self.channels == "bgr":
            images = images.flip(1)
        if self.imagenet:
            mean, sd = (images.new_tensor(each).view(3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
            return (images - mean) / sd
        return images if (self.low, self.high) == (0, 1) else self.low + images * (self.high - self.low)


def _middle(side: int, share: float) -> tuple[int, int]:
    """Where the middle of a side begins, and how long it is, in pixels."""
    length = max(1, round(side * share))
    return (side - length) // 2, length


@dataclass
class Adapted:
    """``target``, shown every picture in another ``form``."""

    target: Target
    form: Form
    name: str
    task: Task
    differentiable: bool
    label: Label | None

    @classmethod
    def of(cls, target: Target, form: Form, name: str) -> Adapted:
        return cls(target, form, name, target.task, target.differentiable, target.label)

    def predict(self, images: Images) -> Tensor:
        return self.target.predict(self.form(images))


def asked_as(
    name: str,
    *,
    size: int | None = None,
    channels: str | None = None,
    input_range: str | None = None,
    crop: float | None = None,
    classes: str | None = None,
) -> str:
    """A target's name with how it is shown pictures, as ``name?size=224&range=0,255``, which `load_target` reads."""
    given = {"size": size, "channels": channels, "range": input_range, "crop": crop, "classes": classes}
    told = {key: value for key, value in given.items() if value is not None}
    return name if not told else f"{name}{MARK}{urlencode(told, safe=',:', quote_via=quote)}"


def parted(text: str) -> tuple[str, Form | None, tuple[str, ...]]:
    """The name, the form and the classes in what `asked_as` gives; raises `RequestError` for other options."""
    name, mark, query = text.partition(MARK)
    if not mark:
        return text, None, ()
    options = dict(parse_qsl(query, keep_blank_values=True))
    for key in options:
        if key not in ("size", "channels", "range", "crop", "classes"):
            raise RequestError(
                f"target '{text}' has an option '{key}'; there are size, channels, range, crop and classes"
            )
    classes = tuple(part.strip() for part in options.pop("classes").split(",")) if "classes" in options else ()
    return name, _form(options) if options else None, classes


def _form(options: Mapping[str, str]) -> Form:
    imagenet = options.get("range") == IMAGENET
    low, high = ("0,1" if imagenet else options.get("range", "0,1")).partition(",")[::2]
    try:
        size = int(options["size"]) if "size" in options else None
        span, crop = (float(low), float(high)), float(options.get("crop", 1))
    except ValueError:
        raise RequestError(
            f"{urlencode(options, safe=',')} are no numbers; write them as size=224, range=0,255 or range=imagenet, "
            "crop=0.8"
        ) from None
    return Form(size, options.get("channels", "rgb"), *span, imagenet, crop)  # type: ignore[arg-type]
