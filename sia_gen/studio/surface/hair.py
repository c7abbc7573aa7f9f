"""Hair as a surface of its own above the scalp: where it grows, how it hangs and how its strands run.

The surface is a grid of meridians about the crown. Rows above the ears follow the scalp of each head; rows below hang
straight down from them. Which part of it is covered by hair is decided pixel by pixel, so that hairlines and ends fray.
Rest positions are as in `head`: eye distance 1, origin between the eyes.

Letters: B faces, V skin vertices, H hair vertices, T triangles, P pixels.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sia_gen.studio.blend import colour, mix, smooth
from sia_gen.studio.factors import FaceSpec
from sia_gen.studio.surface.texture import Noise

CENTRE = (0.0, 0.55, -1.0)  # of the skull
AXIS = (0.0, 1.0, -0.28)  # towards the crown
COLUMNS, ROWS, HANGING = 73, 20, 14
EDGE = math.radians(102)  # from the crown, where the scalp ends and hair hangs
FREE = 0.76  # radians from the front: nothing hangs before the face
DROP = 3.2  # eye distances that the longest hair hangs below the edge
NEIGHBOURS = 4
HAIRLINE = ((0.0, 1.24), (0.4, 1.22), (0.7, 1.06), (0.95, 0.62), (1.12, -0.1), (1.5, 0.0), (2.0, -0.5), (3.2, -1.0))
"""How low hair grows, as y over the angle from the front in radians: forehead, temple, sideburn, nape."""


@dataclass(frozen=True)
class Growth:
    """What of a palette says where hair is: ``[B]`` per face, or ``[P]`` per pixel."""

    length: Tensor
    hairline: Tensor
    fringe: Tensor
    baldness: Tensor
    sides: Tensor
    loose: Tensor


class Hair:
    """The grid over one rest head; ``triangles`` ``[T, 3]``, seen from both sides."""

    def __init__(self, rest: Tensor, skin: Tensor, noise: Noise) -> None:
        """``rest`` ``[V, 3]``, ``skin`` bool ``[V]``: the vertices of the body."""
        usable = (skin & ~ears(rest) & (rest[:, 1] > -0.6)).nonzero().squeeze(1)
        axis = F.normalize(rest.new_tensor(AXIS), dim=0)
        across = rest.new_tensor([1.0, 0.0, 0.0])
        forward = torch.linalg.cross(across, axis)
        azimuth = torch.linspace(-math.pi, math.pi, COLUMNS, device=rest.device)  # 0 at the front, + to image right
        polar = torch.linspace(0.0, EDGE, ROWS, device=rest.device)
        ring = azimuth.sin()[:, None] * across + azimuth.cos()[:, None] * forward  # [COLUMNS, 3]
        outward = polar.cos()[:, None, None] * axis + polar.sin()[:, None, None] * ring  # [ROWS, COLUMNS, 3]
        toward = F.normalize(rest[usable] - rest.new_tensor(CENTRE), dim=1)
        likeness, nearest = (outward.view(-1, 3) @ toward.T).topk(NEIGHBOURS, dim=1)
        near = 1 / (1.001 - likeness)
        self._bound, self._weights = usable[nearest], near / near.sum(1, keepdim=True)  # [ROWS * COLUMNS, 4]
        self._outward, self._ring = outward, ring
        self._fall = torch.linspace(0, 1, HANGING + 1, device=rest.device)[1:]
        self._polar = polar
        on_head = (rest[self._bound] * self._weights[..., None]).sum(1).view(ROWS, COLUMNS, 3)
        self.rest = self._hang(on_head[None])[0].reshape(-1, 3)  # [H, 3]
        self.azimuth = azimuth.repeat(ROWS + HANGING)  # [H]
        self.along = torch.cat([polar, EDGE + self._fall * DROP]).repeat_interleave(COLUMNS)  # [H] crown to tip
        self.hanging = (self.along > EDGE + 1e-4).float()  # [H]
        # One lock after the other around the head, alike at both sides.
        strand = torch.stack([3.2 * azimuth.cos(), 3.2 * azimuth.sin().abs()])
        place = torch.cat([strand.repeat(1, ROWS + HANGING), 0.8 * self.along[None]])
        self._locks = noise(place).view(ROWS + HANGING, COLUMNS)
        x, y, z = self.rest.T
        self._curls = noise(3.1 * torch.stack([x.abs(), y, z]) + 7).view(ROWS + HANGING, COLUMNS)
        self.triangles = _triangles(self.azimuth)

    def vertices(self, head: Tensor, spec: FaceSpec) -> Tensor:
        """Vertices ``[B, H, 3]`` above the heads ``[B, V, 3]``."""
        scalp = (head[:, self._bound] * self._weights[..., None]).sum(2).view(len(spec), ROWS, COLUMNS, 3)
        volume, length, curl, parting, lift, frizz, loose = (
            value[:, None, None]
            for value in (
                *(spec[name] for name in ("hair_volume", "hair_length", "curl", "parting", "hair_lift", "frizz")),
                hangs_loose(spec),
            )
        )
        polar = self._polar[:, None]
        front = smooth(1.3, 0.7, self.azimuth[:COLUMNS].abs())  # [COLUMNS]
        profile = 0.35 + 0.65 * torch.cos(0.8 * polar) - 0.4 * front * smooth(0.7, 1.5, polar)  # [ROWS, COLUMNS]
        close = mix(smooth(EDGE + 0.05, EDGE - 0.9, polar), torch.ones_like(polar), smooth(0.05, 0.3, length))
        full = 0.03 + (0.04 + 0.30 * volume + 0.22 * curl) * (0.15 + 1.7 * length).clamp(max=1) * close
        full = full * (0.45 + 0.55 * loose) + 0.03 * frizz * loose
        x, y, z = self.rest[: ROWS * COLUMNS].view(ROWS, COLUMNS, 3).unbind(-1)
        groove = torch.exp(-((x - 0.55 * parting) / 0.13).square()) * smooth(-1.7, -1.0, z) * smooth(0.9, 1.3, y)
        part = 0.55 * groove * (1 - spec["fringe"][:, None, None])
        offset = full * profile * (1 - part) * (1 + 0.35 * self._locks[:ROWS] + 0.8 * curl * self._curls[:ROWS])
        # A front that is swept up rises from the hairline and falls back over the top.
        rise = front * smooth(1.25, 0.95, polar) * smooth(0.25, 0.7, polar) * smooth(0.02, 0.12, length)
        offset = offset + 0.30 * lift * rise * smooth(0.7, 0.3, length) * (1 + 0.4 * self._locks[:ROWS])
        turned = self.azimuth[:COLUMNS].abs()
        over_ears = smooth(1.1, 1.5, turned) * smooth(2.4, 1.9, turned) * smooth(0.12, 0.3, length)  # [B, 1, COLUMNS]
        over_ears = over_ears * loose
        offset = offset + 0.10 * over_ears * smooth(EDGE - 0.5, EDGE, polar)
        grown = self._hang(scalp + offset[..., None] * self._outward)
        sway = (0.04 + 0.12 * curl) * self._locks[ROWS:] + 0.10 * curl * self._curls[ROWS:]
        sway = (
            sway + 0.10 * over_ears + (0.05 + 0.22 * volume) * torch.sin(torch.pi * self._fall[:, None].clamp(max=0.8))
        )
        grown[:, ROWS:] += sway[..., None] * self._ring
        return grown.view(len(spec), -1, 3)

    def _hang(self, on_head: Tensor) -> Tensor:
        """Rows on the head ``[B, ROWS, COLUMNS, 3]`` and those that hang from the last of them."""
        down = on_head.new_tensor([0.0, -DROP, 0.0])
        below = on_head[:, -1:] + self._fall[:, None, None] * (0.12 * self._ring + down)
        return torch.cat([on_head, below], dim=1)

    def frame(self, vertices: Tensor, spec: FaceSpec) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normals, tangents of falling and of parted strands ``[B, H, 3]``; how far hair is parted ``[B, H, 1]``."""
        grid = vertices.view(len(spec), ROWS + HANGING, COLUMNS, 3)
        around = grid.roll(-1, 2) - grid.roll(1, 2)
        around[:, :, 0] = around[:, :, -1] = grid[:, :, 1] - grid[:, :, -2]  # first and last column are the same
        down = torch.cat([grid[:, 1:2] - grid[:, :1], grid[:, 2:] - grid[:, :-2], grid[:, -1:] - grid[:, -2:-1]], dim=1)
        normals = F.normalize(torch.linalg.cross(down, around), dim=-1).view_as(vertices)
        aside = smooth(-2.0, -0.9, self.rest[:, 2]) * smooth(0.5, 1.1, self.rest[:, 1])  # [H]
        aside = (aside * smooth(0.55, 0.3, spec["fringe"])[:, None])[..., None]
        parted = torch.linalg.cross(normals, normals.new_tensor([0.0, 0.0, 1.0]).expand_as(normals))
        return normals, F.normalize(down, dim=-1).view_as(vertices), F.normalize(parted, dim=-1), aside


