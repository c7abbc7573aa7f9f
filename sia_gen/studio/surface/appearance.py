"""What each point of a head is made of: colour and gloss as functions of where it lies on the average face.

Positions are rest positions (eye distance 1, origin between the eyes, y up, z forward), so that colour sticks to the
mesh whatever its shape and expression. Colours are linear-light RGB reflectances.

Letters: B faces, P pixels, K rows of a palette.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sia_gen.studio.blend import bump, colour, mix, smooth
from sia_gen.studio.factors import FaceSpec
from sia_gen.studio.makehuman import GROUPS
from sia_gen.studio.raster import per_pixel
from sia_gen.studio.surface.hair import (
    Growth,
    beard_region,
    faded,
    greyed,
    hair_margin,
    hangs_loose,
    remaining,
    temples,
)
from sia_gen.studio.surface.skin import Marks
from sia_gen.studio.surface.skin import tint as skin_tint
from sia_gen.studio.surface.texture import Noise

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
    lids: Tensor
    clothes: Tensor
    gaze: Tensor  # radians to image right and up, and 0
    brow_thickness: Tensor
    hairline: Tensor
    length: Tensor
    fringe: Tensor
    baldness: Tensor
    sides: Tensor
    loose: Tensor
    grey: Tensor
    stubble: Tensor
    beard: Tensor
    moustache: Tensor
    arched: Tensor
    lashes: Tensor
    painted: Tensor
    lid_paint: Tensor
    freckles: Tensor

    def at(self, face: Tensor) -> Palette:
        """The palette of the face that each pixel ``[P]`` belongs to: ``[3, P]`` and ``[P]``."""
        values = vars(self).values()
        rows = torch.cat([value.reshape(-1, value.shape[-1]) for value in values])  # [K, B]
        parts = per_pixel(rows, face).split([3 if value.ndim == 2 else 1 for value in values])
        return Palette(*(part.view(*value.shape[:-1], -1) for part, value in zip(parts, values, strict=True)))

    @property
    def growth(self) -> Growth:
        return Growth(self.length, self.hairline, self.fringe, self.baldness, self.sides, self.loose)


def palette(spec: FaceSpec) -> Palette:
    """Colours and amounts from factors: hair greys with age, beards and baldness show in grown men."""
    age, sex, lightness, red = spec["age"], spec["sex"], spec["hair_colour"], spec["hair_red"]
    hair, grown = hair_colour(lightness, red), smooth(13.0, 19.0, age)
    zero = torch.zeros_like(age)
    warmth = spec["clothes_warmth"]
    return Palette(
        skin=skin_colour(spec["skin_tone"]).T,
        hair=hair,
        brow=0.36 * hair_colour(0.75 * lightness, red) * (0.9 * spec["brow_colour"]).exp(),
        iris=mix(colour(hair, 0.075, 0.032, 0.012), colour(hair, 0.12, 0.22, 0.34), spec["iris_colour"]),
        lips=mix(
            mix(colour(hair, 0.88, 0.54, 0.55), colour(hair, 0.88, 0.76, 0.74), sex),
            colour(hair, 0.93, 0.80, 0.82),
            0.7 * smooth(40.0, 80.0, age),
        ),
        lids=mix(colour(hair, 0.10, 0.07, 0.09), colour(hair, 0.12, 0.10, 0.22), spec["iris_colour"]),
        clothes=spec["clothes_lightness"] ** 2.2 * torch.exp(0.9 * torch.stack([warmth, -0.4 * warmth, -warmth])),
        gaze=torch.deg2rad(torch.stack([spec["gaze_x"], spec["gaze_y"], zero])),
        brow_thickness=spec["brow_thickness"] + 0.7 * (sex - 0.5),
        hairline=spec["hairline"] + 0.5 * (sex - 0.5),
        length=spec["hair_length"],
        fringe=spec["fringe"],
        baldness=spec["baldness"] * (0.15 + 0.85 * sex) * smooth(18.0, 45.0, age),
        sides=spec["hair_sides"],
        loose=hangs_loose(spec),
        grey=smooth(31.0, 76.0, age + 11 * spec["greying"]),
        stubble=(spec["stubble"] + 0.35) * smooth(0.45, 0.85, sex) * grown,
        beard=beard_shown(spec),
        moustache=moustache_shown(spec),
        arched=1 - sex,
        lashes=0.85 - 0.45 * sex,
        painted=spec["lip_colour"],
        lid_paint=spec["eye_makeup"],
        freckles=spec["freckles"],
    )


def beard_shown(spec: FaceSpec) -> Tensor:
    """How much of a beard each face ``[B]`` wears, 0…1: what the factor says, in grown men."""
    return spec["beard"] * smooth(0.4, 0.7, spec["sex"]) * smooth(14.0, 22.0, spec["age"])


def moustache_shown(spec: FaceSpec) -> Tensor:
    """How much of a moustache each face ``[B]`` wears, 0…1: the beard's, less or more, or one alone."""
    own = spec["moustache"]
    alone = smooth(0.35, 0.9, own) * smooth(0.4, 0.7, spec["sex"]) * smooth(14.0, 22.0, spec["age"])
    return (beard_shown(spec) * (1 + own.clamp(max=0)) + 0.6 * alone).clamp(0, 1)


