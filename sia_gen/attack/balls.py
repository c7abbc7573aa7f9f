"""The sets in which an attack may move, and the directions of steepest ascent in them.

Letters: B faces, K attributes; the axes after B are one face's variable, D numbers in all.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2"]
Step = Literal["sign", "normalised"]

# What float32 networks change by, relative to a face's largest gradient or to its loss, when only the rest of the batch
# changes: up to 1e-6 as measured, taken ten times larger. Nothing may hang on less: neither a sign nor which is best.
NOISE = 1e-5
HALVINGS = 26  # to a float's last bit


def project_box(omega: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The nearest ω ``[B, K]`` within each face's own bounds ``[B, K]``."""
    return torch.clamp(omega, low, high)


def project_budget(omega: Tensor, low: Tensor, high: Tensor, budget: float) -> Tensor:
    """The nearest ω ``[B, K]`` within the bounds ``[B, K]`` and ‖ω / half range‖₂ ≤ budget, near in that norm too.

    It is clamp(ω · t) for the largest t ≤ 1 that keeps the budget; halving finds t to the last bit of a float.
    """
    inside = project_box(omega, low, high)
    beyond = length(inside, low, high) > budget  # [B]
    short, far = torch.zeros_like(omega[:, :1]), torch.ones_like(omega[:, :1])
    for _ in range(HALVINGS):
        middle = (short + far) / 2
        fits = (length(project_box(omega * middle, low, high), low, high) <= budget)[:, None]
        short, far = torch.where(fits, middle, short), torch.where(fits, far, middle)
    return torch.where(beyond[:, None], project_box(omega * short, low, high), inside)


def half_range(low: Tensor, high: Tensor) -> Tensor:
    """What ω ``[B, K]`` is counted in."""
    return (high - low) / 2


def length(omega: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """‖ω / half range‖₂ of each face ``[B]``; what may not move counts nothing."""
    half = half_range(low, high)
    return torch.where(half > 0, omega / half.clamp(min=torch.finfo(half.dtype).tiny), 0).norm(dim=1)


def project_ball(delta: Tensor, radius: float, norm: Norm) -> Tensor:
    """The nearest δ ``[B, ...]`` with ‖δ‖ ≤ radius, face by face."""
    if norm == "linf":
        return delta.clamp(-radius, radius)
    length = per_face(delta.flatten(1).norm(dim=1), delta)
    return delta * (radius / length.clamp(min=torch.finfo(delta.dtype).tiny)).clamp(max=1)


def ascent(gradient: Tensor, norm: Norm, step: Step) -> Tensor:
    """A step uphill of size one in the norm, face by face ``[B, ...]``; zero where the gradient is zero.

    In the linf norm (also that of the box) steepest is ±1 in every coordinate ("sign"); "normalised" keeps the
    gradient's proportions, with root mean square one over the coordinates that matter. In the l2 norm steepest is the
    gradient over its length, whichever ``step`` says.
    """
    tiny = torch.finfo(gradient.dtype).tiny
    # In units of the largest, so that squares neither vanish nor overflow.
    relative = gradient / per_face(largest(gradient).clamp(min=tiny), gradient)
    if norm == "linf" and step == "sign":
        return relative.div_(NOISE).trunc_().clamp_(-1, 1)
    relative = torch.where(relative.abs() > NOISE, relative, 0)
    length = relative.flatten(1).norm(dim=1)  # [B]
    if norm == "linf":
        length = length / relative.flatten(1).count_nonzero(dim=1).clamp(min=1).sqrt()
    return relative.div_(per_face(length.clamp(min=tiny), relative))


def largest(values: Tensor) -> Tensor:
    """The largest magnitude of each face ``[B]``; NaN or Inf where any of its numbers is."""
    return values.flatten(1).abs().amax(dim=1)


def per_face(values: Tensor, like: Tensor) -> Tensor:
    """One number a face ``[B]`` shaped to multiply ``like`` ``[B, ...]``."""
    return values.view(-1, *[1] * (like.ndim - 1))
