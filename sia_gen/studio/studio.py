"""The studio: face factors → picture, landmarks and pose, exactly known.

The camera looks along −z at the head from 16 eye distances (about a metre); it is framed as FFHQ is: the face fills the
picture, the eyes a little above the middle. Light and camera stay where they are when the head turns.

Letters: B faces, V vertices, P covered pixels, S side of the picture, N side of the supersampled picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sia_gen.core.errors import RequestError
from sia_gen.core.images import Images
from sia_gen.studio import appearance
from sia_gen.studio.factors import FaceSpec
from sia_gen.studio.head import Head
from sia_gen.studio.landmarks import landmark_vertices
from sia_gen.studio.makehuman import MakeHuman
from sia_gen.studio.raster import Fragments, rasterise

CAMERA = 16.0  # eye distances from the pivot
PIVOT = (0.0, -0.45, -0.45)  # the head turns about its middle
ZOOM = 0.275  # picture widths per eye distance at the pivot's depth
PIVOT_AT = 0.555  # share of the picture's height above the pivot
SUPERSAMPLE = 2
RESOLUTIONS = (16, 512)
SHADOW_STEPS, SHADOW_REACH = 10, 1.1  # samples towards the light, and how far in eye distances


@dataclass(frozen=True)
class Renders:
    """``images`` ``[B, 3, S, S]`` in [0, 1]; ``landmarks`` ``[B, 68, 2]`` in pixels (x right, y down, iBUG order)."""

    images: Images
    landmarks: Tensor


class Studio:
    """Renders faces of a MakeHuman folder. Deterministic: a face's picture depends on its factors alone.

    ``resolution`` is 16…512 pixels. Raises `RequestError` outside of it or without MakeHuman data.
    """

    def __init__(self, makehuman: str | Path, resolution: int = 64, device: torch.device | str = "cpu") -> None:
        if not RESOLUTIONS[0] <= resolution <= RESOLUTIONS[1]:
            low, high = RESOLUTIONS
            raise RequestError(f"resolution={resolution} is outside {low}…{high} pixels; choose a size in that range")
        source = MakeHuman(makehuman)
        self.resolution = resolution
        self.head = Head(source, subdivisions=0 if resolution <= 64 else 1).to(device)
        masks = np.concatenate([_lips(source), self.head.scalp, _cavities(source)], axis=1)
        self.masks = self.head.refine(masks).to(device)  # [V, 3]
        self.landmarks = landmark_vertices(self.head).to(device)  # [68]

    @torch.inference_mode()
    def render(self, spec: FaceSpec) -> Renders:
        """Pictures and landmarks of B faces."""
        side = self.resolution * SUPERSAMPLE
        shape = self.head.vertices(spec)
        turn = rotation(spec)  # [B, 3, 3]
        pivot = shape.new_tensor(PIVOT)
        points = (shape - pivot) @ turn.transpose(1, 2)  # [B, V, 3] about the pivot
        normals = self.head.normals(shape) @ turn.transpose(1, 2)
        screen, depth = project(points, side)
        seen = rasterise(screen, depth, self.head.triangles, side)
        backdrop = _backdrop(spec, side)
        radiance = backdrop.permute(0, 2, 3, 1).reshape(-1, 3)  # [B * N * N, 3]
        radiance[seen.pixel] = self._shade(spec, seen, points, normals, side)
        picture = radiance.view(len(spec), side, side, 3).permute(0, 3, 1, 2)
        picture = F.avg_pool2d(tone(picture), SUPERSAMPLE)  # averaged in linear light
        images = encode(picture)
        return Renders(images.contiguous(), screen[:, self.landmarks] / SUPERSAMPLE)

    def _shade(self, spec: FaceSpec, seen: Fragments, points: Tensor, normals: Tensor, side: int) -> Tensor:
        """Linear radiance ``[P, 3]``: wrapped diffuse, fill and ambient light, a specular lobe, cast shadow."""
        head = self.head
        still = seen.interpolate(torch.cat([head.rest, self.masks], dim=1))  # [P, 6]
        moving = seen.interpolate(torch.cat([points, normals], dim=-1))  # [P, 6]
        place, normal = moving[:, :3], F.normalize(moving[:, 3:], dim=1)
        look = appearance.palette(spec).at(seen.face)
        group = head.group[seen.corners[:, 0]]
        albedo, gloss, openness = appearance.surface(still[:, :3], group, still[:, 3:], look)
        light = light_direction(spec)[seen.face]  # [P, 3]
        key = 2.1 * torch.exp2(spec["light_strength"])[seen.face, None]
        ambient = 0.42 * torch.exp2(spec["ambient_strength"])[seen.face, None]
        facing = (normal * light).sum(1, keepdim=True)
        wrap = normal.new_tensor([0.30, 0.17, 0.12])  # red light travels furthest under the skin
        diffuse = ((facing + wrap) / (1 + wrap)).clamp(min=0)
        lit = self._lit(seen, place, light_direction(spec), side)
        view = F.normalize(place.new_tensor([0, 0, CAMERA]) - place, dim=1)
        half = F.normalize(light + view, dim=1)
        sharp = torch.where(group[:, None] == appearance.BODY, 18.0, 90.0)
        specular = gloss * (normal * half).sum(1, keepdim=True).clamp(min=0) ** sharp * (facing > 0)
        sky = 0.65 + 0.35 * normal[:, 1:2]
        return albedo * (key * diffuse * lit + ambient * sky) * openness + 0.35 * key * specular * lit

    def _lit(self, seen: Fragments, place: Tensor, light: Tensor, side: int) -> Tensor:
        """Share ``[P, 1]`` of key light that reaches each pixel: a march through the depth picture towards the light.

        What stands between is what the camera sees, which for a face in front of it is nearly all there is. Each
        sample is blocked softly and only by nearby depth, so that hair does not shade through the head.
        """
        direction = light[seen.face]
        lit = torch.ones_like(place[:, :1])
        depth = seen.depth.view(-1)
        for step in range(1, SHADOW_STEPS + 1):
            reach = SHADOW_REACH * (step / SHADOW_STEPS) ** 1.5
            at = place + reach * direction
            screen, distance = project(at, side)
            column, row = screen[:, 0].floor().long(), screen[:, 1].floor().long()
            within = (column >= 0) & (column < side) & (row >= 0) & (row < side)
            index = seen.face * side * side + row.clamp(0, side - 1) * side + column.clamp(0, side - 1)
            behind = distance - depth[index]  # positive where something stands nearer to the camera
            blocked = ((behind - 0.03) / 0.05).clamp(0, 1) * ((0.75 - behind) / 0.25).clamp(0, 1) * within
            lit = torch.minimum(lit, 1 - blocked[:, None])
        return 0.12 + 0.88 * lit


def rotation(spec: FaceSpec) -> Tensor:
    """Head rotation ``[B, 3, 3]``: yaw to image right, then pitch up, then roll to image right, in degrees."""
    yaw, pitch, roll = (torch.deg2rad(spec[name]) for name in ("yaw", "pitch", "roll"))
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)

    def matrix(*rows: Tensor) -> Tensor:
        return torch.stack(rows, dim=-1).reshape(-1, 3, 3)

    about_y = matrix(yaw.cos(), zero, yaw.sin(), zero, one, zero, -yaw.sin(), zero, yaw.cos())
    about_x = matrix(one, zero, zero, zero, pitch.cos(), pitch.sin(), zero, -pitch.sin(), pitch.cos())
    about_z = matrix(roll.cos(), roll.sin(), zero, -roll.sin(), roll.cos(), zero, zero, zero, one)
    return about_z @ about_x @ about_y


def light_direction(spec: FaceSpec) -> Tensor:
    """Unit vectors ``[B, 3]`` towards the key light; azimuth to image right and elevation up, in degrees."""
    azimuth, elevation = torch.deg2rad(spec["light_azimuth"]), torch.deg2rad(spec["light_elevation"])
    flat = elevation.cos()
    return torch.stack([azimuth.sin() * flat, elevation.sin(), azimuth.cos() * flat], dim=-1)


def project(points: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Points about the pivot ``[..., 3]`` → pixels ``[..., 2]`` of a picture of ``side``, and distance ``[...]``."""
    distance = CAMERA - points[..., 2]
    scale = side * ZOOM * CAMERA / distance
    x = side / 2 + points[..., 0] * scale
    y = side * PIVOT_AT - points[..., 1] * scale
    return torch.stack([x, y], dim=-1), distance


