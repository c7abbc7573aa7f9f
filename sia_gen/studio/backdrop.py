"""What lies behind the face: a wall of one hue, or an out-of-focus scene.

Letters: B faces, N side of the supersampled picture.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sia_gen.core.seeds import stream
from sia_gen.studio.factors import FaceSpec

HEIGHT, WIDTH = 5, 17  # grains of the scene, which reaches two pictures wide
SHARP = 8  # pixels of the stored scene per grain


class Backdrop:
    """A scene of soft blobs, the same for all faces; each sees another part of it.

    Its left is the mirror image of its right, so that a mirrored picture is the picture of mirrored factors.
    """

    def __init__(self) -> None:
        blobs = 0.35 * torch.from_numpy(stream(0, "backdrop").standard_normal((3, HEIGHT, WIDTH))).float()
        blobs = blobs + torch.from_numpy(stream(1, "backdrop").standard_normal((1, HEIGHT, WIDTH))).float()
        blobs = (blobs + blobs.flip(2)) * (0.35 / 2**0.5)
        size = (HEIGHT * SHARP, WIDTH * SHARP)
        self._scene = F.interpolate(blobs[None], size, mode="bicubic", align_corners=True)  # [1, 3, ., .]

    def to(self, device: torch.device | str) -> Backdrop:
        self._scene = self._scene.to(device)
        return self

    def __call__(self, spec: FaceSpec, side: int) -> Tensor:
        """Linear radiance ``[3, B, N, N]``."""
        warmth, green = spec["background_warmth"], spec["background_green"]
        tint = torch.stack([warmth - 0.5 * green, green, -warmth - 0.5 * green])  # [3, B]
        wall = spec["background_lightness"] ** 2.2 * torch.exp(0.5 * tint)
        span = torch.linspace(-1, 1, side, device=tint.device)
        slope = torch.exp(0.9 * spec["background_slope"][:, None, None] * span)  # [B, 1, N]
        falloff = 1 - 0.18 * (span[:, None].square() + span.square())  # [N, N]
        across = 0.5 * span + 0.5 * spec["background_shift"][:, None]  # [B, N] in the scene, −1…1
        places = torch.stack(torch.broadcast_tensors(across[:, None, :], span[None, :, None]), dim=-1)  # [B, N, N, 2]
        scene = self._scene.expand(len(spec), -1, -1, -1)
        scene = F.grid_sample(scene, places, align_corners=True).transpose(0, 1)  # [3, B, N, N]
        seen = torch.exp(2.2 * spec["background_scene"][:, None, None] * scene)
        return wall[:, :, None, None] * slope * falloff * seen
