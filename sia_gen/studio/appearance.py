"""What each point of a head is made of: colour and gloss as functions of where it lies on the average face.

Positions are rest positions (eye distance 1, origin between the eyes, y up, z forward), so that colour sticks to the
mesh whatever its shape and expression. Colours are linear-light RGB reflectances.

Letters: B faces, P pixels, K rows of a palette.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sia_gen.studio.factors import FaceSpec
from sia_gen.studio.head import hair_ends
from sia_gen.studio.makehuman import GROUPS

EYE = 0.5  # |x| of the eye centres

BODY, RIGHT_EYE, LEFT_EYE, UPPER_TEETH, LOWER_TEETH = range(len(GROUPS))


@dataclass(frozen=True)
class Palette:
    """Colours ``[3, B]`` and amounts ``[B]`` of each face."""

    skin: Tensor
    hair: Tensor
    brow: Tensor
    iris: Tensor
    lips: Tensor
    brow_thickness: Tensor
    hairline: Tensor
    hair_ends: Tensor
    beard: Tensor
    lashes: Tensor
    aged: Tensor

    def at(self, face: Tensor) -> Palette:
        """The palette of the face that each pixel ``[P]`` belongs to: ``[3, P]`` and ``[P]``."""
        values = vars(self).values()
        rows = torch.cat([value.reshape(-1, value.shape[-1]) for value in values])  # [K, B]
        parts = rows.gather(1, face.expand(len(rows), -1)).split([3 if value.ndim == 2 else 1 for value in values])
        return Palette(*(part.view(*value.shape[:-1], -1) for part, value in zip(parts, values, strict=True)))


def palette(spec: FaceSpec) -> Palette:
    """Colours from factors; greying and loss of beard colour come with age, darker lashes and fuller lips with sex."""
    age, sex, lightness, red = spec["age"], spec["sex"], spec["hair_colour"], spec["hair_red"]
    hair = hair_colour(lightness, red, age)
    return Palette(
        skin=skin_colour(spec["skin_tone"]).T,
        hair=hair,
        brow=0.6 * hair_colour(lightness, red, age - 15) * (0.9 * spec["brow_colour"]).exp(),
        iris=_mix(_colour(hair, 0.10, 0.045, 0.018), _colour(hair, 0.18, 0.32, 0.46), spec["iris_colour"]),
        lips=_mix(_colour(hair, 0.84, 0.30, 0.34), _colour(hair, 0.95, 0.66, 0.64), sex),
        brow_thickness=spec["brow_thickness"] + 0.9 * (sex - 0.5),
        hairline=spec["hairline"] + 0.5 * (sex - 0.5),
        hair_ends=hair_ends(spec["hair_length"]),
        beard=(spec["stubble"] + 0.25) * _smooth(0.45, 0.85, sex) * _smooth(14.0, 22.0, age),
        lashes=0.9 - 0.4 * sex,
        aged=_smooth(25.0, 80.0, age),
    )


def skin_colour(ita: Tensor) -> Tensor:
    """Linear RGB ``[B, 3]`` of skin with an individual typology angle ``[B]`` in degrees.

    The angle is arctan((L* − 50) / b*) in CIELAB (Chardon et al., Int. J. Cosmet. Sci. 13, 1991); b* and a* follow
    typical skin: highest in the middle, lower at both ends.
    """
    tone = ita / 55.0
    b = 19.0 - 6.0 * tone.square()
    lightness = 50.0 + b * torch.tan(torch.deg2rad(ita))
    a = 12.5 - 2.5 * tone.square()
    return lab_to_linear(torch.stack([lightness, a, b], dim=-1)).clamp(0.01, 1.0)


def lab_to_linear(lab: Tensor) -> Tensor:
    """CIELAB (D65) ``[..., 3]`` to linear sRGB."""
    y = (lab[..., 0] + 16) / 116
    scaled = torch.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], dim=-1)
    xyz = torch.where(scaled > 6 / 29, scaled**3, 3 * (6 / 29) ** 2 * (scaled - 4 / 29))
    xyz = xyz * xyz.new_tensor([0.95047, 1.0, 1.08883])
    matrix = xyz.new_tensor([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
    return xyz @ matrix.T


def hair_colour(blond: Tensor, red: Tensor, age: Tensor) -> Tensor:
    """Linear RGB ``[3, B]``: black over brown to blond in equal ratios, reddened, greying from about 40 years."""
    black, fair = _colour(blond, 0.012, 0.0095, 0.008), _colour(blond, 0.50, 0.34, 0.16)
    pigment = black * (fair / black) ** blond
    ginger = _colour(blond, 1.9, 0.85, 0.5)
    pigment = pigment * ginger ** (red * (1 - (2 * blond - 1).abs() * 0.5))
    grey = 0.85 * _smooth(40.0, 78.0, age)
    return _mix(pigment, _colour(blond, 0.42, 0.42, 0.43), grey)


def surface(rest: Tensor, group: Tensor, masks: Tensor, look: Palette) -> tuple[Tensor, Tensor, Tensor]:
    """Albedo ``[3, P]``, gloss ``[P]`` and ambient openness ``[P]`` at pixels.

    ``rest [3, P]``, ``group [P]`` (index into `GROUPS`), ``masks [4, P]`` of lips, scalp, mane and cavities,
    ``look`` a palette per pixel.
    """
    lips, scalp, mane, cavity = masks
    cavity = _smooth(0.3, 0.7, cavity)
    x, y, z = rest
    side = x.abs()
    from_eye = torch.sqrt((side - EYE).square() + y.square() + (z - 0.02).square())
    skin = _skin(side, y, z, look)
    skin = _mix(skin, look.skin * look.lips, 0.85 * lips)
    stubble = _beard(side, y, z) * look.beard * (1 - lips)
    albedo = _mix(skin, 0.6 * look.hair + 0.12 * look.skin, 0.75 * stubble)
    albedo = _mix(albedo, look.brow, 0.9 * _brow(side, y, z, look.brow_thickness))
    lash = _smooth(0.315, 0.265, from_eye) * _smooth(-0.06, 0.05, y)
    albedo = albedo * (1 - look.lashes * lash)
    edge = 0.35 + 0.45 * look.hairline * _smooth(-0.2, 0.3, z) + 0.06 * torch.sin(x * 23 + 3 * torch.sin(x * 41))
    hair = _smooth(edge - 0.16, edge + 0.16, scalp) * _smooth(0.0, 0.05, scalp)
    ends = look.hair_ends + 0.07 * torch.sin(x * 31 + z * 27)
    hair = torch.maximum(hair, _smooth(0.25, 0.6, mane) * _smooth(ends, ends + 0.15, y))
    albedo = _mix(albedo, look.hair * _strands(x, y, z), hair)
    albedo = _mix(albedo, _colour(rest, 0.05, 0.012, 0.012), cavity)
    gloss = (0.16 + 0.25 * lips - 0.06 * hair) * (1 - cavity)
    socket = _smooth(0.50, 0.26, from_eye) * _smooth(0.22, 0.08, y)
    under_chin = _smooth(-1.55, -2.0, y - 0.4 * (z - 0.3).clamp(max=0))
    nostril = _bump((side - 0.13) / 0.075, (y + 0.70) / 0.05) * (z > 0.3)
    openness = (1 - 0.35 * socket) * (1 - 0.45 * under_chin) * (1 - 0.75 * nostril) * (1 - 0.5 * cavity)
    teeth = ((group == UPPER_TEETH) | (group == LOWER_TEETH)).nonzero().squeeze(1)
    albedo[:, teeth] = _colour(rest, 0.62, 0.57, 0.48)
    gloss[teeth], openness[teeth] = 0.35, 0.55
    eyes = ((group == RIGHT_EYE) | (group == LEFT_EYE)).nonzero().squeeze(1)
    albedo[:, eyes] = _eye(side[eyes], y[eyes], z[eyes], look.iris[:, eyes])
    gloss[eyes], openness[eyes] = 1.2, 0.85 - 0.55 * _smooth(-0.02, 0.12, y[eyes])
    return albedo, gloss, openness


def _skin(side: Tensor, y: Tensor, z: Tensor, look: Palette) -> Tensor:
    """Skin with red zones over cheeks, nose and ears, eye bags and forehead lines that come with age."""
    cheeks = _bump((side - 0.78) / 0.34, (y + 0.55) / 0.3)
    nose = _bump(side / 0.22, (y + 0.58) / 0.2)
    ears = (side > 1.15) & (z < 0.0)
    red = 0.55 * cheeks + 0.45 * nose + 0.5 * ears
    skin = look.skin * (1 + red * _colour(side, 0.10, -0.20, -0.20))
    bags = _bump((side - 0.48) / 0.22, (y + 0.30) / 0.09)
    lines = torch.cos(y * 48.0 + 2.0 * side) * torch.exp(-((y - 0.78) / 0.26).square()) * _smooth(0.9, 0.5, side)
    folds = torch.exp(-((side - 0.36 - 0.28 * (-0.7 - y)) / 0.045).square())
    folds = folds * _smooth(-0.55, -0.7, y) * _smooth(-1.2, -1.0, y)
    worn = look.aged * (0.30 * bags + 0.14 * lines + 0.28 * folds)
    return skin * (1 - worn) * (1 - look.aged * _colour(side, 0.03, 0.07, 0.10))


def _brow(side: Tensor, y: Tensor, z: Tensor, thickness: Tensor) -> Tensor:
    along = (side - 0.20) / 0.70  # 0 at the nose, 1 at the temple
    inside = along.clamp(0, 1)
    line = 0.30 + 0.13 * torch.sin((inside * 0.75 + 0.05) * torch.pi)
    half = (0.028 + 0.055 * thickness).clamp(min=0.015) * (1 - 0.55 * inside)
    ends = _smooth(-0.06, 0.06, along) * _smooth(1.05, 0.8, along)
    return torch.exp(-((y - line) / half).square()) * ends * (z > -0.2)


def _beard(side: Tensor, y: Tensor, z: Tensor) -> Tensor:
    border = -1.02 + 0.75 * ((side - 0.4) / 0.8).clamp(0, 1)
    jaw = _smooth(0.08, -0.08, y - border) * _smooth(-2.1, -1.8, y)
    moustache = _smooth(-0.76, -0.82, y) * _smooth(0.46, 0.34, side)
    return torch.maximum(jaw, moustache) * _smooth(-0.75, -0.45, z)


def _strands(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Lighter and darker strands running from the crown down: a fixed sum of incommensurate waves around the head."""
    around = torch.atan2(x, z + 0.7)
    wave = torch.sin(around * 31 + 1.7 * torch.sin(y * 3)) + torch.sin(around * 53 + y * 2.1)
    return 1 + 0.16 * (wave + torch.sin(around * 87 - y))


def _eye(side: Tensor, y: Tensor, z: Tensor, iris: Tensor) -> Tensor:
    radius = torch.sqrt((side - EYE).square() + y.square())
    front = z > 0
    ring = iris * (0.45 + 0.55 * _smooth(0.115, 0.085, radius))
    colour = _mix(_colour(side, 0.70, 0.66, 0.63), ring, _smooth(0.122, 0.108, radius) * front)
    return _mix(colour, _colour(side, 0.006, 0.006, 0.006), _smooth(0.052, 0.042, radius) * front)


def _bump(across: Tensor, up: Tensor) -> Tensor:
    """1 at the origin, falling off as a Gaussian."""
    return torch.exp(-(across.square() + up.square()))


def _mix(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    return a + (b - a) * share


def _smooth(start: float | Tensor, end: float | Tensor, value: Tensor) -> Tensor:
    """Smoothstep from 0 at ``start`` to 1 at ``end`` (which may lie below ``start``)."""
    t = ((value - start) / (end - start)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _colour(like: Tensor, red: float, green: float, blue: float) -> Tensor:
    """One colour, ``[3, 1]``."""
    return torch.tensor([[red], [green], [blue]], dtype=like.dtype, device=like.device)
