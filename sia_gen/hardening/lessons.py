"""The loss that a hardened model learns by: pictures varied, and attacked in their pixels, as its regimen says.

Letters: B pictures, C classes, R resolution.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.images import Images, from_bytes
from sia_gen.core.modules import one_seed
from sia_gen.hardening.regimens import Regimen
from sia_gen.training.network import augment, mirrored_at_random

STEPS, STRIDE = 3, 0.5  # of the attack within a training step, each a share of the radius
BETA = 6.0  # of TRADES: its paper's
CHAINS, DEPTH = 3, 2  # of AugMix


def prepared(regimen: Regimen) -> Callable[..., tuple[Tensor, ...]]:
    """Pictures uint8 ``[B, 3, R, R]`` and classes ``[B]`` → images in [0, 1], classes and noise in −1…1."""

    def prepare(random: torch.Generator, pictures: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        if regimen.augment == "no":
            images = augment(pictures, random)
        else:
            with one_seed(random.initial_seed() % 2**32):
                images = _varied(from_bytes(pictures), regimen.augment)
        images, _ = mirrored_at_random(images, random)
        noise = torch.rand(images.shape, generator=random, device=images.device) * 2 - 1
        return images, labels, noise

    return prepare


def _varied(images: Images, how: str) -> Images:
    from kornia.augmentation.auto import RandAugment, TrivialAugment

    if how == "randaugment":
        return RandAugment(n=2, m=9)(images).clamp(0, 1)
    weights = torch.distributions.Dirichlet(torch.ones(CHAINS)).sample((len(images),)).to(images)  # [B, chains]
    kept = torch.rand(len(images), 1, 1, 1).to(images)
    mixed = torch.zeros_like(images)
    for chain in range(CHAINS):
        changed = images
        for _ in range(1 + chain % DEPTH):
            changed = TrivialAugment()(changed)
        mixed = mixed + weights[:, chain, None, None, None] * changed
    return (kept * images + (1 - kept) * mixed).clamp(0, 1)


def loss(regimen: Regimen, epsilon: float) -> Callable[..., Tensor]:
    """Cross-entropy; of pictures that PGD has changed, or with TRADES' pull of these to what is said of the others."""

    def total(model: nn.Module, kind: object, images: Images, labels: Tensor, noise: Tensor) -> Tensor:
        if regimen.pixels == "no":
            return F.cross_entropy(model(images).float(), labels)
        if regimen.pixels == "pgd":
            worse = _attacked(model, images, noise, epsilon, lambda said: F.cross_entropy(said, labels))
            return F.cross_entropy(model(worse).float(), labels)
        plain = model(images).float()
        calm = plain.detach().log_softmax(1)
        worse = _attacked(model, images, noise, epsilon, lambda said: _apart(said, calm))
        return F.cross_entropy(plain, labels) + BETA * _apart(model(worse).float(), plain.log_softmax(1))

    return total


def _apart(said: Tensor, calm: Tensor) -> Tensor:
    """How far answers lie from calm ones, log-probabilities: the mean Kullback–Leibler divergence."""
    return F.kl_div(said.log_softmax(1), calm, reduction="batchmean", log_target=True)


def _attacked(
    model: nn.Module, images: Images, noise: Tensor, epsilon: float, measure: Callable[[Tensor], Tensor]
) -> Images:
    """Images at which ``measure`` is large, no value further than ``epsilon`` away; ``noise`` is where they start."""
    delta = epsilon * noise
    for _ in range(STEPS):
        asked = delta.detach().requires_grad_()
        (way,) = torch.autograd.grad(measure(model((images + asked).clamp(0, 1)).float()), asked)
        delta = (delta + STRIDE * epsilon * way.sign()).clamp(-epsilon, epsilon)
    return (images + delta.detach()).clamp(0, 1)
