"""`histogram.png`: how far each attribute alone moves the target's output, against its control; `curves.png`, how the
output goes along it; `collateral.png`, what else it moves.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sia_gen.audits.verdict.judge import PICTURED
from sia_gen.core.files import atomic
from sia_gen.core.images import matrix_sheet

FIGURE, CURVES, MATRIX = "histogram.png", "curves.png", "collateral.png"
BARS = PICTURED  # at most, the most sensitive attributes; the report's table has all
COLUMNS, DRAWN = 3, 6  # of the curves: those of the most sensitive attributes
CUT = 2.0  # times the longest bar, or control: where the whiskers of a few faces end
BAR, OUTSTANDING = "#cfdae4", "#5f97cc"


def draw_histogram(content: Mapping[str, Any], folder: Path) -> None:
    """Bars from most to least sensitive, their intervals, their controls, and the share that failed as text.

    What stands out is darker *and* bold with a ▸, so that nothing is said by colour alone.
    """
    rows, left = content["attributes"][:BARS], len(content["attributes"][BARS:])
    figure = new_figure(figsize=(8, 1.7 + 0.36 * len(rows)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    ends, widest = extent(rows)
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
        # An interval may miss the mean by rounding, where all changes are alike.
        errors = [[max(0.0, width - low)], [max(0.0, min(high, widest) - width)]]
        axes.errorbar(width, place, xerr=errors, color="black", capsize=3, linewidth=1.2)
        if high > widest:
            axes.plot(widest, place, ">", color="black", markersize=6)
        axes.text(
            min(ends[place], widest) + 0.02 * widest,
            place,
            f"{row['success']:.0%} fail",
            va="center",
            fontsize=9,
            weight="bold" if outstanding else "normal",
        )
        control = row["control"]["output_change"] or 0.0
        axes.plot(control, place, "D", color="white", markeredgecolor="black", markersize=7)
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
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
    weaker = f", {left} weaker attributes left out" if left else ""
    axes.set_title(f"{content['target']} on {faces}{weaker}", loc="left", fontsize=11)
    with atomic(folder / FIGURE) as partial:
        figure.savefig(partial, metadata={"Software": None})


def extent(rows: Sequence[Mapping[str, Any]]) -> tuple[list[float], float]:
    """Where each row's bar, control and whisker end, and what the axis has room for."""
    sizes = [(row["output_change"] or 0.0, row["control"]["output_change"] or 0.0) for row in rows]
    ends = [max(*both, (row["output_interval"] or [0.0])[-1]) for both, row in zip(sizes, rows, strict=True)]
    return ends, min(max(ends), CUT * max(map(max, sizes))) or 1.0


def _label(row: Mapping[str, Any]) -> str:
    """An attribute's name, with a mark where it stands out, and one where another may explain its effect."""
    explained = f" (← {row['explained_by']}?)" if row["explained_by"] else ""
    return f"{'▸ ' if row['stands_out'] else ''}{row['name']}{explained}"


def draw_curves(content: Mapping[str, Any], folder: Path) -> None:
    """Mean output and share of failures along each of the most sensitive attributes, from end to end of its range."""
    rows = [row for row in content["attributes"][:DRAWN] if row["curve"]["change"]]
    if not rows:
        return
    outputs = [value for row in rows for value in row["curve"]["output"]]
    margin = 0.05 * (max(outputs) - min(outputs)) or 0.1
    down = -(-len(rows) // COLUMNS)
    figure = new_figure(figsize=(8, 0.5 + 2.2 * down), dpi=150, layout="constrained")
    grid = figure.subplots(down, COLUMNS, squeeze=False).flatten()
    for axes, row in zip(grid, rows, strict=False):
        curve = row["curve"]
        (output,) = axes.plot(curve["change"], curve["output"], "o-", color="#1f4e79", markersize=3, linewidth=1.4)
        axes.set_ylim(min(outputs) - margin, max(outputs) + margin)  # one scale for all
        axes.axvline(0, color="#999999", linewidth=0.8)
        axes.set_title(row["name"], loc="left", fontsize=9)
        axes.set_xlabel(f"change, {row['unit']}" if row["unit"] else "change", fontsize=8)
        twin = axes.twinx()
        (failed,) = twin.plot(curve["change"], curve["failed"], "s--", color="#b35900", markersize=3, linewidth=1.2)
        twin.set_ylim(-0.03, 1.03)
        for part in (axes, twin):
            part.tick_params(labelsize=7)
    for axes in grid[len(rows) :]:
        axes.set_axis_off()
    lines = [output, failed]
    figure.legend(
        lines,
        ["mean output (left)", "share of faces that fail (right)"],
        loc="outside lower center",
        ncols=2,
        fontsize=8,
    )
    with atomic(folder / CURVES) as partial:
        figure.savefig(partial, metadata={"Software": None})


def draw_collateral(content: Mapping[str, Any], folder: Path) -> None:
    """The matrix of what each attribute moved besides itself; nothing where no verifier read it."""
    found = content["collateral"]
    if found["names"]:
        rows = [f"{name} moves" for name in found["names"]]
        with atomic(folder / MATRIX) as partial:
            matrix_sheet(torch.tensor(found["moved"]), rows, found["names"]).save(partial, format="PNG")


def new_figure(**options: Any) -> Any:
    """An empty figure for files alone, whatever backend the environment chooses.

    A notebook's choice reaches programs that it starts, where it may name a module that is not there, and then
    matplotlib can't be imported.
    """
    chosen = None if "ipykernel" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    finally:
        if chosen is not None:
            os.environ["MPLBACKEND"] = chosen
    figure = Figure(**options)
    FigureCanvasAgg(figure)
    return figure
