"""Faces drawn from seeds: as people go together in a population, or spread evenly over all factors.

Letters: B faces, F factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sia_gen.core.errors import RequestError, unknown
from sia_gen.core.seeds import normals, uniforms
from sia_gen.studio.factors import FACTORS, NAMES, PERSON, FaceSpec, values_of
from sia_gen.studio.people import population


@dataclass(frozen=True)
class Skew:
    """A planted correlation: where ``given`` lies above (``sign`` +1) or below its middle, ``factor`` follows.

    With probability ``strength`` the factor's latent takes the side (above or below 0) that the given factor's has,
    times ``sign``; otherwise the other side. 0.5 is no correlation.
    """

    factor: str
    given: str
    strength: float
    sign: int = 1

    def __post_init__(self) -> None:
        for name in (self.factor, self.given):
            if name not in NAMES:
                raise unknown("factor", name, list(NAMES))
        if not 0 <= self.strength <= 1:
            raise RequestError(f"strength={self.strength} is outside 0…1; give a probability")
        if self.factor == self.given or self.sign not in (-1, 1):
            raise RequestError(f"'{self.factor}' cannot follow '{self.given}' with sign {self.sign}; name two, and ±1")


def evenly(normals: Tensor) -> Tensor:
    """Independent standard normals ``[B, F]`` → latents of faces spread evenly over a box, corners included.

    It is the whole range of a factor that is uniform, and two standard deviations either way of one that is normal.
    """
    latents = normals.clone()
    for index, factor in enumerate(FACTORS):
        if factor.shape == "normal":
            low, high = max(factor.low, factor.mean - 2 * factor.sd), min(factor.high, factor.mean + 2 * factor.sd)
            share = torch.special.ndtr(normals[:, index].double())
            latents[:, index] = factor.latent(low + (high - low) * share).to(normals.dtype)
    return latents


def drawn_evenly(seeds: Sequence[int], spread: float) -> Tensor:
    """Which of the faces, bool ``[B]``, are spread evenly where a share ``spread`` of all is."""
    if not 0 <= spread <= 1:
        raise RequestError(f"spread={spread} is outside 0…1; give the share of faces that are spread evenly")
    return uniforms(seeds, (), "spread") < spread


def sample_latents(
    seeds: Sequence[int],
    skews: Sequence[Skew] = (),
    people: Sequence[int] | None = None,
    spread: float = 0.0,
) -> Tensor:
    """Latents ``[B, F]`` of people as a population has them, or, a share ``spread``, evenly spread, see `evenly`.

    One random stream per seed. ``skews`` are planted on top. With ``people``, a number for each face, those of the same
    number share what makes a person, and in how they are drawn.
    """
    draws = normals(seeds, (len(FACTORS) + len(skews),), "face")  # [B, F + skews]
    latents, coins = draws[:, : len(FACTORS)].clone(), torch.special.ndtr(draws[:, len(FACTORS) :])
    if people is not None:
        columns = [NAMES.index(name) for name in PERSON]
        latents[:, columns] = normals(people, (len(columns),), "person")
    even = drawn_evenly(seeds if people is None else people, spread)
    latents = torch.where(even[:, None], evenly(latents), population().draw(latents))
    for index, skew in enumerate(skews):
        side = torch.where(latents[:, NAMES.index(skew.given)] > 0, 1.0, -1.0) * skew.sign
        side = torch.where(coins[:, index] < skew.strength, side, -side)
        column = NAMES.index(skew.factor)
        latents[:, column] = latents[:, column].abs() * side
    return latents


def sample(
    seeds: Sequence[int],
    skews: Sequence[Skew] = (),
    people: Sequence[int] | None = None,
    spread: float = 0.0,
    **fixed: float,
) -> FaceSpec:
    """Faces drawn one per seed, see `sample_latents`; factors named in ``fixed`` take that value."""
    return values_of(sample_latents(seeds, skews, people, spread)).with_values(**fixed)
