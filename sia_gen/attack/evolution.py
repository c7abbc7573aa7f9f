"""An ascent direction for a target that can only be asked.

Letters: B faces; the axes after B are one face's variable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sia_gen.attack.active_set import Rows
from sia_gen.attack.balls import largest, per_face
from sia_gen.core.seeds import normals

SPREAD = 0.25  # how far the points asked lie from a face, in half-ranges of ω and in ε
BLOCKS = 8  # of equal sign along a side of δ, for nothing tells its pixels apart


def estimate(
    loss: Callable[[Rows], Tensor],
    variables: Rows,
    scale: Mapping[str, Tensor | float],
    project: Callable[[str, Tensor], Tensor],
    ways: Callable[[int], Rows],
    pairs: int,
) -> Rows:
    """The sum of random ways, weighted by how much higher the loss ``[B]`` is ahead than behind, for each variable.

    That is the evolution strategy of Salimans et al. (arXiv 1703.03864), by antithetic pairs. ``scale`` is what a
    variable is counted in, ``project`` puts one back into its set, ``ways`` gives a pair's directions. Where the loss
    is flat all around, one way is as good as another and the first is given.
    """
    sums: Rows = {}
    for pair in range(pairs):
        way = ways(pair)
        tried = (
            {
                name: project(name, values + sign * SPREAD * way[name] * scale[name])
                for name, values in variables.items()
            }
            for sign in (1, -1)
        )
        ahead, behind = (loss(point) for point in tried)
        rise = ahead - behind
        for name, random in way.items():
            weighted = per_face(rise, random) * random
            sums[name] = weighted if pair == 0 else sums[name] + weighted
    first = ways(0)
    flat = torch.stack([largest(values) for values in sums.values()]).amax(dim=0) == 0  # [B]
    return {name: torch.where(per_face(flat, values), first[name], values) for name, values in sums.items()}


def random_ways(seeds: Sequence[int], purposes: Sequence[str], shapes: Mapping[str, Sequence[int]]) -> Rows:
    """Each face's own random directions ``[B, *shape]``: standard normal in ω, ±1 by blocks of pixels in δ."""
    ways = {}
    for name, shape in shapes.items():
        coarse = (3, BLOCKS, BLOCKS) if name == "delta" else shape
        drawn = torch.cat(
            [normals([seed], coarse, f"{purpose} {name}") for seed, purpose in zip(seeds, purposes, strict=True)]
        )
        ways[name] = F.interpolate(drawn.sign(), tuple(shape[1:]), mode="nearest") if name == "delta" else drawn
    return ways
