"""How numbers that go together are drawn from ones that do not: a description as plain data, and the drawing.

A draw begins with independent standard normals n. A few columns, the roots, are monotone functions of their own n.
Every other column that is named in a table follows two of the roots: its mean and its spread are read from the table
between the values that the table is given at. Then some columns are pulled along by others.

Letters: B draws, Z columns, R rows of the table, G and H values of the two roots at which it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sia_gen.core.errors import WorkError


@dataclass(frozen=True, kw_only=True)
class Population:
    """``roots``: column → values of n, rising, and what each becomes. ``across``: the two roots of the tables.

    ``at``: the values of each of them that the tables are given at. ``tables``: column → means and spreads, each a row
    of H numbers for each of the G values. ``pulls``: triples of a column, the one that pulls it, and by how much, in
    order. Raises `WorkError` where these do not fit together.
    """

    roots: Mapping[int, tuple[tuple[float, ...], tuple[float, ...]]]
    across: tuple[int, int]
    at: tuple[tuple[float, ...], tuple[float, ...]]
    tables: Mapping[int, tuple[Any, Any]]
    pulls: tuple[tuple[int, int, float], ...] = ()

    def __post_init__(self) -> None:
        for column, (given, becomes) in self.roots.items():
            if len(given) != len(becomes) or not _rises(given):
                raise WorkError(f"root {column} of a population has {len(given)} values for {len(becomes)}, not rising")
        if not all(column in self.roots for column in self.across) or not all(map(_rises, self.at)):
            raise WorkError(f"tables across {list(self.across)} of a population whose roots are {list(self.roots)}")
        shape = tuple(map(len, self.at))
        for column, parts in self.tables.items():
            for part in parts:
                found = tuple(torch.tensor(part).shape)
                if found != shape or column in self.roots:
                    raise WorkError(f"table {column} of a population is {list(found)}, not {list(shape)}, or of a root")

    def draw(self, normals: Tensor) -> Tensor:
        """Independent standard normals ``[B, Z]`` → the draws, ``[B, Z]``."""
        columns = [*self.roots, *self.tables, *(column for pull in self.pulls for column in pull[:2])]
        if not 0 <= min(columns) <= max(columns) < normals.shape[1]:
            raise WorkError(f"a population of columns {min(columns)} to {max(columns)}, but {normals.shape[1]} numbers")
        normals = normals.double()  # so that a draw does not depend on how many are drawn with it
        drawn = normals.clone()
        for column, (given, becomes) in self.roots.items():
            weight = _weights(normals[:, column], given)
            drawn[:, column] = weight @ normals.new_tensor(becomes)
        first, second = (_weights(drawn[:, column], at) for column, at in zip(self.across, self.at, strict=True))
        columns, tables = list(self.tables), list(self.tables.values())
        mean, spread = (
            torch.einsum("bg,rgh,bh->br", first, normals.new_tensor([parts[part] for parts in tables]), second)
            for part in (0, 1)
        )
        drawn[:, columns] = mean + spread * normals[:, columns]
        for column, by, slope in self.pulls:
            drawn[:, column] = drawn[:, column] + slope * drawn[:, by]
        return drawn.float()

    def to_json(self) -> dict[str, Any]:
        """Plain data, as `from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> Population:
        """Read what `to_json` gave, or what a file made of it; raises `WorkError` where it is something else."""
        try:
            return cls(
                roots={int(column): tuple(parts) for column, parts in entries["roots"].items()},
                across=tuple(entries["across"]),
                at=tuple(entries["at"]),
                tables={int(column): tuple(parts) for column, parts in entries["tables"].items()},
                pulls=tuple(tuple(pull) for pull in entries["pulls"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WorkError(f"no description of a population ({type(error).__name__}: {error})") from None


def _rises(values: tuple[float, ...]) -> bool:
    return len(values) > 1 and all(a < b for a, b in pairwise(values))


def _weights(values: Tensor, at: tuple[float, ...]) -> Tensor:
    """How much of each of the G points ``at`` is in values ``[B]``, linear between and constant beyond: ``[B, G]``."""
    points = values.new_tensor(at)
    values = values.clamp(at[0], at[-1])
    upper = torch.searchsorted(points, values.contiguous()).clamp(1, len(at) - 1)
    share = (values - points[upper - 1]) / (points[upper] - points[upper - 1])
    found = values.new_zeros(len(values), len(at))
    return found.scatter(1, (upper - 1)[:, None], (1 - share)[:, None]).scatter(1, upper[:, None], share[:, None])
