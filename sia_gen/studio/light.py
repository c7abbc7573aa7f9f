"""Light: one key lamp with its shadow, a sky all around, and a rim lamp from behind.

Letters: B faces, P pixels, N side of the supersampled picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sia_gen.studio.blend import smooth
from sia_gen.studio.camera import distance_of, project
from sia_gen.studio.factors import FaceSpec
from sia_gen.studio.raster import per_pixel

KEY, SKY, RIM = 2.3, 0.50, 1.6
SHADOW_STEPS, SHADOW_REACH = 10, 1.1  # samples towards the lamp, and how far in eye distances
SOFTBOX = (0.0, 0.53, 0.85)  # what eyes and lenses mirror besides the lamp


@dataclass(frozen=True)
class Surface:
    """What is to be lit at P pixels of ``face`` ``[P]``; ``place`` and ``normal`` are ``[3, P]``, as is
    ``albedo`` unless it is the same everywhere, ``[3, 1]``.

    ``gloss``, ``sharp`` (exponent of the highlight) and ``openness`` are ``[P]``; ``wrap`` ``[3, 1]`` is how far light
    of each colour travels below the surface. ``tangent`` ``[3, P]`` makes it a surface of strands.
    """

    face: Tensor
    place: Tensor
    normal: Tensor
    albedo: Tensor
    gloss: Tensor
    sharp: Tensor
    openness: Tensor
    wrap: Tensor
    tangent: Tensor | None = None


class Lamps:
    """The lamps of B faces, and ``depth`` ``[B, N, N]``, the picture of what stands in their way."""

    def __init__(self, spec: FaceSpec, depth: Tensor) -> None:
        self.depth, self.side = depth, depth.shape[-1]
        light, warmth = light_direction(spec).T, 0.22 * spec["light_warmth"]
        key = KEY * torch.exp2(spec["light_strength"]) * torch.exp(torch.stack([warmth, 0 * warmth, -1.6 * warmth]))
        ambient = SKY * torch.exp2(spec["ambient_strength"])
        behind = torch.stack([-0.8 * torch.tanh(light[0] / 0.2), 0.35 + 0 * warmth, -0.5 + 0 * warmth])
        rim = RIM * spec["rim_light"] * torch.exp2(spec["light_strength"])
        soft = spec["light_softness"]
        # A larger lamp: less of it is hidden at once, and more comes round.
        key, ambient = key * (1 - 0.22 * soft), ambient * (1 + 0.45 * soft)
        self._rows = torch.cat(
            [light, key, behind / behind.norm(dim=0), ambient[None], rim[None], distance_of(spec)[None], soft[None]]
        )

    def shine(self, surface: Surface) -> Tensor:
        """Linear radiance ``[3, P]`` towards the camera."""
        rows = per_pixel(self._rows, surface.face)
        light, key, behind, (ambient, rim, away, soft) = rows[:3], rows[3:6], rows[6:9], rows[9:13]
        normal, place = surface.normal, surface.place
        lit = self._reached(surface.face, place, light, away, soft)
        view = unit(torch.stack([-place[0], -place[1], away - place[2]]))
        half, facing = unit(light + view), (normal * light).sum(0)
        wrap = surface.wrap + 0.35 * soft
        diffuse = ((facing + wrap) / (1 + wrap)).clamp(min=0)
        edge = (normal * behind).sum(0).clamp(min=0) * (1 - (normal * view).sum(0).clamp(0, 1)).square()
        if surface.tangent is None:
            near = (normal * half).sum(0).clamp(min=1e-4)
            # A broad lobe under a tight one, as oily skin has; a larger lamp shows larger and paler in both.
            peak = 0.65 * near ** (surface.sharp * (1 - 0.45 * soft)) + 0.35 * near ** (3.0 * surface.sharp)
            peak = peak * (1 - 0.35 * soft) * smooth(-0.02, 0.06, facing)
        else:  # a strand scatters light into a cone about itself (Kajiya and Kay, SIGGRAPH 1989)
            along = (surface.tangent * light).sum(0)
            diffuse = 0.5 * (diffuse + (1 - along.square()).clamp(min=0).sqrt() * (facing > -0.3))
            peak = (1 - (surface.tangent * half).sum(0).square()).clamp(min=0) ** (0.5 * surface.sharp) * (
                facing > -0.1
            )
        grazing = (1 - (normal * view).sum(0).clamp(0, 1)) ** 5
        sky = 0.62 + 0.30 * normal[1] + 0.12 * normal[2]
        body = surface.albedo * ((key * lit * diffuse + ambient * sky) * surface.openness + rim * edge)
        tint = 1.0 if surface.tangent is None else (surface.albedo / surface.albedo.amax(0)).sqrt()
        mirrored = (
            surface.gloss * tint * ((0.35 + grazing) * key * peak * lit + 0.30 * ambient * grazing * surface.openness)
        )
        return body + mirrored + 0.25 * surface.gloss * rim * edge

    def mirrored(self, surface: Surface) -> Tensor:
        """The softbox as smooth things show it, ``[P]``."""
        rows = per_pixel(self._rows, surface.face)
        view = unit(torch.stack([-surface.place[0], -surface.place[1], rows[11] - surface.place[2]]))
        back = 2 * (surface.normal * view).sum(0) * surface.normal - view
        box = view.new_tensor(SOFTBOX)[:, None]
        return rows[9] * torch.exp(((back * box).sum(0) - 1) / 0.02)

    def _reached(self, face: Tensor, place: Tensor, light: Tensor, away: Tensor, soft: Tensor) -> Tensor:
        """Share ``[P]`` of key light that reaches each pixel: a march through the depth picture towards the lamp.

        What stands between is what the camera sees, which for a face in front of it is nearly all there is. Each
        sample is blocked softly and only by nearby depth, so that hair does not shade through the head.
        """
        blocked = torch.zeros_like(place[0])
        depth, side = self.depth.view(-1), self.side
        origin = face * (side * side)
        column, row, _ = project(place, away, side)
        # Interleaved gradient noise (Jimenez, 2014): neighbours stop at different depths, so that no bands show.
        dither = torch.frac(52.9829189 * torch.frac(0.06711056 * column.floor() + 0.00583715 * row.floor()))
        for step in range(1, SHADOW_STEPS + 1):
            reach = SHADOW_REACH * ((step - dither) / SHADOW_STEPS) ** 1.5
            column, row, distance = project(place + light * reach, away, side)
            inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
            at = origin + (row.floor() * side + column.floor()).long()
            behind = distance - depth.index_select(0, torch.where(inside, at, 0))  # above 0: something stands nearer
            near = ((behind - 0.03) / (0.04 + 0.14 * soft)).clamp(0, 1) * ((0.75 - behind) / 0.25).clamp(0, 1)
            blocked = torch.maximum(blocked, near * inside)
        return 1 - (0.92 - 0.34 * soft) * blocked


def light_direction(spec: FaceSpec) -> Tensor:
    """Unit vectors ``[B, 3]`` towards the key lamp; azimuth to image right and elevation up, in degrees."""
    azimuth, elevation = torch.deg2rad(spec["light_azimuth"]), torch.deg2rad(spec["light_elevation"])
    flat = elevation.cos()
    return torch.stack([azimuth.sin() * flat, elevation.sin(), azimuth.cos() * flat], dim=-1)


def unit(vectors: Tensor) -> Tensor:
    """Vectors ``[3, P]`` of length one."""
    return vectors * vectors.square().sum(0).clamp(min=1e-12).rsqrt()
