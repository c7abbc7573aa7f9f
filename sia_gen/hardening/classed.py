"""Labels as they are written, numbers or names, as classes that are counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from sia_gen.core.errors import RequestError, unknown
from sia_gen.targets.target import classify

NONE = -1.0  # what `datasets` writes for a row without a class
NO_YES = {-1.0: 0.0, 1.0: 1.0}  # as some data sets write whether a face has something
MOST_CLASSES = 100


def classed(
    given: Sequence[Any], names: tuple[str, ...] | None, classes: Sequence[str] | None, cuts: Sequence[float],
    own: bool, folder: Path,
) -> tuple[list[int | None], tuple[str, ...]]:  # fmt: skip
    """The class of each row, None where it has no label, and the classes' names.

    ``names`` are what numbers mean, where the data set says it; ``own``: whether numbers are the attribute's own
    values, to be cut at ``cuts``. Raises `RequestError` for labels that are no classes, of the data in ``folder``.
    """
    values = [_plain(value) for value in given]
    if names is not None:  # what a number means is told
        values = [_named(value, names) for value in values]
    if names is None and not own and {value for value in values if value is not None} == set(NO_YES):
        values = [None if value is None else NO_YES[value] for value in values]  # type: ignore[index]
    numbers = [value for value in values if isinstance(value, float)]
    told = [value for value in values if value is not None]
    if numbers and len(numbers) != len(told):
        raise RequestError(f"the labels of '{folder}' are numbers and names mixed; give one or the other")
    counted = all(number.is_integer() for number in numbers)
    if numbers and (not counted or (cuts and (own or max(numbers) > len(cuts)))):
        if not cuts:
            raise RequestError(
                f"the labels of '{folder}' are values like {numbers[0]:g}, no classes; say where they are cut, as "
                "--class glasses:0.5"
            )
        found = classify(torch.tensor(numbers, dtype=torch.float64), cuts).tolist()
        bands = iter(found)
        named = tuple(classes or [f"class {index}" for index in range(len(cuts) + 1)])
        return [None if value is None else next(bands) for value in values], named
    if numbers:
        many = len(classes) if classes else int(max(numbers)) + 1
        if max(numbers) >= many or many > MOST_CLASSES:
            raise RequestError(f"a label of '{folder}' is {max(numbers):g}, but there are {many} classes")
        named = tuple(classes or map(str, range(many)))
        whole = [int(value) if isinstance(value, float) and value >= 0 else None for value in values]
        return whole, named
    named = tuple(classes or names or sorted({str(value) for value in told}))
    strange = sorted({str(value) for value in told} - set(named))
    if strange:
        raise unknown(
            "class",
            strange[0],
            list(named),
            f"name all classes of '{folder}' with --classes, in order, or rename the class",
        )
    return [None if value is None else named.index(str(value)) for value in values], named


def _named(value: float | str | None, names: Sequence[str]) -> float | str | None:
    """What a number means, by the names that the data set has."""
    if value == NONE:
        return None
    known = isinstance(value, float) and value.is_integer() and 0 <= value < len(names)
    return names[int(value)] if known else value  # type: ignore[arg-type]


def _plain(value: Any) -> float | str | None:
    """A label as a number or a name; None where there is none."""
    if isinstance(value, str):
        text = value.strip()
        try:
            value = float(text)
        except ValueError:
            return text or None
    if value is None:
        return None
    if isinstance(value, Real | Decimal):
        return float(value) if math.isfinite(value) else None
    kind = type(value).__name__
    raise RequestError(f"a label is of type {kind}, no name or number; name a column of single labels with --column")
