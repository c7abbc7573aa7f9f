"""Smooth noise in three dimensions: what makes skin, strands and rooms uneven.

Letters: P points.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sia_gen.core.seeds import stream

SIDE = 32


class Noise:
    """One fixed cube of random numbers, interpolated and repeated without end."""

    def __init__(self) -> None:
        cube = torch.from_numpy(stream(0, "studio noise").random((SIDE,) * 3)).float()
        for axis in range(3):
            cube = torch.cat([cube, cube.narrow(axis, 0, 1)], dim=axis)
        self._cube = cube[None, None]

    def to(self, device: torch.device | str) -> Noise:
        self._cube = self._cube.to(device)
        return self

    def __call__(self, points: Tensor) -> Tensor:
        """Points ``[3, P]`` → noise ``[P]`` in (−1, 1) with grains of size 1."""
        at = torch.remainder(points / SIDE, 1.0) * 2 - 1
        found = F.grid_sample(self._cube, at.T[None, None, None], align_corners=True)
        return found.view(-1) * 2 - 1
