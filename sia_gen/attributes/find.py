"""Find a generator's attribute directions, all together, so that moving one does not drag the others.

With R the ridge read-out of the attributes from the codes w and Σ the covariance of w, the smallest edit, in the metric
of the faces' own variation, that moves the read-out by given amounts is D = Σ Rᵀ (R Σ Rᵀ)⁻¹ (the pseudo-inverse of R
without Σ leaves the faces' manifold and moves hardly anything). Readings bend and codes are not Gaussian, so the answer
is then corrected by what the directions do when they are rendered and read.

Letters: N faces, F factors read, K attributes kept, D numbers of a code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sia_gen.attributes.attribute_space import Attribute, AttributeSpace
from sia_gen.core.executors import Progress
from sia_gen.core.images import Images, quantise
from sia_gen.core.seeds import face_seeds
from sia_gen.generators.generator import Codes, Generator

BATCH = 64
RIDGE = 1e-2  # of the mean variance of a code's numbers
CORRECTIONS = 2
TRIALS = 64  # one face in so many serves for the corrections, and as many others for the measured slope and leakage


@dataclass(frozen=True)
class Reading:
    """What is read off an image, by name; ``read`` gives ``[B, F]`` in units, ``sd`` the spread over faces."""

    names: Sequence[str]
    sd: Tensor
    read: Callable[[Images], Tensor]


@dataclass(frozen=True)
class Wanted:
    """An attribute to find: its name among the readings, its words, and how far is safe, in sd of the faces."""

    name: str
    unit: str
    negative: str
    positive: str
    reach: float = 2.0


def find_directions(
    generator: Generator,
    reading: Reading,
    wanted: Sequence[Wanted],
    *,
    faces: int = 4096,
    seed: int = 1,
    progress: Progress | None = None,
) -> AttributeSpace:
    """The attribute space of ``wanted`` in ``generator``'s w, measured by ``reading``.

    All F readings take part in the fit, also those that become no attribute, so that an attribute drags none of them.
    ``faces`` are sampled for the fit.
    """
    trials = max(16, faces // TRIALS)
    codes, values = _sample(generator, reading, face_seeds(seed, faces), progress)
    flat = codes[:, 0]  # [N, D]: w is the same in every layer
    centred = flat - flat.mean(0)
    covariance = centred.T @ centred / len(flat)
    scaled = (values - values.mean(0)) / reading.sd  # [N, F] in sd
    ridge = RIDGE * covariance.diagonal().mean() * torch.eye(flat.shape[1])
    read_out = torch.linalg.solve(covariance + ridge, centred.T @ scaled / len(flat)).T  # R [F, D]
    spread = covariance @ read_out.T  # Σ Rᵀ [D, F]
    directions = torch.linalg.solve(read_out @ spread, spread.T)  # [F, D], one sd each
    for _ in range(CORRECTIONS):
        response = measure(generator, reading, codes[:trials], directions, 1.0)  # [F moved, F read] sd per sd
        damped = 0.9 * response + 0.1 * torch.eye(len(response))
        directions = torch.linalg.solve(damped, directions)
    held_out, _ = _sample(generator, reading, face_seeds(seed + 1, trials), None)
    columns = [list(reading.names).index(want.name) for want in wanted]
    response = measure(generator, reading, held_out, directions[columns], 1.0)  # [K, F]
    attributes = []
    for row, (want, column) in enumerate(zip(wanted, columns, strict=True)):
        others = [i for i in columns if i != column]
        sd = reading.sd[column].item()
        low, high = (_round(sign * want.reach * sd) for sign in (-1, 1))
        slope, leakage = response[row, column].item(), response[row, others].abs().mean().item()
        words = {"negative": want.negative, "positive": want.positive}
        attributes.append(
            Attribute(want.name, want.unit, low, high, _round(sd), round(slope, 3), round(leakage, 3), **words)
        )
    per_unit = directions[columns] / reading.sd[columns, None]  # [K, D]
    layers = generator.edit_shapes["w"][0]
    return AttributeSpace(generator.name, "w", tuple(attributes), per_unit[:, None].repeat(1, layers, 1))


def measure(generator: Generator, reading: Reading, codes: Codes, directions: Tensor, step: float) -> Tensor:
    """Mean response ``[K, F]``, in sd per sd, of the readings to ± ``step`` sd along each of ``directions [K, D]``."""
    rows = []
    layers = codes.shape[1]
    for direction in directions:
        edit = (step * direction).expand(len(codes), layers, -1)
        up, down = (_read(generator, reading, codes, sign * edit) for sign in (1, -1))
        rows.append(((up - down) / (2 * step * reading.sd)).mean(0))
    return torch.stack(rows)


def _sample(
    generator: Generator, reading: Reading, seeds: Sequence[int], progress: Progress | None
) -> tuple[Codes, Tensor]:
    codes, values = [], []
    for start in range(0, len(seeds), BATCH):
        codes.append(generator.sample(seeds[start : start + BATCH]))
        values.append(_read(generator, reading, codes[-1], None))
        if progress:
            progress(start + len(codes[-1]), len(seeds), "reading faces")
    return torch.cat(codes), torch.cat(values)


@torch.inference_mode()
def _read(generator: Generator, reading: Reading, codes: Codes, edits: Tensor | None) -> Tensor:
    return reading.read(quantise(generator.render(codes, edits, None if edits is None else "w")))


def _round(value: float) -> float:
    """Two significant digits: as exact as a safe range is."""
    return float(f"{value:.2g}")