def coverage(
    rest: Tensor, azimuth: Tensor, hanging: Tensor, grain: Tensor, fine: Tensor, facing: Tensor, growth: Growth
) -> Tensor:
    """Share ``[P]`` of each pixel of the hair surface that is hair.

    ``grain`` and ``fine`` ``[P]`` are noise along the strands in (−1, 1), ``facing`` ``[P]`` is 1 where the surface
    faces the camera and 0 at its outline, where single strands stand out.
    """
    _, y, _ = rest
    wisps = 0.16 * grain + 0.13 * fine
    margin = hair_margin(y, azimuth, growth)
    grown = smooth(-0.16, 0.17, margin + wisps * (1 + 1.2 * swept_down(growth.fringe)))
    grown = grown * remaining(y, azimuth, grain + 0.5 * fine, growth) * faded(y, azimuth, fine, growth)
    ends = hair_ends(growth.length)
    hung = smooth(ends - 0.1, ends + 0.45, y + 0.3 * grain + 0.25 * fine)
    hung = hung * smooth(FREE, FREE + 0.25, azimuth.abs() + 0.14 * grain + 0.08 * fine)
    hung = hung * smooth(0.10, 0.2, growth.length) * smooth(0.25, 0.75, growth.loose)
    frayed = smooth(0.02, 0.34, facing + 0.20 * fine + 0.12 * grain)
    return mix(grown, hung, smooth(0.0, 0.3, hanging)) * smooth(0.02, 0.10, growth.length) * frayed


