"""How sensitive a target is to each attribute: `histogram.json`, from the rows of `results.parquet`.

Letters: N correct faces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sia_gen.attributes.attribute_space import Attribute
from sia_gen.audits.finding import above_control, above_others, finding
from sia_gen.audits.readings import collateral, explained, subgroups
from sia_gen.audits.results import ARMS, CONTROL, JUDGED, MEASURED, is_control, outcomes, read_results
from sia_gen.audits.statistics import Floats, Groups, benjamini_hochberg, bootstrap, sign_flip, wilson
from sia_gen.core.errors import WorkError

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("queries", *JUDGED, *MEASURED)
RANGE = "of its range"  # the unit of random directions
ROUNDING = 1e-6  # of their size: what float32 changes leave where ups and downs cancel


@dataclass(frozen=True)
class Tally:
    """One arm over its N correct faces: its row of the histogram, and what comparisons are made on."""

    row: dict[str, Any]
    change: Floats  # [N] |change of output|
    at_failure: Floats  # the same where the face failed
    face: Groups  # [N] the seeds of these faces
    direction: Groups  # [N] the random direction of each face; its own number in every arm but the controls


def histogram(
    folder: Path,
    attributes: Sequence[Attribute],
    like: Mapping[str, str],
    settings: Mapping[str, Any],
    units: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The content of `histogram.json`, attributes most sensitive first.

    Sensitivity is the mean |change of the task's output| with one attribute moved alone: in the joint attack every
    attribute moves, whichever did the damage. An attribute is paired face by face with the arm ``like`` it, random
    directions that change the picture as much: its row's "control"; faces that share a direction count as one draw. The
    content's "control" is the arm of random directions of the attributes' mean size. ``units`` are those of the factors
    whose readings the results hold: from these come "collateral" and "subgroups".
    """
    seed = int(settings["seed"])
    tallies = {arm: _tally(folder, arm, "", seed) for arm in ARMS}
    common = _tally(folder, CONTROL, RANGE, seed)
    at_failure = np.concatenate([tally.at_failure for tally in tallies.values()])
    change_at_failure = float(np.median(at_failure)) if len(at_failure) else None
    rows, p_values = [], []
    for attribute in attributes:
        tally = _tally(folder, attribute.name, attribute.unit, seed)
        control = _tally(folder, like[attribute.name], RANGE, seed)
        for other in (tally, control):
            if not np.array_equal(other.face, common.face):
                raise WorkError(
                    f"the target was right on other faces in arm '{other.row['name']}' than in the control: it answers "
                    "the same image differently; fix its seed or switch its randomness off, and start over"
                )
        tally.row["control"] = control.row
        excess = tally.change - control.change  # [N]
        p_values.append(sign_flip(excess, control.direction) if len(excess) else 1.0)
        tally.row["excess"] = float(excess.mean()) if len(excess) else None
        tally.row["excess_interval"] = bootstrap(excess, control.direction, seed) if len(excess) else None
        rows.append(tally.row)
    for row, share in zip(rows, _zoom(folder, attributes), strict=True):
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
        "correct": common.row["attempted"],
        "draws": len(np.unique(common.direction)),
        "reference": settings["reference"],
        "left_out": settings["left_out"],
        "attributes": rows,
        "control": {**common.row, "q": None},
        "arms": {arm: tally.row for arm, tally in tallies.items()},
        "change_at_failure": change_at_failure,
        "settings": dict(settings),
    }
    spread = {attribute.name: attribute.sd for attribute in attributes if attribute.name in (units or {})}
    content["collateral"] = collateral(folder, like, spread)
    content["subgroups"] = subgroups(folder, units or {})
    explained(rows, content["collateral"])
    content["gate"] = settings["gate"]
    return {"finding": finding(content), **content}


def _tally(folder: Path, arm: str, unit: str, seed: int) -> Tally:
    single = arm not in ARMS and not is_control(arm)
    found = outcomes(folder, arm, [*COLUMNS, *([f"needed_{arm}"] if single else [])])
    table, success, change, direction = found.rows, found.success, found.change, found.direction
    attempted, successes = len(change), int(success.sum())
    omega = table[f"needed_{arm}"].to_numpy()[success].astype(float) if single else np.empty(0)
    size = float(np.abs(omega).mean()) if len(omega) else 0.0
    mean = float(omega.mean()) if len(omega) else 0.0
    failed = table.filter(table["success"])
    row = {
        "name": arm,
        "unit": unit,
        "attempted": attempted,
        "successes": successes,
        "success": successes / attempted if attempted else 0.0,
        "interval": wilson(successes, attempted),
        # A random direction has no sign and the other arms move many attributes: theirs are null.
        "mean_change": (mean if abs(mean) > ROUNDING * size else 0.0) if len(omega) else None,
        "mean_size": size if len(omega) else None,
        "output_change": float(change.mean()) if attempted else None,
        "output_interval": bootstrap(change, direction, seed) if attempted else None,
        "output_change_signed": float(found.moved.mean()) if attempted else None,
        **_valid(table["valid"], attempted),
        "queries": float(table["queries"].to_numpy().mean()) if attempted else None,
        "label_kept": _mean(_known(failed, "label_kept")),
        "likeness": _mean(_known(failed, "likeness")),
        "likely": _mean(_known(failed, "distance") <= 1),
    }
    return Tally(row, change, change[success], found.face, direction)


def _zoom(folder: Path, attributes: Sequence[Attribute]) -> list[float | None]:
    """How the semantic arm's failures share out their moves, summing to one: the bars of ZOOM (arXiv 2303.15441).

    Each attribute's mean |ω| as a share of its range. All attributes move in that arm, so these bars name some first
    whatever the target does; they stand here for comparison.
    """
    table = read_results(folder, ["success", *(f"needed_{a.name}" for a in attributes)], "semantic")
    table = table.filter(table["success"])
    if not len(table):
        return [None] * len(attributes)
    moves = [np.abs(table[f"needed_{a.name}"].to_numpy()).mean() / (a.high - a.low) for a in attributes]
    total = float(sum(moves))
    return [float(move) / total if total else None for move in moves]


def _valid(judged: pa.ChunkedArray, attempted: int) -> dict[str, Any]:
    """How many faces failed and still were what they had been; None where nothing judged that."""
    if judged.null_count or not attempted:
        return {"valid_successes": None, "valid": None, "valid_interval": None}
    count = int(judged.to_numpy().sum())
    return {"valid_successes": count, "valid": count / attempted, "valid_interval": wilson(count, attempted)}


def _known(table: pa.Table, name: str) -> Floats:
    """The values of a column that are neither null nor NaN."""
    values = table[name].drop_null().to_numpy().astype(float)
    return values[~np.isnan(values)]


def _mean(values: Floats | NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
