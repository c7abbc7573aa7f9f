"""A batched z-buffer: which triangle each pixel sees, and where in it.

Letters: B faces, C values, V vertices, T triangles, N side of the square picture in pixels, P covered pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

EMPTY = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class Fragments:
    """The P covered pixels of a batch, in picture order.

    ``pixel`` int64 ``[P]`` (index into B·N·N), ``face`` int64 ``[P]``, ``corners`` int64 ``[P, 3]`` (vertices of the
    triangle seen), ``weights`` ``[P, 3]`` barycentric; ``depth`` ``[B, N, N]`` distance to the camera, inf where empty.
    """

    pixel: Tensor
    face: Tensor
    corners: Tensor
    weights: Tensor
    depth: Tensor

    def where(self, kept: Tensor) -> Fragments:
        """Those of the pixels for which ``kept`` ``[P]`` says so; the depth picture stays whole."""
        index = kept.nonzero().squeeze(1)
        chosen = (part.index_select(0, index) for part in (self.pixel, self.face, self.corners, self.weights))
        return Fragments(*chosen, self.depth)

    def interpolate(self, values: Tensor) -> Tensor:
        """Vertex values ``[B, V, C]`` at the pixels, ``[C, P]``."""
        corners = self.corners + (self.face * values.shape[1])[:, None]
        table = values.reshape(-1, values.shape[-1])
        return F.embedding_bag(corners, table, per_sample_weights=self.weights, mode="sum").T.contiguous()


def seen_at(depth: Tensor, pixel: Tensor) -> Tensor:
    """The depth picture ``[B, N, N]`` at pixels ``[P]``."""
    return depth.view(-1).index_select(0, pixel)


def per_pixel(rows: Tensor, face: Tensor) -> Tensor:
    """What faces are, ``[K, B]``, at the pixels of ``face`` ``[P]``, which lie face by face: ``[K, P]``."""
    if face.device.type != "cpu":  # where to count would be to wait
        return rows.gather(1, face.expand(len(rows), -1))
    counts = torch.bincount(face, minlength=rows.shape[1]).tolist()
    return torch.cat([row.expand(-1, count) for row, count in zip(rows.split(1, dim=1), counts, strict=True)], dim=1)


def rasterise(x: Tensor, y: Tensor, depth: Tensor, triangles: Tensor, side: int) -> Fragments:
    """Find the nearest front-facing triangle at every pixel centre.

    ``x`` (right) and ``y`` (down) in pixels and ``depth`` (a positive distance) are ``[B, V]``, ``triangles``
    ``[T, 3]`` counter-clockwise as seen from outside. Triangles that cover no pixel centre are dropped; the others go
    in groups of like size through one grid of candidate pixels each. Depth and triangle share one integer, so that the
    minimum over them does not depend on the order.
    """
    batch, vertices = depth.shape
    a, b, c = triangles.T.contiguous()
    x0, x1, x2 = (x.index_select(1, corner) for corner in (a, b, c))  # [B, T]
    y0, y1, y2 = (y.index_select(1, corner) for corner in (a, b, c))
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    chosen = (area < 0).reshape(-1).nonzero().squeeze(1)  # y points down, so front-facing is clockwise
    x0, x1, x2, y0, y1, y2, area = (
        value.reshape(-1).index_select(0, chosen) for value in (x0, x1, x2, y0, y1, y2, area)
    )
    left = (torch.minimum(torch.minimum(x0, x1), x2) - 0.5).ceil().clamp(min=0)
    right = (torch.maximum(torch.maximum(x0, x1), x2) - 0.5).floor().clamp(max=side - 1)
    top = (torch.minimum(torch.minimum(y0, y1), y2) - 0.5).ceil().clamp(min=0)
    bottom = (torch.maximum(torch.maximum(y0, y1), y2) - 0.5).floor().clamp(max=side - 1)
    extent = torch.maximum(right - left, bottom - top) + 1  # candidate pixels on the longer side
    kept = ((right >= left) & (bottom >= top)).nonzero().squeeze(1)
    chosen, left, top, extent, x0, x1, x2, y0, y1, y2, area = (  # [M] triangles that may be seen
        value.index_select(0, kept) for value in (chosen, left, top, extent, x0, x1, x2, y0, y1, y2, area)
    )
    face, triangle = chosen // len(triangles), chosen % len(triangles)
    corners = triangles.index_select(0, triangle)  # [M, 3]
    z0, z1, z2 = (depth.reshape(-1).index_select(0, face * vertices + corners[:, i]) for i in range(3))
    # weights of the first two corners and depth, each as a plane a + b x + c y over pixel centres
    first = ((x1 * y2 - x2 * y1) / area, (y1 - y2) / area, (x2 - x1) / area)
    second = ((x2 * y0 - x0 * y2) / area, (y2 - y0) / area, (x0 - x2) / area)
    away = [(z0 - z2) * f + (z1 - z2) * s for f, s in zip(first, second, strict=True)]
    planes = torch.stack([*first, *second, away[0] + z2, *away[1:]], dim=1)  # [M, 9]
    keys = torch.full((batch * side * side,), EMPTY, dtype=torch.int64, device=depth.device)
    smallest, size = 0, 1
    while smallest < side:
        group = ((extent > smallest) & (extent <= size)).nonzero().squeeze(1)
        if len(group):
            some, origin, first, highest = (
                value.index_select(0, group) for value in (planes, face * side * side, left, top)
            )
            _draw(keys, group, some, origin, first, highest, size, side)
        smallest, size = size, size + max(1, size // 2)
    pixel = (keys != EMPTY).nonzero().squeeze(1)  # [P]
    key = keys.index_select(0, pixel)
    winner = key & 0xFFFFFFFF
    px, py = pixel % side + 0.5, pixel // side % side + 0.5
    plane = planes.index_select(0, winner)
    w0 = plane[:, 0] + plane[:, 1] * px + plane[:, 2] * py
    w1 = plane[:, 3] + plane[:, 4] * px + plane[:, 5] * py
    distance = torch.full((batch * side * side,), torch.inf, device=depth.device)
    distance[pixel] = (key >> 32).to(torch.int32).view(torch.float32)
    weights = torch.stack([w0, w1, 1 - w0 - w1], dim=1)
    corners, distance = corners.index_select(0, winner), distance.view(batch, side, side)
    return Fragments(pixel, pixel // (side * side), corners, weights, distance)


def _draw(
    keys: Tensor, group: Tensor, planes: Tensor, origin: Tensor, left: Tensor, top: Tensor, size: int, side: int
) -> None:
    """Write the G triangles of one size group into the integer z-buffer ``keys [B * N * N]``."""
    steps = torch.arange(size, device=keys.device)
    across, down = (left[:, None] + steps)[:, None, :], (top[:, None] + steps)[:, :, None]  # [G, 1, s], [G, s, 1]
    px, py = across + 0.5, down + 0.5

    def plane(at: int) -> Tensor:
        a, b, c = planes[:, at, None, None], planes[:, at + 1, None, None], planes[:, at + 2, None, None]
        return torch.addcmul(torch.addcmul(a, b, px), c, py)  # [G, s, s]

    first, second = plane(0), plane(3)
    inside = (first >= 0) & (second >= 0) & (first + second <= 1) & (across < side) & (down < side)
    which, row, column = inside.nonzero(as_tuple=True)
    z = plane(6).view(-1).index_select(0, (which * size + row) * size + column)
    origin, top, left, group = (value.index_select(0, which) for value in (origin, top, left, group))
    pixel = origin + (top.long() + row) * side + left.long() + column
    key = (z.view(torch.int32).to(torch.int64) << 32) | group
    keys.scatter_reduce_(0, pixel, key, "amin")