def hangs_loose(spec: FaceSpec) -> Tensor:
    """How loose hair hangs ``[B]``, 0…1: 0 where it is tied back, for which it has to be long enough."""
    return 1 - smooth(0.3, 0.7, spec["tied"]) * smooth(0.2, 0.35, spec["hair_length"])


def swept_down(fringe: Tensor) -> Tensor:
    """How far a fringe covers the forehead, 0…1: little of the factor is none."""
    return smooth(0.2, 0.95, fringe)


def hair_margin(y: Tensor, azimuth: Tensor, growth: Growth) -> Tensor:
    """How far above the hairline a point of the rest head lies, in eye distances."""
    turned = azimuth.abs()
    line = torch.full_like(y, HAIRLINE[0][1])
    for (start, low), (end, high) in itertools.pairwise(HAIRLINE):
        line = torch.where(turned >= start, low + (high - low) * (turned - start) / (end - start), line)
    front = smooth(1.2, 0.6, turned)
    corner = torch.exp(-((turned - 0.58) / 0.24).square())  # where hair recedes first, beside a tuft in the middle
    recede = 0.16 * growth.hairline + 0.16 * growth.baldness.clamp(min=0)
    temples = 0.34 * (0.7 * growth.hairline + growth.baldness).clamp(min=0)
    fringe = 0.66 * swept_down(growth.fringe) * smooth(1.0, 0.6, turned)
    return y - line - recede * front - temples * corner + fringe


def remaining(y: Tensor, azimuth: Tensor, grain: Tensor, growth: Growth) -> Tensor:
    """What baldness leaves, from 1 to 0 over the crown and, with more of it, over the front; thin before it is gone."""
    front = 0.35 * smooth(1.3, 0.5, azimuth.abs())
    crown = smooth(0.7 - front, 1.5 - front, y)
    return 1 - smooth(0.2, 0.85, growth.baldness * crown * 1.35 + 0.25 * grain * growth.baldness)


