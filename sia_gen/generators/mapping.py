"""The mapping network of our StyleGAN2: latents → w.

Letters: B faces, Z latents, W width of w.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Module):
    """A linear layer with equalised learning rate: weights are drawn N(0, 1) and scaled when used."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.scale = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias)


class Mapping(nn.Module):
    """z ``[B, Z]`` → w ``[B, W]``: a linear path, half an MLP, and a piecewise linear function of each latent."""

    def __init__(self, latents: int, width: int, layers: int, knots: int) -> None:
        super().__init__()
        self.straight = Linear(latents, width)
        sizes = [latents] + [width] * layers
        self.bent = nn.ModuleList(Linear(inputs, outputs) for inputs, outputs in pairwise(sizes))
        self.knots = knots
        if knots:
            self.stepped = Linear(latents * knots, width)
            nn.init.zeros_(self.stepped.weight)

    def forward(self, z: Tensor) -> Tensor:
        bent = z
        for layer in self.bent:
            bent = F.leaky_relu(layer(bent), 0.2) * math.sqrt(2.0)
        w = self.straight(z) + 0.5 * bent
        return w + self.stepped(tents(z, self.knots)) if self.knots else w


def tents(z: Tensor, knots: int) -> Tensor:
    """Latents ``[B, Z]`` → ``[B, Z · knots]``: how near each is to knots at equally likely values, around 0."""
    place = torch.special.ndtr(z)[..., None] * knots - 0.5
    place = place.clamp(0, knots - 1)
    near = (1 - (place - torch.arange(knots, device=z.device)).abs()).clamp(min=0)
    return ((near - 1 / knots) * 2 * math.sqrt(knots)).flatten(1)
