"""Find a generator's attribute directions, all together, so that moving one does not drag the others.

With R the ridge read-out of the labels from the codes w and Σ the covariance of w, the smallest edit, in the metric of
the faces' own variation, that moves the read-out by given amounts is D = Σ Rᵀ (R Σ Rᵀ)⁻¹. (The pseudo-inverse of R
without Σ leaves the faces' manifold and moves hardly anything.)

These directions move readings by less than they say, and some of them drag others. So the whole set is corrected by the
inverse of what it is measured to do, and at the end each is scaled to move by what it says. Where the generator
has a StyleSpace, each attribute is tried there as well, with only the channels that it moves most, and what drags the
others less is kept.

Letters: N faces, F labels, K attributes, D numbers of a code, L layers, E one face's edit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.calibrate import READABLE, Labels, Wanted, calibrated, measure
from sia_gen.core.errors import RequestError, unknown
from sia_gen.core.executors import Batches, Progress
from sia_gen.core.seeds import face_seeds
from sia_gen.generators.generator import Codes, Generator, StyleGenerator

BATCH, PARTS = 32, 4  # faces at a time; faces that each principal part of a middle block is told by
RIDGE = 1e-3  # of the mean variance of a code's numbers
CORRECTIONS = 2
CHANNELS = 0.3  # share of a style's channels, those moved most, to which an attribute is cut down in s
SPREAD = 512  # faces that tell how far a channel moves anyway


def find_directions(
    generator: Generator,
    labels: Labels,
    wanted: Sequence[Wanted],
    *,
    faces: int = 4096,
    trials: int = 64,
    seed: int = 1,
    progress: Progress | None = None,
) -> AttributeSpace:
    """The attribute space of ``wanted`` in ``generator``'s s where it has one, else in its w, in its latents, or in h.

    All F labels take part in the fit on ``faces`` faces, also those that become no attribute, so that an attribute
    drags none of them. The attributes are then corrected by what they do to ``trials`` other faces, moved by one sd
    down and up. Slope, leakage and response curves are read off as many others again, and the safe range is what of
    each one's reach it answers evenly in.
    """
    if not {"w", "z", "h"} & {*generator.edit_shapes}:
        raise RequestError(
            f"'{generator.name}' has no w, z or h to edit, only {', '.join(generator.edit_shapes)}; name another"
        )
    for want in wanted:
        if want.name not in labels.names:
            raise unknown("label", want.name, list(labels.names))
    if faces < 4 * len(labels.names) or trials < 1:
        raise RequestError(
            f"faces={faces} are too few for the {len(labels.names)} values that are read; give 4 faces a value"
        )
    seeds, draw = face_seeds(seed, faces), labels.draw or generator.sample
    values = labels.of(seeds)
    scaled = (values - values.mean(0)) / labels.sd  # [N, F] in sd
    columns = [list(labels.names).index(want.name) for want in wanted]
    if "w" in generator.edit_shapes:
        fitted = fit(draw(seeds)[:, 0].cpu(), scaled)  # w is the same in every layer
        directions, space = fitted[columns, None].repeat(1, generator.edit_shapes["w"][0], 1), "w"  # [K, L, D]
    elif "z" in generator.edit_shapes:  # what a model is told is felt in every block, beside which h does little
        directions, space = fit(draw(seeds)[:, : generator.edit_shapes["z"][0]].cpu(), scaled)[columns], "z"  # [K, L]
    else:
        directions, space = _in_middle(generator, draw(seeds), scaled)[columns], "h"  # [K, *h]
    correcting = draw(face_seeds(seed + 2, trials))
    for _ in range(CORRECTIONS):
        response = measure(generator, labels, correcting, directions, space, progress).mean(1)[:, columns]  # [K, K]
        directions = _corrected(directions, response)
    if isinstance(generator, StyleGenerator) and "s" in generator.edit_shapes:
        directions, space = _in_styles(generator, labels, correcting, directions, columns, progress), "s"  # [K, E]
    return calibrated(
        generator, labels, wanted, directions, space, among=columns, trials=trials, seed=seed, progress=progress
    )


def fit(codes: Tensor, scaled: Tensor) -> Tensor:
    """Codes ``[N, D]``, standardised labels ``[N, F]`` → the edit that moves each label alone by one, ``[F, D]``."""
    faces = len(codes)
    centred = codes - codes.mean(0)
    covariance = centred.T @ centred / faces
    ridge = RIDGE * covariance.diagonal().mean() * torch.eye(codes.shape[1])
    read_out = torch.linalg.solve(covariance + ridge, centred.T @ scaled / faces).T  # R [F, D]
    spread = covariance @ read_out.T  # Σ Rᵀ [D, F]
    return torch.linalg.solve(read_out @ spread, spread.T)


def _in_middle(generator: Any, codes: Codes, scaled: Tensor) -> Tensor:
    """The same for the middle block of a diffusion model, ``[F, *h]``: `fit` among the faces' own principal parts."""
    parts = Batches(BATCH)(len(codes), lambda part: generator.semantics(codes[part]).flatten(1).cpu())
    middles = torch.cat(list(parts))  # [N, E]
    centred = middles - middles.mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[: max(1, len(codes) // PARTS)]  # [P, E]
    return (fit(centred @ axes.T, scaled) @ axes).view(-1, *generator.edit_shapes["h"])


def _corrected(directions: Tensor, response: Tensor) -> Tensor:
    """The combinations of ``directions [K, ...]`` whose response would be the identity, were it linear."""
    readable = response.diagonal() >= READABLE
    both = readable[:, None] & readable
    response = torch.where(both, response, torch.eye(len(response)))
    return torch.linalg.solve(response, directions.flatten(1)).view_as(directions)


def _in_styles(
    generator: StyleGenerator,
    labels: Labels,
    codes: Codes,
    directions: Tensor,
    columns: Sequence[int],
    progress: Progress | None,
) -> Tensor:
    """``directions [K, L, D]`` in s ``[K, E]``, each cut down to its foremost channels where that drags others less."""
    whole = generator.carry(directions.to(codes.device)).cpu()
    spread = generator.carry(generator.sample(face_seeds(0, SPREAD))).std(dim=0).cpu().clamp(min=1e-6)  # [E]
    weight = (whole / spread).abs()
    cut = whole * (weight >= weight.quantile(1 - CHANNELS, dim=1, keepdim=True))
    responses = [measure(generator, labels, codes, tried, "s", progress).mean(1)[:, columns] for tried in (whole, cut)]
    leaks = []
    for response in responses:
        own = response.diagonal().clone()
        others = response.abs().fill_diagonal_(0).sum(1)
        leaks.append(torch.where(own >= READABLE, others / own.clamp(min=READABLE), torch.inf))
    better = (leaks[1] < leaks[0])[:, None]  # [K, 1]
    return _corrected(torch.where(better, cut, whole), torch.where(better, responses[1], responses[0]))
