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
HIDDEN_BY = 0.15  # eye distances: less is the surface's own slope within a pixel
SHADOW_STEPS, SHADOW_REACH = 10, 1.1  # samples towards the light, and how far in eye distances


@dataclass(frozen=True)
class Renders:
    """``images`` ``[B, 3, S, S]`` in [0, 1]; ``landmarks`` ``[B, 68, 2]`` in pixels (x right, y down, iBUG order).

    ``visible`` bool ``[B, 68]``: the landmark lies in the picture and nothing stands in front of it.
    """

    images: Images
    landmarks: Tensor
    visible: Tensor


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
        masks = np.concatenate([_lips(source), self.head.scalp, self.head.mane, _cavities(source)], axis=1)
        self.masks = self.head.refine(masks).to(device)  # [V, 4]
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
        x, y, depth = project(points.movedim(-1, 0).contiguous(), side)  # [B, V] each
        seen = rasterise(x, y, depth, self.head.triangles, side)
        radiance = _backdrop(spec, side)  # [3, B, N, N]
        radiance.view(3, -1)[:, seen.pixel] = self._shade(spec, seen, points, normals, side)
        images = encode(F.avg_pool2d(tone(radiance), SUPERSAMPLE).transpose(0, 1))  # averaged in linear light
        x, y, depth = (value[:, self.landmarks] for value in (x, y, depth))  # [B, 68] each
        landmarks = torch.stack([x, y], dim=-1) / SUPERSAMPLE
        return Renders(images.contiguous(), landmarks, _unhidden(seen.depth, x, y, depth))

    def _shade(self, spec: FaceSpec, seen: Fragments, points: Tensor, normals: Tensor, side: int) -> Tensor:
        """Linear radiance ``[3, P]``: wrapped diffuse, fill and ambient light, a specular lobe, cast shadow."""
        fixed = torch.cat([self.head.rest, self.masks], dim=1).expand(len(spec), -1, -1)
        values = seen.interpolate(torch.cat([fixed, points, normals], dim=-1))  # [13, P]
        rest, masks, place, normal = values.split([3, 4, 3, 3])
        normal = _unit(normal)
        look = appearance.palette(spec).at(seen.face)
        group = self.head.group[seen.corners[:, 0]]
        albedo, gloss, openness = appearance.surface(rest, group, masks, look)
        key = 2.1 * torch.exp2(spec["light_strength"])
        ambient = 0.42 * torch.exp2(spec["ambient_strength"])
        lamps = torch.cat([light_direction(spec).T, key[None], ambient[None]]).gather(1, seen.face.expand(5, -1))
        light, key, ambient = lamps[:3], lamps[3], lamps[4]
        facing = (normal * light).sum(0)
        wrap = normal.new_tensor([[0.30], [0.17], [0.12]])  # red light travels furthest under the skin
        diffuse = ((facing + wrap) / (1 + wrap)).clamp(min=0)
        lit = self._lit(seen, place, light, side)
        view = _unit(place.new_tensor([[0], [0], [CAMERA]]) - place)
        half = _unit(light + view)
        sharp = torch.where(group == appearance.BODY, 18.0, 90.0)
        specular = gloss * (normal * half).sum(0).clamp(min=0) ** sharp * (facing > 0)
        sky = 0.65 + 0.35 * normal[1]
        return albedo * (key * lit * diffuse + ambient * sky) * openness + 0.35 * key * specular * lit

    def _lit(self, seen: Fragments, place: Tensor, light: Tensor, side: int) -> Tensor:
        """Share ``[P]`` of key light that reaches each pixel: a march through the depth picture towards the light.

        What stands between is what the camera sees, which for a face in front of it is nearly all there is. Each
        sample is blocked softly and only by nearby depth, so that hair does not shade through the head.
        """
        blocked = torch.zeros_like(place[0])
        depth = seen.depth.view(-1)
        origin = seen.face * (side * side)
        for step in range(1, SHADOW_STEPS + 1):
            reach = SHADOW_REACH * (step / SHADOW_STEPS) ** 1.5
            column, row, distance = project(torch.addcmul(place, light, light.new_tensor(reach)), side)
            inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
            at = origin + (row.floor() * side + column.floor()).long()
            behind = distance - depth[torch.where(inside, at, 0)]  # positive where something stands nearer
            near = ((behind - 0.03) / 0.05).clamp(0, 1) * ((0.75 - behind) / 0.25).clamp(0, 1)
            blocked = torch.maximum(blocked, near * inside)
        return 1 - 0.88 * blocked


def _unhidden(picture: Tensor, x: Tensor, y: Tensor, depth: Tensor) -> Tensor:
    """Which points ``[B, P]`` lie in the depth picture ``[B, N, N]`` and no further away than it says."""
    side = picture.shape[-1]
    inside = (x >= 0) & (x < side) & (y >= 0) & (y < side)
    at = (y.clamp(0, side - 1).long() * side) + x.clamp(0, side - 1).long()
    return inside & (depth <= picture.flatten(1).gather(1, at) + HIDDEN_BY)


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


def project(points: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points about the pivot ``[3, ...]`` → column and row in a picture of ``side`` pixels, and distance ``[...]``."""
    x, y, z = points
    distance = CAMERA - z
    scale = (side * ZOOM * CAMERA) / distance
    return side / 2 + x * scale, side * PIVOT_AT - y * scale, distance


def tone(radiance: Tensor) -> Tensor:
    """Linear radiance → display linear in [0, 1): straight below 0.6, then a soft shoulder, as film does."""
    knee = 0.6
    over = (radiance - knee).clamp(min=0)
    return torch.where(radiance < knee, radiance, knee + (1 - knee) * over / (over + (1 - knee)))


def encode(linear: Tensor) -> Images:
    """Display linear → sRGB in [0, 1] (IEC 61966-2-1)."""
    linear = linear.clamp(0, 1)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def _unit(vectors: Tensor) -> Tensor:
    """Vectors ``[3, P]`` of length one."""
    return vectors * vectors.square().sum(0).clamp(min=1e-12).rsqrt()


def _backdrop(spec: FaceSpec, side: int) -> Tensor:
    """Linear ``[3, B, N, N]``: a soft wall of one hue, lighter towards one side and darker at the edges."""
    warmth, green = spec["background_warmth"], spec["background_green"]
    tint = torch.stack([warmth - 0.5 * green, green, -warmth - 0.5 * green])  # [3, B]
    colour = spec["background_lightness"] ** 2.2 * torch.exp(0.8 * tint)
    span = torch.linspace(-1, 1, side, device=tint.device)
    slope = torch.exp(0.9 * spec["background_slope"][:, None, None] * span)  # [B, 1, N]
    falloff = 1 - 0.18 * (span[:, None].square() + span.square())  # [N, N]
    return colour[:, :, None, None] * (slope * falloff)


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
