"""What lies behind the face: a wall of one hue, or a scene, out of focus or in it.

Letters: B faces, N side of the supersampled picture.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sia_gen.core.seeds import stream
from sia_gen.studio.blend import mix
from sia_gen.studio.factors import FaceSpec

HEIGHT, WIDTH = 5, 17  # grains of the out-of-focus scene, which reaches two pictures wide
SHARP = 32  # pixels of the stored scene per grain
THINGS = 60  # boxes in the scene: windows, shelves, frames, posts


class Backdrop:
    """A scene, the same for all faces, in focus and out of it; each face sees another part of it.

    Its left is the mirror image of its right, so that a mirrored picture is the picture of mirrored factors.
    """

    def __init__(self) -> None:
        blobs = 0.35 * torch.from_numpy(stream(0, "backdrop").standard_normal((3, HEIGHT, WIDTH))).float()
        blobs = blobs + torch.from_numpy(stream(1, "backdrop").standard_normal((1, HEIGHT, WIDTH))).float()
        size = (HEIGHT * SHARP, WIDTH * SHARP)
        far = F.interpolate(blobs[None], size, mode="bicubic", align_corners=True)[0]
        focused = 0.45 * far + _things(*size)
        out = focused[None]
        for _ in range(3):  # a lens out of focus, nearly a Gaussian
            out = F.avg_pool2d(out, SHARP - 1, 1, SHARP // 2 - 1, count_include_pad=False)
        out = out[0]
        half = torch.cat([out, focused])[:, :, size[1] // 2 :]
        self._scene = 0.35 * torch.cat([half.flip(2), half], dim=2)[None]  # [1, 6, ., .]

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
        blurred, focused = F.grid_sample(scene, places, align_corners=True).transpose(0, 1).split(3)  # [3, B, N, N]
        scene = mix(blurred, focused, spec["background_detail"][:, None, None])
        seen = torch.exp(2.2 * spec["background_scene"][:, None, None] * scene)
        return wall[:, :, None, None] * slope * falloff * seen


def _things(height: int, width: int) -> Tensor:
    """What stands about in a room or a street: a floor, boxes before boxes, leaves. Log radiance ``[3, H, W]``."""
    random = stream(2, "backdrop")
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    scene = torch.where(y > 0.72, -0.6, 0.1).expand(3, -1, -1).clone()
    for left, top, wide, high, light, *tint in random.random((THINGS, 8)):
        wide, high = 0.02 + 0.18 * wide**2, 0.10 + 0.7 * high**2
        inside = ((x - left).abs() < wide / 2) & ((y - 0.8 * top - 0.1).abs() < high / 2)
        scene[:, inside] = scene.new_tensor([[2.0 * (light - 0.5) + 0.5 * (share - 0.5)] for share in tint])
    leaves = torch.from_numpy(random.standard_normal((1, 1, height // 4, width // 4))).float()
    leaves = F.interpolate(leaves, (height, width), mode="bicubic", align_corners=True)[0]
    return scene + 0.35 * leaves * torch.sin(9.0 * x + 2.0 * y).clamp(min=0)
