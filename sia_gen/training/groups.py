"""Subgroups of faces, by which the figures of targets are told apart.

Letters: N faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sia_gen.studio.factors import FACTORS, NAMES
from sia_gen.studio.renders import RenderSet
from sia_gen.targets.target import classify

CLASSES = {"smile": ("no smile", "smile"), "glasses": ("no glasses", "glasses"), "sex": ("female", "male")}
SUBGROUPS: dict[str, tuple[float, ...]] = {"age": (21, 37, 53, 69), "sex": (0.5,), "skin_tone": (-12, 21)}
"""Where the factors that figures are told apart by are cut."""


def groups(data: RenderSet, start: int, without: str | None = None) -> dict[str, Tensor]:
    """Which of the faces from ``start`` on belong to each subgroup that has any, bool ``[N]`` by its name."""
    found = {}
    for factor, cuts in SUBGROUPS.items():
        if factor == without:
            continue
        band = classify(data.value(factor)[start:], cuts)
        names = class_names(factor, cuts, FACTORS[NAMES.index(factor)].unit)
        found |= {name: band == index for index, name in enumerate(names) if (band == index).any()}
    return found


def class_names(label: str, cuts: Sequence[float], unit: str) -> list[str]:
    """What the classes of a factor cut at these values are called."""
    if len(cuts) == 1:
        return list(CLASSES.get(label, (f"low {label}", f"high {label}")))
    between = [f"{low:g}…{high:g}" for low, high in pairwise(cuts)]
    return [f"{label} {part} {unit}" for part in (f"< {cuts[0]:g}", *between, f"≥ {cuts[-1]:g}")]
