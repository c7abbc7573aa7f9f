"""Ambient occlusion: how much of the surroundings each point of the average head sees.

Letters: V vertices, T triangles, D directions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from sia_gen.studio.raster import rasterise

DIRECTIONS = 64
SIDE = 160  # pixels of the picture taken from each direction
SPAN = 8.0  # eye distances that it shows
FAR = 20.0
BIAS = 0.08  # eye distances: a surface does not hide itself


def openness(points: Tensor, normals: Tensor, triangles: Tensor) -> Tensor:
    """Share ``[V]`` of light from all around that reaches each of ``points`` ``[V, 3]``, weighted by its normal."""
    index = torch.arange(DIRECTIONS, device=points.device) + 0.5
    height = 1 - 2 * index / DIRECTIONS  # an even spiral over the sphere
    turn = index * math.pi * (1 + math.sqrt(5))
    flat = (1 - height.square()).sqrt()
    toward = torch.stack([flat * turn.cos(), height, flat * turn.sin()], dim=1)  # [D, 3]
    right = F.normalize(torch.linalg.cross(toward.new_tensor([0.0, 1.0, 0.0]).expand_as(toward), toward), dim=1)
    up = torch.linalg.cross(toward, right)
    scale = SIDE / SPAN
    x, y = (SIDE / 2 + scale * (points @ right.T)).T, (SIDE / 2 - scale * (points @ up.T)).T  # [D, V]
    depth = (FAR - points @ toward.T).T
    picture = rasterise(x.contiguous(), y.contiguous(), depth.contiguous(), triangles, SIDE).depth.flatten(1)
    at = y.clamp(0, SIDE - 1).long() * SIDE + x.clamp(0, SIDE - 1).long()
    reached = depth <= picture.gather(1, at) + BIAS
    weight = (toward @ normals.T).clamp(min=0)  # [D, V]
    return ((reached * weight).sum(0) / weight.sum(0).clamp(min=1e-6)).clamp(max=1)
