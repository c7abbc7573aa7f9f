"""The pictures of the imbalance suite: balanced accuracy against ratio, and what was generated for the rarest class.

Letters: M faces, N renders, R resolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sia_gen.audits.pages.figure import new_figure
from sia_gen.core.executors import Batches
from sia_gen.core.files import atomic
from sia_gen.core.images import contact_sheet, from_bytes
from sia_gen.rebalancing.rare_faces import RareFaces

SHOWN, BATCH = 12, 32  # faces of a row
COLOURS = {
    "no": "#9aa5b1", "generated": "#5f97cc", "tail": "#3d8b63", "semantic": "#b35900", "joint": "#8a2f6b",
    "real": "#333333",
}  # fmt: skip
MARKS = "osD^v<>pPX*hd8Hx+"  # as many as rows of one colour


def draw_lines(rows: Sequence[Mapping[str, Any]], label: str, path: Path) -> None:
    """A line a remedy over the ratios, or points where there is one ratio, with 95 % intervals; the best at the highest
    ratio at the top."""
    ratios = sorted({row["ratio"] for row in rows})
    highest = {row["remedy"]: row["balanced"] for row in rows if row["ratio"] == ratios[-1]}
    order = sorted(highest, key=lambda name: -highest[name])
    marks: dict[str, Iterator[str]] = {colour: cycle(MARKS) for colour in COLOURS.values()}
    figure = new_figure(figsize=(9, 6.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for place, name in enumerate(order):
        some = sorted((row for row in rows if row["remedy"] == name), key=lambda row: row["ratio"])
        shift = (place / max(1, len(order) - 1) - 0.5) * 0.6  # so that intervals lie beside one another
        at = [ratios.index(row["ratio"]) + shift for row in some]
        middle = [row["balanced"] for row in some]
        errors = [
            [max(0.0, row["balanced"] - row["interval"][0]) for row in some],
            [max(0.0, row["interval"][1] - row["balanced"]) for row in some],
        ]
        bold = name.startswith("sia")
        axes.errorbar(
            at, middle, yerr=errors, marker=next(marks[_colour(name)]), markersize=5, linewidth=2.2 if bold else 1.0,
            capsize=2, linestyle="-" if bold else ("--" if "generated" in name else ":"), color=_colour(name),
            label=f"{name} {middle[-1]:.1%}",
        )  # fmt: skip
    axes.set_xticks(range(len(ratios)), [f"1 : {ratio}" for ratio in ratios])
    axes.set_xlim(-0.5, len(ratios) - 0.5)
    axes.set_xlabel("pictures of the rarest class : of the most frequent")
    axes.set_ylabel("balanced accuracy on held-out renders (95 % interval)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{label}: what each remedy reaches; in the legend at the highest ratio", loc="left", fontsize=11)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    with atomic(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})


def _colour(name: str) -> str:
    for part, colour in (
        ("-tail", "tail"), ("joint", "joint"), ("sia", "semantic"), ("generated", "generated"), ("oracle", "real"),
    ):  # fmt: skip
        if part in name:
            return COLOURS[colour]
    return COLOURS["no"]


@torch.no_grad()
def draw_people(made: Mapping[str, Tensor], real: Tensor, source: RareFaces, path: Path) -> None:
    """A row of faces of each kind, uint8 ``[M, 3, R, R]``, each above the training render ``[N, 3, R, R]`` that is
    nearest in the verifier's features."""
    rows, names = [], []
    known = _features(real, source)
    for name, pictures in made.items():
        some = pictures[:: max(1, len(pictures) // SHOWN)][:SHOWN]
        if not len(some):
            continue
        nearest = torch.cdist(_features(some, source), known).argmin(1)
        rows += [from_bytes(some), from_bytes(real[nearest.cpu()])]
        names += [name, "nearest real"]
    with atomic(path) as partial:
        contact_sheet(rows, names).save(partial, format="PNG")


def _features(pictures: Tensor, source: RareFaces) -> Tensor:
    """The verifier's features of pictures, scaled as its gate scales them."""
    verifier, gate = source.verifier, source.gate
    device = verifier.mean.device
    parts = Batches(BATCH)(len(pictures), lambda part: verifier.look(from_bytes(pictures[part]).to(device))[1].float())
    return (torch.cat(list(parts)) - gate.mean) / gate.sd
