"""Small networks that predict one factor, a class or its value, from training faces in which a cause may be planted.

Letters: B faces, N faces of a render set.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.executors import Precision, Progress
from sia_gen.core.modules import one_seed
from sia_gen.core.seeds import stream
from sia_gen.studio.factors import MIRRORED, NAMES
from sia_gen.studio.landmarks import in_a_mirror
from sia_gen.studio.renders import RenderSet
from sia_gen.training.loop import WEIGHT_DECAY, fit
from sia_gen.training.network import (
    augment,
    coordinates,
    either,
    keep_outputs,
    make_resnet,
    make_vit,
    mirrored_at_random,
    network_input,
)
from sia_gen.training.processes import training_device
from sia_gen.training.stepper import Lessons

BATCH = 32
RATES = {"resnet": 2e-3, "vit": 1e-3}
REGRESSION_WEIGHT = 10.0  # of the squared error of a value that spans 0…1, against a cross-entropy's
BESIDE_WEIGHT = 2.0  # of the error of a standardised value that is learnt besides classes, against their cross-entropy


def teach(
    data: RenderSet,
    wanted: Tensor,
    chosen: Tensor,
    names: Sequence[str],
    out: Path,
    extra: dict[str, Any],
    *,
    architecture: str,
    factors: Sequence[str | None],
    settings: dict[str, object],
    steps: int,
    batch: int = BATCH,
    rate: float | None = None,
    seed: int,
    device: str,
    precision: Precision = "no",
    progress: Progress | None,
    side: int,
    sizes: Sequence[int],
    value: Tensor | None = None,
) -> nn.Module:
    """The network, on the CPU, that learns from the faces ``chosen``; checkpoints lie in ``out``.

    ``extra`` is for its config.

    ``wanted`` ``[N]`` are classes, int64, or values, float32, for a regression of the one thing in ``names``.
    ``factors`` are those that it is to learn from: were one of them mirrored, pictures in a mirror would undo it.
    ``value`` ``[N]`` is what the classes were cut from, where that may be learnt as well: it tells more than they do.
    ``rate`` is the architecture's unless given.
    """
    place, regression = training_device(device), wanted.is_floating_point()
    mirror = not set(factors) & set(MIRRORED)
    # A bit a face is too little to find a smile by: until it is saved, the network finds landmarks as well.
    mean, sd = coordinates(data.landmarks[: data.training])
    beside = [f"coordinate {index}" for index in range(len(mean))]
    if value is not None:
        beside.append("value")
        value = (value - value.mean()) / value.std()
    outputs = [*names, *beside]
    with one_seed(seed):
        resnet = architecture == "resnet"
        model = make_resnet(outputs, sizes, regression, extra) if resnet else make_vit(outputs, side, regression, extra)
    model = model.to(place, memory_format=torch.channels_last)

    straight, turned = ((points.flatten(1) - mean) / sd for points in (data.landmarks, in_a_mirror(data.landmarks)))
    further = () if value is None else (value,)

    def prepare(
        random: torch.Generator, images: Tensor, answer: Tensor, places: Tensor, turned: Tensor, *further: Tensor
    ) -> tuple[Tensor, ...]:
        images = augment(images, random)
        if mirror:
            images, flip = mirrored_at_random(images, random)
            places = either(flip, turned, places)
        return images, answer, places, *further

    def loss(
        network: nn.Module, kind: object, images: Tensor, answer: Tensor, places: Tensor, truth: Tensor | None = None
    ) -> Tensor:
        found = network(network_input(images, side)).logits.float()
        told, placed = found[:, : len(names)], found[:, len(names) : len(names) + len(mean)]
        if regression:
            told_loss = REGRESSION_WEIGHT * F.mse_loss(told.squeeze(1), answer)
        else:
            told_loss = F.cross_entropy(told, answer, label_smoothing=0.02)
        total = told_loss + F.mse_loss(placed, places)
        return total if truth is None else total + BESIDE_WEIGHT * F.smooth_l1_loss(found[:, -1], truth, beta=0.5)

    made = fit(
        model,
        Lessons((data.images, wanted, straight, turned, *further), chosen, prepare, batch, seed),
        loss,
        out,
        steps=steps,
        rate=rate or RATES[architecture],
        weight_decay=WEIGHT_DECAY,
        settings=settings,
        precision=precision,
        progress=progress,
    )
    return keep_outputs(made.cpu(), names)


def sides(classes: Tensor, count: int) -> Tensor:
    """Which half of ``count`` classes each of ``classes`` ``[N]`` is in: −1, 1, or 0 for the one in the middle."""
    return torch.sign(2 * classes - (count - 1))


def chosen_faces(data: RenderSet, side: Tensor, planted: str | None, strength: float, seed: int) -> Tensor:
    """Which training faces to use, int64: all whose ``planted`` factor goes along with their label, and some others.

    ``side`` ``[N]`` is that of the label, as `sides` gives it. Of the faces that go against it there are so many that
    ``strength`` is the share of the others; faces without a side are all used.
    """
    order = torch.from_numpy(stream(seed, "chosen").permutation(data.training))
    if planted is None:
        return order
    way = along(data, side, planted)[order]
    against = order[way < 0]
    against = against[: int((way > 0).sum() * (1 - strength) / strength)]
    return torch.cat([order[way > 0], against, order[way == 0]])


def along(data: RenderSet, side: Tensor, planted: str) -> Tensor:
    """1 where the planted factor lies on the side ``[N]`` of its median that the label does, −1 where not; or 0."""
    return torch.where(data.latents[:, NAMES.index(planted)] > 0, side, -side)
