"""The studio: face factors → picture, landmarks and pose, exactly known.

Head, hair and glasses are drawn apart and laid over each other, so that strands fray and lenses let through. Light and
camera stay where they are when the head turns; the body follows a little.

Letters: B faces, V vertices, C values, P covered pixels, S side of the picture, N side of the supersampled picture.
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
from sia_gen.studio.backdrop import Backdrop
from sia_gen.studio.blend import colour, mix, smooth
from sia_gen.studio.camera import Grain, blurred, compressed, distance_of, encode, project, tone
from sia_gen.studio.factors import FaceSpec
from sia_gen.studio.head import Head
from sia_gen.studio.landmarks import landmark_vertices
from sia_gen.studio.light import Lamps, Surface, unit
from sia_gen.studio.makehuman import MakeHuman
from sia_gen.studio.openness import openness
from sia_gen.studio.raster import Fragments, per_pixel, rasterise, seen_at
from sia_gen.studio.surface import appearance
from sia_gen.studio.surface.glasses import Glasses
from sia_gen.studio.surface.hair import Hair, azimuth_of, coverage, ears, greyed, temples
from sia_gen.studio.surface.mouth import cavities, lips
from sia_gen.studio.surface.skin import marks, relief
from sia_gen.studio.surface.texture import Noise

PIVOT = (0.0, -0.45, -0.45)  # the head turns about its middle
SUPERSAMPLE = 2
RESOLUTIONS = (16, 512)
HIDDEN_BY = 0.15  # eye distances: less is the surface's own slope within a pixel
SOLID = 0.5  # coverage from which hair and frames hide and shade what lies behind them
BODY_FOLLOWS = 0.3  # share of the head's turn
SKIN, STRANDS, PLASTIC = (0.30, 0.17, 0.12), (0.25, 0.25, 0.25), (0.0, 0.0, 0.0)  # red travels furthest in skin


@dataclass(frozen=True)
class Renders:
    """``images`` ``[B, 3, S, S]`` in [0, 1]; ``landmarks`` ``[B, 68, 2]`` in pixels (x right, y down, iBUG order).

    ``visible`` bool ``[B, 68]``: the landmark lies in the picture and nothing stands in front of it.
    """

    images: Images
    landmarks: Tensor
    visible: Tensor


class Studio:
    """Renders faces of a MakeHuman folder, or of what is installed of it. A picture depends on a face's factors alone.

    ``resolution`` is 16…512 pixels. Raises `RequestError` outside of it or without MakeHuman data.
    """

    def __init__(
        self, makehuman: str | Path | None = None, resolution: int = 64, device: torch.device | str = "cpu"
    ) -> None:
        if not RESOLUTIONS[0] <= resolution <= RESOLUTIONS[1]:
            low, high = RESOLUTIONS
            raise RequestError(f"resolution={resolution} is outside {low}…{high} pixels; choose a size in that range")
        source = MakeHuman(makehuman)
        self.resolution = resolution
        self.head = Head(source, subdivisions=0 if resolution <= 64 else 1).to(device)
        self.noise, self.backdrop = Noise().to(device), Backdrop().to(device)
        self.grain = Grain(resolution).to(device)
        rest, skin = self.head.rest, self.head.group == appearance.BODY
        self.hair, self.glasses = Hair(rest, skin, self.noise), Glasses(rest, skin)
        painted = self.head.refine(np.concatenate([lips(source), cavities(source)], axis=1)).to(device)
        self.mesh = source.digest
        around, bare = azimuth_of(rest), ears(rest).float()
        seen = openness(rest, self.head.normals(rest[None])[0], self.head.triangles)
        painted[:, 1] *= smooth(0.6, 0.3, seen)  # what light reaches is no cavity
        self.masks = torch.cat([painted, bare[:, None], around[:, None], seen[:, None]], dim=1)  # [V, 5]
        self.follows = smooth(-2.9, -1.8, rest[:, 1] + 0.35 * rest[:, 2])[:, None]  # [V, 1] 1 on the head, 0 below
        self.landmarks = landmark_vertices(self.head).to(device)  # [68]

    @torch.inference_mode()
    def render(self, spec: FaceSpec) -> Renders:
        """Pictures and landmarks of B faces."""
        side = self.resolution * SUPERSAMPLE
        shape = self.head.vertices(spec)
        turn, lean = rotation(spec).transpose(1, 2), rotation(spec, BODY_FOLLOWS).transpose(1, 2)
        pivot, away = shape.new_tensor(PIVOT), distance_of(spec)[:, None]
        points = mix((shape - pivot) @ lean, (shape - pivot) @ turn, self.follows)  # [B, V, 3] about the pivot
        normals = self.head.normals(shape)
        normals = mix(normals @ lean, normals @ turn, self.follows)
        grown = self.hair.vertices(shape, spec)
        hair_frame = self.hair.frame(grown, spec)
        grown, combed = (grown - pivot) @ turn, torch.cat([vectors @ turn for vectors in hair_frame[:3]], dim=-1)
        frames, lenses = ((part - pivot) @ turn for part in self.glasses.vertices(shape, spec))

        def drawn(vertices: Tensor, triangles: Tensor) -> Fragments:
            x, y, depth = project(vertices.movedim(-1, 0).contiguous(), away, side)
            return rasterise(x, y, depth, triangles, side)

        head, hair = drawn(points, self.head.triangles), drawn(grown, self.hair.triangles)
        frame, lens = drawn(frames, self.glasses.frame), drawn(lenses, self.glasses.lenses)
        look, worn = appearance.palette(spec), smooth(0.45, 0.55, spec["glasses"])
        hair = hair.where(seen_at(hair.depth, hair.pixel) < seen_at(head.depth, hair.pixel))
        hair, strands, tufts = self._strands(hair, look, spec["curl"], grown, combed, hair_frame[3])
        hidden = torch.zeros_like(head.depth, dtype=torch.bool).view(-1)
        hidden[hair.pixel[tufts == 1]] = True
        bare = head.where(~hidden.index_select(0, head.pixel))
        shading = _nearer(head.depth, hair, tufts)
        lamps = Lamps(spec, shading)  # frames are too thin to shade

        radiance = self.backdrop(spec, side)  # [3, B, N, N]
        flat, nearest = radiance.view(3, -1), torch.full_like(shading, torch.inf).view(-1)
        mirror, kept = self._lens(lens, spec, lenses, lamps, worn)
        for layer, light, share in (
            (bare, self._skin(bare, spec, look, points, normals, turn, lamps), torch.ones_like(bare.weights[:, 0])),
            (hair, lamps.shine(strands), tufts),
            (frame, self._plastic(frame, spec, frames, lamps), worn[frame.face]),
            (lens, mirror, kept),
        ):
            _lay(flat, nearest, layer, light, share)
        images = F.avg_pool2d(tone(radiance), SUPERSAMPLE).transpose(0, 1).contiguous()  # averaged in linear light
        images = compressed(self.grain(encode(blurred(images, spec)), spec), spec)
        depth = _nearer(_nearer(shading, frame, worn[frame.face]), lens, kept)
        x, y, distance = project(points[:, self.landmarks].movedim(-1, 0), away, side)  # [B, 68] each
        landmarks = torch.stack([x, y], dim=-1) / SUPERSAMPLE
        return Renders(images, landmarks, _unhidden(depth, x, y, distance))

    def _skin(
        self,
        seen: Fragments,
        spec: FaceSpec,
        look: appearance.Palette,
        points: Tensor,
        normals: Tensor,
        turn: Tensor,
        lamps: Lamps,
    ) -> Tensor:
        """Radiance ``[3, P]`` of head and body."""
        fixed = torch.cat([self.head.rest, self.masks], dim=1).expand(len(points), -1, -1)
        values = seen.interpolate(torch.cat([fixed, points, normals], dim=-1))  # [14, P]
        rest, masks, place, normal = values.split([3, 5, 3, 3])
        group = self.head.group.index_select(0, seen.corners[:, 0])
        shown = marks(spec).at(seen.face)
        slope, folded = relief(rest, shown, self.noise)
        body = (group == appearance.BODY).float()
        rows = per_pixel(turn.flatten(1).T, seen.face).view(3, 3, -1)
        slope = (slope[:, None] * rows).sum(0) * body  # turned with the head
        normal = normal - (slope - normal * (slope * normal).sum(0))
        folded = folded * body
        albedo, gloss, open_ = appearance.surface(rest, group, masks, look.at(seen.face), shown, folded, self.noise)
        wet = (group == appearance.RIGHT_EYE) | (group == appearance.LEFT_EYE)
        sharp = torch.where(group == appearance.BODY, 16.0, 140.0)
        wrap = normal.new_tensor(SKIN)[:, None]
        surface = Surface(seen.face, place, unit(normal), albedo, gloss, sharp, open_, wrap)
        return lamps.shine(surface) + 0.8 * wet * lamps.mirrored(surface)

    def _strands(
        self,
        seen: Fragments,
        look: appearance.Palette,
        curled: Tensor,
        points: Tensor,
        combed: Tensor,
        aside: Tensor,
    ) -> tuple[Fragments, Surface, Tensor]:
        """The pixels that hair covers any of, its surface there, and the share ``[P]`` that it covers."""
        hair = self.hair
        fixed = torch.stack([*hair.rest.T, hair.azimuth, hair.along, hair.hanging], dim=1).expand(len(points), -1, -1)
        values = seen.interpolate(torch.cat([fixed, points, combed, aside], dim=-1))  # [19, P]
        look = look.at(seen.face)

        def strands(values: Tensor, across: float, down: float) -> Tensor:
            """Noise that runs along the strands, down from the crown or aside from the parting."""
            x, _, z, azimuth, along = values[:5]
            around = torch.stack([1.9 * across * azimuth.cos(), 1.9 * across * azimuth.sin().abs(), down * along])
            aside = torch.stack([across * z, down * x.abs(), 0 * along + across])
            return mix(self.noise(around), self.noise(aside), smooth(0.2, 0.8, values[18]))

        curl = curled.index_select(0, seen.face)
        woolly = smooth(0.35, 0.95, curl)
        even = torch.stack([values[0].abs(), values[1], values[2]])
        grain = mix(strands(values, 11.0, 0.9), self.noise(8.0 * even), woolly)
        fine = mix(strands(values, 34.0, 1.6), self.noise(21.0 * even + 7), 0.8 * woolly)
        facing = unit(values[9:12])[2].abs()
        share = coverage(values[:3], values[3], values[5], grain, fine, facing, look.growth)
        some = (share > 0).nonzero().squeeze(1)
        seen, values = seen.where(share > 0), values.index_select(1, some)
        grain, share, fine, curl = (each.index_select(0, some) for each in (grain, share, fine, woolly))
        rest, lie, place, normal, falling, parted = values[:18].split(3)
        azimuth, along, _ = lie
        alike = torch.where((falling * parted).sum(0) < 0, -1.0, 1.0)
        tangent = mix(falling, alike * parted, smooth(0.1, 0.9, values[18]))
        near_skin = 1 - 0.35 * smooth(0.12, -0.02, share - 0.9)
        pigment = greyed(look.hair[:, some], look.grey[some], temples(azimuth, rest[1]), fine)
        tips = 0.82 + 0.22 * smooth(0.5, 3.0, along)  # roots are darker than what the sun has seen
        albedo = pigment * tips * (1 + 0.30 * grain + 0.38 * fine) * near_skin
        normal = unit(normal)
        bumps = torch.stack([grain * rest[0].sign(), fine, 0.5 * fine - 0.5 * grain])
        normal = unit(normal + (0.15 + 0.55 * curl) * bumps)
        behind = normal[2] < 0  # the inside of hair that hangs on the far side
        normal = torch.where(behind, -normal, normal)
        open_ = (0.95 - 0.45 * smooth(0.2, -1.6, rest[1])) * torch.where(behind, 0.35, 1.0)
        open_ = open_ * (1 + 0.35 * grain + 0.25 * curl * fine)
        gloss = 0.20 * (1 + 0.8 * fine) * (1 - 0.6 * curl) * torch.where(behind, 0.2, 1.0)
        wrap = normal.new_tensor(STRANDS)[:, None]
        sharp = torch.full_like(gloss, 60.0)
        tangent = unit(tangent + 0.22 * (fine + 0.6 * grain) * normal)  # strands do not lie quite flat
        return seen, Surface(seen.face, place, normal, albedo, gloss, sharp, open_, wrap, tangent), share

    def _plastic(self, seen: Fragments, spec: FaceSpec, points: Tensor, lamps: Lamps) -> Tensor:
        """Radiance ``[3, P]`` of frames: black over brown to pale metal."""
        place, normal = _faceted(seen, points)
        light = spec["frame_lightness"][seen.face]
        albedo = mix(colour(place, 0.012, 0.010, 0.010), colour(place, 0.50, 0.40, 0.26), light**3)
        full = torch.ones_like(light)
        wrap = place.new_tensor(PLASTIC)[:, None]
        return lamps.shine(Surface(seen.face, place, normal, albedo, 0.5 * full, 30 * full, 0.9 * full, wrap))

    def _lens(
        self, seen: Fragments, spec: FaceSpec, points: Tensor, lamps: Lamps, worn: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Radiance ``[3, P]`` of lenses, and how much ``[P]`` they keep from what lies behind."""
        place, normal = _faceted(seen, points)
        normal = unit(normal + 0.12 * torch.stack([place[0], place[1], 0 * place[2]]))  # lenses bulge
        tint = smooth(0.5, 0.8, spec["lens_tint"])[seen.face]
        full = torch.ones_like(tint)
        wrap = place.new_tensor(PLASTIC)[:, None]
        surface = Surface(seen.face, place, normal, colour(place, 0.01, 0.01, 0.012), full, 200 * full, full, wrap)
        mirror = 0.5 * lamps.mirrored(surface) + lamps.shine(surface)
        share = (0.035 + 0.90 * tint) * worn[seen.face]
        return mirror, share