def tone(radiance: Tensor) -> Tensor:
    """Linear radiance → display linear in [0, 1): straight below 0.6, then a soft shoulder, as film does."""
    knee = 0.6
    over = (radiance - knee).clamp(min=0)
    return torch.where(radiance < knee, radiance, knee + (1 - knee) * over / (over + (1 - knee)))


def encode(linear: Tensor) -> Images:
    """Display linear → sRGB in [0, 1] (IEC 61966-2-1)."""
    linear = linear.clamp(0, 1)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def _backdrop(spec: FaceSpec, side: int) -> Tensor:
    """Linear ``[B, 3, N, N]``: a soft wall of one hue, lighter towards one side and darker at the edges."""
    tint = torch.stack(
        [
            spec["background_warmth"] - 0.5 * spec["background_green"],
            spec["background_green"],
            -spec["background_warmth"] - 0.5 * spec["background_green"],
        ],
        dim=1,
    )
    colour = (spec["background_lightness"][:, None] ** 2.2) * torch.exp(0.8 * tint)  # [B, 3]
    span = torch.linspace(-1, 1, side, device=tint.device)
    slope = torch.exp(0.9 * spec["background_slope"][:, None, None] * span)  # [B, 1, N]
    falloff = 1 - 0.18 * (span[:, None].square() + span.square())  # [N, N]
    return colour[:, :, None, None] * (slope * falloff)[:, None]


def _lips(source: MakeHuman) -> np.ndarray:
    """Where the red of the lips lies ``[V₀, 1]``: what MakeHuman's lip-volume targets move."""
    mask = np.zeros(len(source.mesh.vertices), np.float32)
    for lip in ("upperlip", "lowerlip"):
        moved = np.linalg.norm(source.target(f"mouth/mouth-{lip}-volume-incr"), axis=1)
        mask = np.maximum(mask, np.clip(moved / (0.45 * moved.max()), 0, 1))
    return mask[:, None]


def _cavities(source: MakeHuman) -> np.ndarray:
    """The inside of the mouth ``[V₀, 1]``: skin around the lips with other skin close in front of it."""
    x, y, z = source.mesh.vertices.T
    near = (source.mesh.group == 0) & (np.abs(x) < 0.38) & (y > 6.26 + 0.5 * np.abs(x)) & (y < 6.95) & (z > 0.4)
    near &= (y < 6.76) | (z < 1.47)  # not the nostrils
    index = np.flatnonzero(near)
    apart = np.hypot(x[index, None] - x[None, index], y[index, None] - y[None, index])
    in_front = np.where(apart < 0.035, z[None, index], -np.inf).max(axis=1)
    mask = np.zeros((len(x), 1), np.float32)
    mask[index, 0] = in_front - z[index] > 0.045
    return mask
