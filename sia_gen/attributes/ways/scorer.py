"""Directions by what a scorer says of a generator's faces, as InterFaceGAN's (Shen et al., CVPR 2020) by regression.

A scorer is anything that says a number of a picture: the shipped verifier, any classifier or regression, a CLIP model
between two texts. Letters: B faces, S scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.calibrate import READABLE, Labels, Wanted, calibrated, measure
from sia_gen.attributes.find import find_directions
from sia_gen.core.errors import RequestError, WorkError, unknown
from sia_gen.core.executors import Batches, Progress
from sia_gen.core.images import Images, quantise
from sia_gen.core.seeds import face_seeds, seeds_apart
from sia_gen.generators.generator import Generator
from sia_gen.targets.target import Target, ask
from sia_gen.targets.task import Classification, Detection, MultiLabel, Regression
from sia_gen.targets.verifier import Verifier

BATCH, SPREAD = 32, 256  # faces at a time; faces that say how far scores vary
REACH = 2.0  # sd of a score that an attribute may be asked to move
STILL = 1e-6  # of a score: what varies less says nothing


@dataclass(frozen=True)
class Scorer:
    """S numbers a face: their names and units, and ``read``, images ``[B, 3, H, W]`` → ``[B, S]``."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    read: Callable[[Images], Tensor]


def of_verifier(verifier: Verifier) -> Scorer:
    """Everything that a verifier reads."""
    factors = verifier.factors
    return Scorer(tuple(f.name for f in factors), tuple(f.unit for f in factors), verifier.read)


def of_target(target: Target) -> Scorer:
    """What a target gives: the log-odds of each of its classes (of two, of the second), its labels or values.

    Raises `RequestError` for a target of points or embeddings.
    """
    task = target.task
    if isinstance(task, Classification):
        both = len(task.classes) == 2

        def odds(images: Images) -> Tensor:
            logits = ask(target, images).float()
            each = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
            others = logits[:, None].masked_fill(each, -torch.inf).logsumexp(2)  # [B, C]
            return (logits - others)[:, 1:] if both else logits - others

        names = task.classes[1:] if both else task.classes
        return Scorer(tuple(names), ("log-odds",) * len(names), odds)
    if isinstance(task, MultiLabel):
        return Scorer(task.labels, ("log-odds",) * len(task.labels), lambda images: ask(target, images).float())
    if isinstance(task, Regression):
        return Scorer(task.values, ("",) * len(task.values), lambda images: ask(target, images).float())
    if isinstance(task, Detection):
        return Scorer(("score",), ("",), lambda images: ask(target, images).float()[:, None])
    raise RequestError(f"'{target.name}' gives no scores; take a classifier, a regression or a detector for a scorer")


def by_scorer(
    generator: Generator,
    scorer: Scorer,
    names: Sequence[str] | None = None,
    *,
    faces: int = 2048,
    trials: int = 64,
    seed: int = 1,
    progress: Progress | None = None,
) -> AttributeSpace:
    """An attribute for each of the scorer's ``names``, by default all: one unit is one of the scorer's.

    All its scores take part in the fit, so that no attribute drags another. Raises `RequestError` for an unknown name,
    `WorkError` where a score says the same of every face.
    """
    labels, wanted = scores(generator, scorer, names, seed)
    face_seeds(seed, faces)
    return find_directions(generator, labels, wanted, faces=faces, trials=trials, seed=seed, progress=progress)


def scores(
    generator: Generator, scorer: Scorer, names: Sequence[str] | None = None, seed: int = 1
) -> tuple[Labels, list[Wanted]]:
    """What a scorer says of a generator's faces, and the attributes that its ``names`` stand for; see `by_scorer`."""
    for name in names or ():
        if name not in scorer.names:
            raise unknown("score", name, list(scorer.names))

    @torch.no_grad()
    def of(seeds: Sequence[int]) -> Tensor:
        codes = generator.sample(seeds)

        def read(part: slice) -> Tensor:
            return scorer.read(quantise(generator.render(codes[part]).float())).cpu()

        return torch.cat(list(Batches(BATCH)(len(codes), read)))

    spread = of(seeds_apart(seed, "spread", SPREAD)).std(dim=0)
    wanted = [
        Wanted(name, unit, f"less {name}", f"more {name}")
        for name, unit in zip(scorer.names, scorer.units, strict=True)
        if names is None or name in names
    ]
    for want in wanted:
        if not spread[scorer.names.index(want.name)] > STILL:
            raise WorkError(f"the score '{want.name}' is the same for every face of '{generator.name}'; leave it out")
    labels = Labels(scorer.names, spread.clamp(min=STILL), of, lambda images: scorer.read(images).cpu())
    return labels, wanted


def in_units(
    generator: Generator,
    space: AttributeSpace,
    scorer: Scorer,
    *,
    trials: int = 64,
    seed: int = 1,
    progress: Progress | None = None,
) -> AttributeSpace:
    """Attributes that nothing was measured of, each in the unit of the score that it moves most, and measured.

    Up is then where that score rises; the words say where this is the other way than before. What moves no score by
    `READABLE` sd at the ends of its range stays as it is.
    """
    labels, _ = scores(generator, scorer, [], seed)
    codes = generator.sample(face_seeds(seed + 3, trials))
    most = torch.tensor([attribute.high for attribute in space.attributes])
    shape = (-1, *[1] * (space.directions.ndim - 1))
    ends = space.directions.cpu() * most.view(shape)  # [K, ...]
    moved = measure(generator, labels, codes, ends, space.space, progress).mean(1)  # [K, S] sd at the ends
    moved = torch.where(labels.sd > STILL, moved, 0)  # a score that is the same for all faces has no sd
    far, column = moved.abs().max(dim=1)
    told = [row for row in range(len(most)) if far[row] >= READABLE]
    if not told:
        return space
    wanted, reach = [], far.clamp(max=REACH).tolist()
    for row in told:
        name, score = space.names[row], scorer.names[column[row]]
        turned = f", less {name}" if moved[row, column[row]] < 0 else ""
        wanted.append(
            Wanted(name, scorer.units[column[row]], f"less {score}", f"more {score}{turned}", reach[row], reads=score)
        )
    each = ends[told] / moved[told, column[told]].view(shape)  # [K, ...] one sd of its score
    found = calibrated(generator, labels, wanted, each, space.space, trials=trials, seed=seed, progress=progress)
    attributes, directions = list(space.attributes), space.directions.cpu().clone()
    for place, row in enumerate(told):
        attributes[row], directions[row] = found.attributes[place], found.directions[place]
    return replace(space, attributes=tuple(attributes), directions=directions)
