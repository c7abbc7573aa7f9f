"""`histogram.png`: how far each attribute alone moves the target's output, against its control; `collateral.png`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sia_gen.core.files import atomic
from sia_gen.core.images import matrix_sheet

FIGURE, MATRIX = "histogram.png", "collateral.png"
BAR, OUTSTANDING = "#cfdae4", "#5f97cc"


def draw_histogram(content: Mapping[str, Any], folder: Path) -> None:
    """Bars from most to least sensitive, their intervals, their controls, and the share that failed as text.

    What stands out is darker *and* bold with a ▸, so that nothing is said by colour alone.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = content["attributes"]
    figure = Figure(figsize=(8, 1.7 + 0.36 * len(rows)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    ends = [max(row["control"]["output_change"] or 0.0, (row["output_interval"] or [0.0, 0.0])[1]) for row in rows]
    widest = max(ends) or 1.0
    for place, row in enumerate(rows):
        width, outstanding = row["output_change"] or 0.0, row["stands_out"]
        low, high = row["output_interval"] or (width, width)
        axes.barh(
            place,
            width,
            height=0.68,
            color=OUTSTANDING if outstanding else BAR,
            edgecolor="#333333",
            linewidth=0.8,
        )
        # Percentile intervals may lie to one side of the mean where all changes are alike.
        errors = [[max(0.0, width - low)], [max(0.0, high - width)]]
        axes.errorbar(width, place, xerr=errors, color="black", capsize=3, linewidth=1.2)
        axes.text(
            max(ends[place], width) + 0.02 * widest,
            place,
            f"{row['success']:.0%} fail",
            va="center",
            fontsize=9,
            weight="bold" if outstanding else "normal",
        )
        control = row["control"]["output_change"] or 0.0
        axes.plot(control, place, "D", color="white", markeredgecolor="black", markersize=7)
    axes.set_yticks(range(len(rows)), [f"▸ {row['name']}" if row["stands_out"] else row["name"] for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row["stands_out"] else "normal")
    axes.set_xlim(0, 1.16 * widest)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(
        "mean |change of the target's output|, one attribute moved alone (whiskers: 95 % interval)\n"
        "diamonds: random directions that change the picture as much"
    )
    faces = "1 face" if content["correct"] == 1 else f"{content['correct']} faces"
    axes.set_title(f"{content['target']} on {faces}", loc="left", fontsize=11)
    with atomic(folder / FIGURE) as partial:
        figure.savefig(partial, metadata={"Software": None})


def draw_collateral(content: Mapping[str, Any], folder: Path) -> None:
    """The matrix of what each attribute moved besides itself; nothing where no verifier read it."""
    found = content["collateral"]
    if found["names"]:
        rows = [f"{name} moves" for name in found["names"]]
        with atomic(folder / MATRIX) as partial:
            matrix_sheet(torch.tensor(found["moved"]), rows, found["names"]).save(partial, format="PNG")
