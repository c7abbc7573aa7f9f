"""The camera: how points come to pixels, and radiance to a picture.

It looks along −z at the head and is framed as FFHQ is: the face fills the picture, the eyes a little above the middle.
Whatever its distance, the face stays as large: only the perspective changes.

Letters: B faces, N side of the supersampled picture, S side of the picture.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from sia_gen.core.images import Images
from sia_gen.core.seeds import stream
from sia_gen.studio.factors import FACTORS, FaceSpec

EYES_APART = 0.063  # metres, of the average adult
ZOOM = 0.255  # picture widths per eye distance at the pivot's depth
PIVOT_AT = 0.565  # share of the picture's height above the pivot
WIDEST = next(factor.high for factor in FACTORS if factor.name == "blur") / 100  # standard deviation, of the width


def project(points: Tensor, away: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points about the pivot ``[3, ...]`` → column and row in a picture of ``side`` pixels, and distance ``[...]``.

    ``away`` ``[...]`` is the camera's distance from the pivot in eye distances.
    """
    x, y, z = points
    distance = away - z
    scale = (side * ZOOM) * away / distance
    return side / 2 + x * scale, side * PIVOT_AT - y * scale, distance


def distance_of(spec: FaceSpec) -> Tensor:
    """The camera's distance from the pivot ``[B]`` in eye distances."""
    return spec["camera_distance"] / EYES_APART


def tone(radiance: Tensor) -> Tensor:
    """Linear radiance → display linear in [0, 1]: a film's toe and shoulder (Narkowicz's ACES fit, 2016)."""
    x = 0.62 * radiance
    return (x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14)).clamp(0, 1)


def encode(linear: Tensor) -> Images:
    """Display linear → sRGB in [0, 1] (IEC 61966-2-1)."""
    linear = linear.clamp(0, 1)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def blurred(images: Tensor, spec: FaceSpec) -> Tensor:
    """Display-linear ``[B, 3, S, S]`` after a Gaussian of the factor "blur"; sums of shifted pictures, face by face."""
    side = images.shape[-1]
    reach = math.ceil(3 * WIDEST * side)
    sigma = (spec["blur"] / 100 * side).clamp(min=1e-3)  # [B] pixels
    steps = torch.arange(-reach, reach + 1, device=images.device)
    weights = torch.exp(-(steps / sigma[:, None]).square() / 2)
    weights = (weights / weights.sum(1, keepdim=True))[:, :, None, None, None]  # [B, 2 · reach + 1, 1, 1, 1]
    for axis in (2, 3):
        padding = (reach, reach, 0, 0) if axis == 3 else (0, 0, reach, reach)
        padded = F.pad(images, padding, mode="replicate")
        images = sum(weights[:, k] * padded.narrow(axis, k, side) for k in range(2 * reach + 1))
    return images


class Grain:
    """Sensor noise: one fixed pattern, laid differently over each face by what its factors are."""

    def __init__(self, side: int) -> None:
        pattern = stream(0, "sensor noise").standard_normal((3, side, side))
        self._pattern = torch.from_numpy(pattern).float()
        self._steps = torch.arange(side)
        self._weights = torch.from_numpy(stream(0, "sensor noise offsets").uniform(10, 100, (len(FACTORS), 2)))

    def to(self, device: torch.device | str) -> Grain:
        self._pattern, self._steps = self._pattern.to(device), self._steps.to(device)
        self._weights = self._weights.to(device)
        return self

    def __call__(self, images: Images, spec: FaceSpec) -> Images:
        """sRGB ``[B, 3, S, S]`` with noise of the factor's strength added."""
        side = images.shape[-1]
        mixed = (spec.values.double()[..., None] * self._weights).sum(1)  # [B, 2]
        rows, columns = ((torch.frac(mixed) * side).long().remainder(side)).T
        rows = (rows[:, None] + self._steps) % side
        columns = (columns[:, None] + self._steps) % side
        grain = self._pattern[:, rows[:, :, None], columns[:, None, :]].transpose(0, 1)  # [B, 3, S, S]
        return (images + grain * (spec["noise"] / 255)[:, None, None, None]).clamp(0, 1)
