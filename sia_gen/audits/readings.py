"""What the verifier reads off audited faces: what an edit moved besides, and which groups of faces fail.

Letters: N faces, K audited attributes, F factors that the verifier reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen.audits.results import FACIAL, outcomes, read_results, valid_of
from sia_gen.audits.statistics import wilson
from sia_gen.targets.points import PARTS
from sia_gen.targets.verifier import Verifier
from sia_gen.training.groups import SUBGROUPS, class_names

MOVED = 0.5  # sd of an attribute: what drags another by as much may owe it its effect


def read_names(verifier: Verifier | None, attributes: Sequence[str]) -> list[str]:
    """The factors whose readings an audit keeps: its attributes, and what subgroups are cut by."""
    if verifier is None:
        return []
    known = [factor.name for factor in verifier.factors]
    kept = [name for name in attributes if name in known]
    return [*kept, *(name for name in SUBGROUPS if name in known and name not in kept)] if kept else []


def collateral(folder: Path, like: Mapping[str, str], spread: Mapping[str, float]) -> dict[str, Any]:
    """How far each attribute alone moves the readings of all, at the value that changed the output most.

    ``spread`` is the sd over faces of each, ``like`` the control of each; "moved" ``[K][K]`` is the mean size of the
    changes in these, and "control" ``[K]`` the same of all readings under the control.
    """
    names = list(spread)
    before = {name: _reading(folder, "pixel", name) for name in names}

    def moved(arm: str) -> list[float]:
        return [
            float(np.abs(_reading(folder, arm, name) - before[name]).mean() / spread[name])
            if len(before[name])
            else 0.0
            for name in names
        ]

    rows = [[round(value, 4) for value in moved(arm)] for arm in names]
    return {"names": names, "moved": rows, "control": [float(np.mean(moved(like[name]))) for name in names]}


def explained(rows: Sequence[dict[str, Any]], found: Mapping[str, Any]) -> None:
    """Mark each row whose effect another attribute, dragged along and stronger by itself, may explain."""
    names = list(found["names"])
    strength = {row["name"]: row["output_change"] or 0.0 for row in rows}
    for row in rows:
        row["explained_by"] = None
        if row["name"] not in names or not row["above_control"]:
            continue
        moved = found["moved"][names.index(row["name"])]
        dragged = [
            other
            for other, far in zip(names, moved, strict=True)
            if other != row["name"] and far >= MOVED and strength[other] > strength[row["name"]]
        ]
        row["explained_by"] = max(dragged, key=lambda name: strength[name], default=None)


def subgroups(folder: Path, units: Mapping[str, str], arm: str = "semantic") -> list[dict[str, Any]]:
    """How often faces fail by age, sex and skin tone, as the verifier reads these off the unedited face."""
    import pyarrow as pa

    outcome = outcomes(folder, arm, ["valid"])
    success, judged, found = outcome.success, outcome.rows["valid"], []
    for name, cuts in SUBGROUPS.items():
        if name not in units:
            continue
        band = np.digitize(_reading(folder, "pixel", name), cuts)
        for index, words in enumerate(class_names(name, cuts, units[name])):
            chosen = success[band == index]
            if len(chosen):
                failed = int(chosen.sum())
                row = {"factor": name, "group": words, "attempted": len(chosen), "successes": failed}
                row |= {"success": failed / len(chosen), "interval": wilson(failed, len(chosen))}
                found.append(row | valid_of(judged.filter(pa.array(band == index)), len(chosen)))
    return found


def facial(folder: Path, names: Sequence[str]) -> dict[str, Any] | None:
    """Mean error of landmarks by part of the face: unedited, and with each attribute at what changed the error most.

    None for targets that find no landmarks of a face. In distances between the outer eye corners.
    """
    found = outcomes(folder, "pixel", FACIAL)
    if not len(found.face) or found.rows[FACIAL[0]].null_count:
        return None
    before = np.array(found.rows[FACIAL[0]].to_pylist()).mean(axis=0)
    rows = {"unedited": [round(float(value), 5) for value in before]}
    for name in names:
        after = np.array(outcomes(folder, name, FACIAL).rows[FACIAL[1]].to_pylist()).mean(axis=0)
        rows[name] = [round(float(value), 5) for value in after]
    return {"names": list(PARTS), "errors": rows}


def _reading(folder: Path, arm: str, name: str) -> np.ndarray:
    return _column(folder, arm, f"read_{name}").astype(float)


def _column(folder: Path, arm: str, name: str) -> np.ndarray:
    table = read_results(folder, ["correct", name], arm)
    return table[name].filter(table["correct"]).to_numpy(zero_copy_only=False)
