"""How sensitive a target is to each attribute: `histogram.json`, from the rows of `results.parquet`.

Letters: N correct faces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from sia_gen.attack.trace import swept
from sia_gen.attributes.attribute_space import Attribute
from sia_gen.audits.evidence.statistics import Floats, benjamini_hochberg, mean_interval, permutation, wilson
from sia_gen.audits.run.results import (
    COLUMNS,
    CONTROL,
    LABEL_KEPT,
    SWEPT,
    Outcomes,
    as_sampled_in,
    confirmed_of,
    outcomes,
    read_results,
    together,
    valid_of,
)
from sia_gen.audits.verdict.chance import Chance, picture_change, points
from sia_gen.audits.verdict.finding import above_control, above_others, confirmation, finding
from sia_gen.audits.verdict.readings import collateral, entangled, explained, facial, subgroups
from sia_gen.core.errors import WorkError

if TYPE_CHECKING:
    import pyarrow as pa

ROUNDING = 1e-6  # of their size: what float32 changes leave where ups and downs cancel


def histogram(
    folder: Path,
    attributes: Sequence[Attribute],
    settings: Mapping[str, Any],
    units: Mapping[str, str] | None = None,
    measured: str = "",
) -> dict[str, Any]:
    """The content of `histogram.json`, attributes most sensitive first.

    Sensitivity is the mean |change of the task's output| with one attribute moved alone: in the joint attack every
    attribute moves, whichever did the damage. An attribute is paired face by face with the mean of random directions
    that change this face's picture as much: its row's "control"; faces that share directions count as one draw. The
    content's "control" is that at the attributes' mean change of the picture. ``units`` are those of the factors whose
    readings the results hold: from these come "collateral" and "subgroups". ``measured`` is what the task's output is,
    in words.
    """
    chance = Chance(folder)
    arms, at_failure = {}, []
    for arm in together(settings):
        found = outcomes(folder, arm, [*COLUMNS, *SWEPT])
        _require_same(arm, found, chance)
        arms[arm] = _tally(found, arm, "")
        at_failure.append(_at_failure(found))
    rows, p_values, sizes = [], [], []
    for attribute in attributes:
        found = outcomes(folder, attribute.name, [*COLUMNS, *SWEPT, f"needed_{attribute.name}"])
        for other in (found, *chance.arms):
            _require_same(attribute.name, other, chance)
        row = _tally(found, attribute.name, attribute.unit)
        sizes.append(picture_change(found))
        against = chance.within(sizes[-1])
        row["control"] = _tally(against, CONTROL, "") | {"reached": chance.reached(sizes[-1])}
        own, others = found.change[found.kept], against.change.reshape(len(chance.arms), -1).T[found.kept]
        excess, drawn = own - others.mean(axis=1), chance.group[found.kept]
        p_values.append(permutation(own, others, drawn, int(settings["seed"])) if len(own) else 1.0)
        row["excess"] = float(excess.mean()) if len(excess) else None
        row["excess_interval"] = mean_interval(excess, drawn)
        row["noise"] = chance.noise(found)
        row["curve"] = _curve(found, attribute, settings)
        at_failure.append(_at_failure(found))
        rows.append(row)
    at_failure = np.concatenate(at_failure)
    change_at_failure = float(np.median(at_failure)) if len(at_failure) else None
    shares = _zoom(folder, attributes) if arms else [None] * len(rows)
    for row, share in zip(rows, shares, strict=True):
        row["zoom"] = share
    for row, q in zip(rows, benjamini_hochberg(p_values), strict=True):
        row["q"] = q
        row["above_control"] = above_control(row, change_at_failure)
        row["stands_out"] = row["above_control"] and above_others(row, rows)
    rows.sort(key=lambda row: -(row["output_change"] or 0.0))
    content = {
        "target": settings["target"],
        "generator": settings["generator"],
        "faces": settings["faces"],
        "correct": len(chance.face),
        "draws": len(np.unique(chance.group)),
        "reference": settings["reference"],
        "left_out": settings["left_out"],
        "attributes": rows,
        "control": {**_tally(chance.within(np.mean(sizes, axis=0)), CONTROL, ""), "q": None},
        "arms": arms,
        "change_at_failure": change_at_failure,
        "measured": measured,
        "settings": dict(settings),
    }
    spread = {attribute.name: attribute.sd for attribute in attributes if attribute.name in (units or {})}
    content["collateral"] = collateral(folder, spread, as_sampled_in(settings))
    content["subgroups"] = subgroups(folder, units or {}) if arms else []
    explained(rows, content["collateral"])
    content["gate"] = settings["gate"]
    content["parts"] = facial(folder, [row["name"] for row in rows], as_sampled_in(settings))
    told = {"finding": finding(content), "confirmation": confirmation(content)}
    return {**told, "entangled": entangled(rows, content["collateral"]), **content}


def _require_same(arm: str, found: Outcomes, chance: Chance) -> None:
    """Raise `WorkError` where an arm attacked other faces than the control did."""
    if not np.array_equal(found.face, chance.face):
        raise WorkError(
            f"the target was right on other faces in arm '{arm}' than in the control: it answers the same image "
            "differently; fix its seed or switch its randomness off, and start over"
        )


def _tally(found: Outcomes, arm: str, unit: str) -> dict[str, Any]:
    """The row of one arm."""
    table, success = found.rows, found.success
    single, control = f"needed_{arm}" in table.column_names, arm == CONTROL
    change, drawn = found.change[found.kept], found.direction[found.kept]
    attempted, successes = len(success), int(success.sum())
    interval = mean_interval(change, drawn)  # of sizes, which are nowhere below 0
    draws = len(np.unique(found.direction))  # faces that share a direction are one
    omega = table[f"needed_{arm}"].to_numpy()[success].astype(float) if single else np.empty(0)
    size = float(np.abs(omega).mean()) if len(omega) else 0.0
    mean = float(omega.mean()) if len(omega) else 0.0
    failed = table.filter(success)
    return {
        "name": arm,
        "unit": unit,
        "attempted": attempted,
        "successes": successes,
        "success": successes / attempted if attempted else 0.0,
        "interval": wilson(successes, attempted, draws),
        # A random direction has no sign and the other arms move many attributes: theirs are null.
        "mean_change": (mean if abs(mean) > ROUNDING * size else 0.0) if len(omega) else None,
        "mean_size": size if len(omega) else None,
        # Where the label did not stay, the output may well change: of these faces no change is counted.
        "counted": len(change),
        "output_change": float(change.mean()) if len(change) else None,
        "output_interval": [max(end, 0.0) for end in interval] if interval is not None else None,
        "output_change_signed": float(found.moved[found.kept].mean()) if len(change) and not control else None,
        **valid_of(table["valid"], attempted, draws),
        **confirmed_of(table),
        "least_change": _mean(_known(failed, "least")),
        "queries": float(table["queries"].to_numpy().sum() / len(np.unique(found.face))) if attempted else None,
        LABEL_KEPT: _mean(_known(failed, LABEL_KEPT)),
        "likeness": _mean(_known(failed, "likeness")),
        "likely": _mean(_known(failed, "distance") <= 1),
    }


def _at_failure(found: Outcomes) -> Floats:
    """|change of output| of the faces that failed, at the least change that makes them."""
    before, needed = (found.rows[name].to_numpy().astype(float) for name in ("output_before", "output_needed"))
    return np.abs(needed - before)[found.success]


def _curve(found: Outcomes, attribute: Attribute, settings: Mapping[str, Any]) -> dict[str, list[float]]:
    """Mean output and share of failures over the range, from its low end to the high one; empty without faces."""
    if not len(found.face):
        return {"change": [], "output": [], "failed": []}
    outputs, failures = points(found, "outputs"), points(found, "failures")
    steps = outputs.shape[1] - 1
    ends = (torch.full((steps + 1, 1), end) for end in attribute.within(settings["attack"]["box"]))
    change = swept(torch.arange(steps + 1), steps, *ends)[:, 0].double().numpy()
    order = np.argsort(change)
    columns = {"change": change, "output": outputs.mean(axis=0), "failed": failures.mean(axis=0)}
    return {name: [round(float(value), 6) for value in values[order]] for name, values in columns.items()}


def _zoom(folder: Path, attributes: Sequence[Attribute]) -> list[float | None]:
    """How the semantic arm's failures share out their moves, summing to one: the bars of ZOOM (arXiv 2303.15441).

    Each attribute's mean |ω| as a share of its range. All attributes move in that arm, so these bars name some first
    whatever the target does; they stand here for comparison.
    """
    table = read_results(folder, ["success", *(f"omega_{a.name}" for a in attributes)], "semantic")
    table = table.filter(table["success"])
    if not len(table):
        return [None] * len(attributes)
    moves = [np.abs(table[f"omega_{a.name}"].to_numpy()).mean() / (a.high - a.low) for a in attributes]
    total = float(sum(moves))
    return [float(move) / total if total else None for move in moves]


def _known(table: pa.Table, name: str) -> Floats:
    """The values of a column that are neither null nor NaN."""
    values = table[name].drop_null().to_numpy().astype(float)
    return values[~np.isnan(values)]


def _mean(values: Floats | NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
