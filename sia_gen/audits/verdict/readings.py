"""What the verifier reads off audited faces: what an edit moved besides, and which groups of faces fail.

Letters: N faces, K audited attributes, F factors that the verifier reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen.audits.evidence.statistics import Floats, wilson
from sia_gen.audits.run.results import FACIAL, outcomes, read_results, valid_of
from sia_gen.targets.points import PARTS
from sia_gen.training.groups import SUBGROUPS, class_names

MOVED = 0.5  # sd of an attribute: what drags another by as much may owe it its effect
NAMED = 3  # of what an attribute drags along


def collateral(folder: Path, spread: Mapping[str, float], unedited: str = "pixel") -> dict[str, Any]:
    """How far each attribute alone moves the readings of all, at the value that changed the output most.

    ``spread`` is the sd over faces of each; "moved" ``[K][K]`` is the mean size of the changes in these. ``unedited``
    is the arm whose readings are of faces as sampled.
    """
    names = list(spread)
    if not names:
        return {"names": [], "moved": []}
    deviations = np.array([*spread.values()])
    before = _readings(folder, unedited, names)  # [N, K]
    rows = []
    for arm in names:
        far = np.abs(_readings(folder, arm, names) - before) / deviations
        rows.append(np.round(far.mean(axis=0), 4).tolist() if len(far) else [0.0] * len(names))
    return {"names": names, "moved": rows}


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


def entangled(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> str:
    """In one sentence, what the attributes that stand out dragged along; empty where that is nothing."""
    names, said = list(found["names"]), []
    for row in rows:
        if not row["stands_out"] or row["name"] not in names:
            continue
        moved = zip(names, found["moved"][names.index(row["name"])], strict=True)
        dragged = sorted((-far, other) for other, far in moved if far >= MOVED and other != row["name"])
        if dragged:
            parts = ", ".join(f"{other} by {-far:.1f}" for far, other in dragged[:NAMED])
            more = len(dragged) - NAMED
            said.append(
                f"{row['name']} also moved {parts} standard deviations{f' and {more} more' if more > 0 else ''}"
            )
    if not said:
        return ""
    return f"As the verifier reads it, {'; '.join(said)}: part of the effect may be of these."


def subgroups(folder: Path, units: Mapping[str, str], arm: str = "semantic") -> list[dict[str, Any]]:
    """How often faces fail by age, sex and skin tone, as the verifier reads these off the unedited face."""
    import pyarrow as pa

    outcome = outcomes(folder, arm, ["valid"])
    success, judged, found = outcome.success, outcome.rows["valid"], []
    for name, cuts in SUBGROUPS.items():
        if name not in units:
            continue
        band = np.digitize(_readings(folder, "pixel", [name])[:, 0], cuts)
        for index, words in enumerate(class_names(name, cuts, units[name])):
            chosen = success[band == index]
            if len(chosen):
                failed = int(chosen.sum())
                row = {"factor": name, "group": words, "attempted": len(chosen), "successes": failed}
                row |= {"success": failed / len(chosen), "interval": wilson(failed, len(chosen))}
                found.append(row | valid_of(judged.filter(pa.array(band == index)), len(chosen)))
    return found


def facial(folder: Path, names: Sequence[str], unedited: str = "pixel") -> dict[str, Any] | None:
    """Mean error of landmarks by part of the face: unedited, and with each attribute at what changed the error most.

    None for targets that find no landmarks of a face. In distances between the outer eye corners.
    """
    found = outcomes(folder, unedited, FACIAL)
    if not len(found.face) or found.rows[FACIAL[0]].null_count:
        return None
    before = np.array(found.rows[FACIAL[0]].to_pylist()).mean(axis=0)
    rows = {"unedited": [round(float(value), 5) for value in before]}
    for name in names:
        after = np.array(outcomes(folder, name, FACIAL).rows[FACIAL[1]].to_pylist()).mean(axis=0)
        rows[name] = [round(float(value), 5) for value in after]
    return {"names": list(PARTS), "errors": rows}


def _readings(folder: Path, arm: str, names: Sequence[str]) -> Floats:
    """What the verifier read off the N correct faces of an arm, ``[N, len(names)]``."""
    table = read_results(folder, ["correct", *(f"read_{name}" for name in names)], arm)
    table = table.filter(table["correct"])
    return np.stack([table[f"read_{name}"].to_numpy().astype(float) for name in names], axis=1)
