"""Images are ``float [B, 3, H, W]``, RGB, in [0, 1]; the only place where ranges, layouts and 8-bit steps change.

Letters: B batch, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sia_gen.core.errors import WorkError

Images: TypeAlias = Tensor


def to_bytes(images: Images) -> Tensor:
    """Round images in [0, 1] to ``uint8 [B, 3, H, W]``: what a PNG can hold."""
    return images.detach().clamp(0, 1).mul(255).round().to(torch.uint8)


def from_bytes(images: Tensor) -> Images:
    """``uint8 [B, 3, H, W]`` to float32 images in [0, 1]; exact inverse of `to_bytes` on its range."""
    return images.to(torch.float32).div(255)


class _Quantise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Images) -> Images:
        return images.clamp(0, 1).mul_(255).round_().div_(255)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def quantise(images: Images) -> Images:
    """Round to the 8-bit grid, passing the gradient straight through (Bengio et al., arXiv 1308.3432)."""
    return _Quantise.apply(images)


def to_pil(image: Tensor) -> Image.Image:
    """One image ``[3, H, W]``, float in [0, 1] or uint8, as a PIL image."""
    if image.dtype != torch.uint8:
        image = to_bytes(image)
    return Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())


def from_pil(image: Image.Image) -> Tensor:
    """A PIL image as float ``[3, H, W]`` in [0, 1]."""
    return from_bytes(torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1))


def read_image(path: str | Path) -> Tensor:
    """Read an image file as float ``[3, H, W]``; raises `WorkError` if it is none."""
    try:
        with Image.open(path) as image:
            return from_pil(image)
    except OSError as error:
        raise WorkError(f"cannot read '{path}' as an image ({error}); give a PNG or JPEG file") from None


def contact_sheet(
    rows: Sequence[Tensor],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    scale: int = 1,
) -> Image.Image:
    """Lay out rows of images, each ``[B, 3, H, W]``, with labels at the left and on top; ``scale`` enlarges pixels."""
    height, width = (side * scale for side in rows[0].shape[-2:])
    columns = max(len(row) for row in rows)
    left = 8 + max((len(label) * 7 for label in row_labels), default=-8)
    top = 16 if column_labels else 0
    sheet = Image.new("RGB", (left + columns * width, top + len(rows) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for column, label in enumerate(column_labels):
        draw.text((left + column * width + 2, 2), label, fill="black")
    for index, row in enumerate(rows):
        if index < len(row_labels):
            draw.text((4, top + index * height + height // 2 - 6), row_labels[index], fill="black")
        for column, image in enumerate(row):
            tile = to_pil(image).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(tile, (left + column * width, top + index * height))
    return sheet


def matrix_sheet(values: Tensor, row_labels: Sequence[str], column_labels: Sequence[str]) -> Image.Image:
    """A matrix ``[H, W]`` of numbers around −1…1 as a picture: each as text on blue (negative) over white to red."""
    left, top, side = (8 + 7 * max(map(len, labels)) for labels in (row_labels, column_labels, ["-0.00"]))
    names = Image.new("RGB", (top, len(column_labels) * side), "white")  # written across, then turned upright
    for index, label in enumerate(column_labels):
        ImageDraw.Draw(names).text((4, index * side + side // 2 - 6), label, fill="black")
    sheet = Image.new("RGB", (left + len(column_labels) * side, top + len(row_labels) * side), "white")
    sheet.paste(names.rotate(90, expand=True), (left, 0))
    draw = ImageDraw.Draw(sheet)
    for row, (label, numbers) in enumerate(zip(row_labels, values.tolist(), strict=True)):
        y = top + row * side
        draw.text((4, y + side // 2 - 6), label, fill="black")
        for column, number in enumerate(numbers):
            x, fade = left + column * side, round(255 * (1 - min(1.0, 0.7 * abs(number))))
            tint = (255, fade, fade) if number > 0 else (fade, fade, 255)
            draw.rectangle((x, y, x + side - 2, y + side - 2), fill=tint)
            draw.text((x + 6, y + side // 2 - 6), f"{number:.2f}".replace("-0.00", "0.00"), fill="black")
    return sheet