def _faceted(seen: Fragments, points: Tensor) -> tuple[Tensor, Tensor]:
    """Places and flat normals ``[3, P]``, turned to the camera."""
    corners = points[seen.face[:, None], seen.corners]  # [P, 3, 3]
    normal = unit(torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).T)
    return seen.interpolate(points), torch.where(normal[2] < 0, -normal, normal)


def _nearer(depth: Tensor, layer: Fragments, share: Tensor) -> Tensor:
    """The depth picture ``[B, N, N]`` with a layer in it where that covers more than half."""
    depth = depth.clone()
    solid = layer.pixel[share > SOLID]
    depth.view(-1)[solid] = torch.minimum(depth.view(-1)[solid], layer.depth.view(-1)[solid])
    return depth


def _lay(picture: Tensor, nearest: Tensor, layer: Fragments, light: Tensor, share: Tensor) -> None:
    """Lay a layer's radiance ``[3, P]`` over ``picture`` ``[3, B·N·N]`` where nothing ``nearest`` stands in front."""
    depth = seen_at(layer.depth, layer.pixel)
    share = share * (depth < nearest.index_select(0, layer.pixel))
    picture.index_copy_(1, layer.pixel, mix(picture.index_select(1, layer.pixel), light, share))
    solid = share > SOLID
    nearest[layer.pixel[solid]] = depth[solid]