def skin_colour(ita: Tensor) -> Tensor:
    """Linear RGB ``[B, 3]`` of skin with an individual typology angle ``[B]`` in degrees.

    The angle is arctan((L* − 50) / b*) in CIELAB (Chardon et al., Int. J. Cosmet. Sci. 13, 1991); b* and a* follow
    typical skin: highest in the middle, lower at both ends.
    """
    tone = ita / 55.0
    b = 17.0 - 5.0 * tone.square()
    lightness = 50.0 + b * torch.tan(torch.deg2rad(ita))
    a = 9.5 - 2.0 * tone.square()
    return lab_to_linear(torch.stack([lightness, a, b], dim=-1)).clamp(0.01, 1.0)


def lab_to_linear(lab: Tensor) -> Tensor:
    """CIELAB (D65) ``[..., 3]`` to linear sRGB."""
    y = (lab[..., 0] + 16) / 116
    scaled = torch.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], dim=-1)
    xyz = torch.where(scaled > 6 / 29, scaled**3, 3 * (6 / 29) ** 2 * (scaled - 4 / 29))
    xyz = xyz * xyz.new_tensor([0.95047, 1.0, 1.08883])
    matrix = xyz.new_tensor([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
    return xyz @ matrix.T


def hair_colour(blond: Tensor, red: Tensor) -> Tensor:
    """Linear RGB ``[3, B]``: black over brown to blond in equal ratios, reddened."""
    black, fair = colour(blond, 0.012, 0.0095, 0.008), colour(blond, 0.30, 0.215, 0.125)
    pigment = black * (fair / black) ** blond
    ginger = colour(blond, 1.9, 0.85, 0.5)
    return pigment * ginger ** (red * (1 - (2 * blond - 1).abs() * 0.5))


def surface(
    rest: Tensor, group: Tensor, masks: Tensor, look: Palette, shown: Marks, folded: Tensor, noise: Noise
) -> tuple[Tensor, Tensor, Tensor]:
    """Albedo ``[3, P]``, gloss ``[P]`` and ambient openness ``[P]`` at pixels.

    ``rest [3, P]``, ``group [P]`` (index into `GROUPS`), ``masks [5, P]``: lips, cavities, ears, angle about the crown,
    openness; ``look`` a palette and ``shown`` the marks of skin per pixel, ``folded`` ``[P]`` how deep in a fold it is.
    """
    lips, cavity, ear, azimuth, open_ = masks
    cavity = smooth(0.3, 0.7, cavity)
    x, y, z = rest
    side = x.abs()
    even = torch.stack([side, y, z])
    fine, coarse = noise(even * 26), noise(even * 7 + 3)
    skin = skin_tint(rest, look.skin, shown, look.freckles, noise, fine, coarse) * (1 - 0.34 * folded)
    paint = mix(look.skin * look.lips, colour(rest, 0.42, 0.03, 0.06), 0.9 * look.painted)
    albedo = mix(skin, paint, (0.75 + 0.2 * look.painted) * lips)
    from_eye = torch.sqrt((side - EYE).square() + y.square() + (z - 0.02).square())
    lid = smooth(0.44, 0.30, from_eye) * smooth(-0.02, 0.10, y) * smooth(0.30, 0.20, y)
    albedo = mix(albedo, look.lids, 0.65 * look.lid_paint * lid)
    strand, thin = noise(torch.stack([side * 30, y * 7, z * 12])), noise(torch.stack([side * 58, y * 15, z * 24 + 9]))
    jaw, lip = beard_region(rest)
    bare = 1 - smooth(0.35, 0.95, lips)
    shaved = torch.maximum(jaw, lip) * bare * look.stubble * (0.7 + 0.3 * thin)
    albedo = mix(albedo, 0.55 * look.hair + 0.18 * look.skin, 0.62 * shaved)
    density = torch.maximum(jaw * smooth(0.04, 0.5, look.beard), lip * smooth(0.04, 0.5, look.moustache)) * bare
    bearded = smooth(0.08, 0.8, density * (1.1 + 0.35 * strand + 0.45 * thin))
    whiskers = greyed(look.hair, (1.25 * look.grey).clamp(max=1), smooth(-1.3, -1.7, y), thin)
    albedo = mix(albedo, whiskers * (0.72 + 0.3 * strand + 0.35 * thin) + 0.02 * look.skin, 0.95 * bearded)
    brow = _brow(side, y, z, look.brow_thickness, look.arched)
    shown_at = (brow > 0).nonzero().squeeze(1)  # elsewhere no brow is seen
    hairs = torch.zeros_like(brow)
    sides, ys, zs = (each.index_select(0, shown_at) for each in (side, y, z))
    hairs[shown_at] = noise(torch.stack([sides * 40 - ys * 14, ys * 22 + sides * 16, zs]))
    brow = brow * (0.9 + 0.25 * strand + 0.55 * hairs)
    albedo = mix(albedo, greyed(look.brow, 0.75 * look.grey, 0 * y, thin), 0.95 * brow.clamp(0, 1))
    lash = smooth(0.300, 0.258, from_eye) * smooth(-0.03, 0.05, y)
    albedo = albedo * (1 - (look.lashes + 0.4 * look.lid_paint).clamp(max=0.97) * lash)
    grain = noise(torch.stack([side * 24, y * 6, z * 14 + 5]))
    roots = smooth(-0.20, 0.10, hair_margin(y, azimuth, look.growth) + 0.12 * grain + 0.10 * thin)
    roots = roots * remaining(y, azimuth, grain, look.growth) * smooth(0.6, 0.3, ear)
    roots = roots * (0.35 + 0.65 * faded(y, azimuth, thin, look.growth)) * (0.85 + 0.25 * thin)
    scalp = greyed(look.hair, look.grey, temples(azimuth, y), thin)
    albedo = mix(albedo, scalp * 0.7 + 0.10 * look.skin, 0.8 * roots.clamp(max=1))
    dressed = _dressed(x, y, z)
    covered = dressed.nonzero().squeeze(1)
    clothes = _clothes(rest.index_select(1, covered), look.clothes.index_select(1, covered), noise)
    below = albedo.index_select(1, covered)
    albedo = albedo.index_copy(1, covered, mix(below, clothes, dressed.index_select(0, covered)))
    albedo = mix(albedo, colour(rest, 0.045, 0.010, 0.010), cavity)
    oily = bump(side / 0.35, (y - 0.75) / 0.4) + bump(side / 0.2, (y + 0.5) / 0.35)
    gloss = 0.13 + 0.10 * oily + (0.22 + 0.35 * look.painted) * lips - 0.08 * bearded + 0.05 * fine
    gloss = gloss * (1 - cavity) * (1 - dressed) * (1 - 0.6 * roots)
    openness = open_.clamp(min=0.2) * (1 - 0.5 * cavity) * (1 + 0.06 * coarse)
    teeth = ((group == UPPER_TEETH) | (group == LOWER_TEETH)).nonzero().squeeze(1)
    gaps = 1 - 0.35 * torch.exp(-((torch.remainder(x[teeth] / 0.085 + 0.5, 1.0) - 0.5) / 0.10).square())
    albedo[:, teeth] = colour(rest, 0.74, 0.69, 0.58) * gaps
    gloss[teeth], openness[teeth] = 0.35, 0.85 * smooth(0.52, 0.10, side[teeth])
    eyes = ((group == RIGHT_EYE) | (group == LEFT_EYE)).nonzero().squeeze(1)
    albedo[:, eyes] = _eye(rest[:, eyes], look.iris[:, eyes], look.gaze[:, eyes], noise)
    gloss[eyes], openness[eyes] = 1.2, 0.85 - 0.5 * smooth(-0.02, 0.12, y[eyes])
    return albedo, gloss, openness


def _brow(side: Tensor, y: Tensor, z: Tensor, thickness: Tensor, arched: Tensor) -> Tensor:
    along = (side - 0.20) / 0.70  # 0 at the nose, 1 at the temple
    inside = along.clamp(0, 1)
    line = 0.262 + 0.04 * arched + (0.09 + 0.06 * arched) * torch.sin((inside * 0.75 + 0.05) * torch.pi)
    half = (0.036 + 0.062 * thickness).clamp(min=0.02) * (1 - 0.6 * inside)
    ends = smooth(-0.06, 0.06, along) * smooth(1.05, 0.8, along)
    return torch.exp(-((y - line) / half).square()) * ends * (z > -0.2)


def _dressed(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Where clothes cover the body: outside of a neckline around the neck."""
    around = torch.hypot(x, (z + 1.35).clamp(max=0.6))
    return smooth(0.0, 0.06, around - 0.74 - 0.6 * (y + 2.2)) * smooth(-1.5, -1.6, y) * smooth(-0.35, -0.5, z)


def _clothes(rest: Tensor, plain: Tensor, noise: Noise) -> Tensor:
    x, y, z = rest
    return plain * (0.85 + 0.15 * noise(torch.stack([x.abs(), y, z]) * 20))


def _eye(rest: Tensor, iris: Tensor, gaze: Tensor, noise: Noise) -> Tensor:
    """Sclera, iris with radial fibres and a dark rim, and pupil, turned to where the eye looks."""
    x, y, z = rest
    x = x - EYE * x.sign()
    right, up, _ = gaze
    x, z = x * right.cos() - z * right.sin(), x * right.sin() + z * right.cos()
    y, z = y * up.cos() - z * up.sin(), y * up.sin() + z * up.cos()
    radius, front = torch.hypot(x, y), z > 0
    fibres = 1 + 0.35 * noise(torch.stack([6 * torch.atan2(y, x).cos(), 6 * torch.atan2(y, x).sin(), radius * 30]))
    ring = iris * fibres * (0.35 + 0.65 * smooth(0.110, 0.084, radius)) * (1 + 0.5 * smooth(0.084, 0.05, radius))
    veins = 1 - colour(x, 0.02, 0.10, 0.11) * smooth(0.12, 0.22, radius)
    found = mix(colour(x, 0.60, 0.56, 0.54) * veins, ring, smooth(0.117, 0.104, radius) * front)
    return mix(found, colour(x, 0.006, 0.006, 0.006), smooth(0.051, 0.041, radius) * front)
