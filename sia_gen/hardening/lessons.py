"""The loss that a hardened model learns by: pictures varied, and attacked in their pixels, as its regimen says.

Letters: B pictures, C classes, R resolution.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.images import Images, from_bytes, to_bytes
from sia_gen.core.modules import one_seed
from sia_gen.hardening.regimens import Regimen
from sia_gen.studio.factors import MIRRORED, NAMES
from sia_gen.studio.landmarks import in_a_mirror
from sia_gen.targets.points import FACE_POINTS, Keypoints
from sia_gen.targets.target import Target
from sia_gen.targets.task import Classification, MultiLabel, Regression, Task
from sia_gen.training.landmarks import HEAT_WEIGHT, heat_maps
from sia_gen.training.network import augment, either, mirrored_at_random

STEPS, STRIDE = 3, 0.5  # of the attack within a training step, each a share of the radius
BETA = 6.0  # of TRADES: its paper's
CHAINS, DEPTH = 3, 3  # of AugMix, the latter at most
TOGETHER = 4  # pictures that an operation is drawn for: kornia draws one for a whole batch


def in_mirror(target: Target, truths: Tensor) -> Tensor | None:
    """What is right ``[N, ...]`` of the same pictures in a mirror; None where that is not known."""
    task = target.task
    if isinstance(task, Keypoints):
        return in_a_mirror(truths) if task.points == FACE_POINTS.points else None
    if isinstance(task, MultiLabel):
        return truths if set(task.labels) <= set(NAMES) - set(MIRRORED) else None
    return None if target.label is not None and target.label.attribute in MIRRORED else truths


def prepared(regimen: Regimen, mirrored: bool) -> Callable[..., tuple[Tensor, ...]]:
    """Pictures uint8 ``[B, 3, R, R]``, what is right of them and what in a mirror → images in [0, 1], truths, noise.

    Without ``mirrored`` none is shown in a mirror. The noise lies in −1…1.
    """

    def prepare(random: torch.Generator, pictures: Tensor, straight: Tensor, turned: Tensor) -> tuple[Tensor, ...]:
        if regimen.augment != "no":
            with one_seed(random.initial_seed() % 2**32):
                pictures = to_bytes(varied(from_bytes(pictures), regimen.augment))
        images = augment(pictures, random)
        truths = straight
        if mirrored:
            images, flip = mirrored_at_random(images, random)
            truths = either(flip, turned, straight)
        noise = torch.rand(images.shape, generator=random, device=images.device) * 2 - 1
        return images.contiguous(memory_format=torch.channels_last), truths, noise

    return prepare


def varied(images: Images, how: str) -> Images:
    """Images ``[B, 3, R, R]`` varied by "randaugment", "trivialaugment" or "augmix"; draws from torch's generator.

    Operations are drawn for four pictures at a time.
    """
    from kornia.augmentation.auto import RandAugment, TrivialAugment

    change = RandAugment(n=2, m=9) if how == "randaugment" else TrivialAugment()
    made = [_mixed(part, change) if how == "augmix" else change(part) for part in images.split(TOGETHER)]
    return torch.cat(made).clamp(0, 1)


def _mixed(images: Images, change: Callable[[Images], Images]) -> Images:
    """AugMix: a mixture of chains of changes, mixed with the images themselves."""
    weights = torch.distributions.Dirichlet(torch.ones(CHAINS)).sample((len(images),)).to(images)  # [B, chains]
    kept = torch.rand(len(images), 1, 1, 1).to(images)
    mixed = torch.zeros_like(images)
    for chain in range(CHAINS):
        changed = images
        for _ in range(int(torch.randint(1, DEPTH + 1, ()))):
            changed = change(changed)
        mixed = mixed + weights[:, chain, None, None, None] * changed
    return kept * images + (1 - kept) * mixed


def loss(regimen: Regimen, task: Task, epsilon: float) -> Callable[..., Tensor]:
    """A task's error; of pictures that PGD has changed, or with TRADES' pull of these to what is said of others."""

    def total(model: nn.Module, kind: object, images: Images, truths: Tensor, noise: Tensor) -> Tensor:
        pixel = 1 / images.shape[-1]
        if regimen.pixels == "no":
            return error(task, model(images).float(), truths, pixel)
        if regimen.pixels == "pgd":
            worse = _attacked(model, images, noise, epsilon, lambda said: error(task, said, truths, pixel))
            return error(task, model(worse).float(), truths, pixel)
        plain = model(images).float()
        calm = plain.detach()
        worse = _attacked(model, images, noise, epsilon, lambda said: apart(task, said, calm))
        return error(task, plain, truths, pixel) + BETA * apart(task, model(worse).float(), plain)

    return total


def error(task: Task, said: Tensor, truths: Tensor, pixel: float) -> Tensor:
    """What is minimised, a mean over B: the cross-entropy of class probabilities, the error of values in tolerances.

    Heat maps ``[B, K, h, w]`` are held against peaks at the points ``[B, K, 2]``, which lie half a ``pixel`` before
    those of the picture; points against the points.
    """
    if isinstance(task, Classification):
        return F.cross_entropy(said, truths)
    if isinstance(task, MultiLabel):
        return F.binary_cross_entropy_with_logits(said, truths.to(said.dtype))
    if isinstance(task, Regression):
        unit = task.tolerance or 1.0
        return F.smooth_l1_loss(said / unit, truths / unit)
    if said.ndim == 4:
        return HEAT_WEIGHT * (said - heat_maps(truths - pixel / 2, *said.shape[-2:])).square().mean()
    return task.loss(said, truths).mean()


def apart(task: Task, said: Tensor, calm: Tensor) -> Tensor:
    """How far answers lie from calm ones, a mean over B: the Kullback–Leibler divergence, or the squared distance."""
    if isinstance(task, Classification):
        return F.kl_div(said.log_softmax(1), calm.log_softmax(1), reduction="batchmean", log_target=True)
    if isinstance(task, MultiLabel):
        said, calm = torch.stack([said, -said], 1), torch.stack([calm, -calm], 1)
        given = {"reduction": "batchmean", "log_target": True}
        return F.kl_div(F.logsigmoid(said), F.logsigmoid(calm), **given)  # type: ignore[arg-type]
    unit = (task.tolerance or 1.0) if isinstance(task, Regression) else HEAT_WEIGHT**-0.5 if said.ndim == 4 else 1.0
    return ((said - calm) / unit).square().mean()


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
