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
from sia_gen.studio.blend import mix, smooth
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


BLOCK = 8
# How coarsely the JPEG standard's example tables (ISO/IEC 10918-1, annex K) take each frequency, along the diagonal: of
# brightness, and of colour.
COARSE = ((16, 11, 12, 16, 26, 40, 58, 72), (17, 18, 24, 47, 66, 99, 99, 99))


def compressed(images: Images, spec: FaceSpec) -> Images:
    """sRGB ``[B, 3, S, S]`` with the traces of a JPEG: blocks of 8, fine colour lost, small waves rounded away.

    Sums are taken in a fixed order, so that a face does not depend on how many are compressed with it.
    """
    amount, side = spec["compression"][:, None, None, None], images.shape[-1]
    rest = -side % (2 * BLOCK)
    pixels = F.pad(images, (0, rest, 0, rest), mode="replicate") * 255 - 128
    red, green, blue = pixels.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = F.avg_pool2d(torch.stack([0.564 * (blue - luma), 0.713 * (red - luma)], dim=1), 2)
    luma = _rounded(luma[:, None], amount, COARSE[0])[:, 0]
    chroma = F.interpolate(_rounded(chroma, amount, COARSE[1]), scale_factor=2.0, mode="bilinear", align_corners=False)
    blue, red = luma + chroma[:, 0] / 0.564, luma + chroma[:, 1] / 0.713
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    traced = ((torch.stack([red, green, blue], dim=1)[..., :side, :side] + 128) / 255).clamp(0, 1)
    return mix(images, traced, smooth(0.0, 0.12, amount))


def _rounded(planes: Tensor, amount: Tensor, coarse: tuple[int, ...]) -> Tensor:
    """Planes ``[B, C, N, N]`` whose 8 × 8 cosine waves are rounded, the more coarsely the larger ``amount`` is."""
    place = torch.arange(BLOCK, device=planes.device)
    wave = torch.cos(math.pi / BLOCK * (place + 0.5) * place[:, None]) * math.sqrt(2 / BLOCK)  # [wave, place]
    wave[0] /= math.sqrt(2)
    steps = planes.new_tensor(coarse)
    steps = ((steps[:, None] * steps).sqrt() * (0.12 + 1.5 * amount[..., None, None])).view(len(planes), 1, 1, 1, 8, 8)
    count = planes.shape[-1] // BLOCK
    blocks = planes.view(*planes.shape[:2], count, BLOCK, count, BLOCK).transpose(3, 4)  # [B, C, n, n, 8, 8]
    waves = _summed(_summed(blocks, wave).transpose(4, 5), wave).transpose(4, 5)
    waves = (waves / steps).round() * steps
    blocks = _summed(_summed(waves, wave.T).transpose(4, 5), wave.T).transpose(4, 5)
    return blocks.transpose(3, 4).reshape(planes.shape)


def _summed(blocks: Tensor, weights: Tensor) -> Tensor:
    """``weights [8, 8]`` times blocks ``[..., 8, 8]`` along their rows."""
    return sum(weights[:, k, None] * blocks[..., k, None, :] for k in range(BLOCK))


class Grain:
    """Sensor noise: one fixed pattern, laid differently over each face by what its factors are.

    Neighbouring pixels share some of it, as a phone's own smoothing leaves it, and it shows most in the dark.
    """

    def __init__(self, side: int) -> None:
        pattern = torch.from_numpy(stream(0, "sensor noise").standard_normal((3, side, side))).float()
        shared = (pattern + pattern.roll(1, 1) + pattern.roll(1, 2) + pattern.roll((1, 1), (1, 2))) / 2
        pattern = pattern + 0.9 * shared
        self._pattern = pattern / pattern.std()
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
        dark = 1.25 - 0.6 * images.mean(1, keepdim=True)
        return (images + grain * dark * (spec["noise"] / 255)[:, None, None, None]).clamp(0, 1)