def faded(y: Tensor, azimuth: Tensor, fine: Tensor, growth: Growth) -> Tensor:
    """What is left ``[P]`` of short hair towards its lower edge, where the sides are cropped."""
    cropped = smooth(0.75, 0.15, growth.sides) * smooth(0.42, 0.24, growth.length)
    low = smooth(0.75, -0.35, y) * smooth(0.75, 1.05, azimuth.abs())
    return 1 - 0.85 * cropped * low * (0.85 + 0.3 * fine)


def hair_ends(length: Tensor) -> Tensor:
    """How low hair of a length ``[B]`` (0 cropped, 1 on the shoulders) hangs, as y on the average face."""
    return 0.75 - 3.0 * length


def greyed(pigment: Tensor, grey: Tensor, place: Tensor, strand: Tensor) -> Tensor:
    """Hair ``[3, P]`` that greys at the temples first, strand by strand.

    ``grey`` ``[P]`` is how far a person's hair has greyed, ``place`` ``[P]`` how early it does here, ``strand`` ``[P]``
    noise in (−1, 1).
    """
    share = smooth(0.0, 1.0, grey * (0.75 + 0.6 * place) + 0.55 * grey * (1 - grey) * strand * 2)
    return mix(pigment, colour(pigment, 0.30, 0.29, 0.28), 0.9 * share)


def temples(azimuth: Tensor, y: Tensor) -> Tensor:
    """How early hair greys ``[P]``: 1 at temples and sideburns, 0 on top."""
    return smooth(0.5, 1.0, azimuth.abs()) * smooth(1.2, 0.5, y)


def azimuth_of(rest: Tensor) -> Tensor:
    """The angle ``[V]`` from the front about the crown of points ``[V, 3]`` of the rest head."""
    axis = F.normalize(rest.new_tensor(AXIS), dim=0)
    forward = torch.linalg.cross(rest.new_tensor([1.0, 0.0, 0.0]), axis)
    apart = rest - rest.new_tensor(CENTRE)
    return torch.atan2(apart[:, 0], apart @ forward)


def ears(rest: Tensor) -> Tensor:
    """Which points ``[V]`` of the rest head ``[V, 3]`` are ears."""
    x, y, z = rest.T
    return (x.abs() > 1.16) & (y < 0.45) & (y > -0.9) & (z > -1.75) & (z < -0.3)


def beard_region(rest: Tensor) -> tuple[Tensor, Tensor]:
    """Where a beard and a moustache grow ``[P]`` each, 0…1, over points ``[3, P]`` of the rest head."""
    x, y, z = rest
    side = x.abs()
    border = -1.00 + 0.72 * ((side - 0.42) / 0.8).clamp(0, 1)
    jaw = smooth(0.14, -0.14, y - border) * smooth(-2.25, -1.80, y)
    jaw = jaw * (1 - 0.8 * smooth(0.5, 0.38, side) * smooth(-1.32, -1.2, y) * smooth(-0.95, -1.0, y))
    moustache = smooth(-0.74, -0.83, y) * smooth(-1.16, -1.06, y) * smooth(0.52, 0.34, side)
    front = smooth(-0.75, -0.45, z)
    return jaw * front, moustache * front


def _triangles(azimuth: Tensor) -> Tensor:
    """Both sides of every cell of the grid, less those that would hang before the face."""
    rows, columns = ROWS + HANGING, COLUMNS
    index = torch.arange(rows * columns, device=azimuth.device).view(rows, columns)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    hangs = torch.arange(rows - 1, device=azimuth.device)[:, None] >= ROWS - 1
    kept = ~hangs | (azimuth[:columns].abs()[None, :-1] > FREE - 0.1)
    a, b, c, d = (corner[kept] for corner in (a, b, c, d))
    front = torch.cat([torch.stack([a, b, c], dim=1), torch.stack([a, c, d], dim=1)])
    return torch.cat([front, front.flip(1)])
