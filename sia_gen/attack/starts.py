"""Where a restart begins: anywhere in box × ball, from each face's own random streams.

Letters: B faces, K attributes, R resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from sia_gen.attack.balls import Norm, per_face
from sia_gen.core.seeds import normals, uniforms


def random_signed(seeds: Sequence[int], shape: Sequence[int], purpose: str) -> Tensor:
    """Uniform in −1 … 1, ``[B, *shape]``."""
    return uniforms(seeds, shape, f"attack {purpose}") * 2 - 1


def random_omega(seeds: Sequence[int], low: Tensor, high: Tensor, restart: int) -> Tensor:
    """Uniform between each face's bounds ``[B, K]``."""
    return low + (high - low) * uniforms(seeds, low.shape[1:], f"attack omega {restart}").to(low.device)


def random_delta(seeds: Sequence[int], shape: Sequence[int], radius: float, norm: Norm, restart: int) -> Tensor:
    """Uniform in the ball, ``[B, *shape]``."""
    if norm == "linf":
        return radius * random_signed(seeds, shape, f"delta {restart}")
    # In D dimensions the length of a uniform point is distributed as the D-th root of a uniform number.
    direction = normals(seeds, shape, f"attack delta {restart}")
    length = radius * uniforms(seeds, (), f"attack length {restart}") ** (1 / math.prod(shape))  # [B]
    return direction * per_face(length / direction.flatten(1).norm(dim=1), direction)
