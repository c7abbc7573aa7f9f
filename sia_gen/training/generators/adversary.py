"""The adversarial phase of a generator's training: what regression left soft is sharpened until it looks rendered.

The loss is the non-saturating one with R1 (Mescheder et al., "Which Training Methods for GANs do actually Converge?",
ICML 2018), beside that of the pairs, which keeps every latent's meaning.

Letters: B faces, C channels, R resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.executors import Precision, Progress
from sia_gen.core.modules import device_of, one_seed
from sia_gen.generators.mapping import Linear
from sia_gen.training.loop import fit
from sia_gen.training.stepper import Lessons

RATE, BETAS = 2e-3, (0.0, 0.99)
WEIGHT = 0.05  # of the adversarial loss against that of the pairs
R1_EVERY = 16  # steps
R1_SCALE = 2e-4  # times the pixels of a picture over the batch: how steep the discriminator may be at renders
GROUP = 4  # faces whose spread the discriminator is told


class Convolution(nn.Module):
    """With bias, and equalised learning rate as in `Linear`; what it gives is ``gain`` times as large.

    A gain here is that of the leaky ReLU that follows, and costs no pass over the pictures.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, gain: float = math.sqrt(2.0)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gain, self.scale, self.padding = gain, gain / math.sqrt(inputs * kernel**2), kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias * self.gain, padding=self.padding)


def _bent(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2, inplace=True)


class Halving(nn.Module):
    """Two convolutions and a pooling, beside a straight way."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        # The sum of both ways is divided by √2, which is in their gains.
        self.first, self.second = Convolution(inputs, inputs, 3), Convolution(inputs, outputs, 3, gain=1.0)
        self.straight = Convolution(inputs, outputs, 1, gain=1 / math.sqrt(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(_bent(self.second(_bent(self.first(x)))), 2) + self.straight(F.avg_pool2d(x, 2))


class Discriminator(nn.Module):
    """Pictures ``[B, 3, R, R]`` around 0 → how rendered each looks, ``[B]``.

    It is StyleGAN2's residual one with box filters, ``channels[i]`` at resolution 4·2ⁱ.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        finest = list(reversed(channels))
        self.enter = Convolution(3, finest[0], 1)
        self.halvings = nn.Sequential(*(Halving(inputs, outputs) for inputs, outputs in pairwise(finest)))
        self.last = Convolution(finest[-1] + 1, finest[-1], 3)
        self.wide, self.score = Linear(16 * finest[-1], finest[-1]), Linear(finest[-1], 1)

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.halvings(_bent(self.enter(pictures)))  # [B, C, 4, 4]
        with torch.autocast(pictures.device.type, enabled=False):  # logits are told apart by small differences
            return self._judged(x.float())

    def _judged(self, x: Tensor) -> Tensor:
        groups = x.unflatten(0, (-1, math.gcd(GROUP, len(x))))
        spread = (groups.var(dim=1, correction=0) + 1e-8).sqrt().mean((1, 2, 3))  # a number a group
        spread = spread.repeat_interleave(groups.shape[1]).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
        x = _bent(self.last(torch.cat([x, spread], dim=1)))
        return self.score(_bent(self.wide(x.flatten(1))) * math.sqrt(2.0)).squeeze(1)


class Rivals(nn.Module):
    """Both networks, stepped at once: each is only moved by its own loss. ``batch`` is that of a step, in all parts.

    ``pairs`` gives the generator's pictures and the pairs' loss, see `sia_gen.training.generators.stylegan2.Pairs`.
    """

    def __init__(self, pairs: nn.Module, discriminator: Discriminator, batch: int) -> None:
        super().__init__()
        self.pairs, self.discriminator, self.batch = pairs, discriminator, batch

    def forward(self, steep: bool, pictures: Tensor, *items: Tensor) -> Tensor:
        """The sum of their losses, a scalar; ``steep`` adds R1, a small number and so in full precision."""
        made, paired = self.pairs(pictures, *items)
        still = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        fools = F.softplus(-torch.func.functional_call(self.discriminator, still, (made,))).mean()
        with torch.autocast(pictures.device.type, enabled=False) if steep else nullcontext():
            pictures = pictures.detach().requires_grad_(steep)
            real = self.discriminator(pictures)
        tells = F.softplus(-real).mean() + F.softplus(self.discriminator(made.detach())).mean()
        if steep:
            (gradient,) = torch.autograd.grad(real.sum(), pictures, create_graph=True)
            strength = R1_SCALE * pictures.shape[-1] ** 2 / self.batch
            tells = tells + R1_EVERY * strength / 2 * gradient.square().sum((1, 2, 3)).mean()
        return paired + WEIGHT * fools + tells


def sharpen(
    pairs: nn.Module,
    lessons: Lessons,
    out: Path,
    *,
    steps: int,
    settings: dict[str, object],
    precision: Precision = "no",
    progress: Progress | None = None,
) -> nn.Module:
    """Go on training a generator in its ``pairs`` against a discriminator; checkpoints lie in ``out``.

    Gives their moving average.
    """
    with one_seed(lessons.seed):
        discriminator = Discriminator(pairs.generator.config.channels)
    discriminator.to(device_of(pairs), memory_format=torch.channels_last)
    made = fit(
        Rivals(pairs, discriminator, min(lessons.batch, len(lessons.chosen))),
        lessons,
        lambda rivals, steep, *items: rivals(steep, *items),
        out,
        steps=steps,
        rate=RATE,
        betas=BETAS,
        settings=settings,
        precision=precision,
        kind=lambda step, done: step % R1_EVERY == 0,
        progress=progress,
    )
    assert isinstance(made, Rivals)
    return made.pairs