def _unhidden(picture: Tensor, x: Tensor, y: Tensor, depth: Tensor) -> Tensor:
    """Which points ``[B, P]`` lie in the depth picture ``[B, N, N]`` and no further away than it says."""
    side = picture.shape[-1]
    inside = (x >= 0) & (x < side) & (y >= 0) & (y < side)
    at = (y.clamp(0, side - 1).long() * side) + x.clamp(0, side - 1).long()
    return inside & (depth <= picture.flatten(1).gather(1, at) + HIDDEN_BY)


def rotation(spec: FaceSpec, share: float = 1.0) -> Tensor:
    """Head rotation ``[B, 3, 3]``: yaw to image right, then pitch up, then roll to image right, or a share of each."""
    yaw, pitch, roll = (torch.deg2rad(share * spec[name]) for name in ("yaw", "pitch", "roll"))
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)

    def matrix(*rows: Tensor) -> Tensor:
        return torch.stack(rows, dim=-1).reshape(-1, 3, 3)

    about_y = matrix(yaw.cos(), zero, yaw.sin(), zero, one, zero, -yaw.sin(), zero, yaw.cos())
    about_x = matrix(one, zero, zero, zero, pitch.cos(), pitch.sin(), zero, -pitch.sin(), pitch.cos())
    about_z = matrix(roll.cos(), roll.sin(), zero, -roll.sin(), roll.cos(), zero, zero, zero, one)
    return about_z @ about_x @ about_y
