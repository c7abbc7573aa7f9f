"""What the rows of the imbalance suite say together: means over runs, intervals, differences, shares of a gain.

A run is one architecture and seed. With one run the interval is over the pictures measured on, else over runs: the t
interval takes these for independent draws, though all are measured on one test set, so that it leaves out what another
test set would change.

Letters: N pictures of a class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sia_gen.audits.evidence.statistics import CONFIDENCE, over_runs
from sia_gen.rebalancing.measures import MEASURES
from sia_gen.rebalancing.remedies import WITHOUT

BEST, BEST_GENERATED, BEST_SIA = "best-of-both", "generated-best", "sia-best"
KNOWN_BY = ("label", "ratio", "architecture", "seed", "remedy")  # of a row
ATTACKED = ("sia-semantic", "sia-joint", BEST_SIA)


def and_before(
    before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]], known_by: Sequence[str]
) -> list[dict[str, Any]]:
    """What earlier calls found in the same folder, and over it what this one found."""
    every = {tuple(row[name] for name in known_by): row for row in (*before, *now)}
    return list(every.values())


def tally(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each label, ratio and remedy: the measures' means, "interval" of balanced accuracy, "each": that of each
    attribute that the classes are cut from, "gain": which share of what the oracle gains over plain, "above_without"
    and "above_generated": see `difference`; "runs", "seconds"."""
    found = []
    cases = dict.fromkeys((row["label"], row["ratio"]) for row in rows)
    for label, ratio in cases:
        here = [row for row in rows if (row["label"], row["ratio"]) == (label, ratio)]
        names = list(dict.fromkeys(row["remedy"] for row in here))
        by = {name: [row for row in here if row["remedy"] == name] for name in names}
        means = {name: _means(some) for name, some in by.items()}
        known = [name for name in (*WITHOUT, BEST) if name in by]
        rival = max(known, key=lambda name: means[name]["chosen_on"]) if known else None
        for name, some in by.items():
            entry: dict[str, Any] = {"label": label, "ratio": ratio, "remedy": name, "runs": len(some), **means[name]}
            entry["interval"] = interval(some)
            entry["gain"] = None
            if "oracle" in by and "plain" in by:
                whole = means["oracle"]["balanced"] - means["plain"]["balanced"]
                entry["gain"] = (
                    round((entry["balanced"] - means["plain"]["balanced"]) / whole, 3) if whole > 0 else None
                )
            attacked = name in ATTACKED
            beside = BEST_GENERATED if name == BEST_SIA else "generated"
            entry["above_without"] = difference(some, by[rival]) if attacked and rival else None
            entry["above_generated"] = difference(some, by[beside]) if attacked and beside in by else None
            entry["rival"] = rival
            several = [row.get("each", {}) for row in some]
            entry["each"] = {part: round(float(np.mean([row[part] for row in several])), 4) for part in several[0]}
            found.append(entry)
    return found


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = (*MEASURES, "chosen_on", "seconds")
    return {name: round(float(np.mean([row[name] for row in rows])), 4) for name in names}


def _right(row: Mapping[str, Any]) -> list[NDArray[np.float64]]:
    """Which pictures of each class were read right, 0 or 1."""
    return [np.array([float(mark) for mark in marks]) for marks in row["right"]]


def interval(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """95 % of balanced accuracy."""
    reach = over_runs([row["balanced"] for row in rows]) or _over_pictures(_right(rows[0]), least=0.0)
    return [round(end, 4) for end in reach]


def difference(rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How much higher balanced accuracy and the worst class are than others', paired by run, or by picture if one.

    None where no run is of both.
    """
    pairs = {(row["architecture"], row["seed"]): row for row in others}
    both = [
        (row, pairs[row["architecture"], row["seed"]]) for row in rows if (row["architecture"], row["seed"]) in pairs
    ]
    if not both:
        return None
    gains = [first["balanced"] - second["balanced"] for first, second in both]
    worst = [first["worst"] - second["worst"] for first, second in both]
    reach = over_runs(gains)
    if reach is None:
        apart = [one - other for one, other in zip(*map(_right, both[0]), strict=True)]
        reach = _over_pictures(apart, least=-1.0)
    found = {"balanced": round(float(np.mean(gains)), 4), "interval": [round(end, 4) for end in reach]}
    return found | {"worst": round(float(np.mean(worst)), 4)}


def _over_pictures(marks: Sequence[NDArray[np.float64]], least: float) -> list[float]:
    """Of a mean over classes whose marks ``[N]``, from ``least`` to 1, were drawn apart.

    Half a picture more at ``least`` and half at 1 join each class: else marks all alike would leave nothing open.
    """
    from scipy.stats import norm

    mean, variance = float(np.mean([part.mean() for part in marks])), 0.0
    for part in marks:
        count = len(part) + 1
        middle, square = (part.sum() + (least + 1) / 2) / count, ((part**2).sum() + (least**2 + 1) / 2) / count
        variance += (square - middle**2) / count
    spread = norm.ppf((1 + CONFIDENCE) / 2) * variance**0.5 / len(marks)
    return [float(max(least, mean - spread)), float(min(1.0, mean + spread))]
