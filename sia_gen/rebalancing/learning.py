"""The one engine behind all remedies: what a step sees, the loss it learns by, and what is done to the last layer.

Letters: B pictures, C classes, N rows, R resolution, E numbers of the last layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Precision, Progress
from sia_gen.core.images import Images, from_bytes, to_bytes
from sia_gen.core.modules import one_seed
from sia_gen.core.seeds import stream
from sia_gen.hardening.lessons import varied
from sia_gen.rebalancing.remedies import BETA, DEFERRED, GAMMA, MARGIN, SCALE, Augment, Loss, Remedy
from sia_gen.training.loop import Lessons, fit
from sia_gen.training.network import augment, mirrored_at_random

VARIED = ("randaugment", "trivialaugment", "augmix")


def teach(
    model: nn.Module, pictures: Tensor, labels: Tensor, classes: int, remedy: Remedy, work: Path, *,
    steps: int, batch: int, rate: float, seed: int, mirror: bool, settings: Mapping[str, Any],
    precision: Precision = "no", progress: Progress | None = None,
) -> nn.Module:  # fmt: skip
    """The model, images ``[B, 3, R, R]`` in [0, 1] → logits ``[B, C]``, taught on N pictures as the remedy says.

    ``pictures`` uint8 ``[N, 3, R, R]`` may hold generated ones. What is done after training is left to `finished`.
    """
    counts = torch.bincount(labels, minlength=classes)
    if int((counts > 0).sum()) < 2:
        raise RequestError(f"all {len(labels)} pictures are of one class; add pictures, or faces, of another")
    chosen = drawn(labels, remedy.draw, seed)
    lessons = Lessons((pictures, labels), chosen, prepared(remedy.augment, mirror), batch, seed)
    return fit(
        model, lessons, loss(remedy.loss, counts), work, steps=steps, rate=rate, weight_decay=0.05,
        settings=dict(settings), precision=precision, progress=progress,
        kind=lambda step, done: remedy.loss == "ldam" and done >= DEFERRED,
    )  # fmt: skip


def drawn(labels: Tensor, how: str, seed: int) -> Tensor:
    """Which rows of N an epoch sees, int64: each once, or each class as often as the most frequent or the rarest one.

    "over" repeats whole classes before it draws what is then missing, so that no picture is seen twice as often.
    """
    if how == "as it is":
        return torch.arange(len(labels))
    there = [(labels == each).nonzero().flatten() for each in labels.unique()]
    sizes = [len(rows) for rows in there]
    wanted, random, found = (max if how == "over" else min)(sizes), stream(seed, f"{how}-sampling"), []
    for rows in there:
        order = rows[torch.from_numpy(random.permutation(len(rows)))]
        found.append(torch.cat([rows.repeat(wanted // len(rows)), order[: wanted % len(rows)]]))
    return torch.cat(found)


def prepared(how: Augment, mirror: bool) -> Callable[..., tuple[Tensor, ...]]:
    """Pictures uint8 ``[B, 3, R, R]`` and classes ``[B]`` → images in [0, 1], classes, and of each picture that is
    mixed in its class and its share, float32 ``[B]``."""

    def prepare(random: torch.Generator, pictures: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        other, share = labels, torch.zeros(len(labels), device=labels.device)
        with one_seed(random.initial_seed() % 2**32):
            if how in VARIED:
                pictures = to_bytes(varied(from_bytes(pictures), how))
            images = augment(pictures, random)
            if how != "no" and how not in VARIED:
                images, other, share = _changed(images, labels, how)
        if mirror:
            images, _ = mirrored_at_random(images, random)
        return images, labels, other, share

    return prepare


def _changed(images: Images, labels: Tensor, how: str) -> tuple[Images, Tensor, Tensor]:
    """Erased in part, or mixed with another picture of the batch, whose class and share come with it."""
    from kornia.augmentation import RandomCutMixV2, RandomErasing, RandomMixUpV2

    if how == "erasing":  # half of the pictures, between 2 % and 33 % of each: the paper's
        return RandomErasing(p=0.5)(images), labels, torch.zeros(len(labels), device=labels.device)
    keys = ["input", "class"]
    if how == "mixup":
        images, told = RandomMixUpV2(p=1.0, data_keys=keys)(images, labels)
        return images, told[:, 1].long(), told[:, 2]
    images, told = RandomCutMixV2(p=1.0, data_keys=keys, use_correct_lambda=True)(images, labels)
    return images, told[0, :, 1].long(), 1 - told[0, :, 2]


def loss(how: Loss, counts: Tensor) -> Callable[..., Tensor]:
    """The mean loss of a batch; ``counts`` ``[C]`` say how often each class occurs in what is learnt from."""
    held = counts.clamp(min=1).double()
    effective = (1 - BETA) / (1 - BETA**held)
    weights = (effective / effective.mean()).float()
    margins = held**-0.25
    margins = (margins * (SCALE * MARGIN / margins.amax())).float()
    prior = (held / held.sum()).log().float()

    def single(logits: Tensor, labels: Tensor, late: object) -> Tensor:
        """``[B]``"""
        device = logits.device
        if how == "softmax":
            logits = logits + prior.to(device)
        if how == "ldam":
            logits = logits - F.one_hot(labels, len(counts)) * margins.to(device)
        weighed = how == "effective" or (how == "ldam" and late)
        each = F.cross_entropy(logits, labels, weight=weights.to(device) if weighed else None, reduction="none")
        if how == "focal":
            each = (1 - (-each).exp()) ** GAMMA * each
        return each

    def total(model: nn.Module, late: object, images: Images, labels: Tensor, other: Tensor, share: Tensor) -> Tensor:
        logits = model(images).float()
        each = (1 - share) * single(logits, labels, late) + share * single(logits, other, late)
        return each.mean()

    return total


def finished(model: nn.Module, after: str, tau: float, counts: Sequence[int]) -> nn.Module:
    """What is done to the last layer after training, in place, at strength ``tau``.

    "tau": w ← w / ‖w‖^τ for each class, without bias; "adjusted": b ← b − τ · log(share of the class). Raises
    `RequestError` for a network that ends in no linear layer of these classes.
    """
    if after == "no":
        return model
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    if not layers or layers[-1].out_features != len(counts):
        raise RequestError(f"the network ends in no linear layer of {len(counts)} outputs; choose another remedy")
    head = layers[-1]
    with torch.no_grad():
        bias = torch.zeros_like(head.weight[:, 0]) if head.bias is None else head.bias.detach()
        if after == "tau":
            head.weight.div_(head.weight.norm(dim=1, keepdim=True).clamp(min=1e-12) ** tau)
            bias = torch.zeros_like(bias)
        else:
            held = torch.tensor(counts, dtype=torch.float64).clamp(min=1)
            bias = bias - tau * (held / held.sum()).log().to(bias)
        head.bias = nn.Parameter(bias)
    return model
