"""Ways from one value to another."""

from __future__ import annotations

import torch
from torch import Tensor


def mix(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """From ``a`` at 0 to ``b`` at 1."""
    return a + (b - a) * share


def smooth(start: float | Tensor, end: float | Tensor, value: Tensor) -> Tensor:
    """Smoothstep from 0 at ``start`` to 1 at ``end`` (which may lie below ``start``)."""
    t = ((value - start) / (end - start)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def bump(*across: Tensor) -> Tensor:
    """1 at the origin, falling off as a Gaussian."""
    first, *others = (value.square() for value in across)
    return torch.exp(-sum(others, start=first))


def colour(like: Tensor, red: float, green: float, blue: float) -> Tensor:
    """One colour, ``[3, 1]``."""
    return torch.tensor([[red], [green], [blue]], dtype=like.dtype, device=like.device)
