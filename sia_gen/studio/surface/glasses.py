"""Glasses: two rims, a bridge, two temples and their lenses, fitted to each head.

Letters: B faces, V skin vertices, G frame vertices, L lens vertices, T triangles.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sia_gen.studio.factors import FaceSpec

AROUND = 32  # points of a rim
POWER = 2.7  # of the superellipse that a rim is: 2 an ellipse, more is squarer
CENTRE = (0.52, -0.06)  # of a lens, x and y
CURVED = 0.12  # how fast the front recedes with x²
DEEP = 0.06  # thickness of a frame from front to back
HINGE = 0.07  # y of bridge and temples


class Glasses:
    """Triangles of frame ``[T, 3]`` and of lenses over the vertices that `vertices` gives."""

    def __init__(self, rest: Tensor, skin: Tensor) -> None:
        x, y, z = rest.T
        front = skin & (z > 0.0) & (x.abs() < 0.95) & (y < 0.3) & (y > -0.3)
        front &= (x.abs() > 0.2) | (y > -0.12)  # where the nose carries them
        self._carried = front.nonzero().squeeze(1)
        temple = rest.new_tensor([[side * 1.25, 0.05, -0.75] for side in (-1.0, 1.0)])
        usable = (skin & (y.abs() < 0.4)).nonzero().squeeze(1)
        self._temples = usable[torch.cdist(temple, rest[usable]).argmin(dim=1)]  # [2]
        angle = torch.arange(AROUND, device=rest.device) * (2 * math.pi / AROUND)
        self._rim = torch.stack([_power(angle.cos()), _power(angle.sin())])  # [2, AROUND]
        self.frame = _frame_triangles().to(rest.device)
        self.lenses = _lens_triangles().to(rest.device)

    def vertices(self, head: Tensor, spec: FaceSpec) -> tuple[Tensor, Tensor]:
        """Frames ``[B, G, 3]`` and lenses ``[B, L, 3]`` on the heads ``[B, V, 3]``."""
        size, thick = spec["frame_size"][:, None], 0.016 + 0.055 * spec["frame_thickness"][:, None]
        wide, high = 0.34 + 0.12 * size, 0.22 + 0.15 * size  # [B, 1]
        carried = head[:, self._carried]
        front = (carried[..., 2] + CURVED * carried[..., 0].square()).amax(dim=1)[:, None] + 0.05  # [B, 1]

        def at(x: Tensor, y: Tensor, back: float = 0.0) -> Tensor:
            return torch.stack(torch.broadcast_tensors(x, y, front - back - CURVED * x.square()), dim=-1)

        frames, lenses = [], []
        across, up = self._rim
        for side in (-1.0, 1.0):
            x, y = side * CENTRE[0], CENTRE[1]
            inner = (x + side * wide * across, y + high * up)
            outer = (x + side * (wide + thick) * across, y + (high + thick) * up)
            frames += [at(*inner), at(*outer), at(*outer, DEEP), at(*inner, DEEP)]
            middle = at(torch.full_like(wide, x), torch.full_like(wide, y), 0.02)
            lenses += [middle, at(*inner, 0.02)]
        gap = CENTRE[0] - wide
        for side in (-1.0, 1.0):  # the bridge, end by end
            frames += [
                at(side * gap, HINGE + sign * (0.012 + 0.5 * thick), back) for sign in (-1, 1) for back in (0.0, DEEP)
            ]
        for side, vertex in zip((-1.0, 1.0), self._temples, strict=True):
            hinge = at(side * (CENTRE[0] + wide + 0.5 * thick), torch.full_like(wide, HINGE))  # [B, 1, 3]
            ear = head[:, vertex][:, None] + head.new_tensor([side * 0.03, 0.0, -0.35])
            for end in (hinge, ear):
                for sign, out in ((-1, -1.0), (-1, 1.0), (1, -1.0), (1, 1.0)):
                    lift = sign * (0.010 + 0.6 * thick[..., None])
                    frames.append(end + torch.cat([lift * 0 + side * out * 0.015, lift, lift * 0], dim=-1))
        worn = (spec["glasses"] > 0.4)[:, None, None]
        hidden = head.new_tensor([0.0, 0.5, -1.0])  # a point in the skull, where they cover nothing
        return tuple(torch.where(worn, torch.cat(parts, dim=1), hidden) for parts in (frames, lenses))


def _power(value: Tensor) -> Tensor:
    return value.sign() * value.abs() ** (2 / POWER)


def _frame_triangles() -> Tensor:
    quads = []
    for eye in range(2):
        start = eye * 4 * AROUND
        for ring in range(4):
            for point in range(AROUND):
                a, b = start + ring * AROUND + point, start + ring * AROUND + (point + 1) % AROUND
                c, d = (start + (ring + 1) % 4 * AROUND + corner % AROUND for corner in (b, a))
                quads.append((a, d, c, b) if eye else (a, b, c, d))
    start = 8 * AROUND
    for box in range(3):
        first = start + 8 * box
        near, far = [first + i for i in (0, 1, 3, 2)], [first + 4 + i for i in (0, 1, 3, 2)]
        quads += [(near[i], near[(i + 1) % 4], far[(i + 1) % 4], far[i]) for i in range(4)]
    front = torch.tensor([(a, b, c) for a, b, c, _ in quads] + [(a, c, d) for a, _, c, d in quads])
    return torch.cat([front, front.flip(1)])


def _lens_triangles() -> Tensor:
    fans = []
    for eye in range(2):
        start = eye * (1 + AROUND)
        fans += [(start, start + 1 + point, start + 1 + (point + 1) % AROUND) for point in range(AROUND)]
    front = torch.tensor(fans)
    return torch.cat([front, front.flip(1)])
