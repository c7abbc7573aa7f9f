"""Skin: its colour, and the relief of lines, folds and pores, as functions of where a point lies on the average face.

What age leaves is a person's own: each mark has an amount, which a face's palette gives per pixel. Positions are rest
positions (eye distance 1, origin between the eyes, y up, z forward). Colours are linear-light RGB reflectances.

Letters: B faces, P pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sia_gen.studio.blend import bump, colour, smooth
from sia_gen.studio.factors import FaceSpec
from sia_gen.studio.raster import per_pixel
from sia_gen.studio.surface.texture import Noise

STEP = 0.012  # eye distances over which slopes are taken
LINES_APART = 0.135  # of the forehead
RAYS_APART = 0.34  # radians between crow's feet


@dataclass(frozen=True)
class Marks:
    """How much of each mark a face shows: ``[B]`` per face, or ``[P]`` per pixel; 1 is that of an average old face."""

    forehead: Tensor
    eyes: Tensor
    folds: Tensor
    bags: Tensor
    sagging: Tensor
    spots: Tensor
    rough: Tensor
    redness: Tensor
    aged: Tensor
    young: Tensor
    pattern: Tensor
    made_up: Tensor

    def at(self, face: Tensor) -> Marks:
        """The marks of the face that each pixel ``[P]`` belongs to."""
        rows = torch.stack(tuple(vars(self).values()))  # [M, B]
        return Marks(*per_pixel(rows, face))


def marks(spec: FaceSpec) -> Marks:
    """What each face shows: from its age, earlier or later as ``ageing`` says, and more or less of each mark."""
    age = spec["age"] + 9.0 * spec["ageing"]

    def since(start: float, end: float, share: str) -> Tensor:
        return smooth(start, end, age) * (1 + 0.8 * spec[share])

    young = smooth(19.0, 9.0, spec["age"])
    return Marks(
        forehead=since(27.0, 85.0, "forehead_lines"),
        eyes=since(27.0, 85.0, "eye_lines"),
        folds=since(22.0, 80.0, "folds"),
        bags=0.12 + since(28.0, 75.0, "bags"),
        sagging=since(40.0, 88.0, "sagging"),
        spots=since(45.0, 95.0, "skin_texture"),
        rough=(0.25 + 0.45 * smooth(0.35, 0.8, spec["sex"]) + 0.8 * smooth(30.0, 80.0, age))
        * (1 + 0.7 * spec["skin_texture"])
        * (1 - 0.8 * young),
        redness=0.5 * spec["redness"] + 0.35 * smooth(40.0, 75.0, age) + 0.35 * young,
        aged=smooth(30.0, 82.0, age),
        young=young,
        pattern=spec["skin_pattern"],
        made_up=spec["eye_makeup"],
    )


def tint(
    rest: Tensor, skin: Tensor, look: Marks, freckles: Tensor, noise: Noise, fine: Tensor, coarse: Tensor
) -> Tensor:
    """Albedo ``[3, P]`` of skin whose plain colour is ``skin`` ``[3, P]``: red zones, spots, shadows under the eyes.

    ``fine`` and ``coarse`` ``[P]`` are noise that the surface shows as well.
    """
    x, y, _ = rest
    side = x.abs()
    even = torch.stack([side, y, rest[2]])  # both halves alike, so that a mirrored face is a face
    shift = torch.stack([2.6 * look.pattern, 1.7 * look.pattern, 0 * look.pattern])
    patchy = noise(even * 3.1 + shift + 11)
    cheeks = bump((side - 0.74) / 0.34, (y + 0.52) / 0.28)
    nose = bump(side / 0.2, (y + 0.62) / 0.18)
    ears = (side > 1.15) & (rest[2] < 0.0)
    chin = bump(side / 0.3, (y + 1.62) / 0.2)
    zones = (0.55 + 0.5 * look.redness) * cheeks + (0.4 + 0.6 * look.redness) * nose + 0.5 * ears + 0.2 * chin
    red = zones + 0.18 * coarse + (0.3 + 0.8 * look.aged) * patchy * (0.5 + cheeks) + 0.45 * look.made_up * cheeks
    skin = skin * (1 + red * colour(x, 0.07, -0.15, -0.13))
    skin = skin * (1 + (0.02 + 0.05 * look.rough) * fine + (0.015 + 0.04 * look.rough) * coarse)
    where = bump(side / 0.9, (y + 0.3) / 0.45)
    freckled = smooth(0.3, 0.55, noise(even * 22 + 2 * shift)) * freckles * where
    upper = smooth(-1.4, -0.4, y) * (1 - 0.6 * bump(side / 0.35, (y + 0.4) / 0.5))
    spotted = smooth(0.14, 0.4, noise(even * 5.5 + shift)) * look.spots * upper
    skin = skin * (1 - 0.5 * (freckled + 0.5 * spotted) * colour(x, 0.55, 0.85, 1.05))
    hollow = bump((side - 0.44) / 0.27, (y + 0.26) / 0.10) + 0.6 * bump((side - 0.26) / 0.10, (y + 0.12) / 0.12)
    lids = bump((side - 0.52) / 0.32, (y - 0.17) / 0.10)
    tired = (0.20 + 0.55 * look.bags) * (1 - 0.6 * look.made_up) * hollow + 0.30 * look.eyes * lids
    skin = skin * (1 - tired * colour(x, 0.30, 0.38, 0.34))
    sallow = look.aged * colour(x, 0.05, 0.08, 0.13) - look.young * colour(x, 0.03, 0.03, 0.04)
    return skin * (1 - sallow)


def relief(rest: Tensor, look: Marks, noise: Noise) -> tuple[Tensor, Tensor]:
    """Slope of the skin ``[3, P]`` in the rest frame, and how deep in a fold ``[P]`` each point lies, 0…1."""
    even = torch.stack([rest[0].abs(), rest[1], rest[2]])
    waves = noise(even * 3.7 + 5)
    here = _height(rest, look, waves)
    step = STEP * torch.eye(3, device=rest.device)
    slope = torch.stack([_height(rest + step[:, axis, None], look, waves) - here for axis in (0, 1)]) / STEP
    pores = look.rough * 0.15
    grain = torch.stack([noise(even * 31 + 17), noise(even * 31 + 41)])
    grain = grain + 0.5 * torch.stack([noise(even * 13 + 29), noise(even * 13 + 53)])
    grain[0] *= rest[0].sign()
    slope = slope + pores * grain * smooth(1.35, 1.0, rest[0].abs())
    return torch.cat([slope, torch.zeros_like(slope[:1])]), (-here / 0.03).clamp(0, 1)


def _groove(phase: Tensor) -> Tensor:
    """A periodic line, −1 in its depth, that is narrower than the ridges between."""
    return -((0.5 + 0.5 * torch.cos(2 * torch.pi * phase)) ** 4)


def _height(rest: Tensor, look: Marks, waves: Tensor) -> Tensor:
    """Height ``[P]`` of the relief in eye distances, at most about 0.05 either way."""
    x, y, z = rest
    side = x.abs()
    front = smooth(-0.5, 0.0, z)
    # Forehead lines bow up over the brows; frown lines stand between them.
    bowed = y - 0.05 * torch.cos(3.6 * side) + 0.035 * waves
    window = bump((y - 0.76) / 0.23) * smooth(0.95, 0.55, side)
    high = 0.021 * look.forehead * _groove(bowed / LINES_APART) * window
    frown = bump((side - 0.10 - 0.03 * waves) / 0.022) * bump((y - 0.36) / 0.15)
    high = high - 0.020 * look.forehead * frown
    # Crow's feet fan out from the outer corner of the eye; fine lines run below it.
    out, up = side - 0.72, y + 0.01
    angle, radius = torch.atan2(up, out.clamp(min=1e-3)), torch.hypot(out, up)
    fan = (
        smooth(0.06, 0.14, radius) * smooth(0.46, 0.24, radius) * smooth(1.25, 0.8, angle.abs()) * smooth(0, 0.05, out)
    )
    high = high + 0.019 * look.eyes * _groove(angle / RAYS_APART + 0.25 * waves) * fan
    below = bump((side - 0.52) / 0.26) * bump((y + 0.24 + 0.06 * waves) / 0.09)
    arc = y + 0.45 * (side - 0.5).square()
    high = high + 0.008 * look.eyes * _groove((arc + 0.01 * waves) / 0.055) * below
    # A bag below the eye, and the groove that runs from the inner corner under it.
    sag = y + 0.30 - 0.55 * (side - 0.44).square()
    bag = bump((side - 0.47) / 0.22)
    high = high + look.bags * (0.026 * bump((sag - 0.085) / 0.055) - 0.024 * bump(sag / 0.035)) * bag
    # Nasolabial fold: from the wing of the nose past the corner of the mouth; the cheek stands out beside it.
    across = side - 0.31 - 0.40 * (-0.62 - y).clamp(-0.1, 1.0) - 0.03 * waves
    run = smooth(-0.56, -0.72, y) * smooth(-1.32, -1.05, y)
    fold = -0.036 * bump(across / 0.040) + 0.022 * bump((across - 0.14) / 0.11)
    high = high + look.folds * fold * run * front
    # Marionette lines below the corners of the mouth, and the hollow before the jowls.
    down = side - 0.44 - 0.16 * (-1.14 - y)
    below = smooth(-1.12, -1.22, y) * smooth(-1.72, -1.48, y)
    high = high + look.sagging * below * front * (-0.034 * bump(down / 0.042) + 0.020 * bump((down - 0.16) / 0.11))
    jowl = bump((side - 0.62) / 0.10, (y + 1.62) / 0.12)
    high = high - 0.022 * look.sagging * jowl
    # Fine lines stand on the upper lip, and cross the cheeks and the neck.
    lip = bump((y + 0.89) / 0.07) * smooth(0.42, 0.30, side) + 0.7 * bump((y + 1.36) / 0.06) * smooth(0.32, 0.2, side)
    high = high + 0.009 * look.sagging * _groove(side / 0.062 + 0.4 * waves) * lip
    cheek = bump((side - 0.88) / 0.26, (y + 0.75) / 0.42)
    high = high + 0.006 * look.sagging * _groove((side + 0.55 * y + 0.07 * waves) / 0.105) * cheek
    neck = smooth(-1.85, -2.05, y)
    high = high + 0.028 * look.sagging * neck * _groove((y + 0.06 * waves + 0.12 * side) / 0.27)
    return high - 0.020 * look.sagging * neck * bump((side - 0.17) / 0.05)
