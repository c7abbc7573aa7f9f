"""Common corruptions of pictures in five strengths, after ImageNet-C (Hendrycks & Dietterich, ICLR 2019), by kornia.

Letters: B images, R resolution.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sia_gen.core.images import Images, quantise
from sia_gen.core.modules import one_seed

STRENGTHS = 5
SIDE = 224  # pixels of the pictures that the blur was made for


def _noise(images: Images, strength: float) -> Tensor:
    return images + strength * torch.randn(images.shape).to(images)


def _blur(images: Images, strength: float) -> Tensor:
    from kornia.filters import gaussian_blur2d

    sigma = strength * images.shape[-1] / SIDE
    side = 2 * max(1, round(3 * sigma)) + 1
    return gaussian_blur2d(images, (side, side), (sigma, sigma), border_type="reflect")


def _jpeg(images: Images, strength: float) -> Tensor:
    from kornia.enhance import jpeg_codec_differentiable

    return jpeg_codec_differentiable(images, torch.full((len(images),), strength, device=images.device))


def _brightness(images: Images, strength: float) -> Tensor:
    """More of HSV's value."""
    from kornia.color import hsv_to_rgb, rgb_to_hsv

    hue, saturation, value = rgb_to_hsv(images).unbind(1)
    return hsv_to_rgb(torch.stack([hue, saturation, (value + strength).clamp(0, 1)], dim=1))


def _contrast(images: Images, strength: float) -> Tensor:
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (images - mean) * strength + mean


def _fog(images: Images, strength: float) -> Tensor:
    """A plasma of that height is added, and all is scaled back to where the picture was brightest."""
    from kornia.contrib import diamond_square

    count, _, high, wide = images.shape
    plasma = diamond_square((count, 1, high, wide), roughness=0.5, normalize_range=(0.0, 1.0)).to(images)
    brightest = images.amax(dim=(1, 2, 3), keepdim=True)
    return (images + strength * plasma) * brightest / (brightest + strength)


CORRUPTIONS: dict[str, tuple[Callable[[Images, float], Tensor], tuple[float, ...]]] = {
    "noise": (_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "blur": (_blur, (1, 2, 3, 4, 6)),
    "JPEG": (_jpeg, (25, 18, 15, 10, 7)),
    "brightness": (_brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": (_contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "fog": (_fog, (1.5, 2.0, 2.5, 3.0, 3.5)),
}
"""What is done, and how much of it in each strength: sd of noise in shares of the range, sd of the blur in pixels at a
side of 224, JPEG's quality, what is added to the brightness, what is left of contrast, height of the fog."""


def corrupted(name: str, strength: int, images: Images, seed: int) -> Images:
    """Images ``[B, 3, R, R]`` in [0, 1] corrupted in ``strength`` 1…5, as 8 bits hold them; the ``seed`` draws."""
    work, amounts = CORRUPTIONS[name]
    with one_seed(seed):
        return quantise(work(images, amounts[strength - 1]).clamp(0, 1))
