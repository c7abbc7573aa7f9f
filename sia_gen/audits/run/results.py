"""What one attack leaves of a chunk of faces: a part of named tensors, and the rows of `results.parquet`.

Nothing here depends on the clock or on how often a run was stopped: the same run gives the same bytes.

Letters: N faces of the chunk, K attributes of the arm, C columns of ω (every audited attribute, then the control).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sia_gen.attack.result import AttackResult
from sia_gen.audits.evidence.statistics import Floats, Groups, wilson
from sia_gen.audits.evidence.witness import LABEL_KEPT, MEASURED, VALID
from sia_gen.audits.run.run_folder import RESULTS, RunFolder
from sia_gen.core.errors import WorkError
from sia_gen.core.files import atomic
from sia_gen.core.foreign import first_line
from sia_gen.targets.points import Keypoints, by_part, normalised_error
from sia_gen.targets.task import Following, Task

if TYPE_CHECKING:
    import pyarrow as pa

CONTROL = "random direction"
ARMS = ("joint", "semantic", "pixel")
UNEDITED = "unedited"  # the arm of a quick look in which nothing is moved
PLAIN = (
    "correct", "success", "loss_before", "loss_after", "output_before", "output_after", "steps", "queries",
    "unanswered",
)  # fmt: skip
NEEDED = ("least", "output_needed")  # of the least change that fails
CONFIRMED = "confirmed"  # where these were rendered, of those that the target gets right as renders
FACIAL = ("parts_before", "parts_after")  # errors by part of the face, where landmarks are found
CHANGES = "changes"  # of the picture
SWEPT = ("outputs", "failures", CHANGES)  # of every point, where a range was searched
COLUMNS = (
    "queries",
    *NEEDED,
    VALID,
    CONFIRMED,
    *MEASURED,
)  # besides what `outcomes` always reads
ROWS_AT_ONCE = 16_384


def control_arm(number: int) -> str:
    """The arm in which each face moves along one of its random directions, counted from 0."""
    return f"{CONTROL} {number + 1}"


def is_control(arm: str) -> bool:
    return arm == CONTROL or arm.removeprefix(f"{CONTROL} ").isdigit()


def together(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The arms of a run that attack all attributes at once, or pixels: none in a quick look."""
    return () if settings.get("quick") else ARMS


def as_sampled_in(settings: Mapping[str, Any]) -> str:
    """The arm of a run that leaves the face as it was sampled, or adds pixels that no reading is of."""
    return UNEDITED if settings.get("quick") else "pixel"


def part_of(
    result: AttackResult,
    task: Task,
    seeds: Sequence[int],
    columns: Sequence[int],
    width: int,
    directions: Tensor | None = None,
) -> dict[str, Tensor]:
    """The per-face numbers of an attack as tensors; ω in ``width`` columns, NaN where nothing was moved.

    ``columns`` says where each of the arm's attributes goes, none of them for the pixel arm. For a control,
    ``directions`` ``[N]`` is the one random direction that each face was moved along.
    """
    part = {name: getattr(result, name) for name in (*PLAIN, *NEEDED)}
    part["face"] = torch.tensor(seeds, dtype=torch.int64)
    part["reference"] = result.reference
    for name, values in (("omega", result.omega), ("needed", result.omega_needed)):
        if directions is not None:
            values = values.gather(1, directions[:, None])  # [N, 1]
        wide = torch.full((len(seeds), width), torch.nan)
        if columns:
            wide[:, list(columns)] = values.float()
        wide[~result.correct] = torch.nan  # faces that were not attacked
        part[name] = wide  # [N, C]
    if isinstance(task, Following) and isinstance(task.task, Keypoints):
        for name, found in zip(FACIAL, (result.prediction_before, result.prediction_after), strict=True):
            part[name] = by_part(normalised_error(found[:, 0], found[:, 1], task.task.ends))  # [N, 5]
    part |= {name: getattr(result, name) for name in SWEPT if getattr(result, name) is not None}
    if directions is not None:
        part["direction"] = directions.to(torch.int32)
    return part


def write_results(
    folder: RunFolder, arms: Sequence[str], names: Sequence[str], chunks: int, kept: Sequence[str] = ()
) -> None:
    """Join all parts to `results.parquet`, a row per face and arm, arm by arm, without holding more than a few rows.

    ``names`` are the columns of ω, ``kept`` the factors that the verifier read off each face's worst point, without
    the pixel residual.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    with atomic(folder.path / RESULTS) as partial:
        try:
            for index, arm in enumerate(arms):
                waiting: list[pa.Table] = []
                for chunk in range(chunks):
                    waiting.append(_rows(folder.read(chunk, index), arm, names, kept))
                    if sum(map(len, waiting)) < ROWS_AT_ONCE and chunk < chunks - 1:
                        continue
                    table = pa.concat_tables(waiting).combine_chunks()
                    writer = writer or pq.ParquetWriter(partial, table.schema)
                    writer.write_table(table)
                    waiting = []
        finally:
            if writer is not None:
                writer.close()


def read_results(path: Path, columns: Sequence[str] | None = None, arm: str | None = None) -> pa.Table:
    """Some columns and one arm of `results.parquet`, or all of it; raises `WorkError` where it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    filters = None if arm is None else [("arm", "=", arm)]
    try:
        return pq.read_table(path / RESULTS, columns=None if columns is None else list(columns), filters=filters)
    except (pa.ArrowException, OSError) as error:
        reason = first_line(error)
        raise WorkError(f"'{path / RESULTS}' is damaged ({reason}); audit into '{path}' again to mend it") from None


def silence(path: Path) -> list[str]:
    """What is to be said of a black box that had no answer (NaN) to some edited faces."""
    table = read_results(path, ["correct", "unanswered", "steps"])
    table = table.filter(table["correct"])
    count = int(table["unanswered"].to_numpy().sum())
    if not count:
        return []
    points = int(table["steps"].to_numpy().sum())
    return [f"it gave no answer (NaN) on {count} of {points} edited faces: each counts as no change"]


@dataclass(frozen=True)
class Outcomes:
    """What an arm came to on the N faces that the target got right before any edit."""

    rows: pa.Table
    """Of these faces, with the columns asked for."""
    face: Groups
    """Seeds ``[N]``."""
    success: NDArray[np.bool_]
    moved: Floats
    """Change of the output ``[N]``, signed."""
    kept: NDArray[np.bool_]
    """Whether the label is still there at the worst point ``[N]``; of the rest no change of output is counted."""
    direction: Groups
    """The random direction ``[N]`` that a face was moved along; its own number in every arm but the control's."""

    @property
    def change(self) -> Floats:
        return np.abs(self.moved)


def outcomes(path: Path, arm: str, columns: Sequence[str] = ()) -> Outcomes:
    """One arm of `results.parquet`, on the faces that were attacked, with further ``columns`` in its rows."""
    needed = ["face", "correct", "success", "output_before", "output_after", "direction", LABEL_KEPT]
    table = read_results(path, [*needed, *columns], arm)
    table = table.filter(table["correct"])
    before, after = (table[name].to_numpy().astype(float) for name in ("output_before", "output_after"))
    direction = table["direction"].to_numpy() if is_control(arm) else np.arange(len(table))
    success, kept = table["success"].to_numpy(), table[LABEL_KEPT].fill_null(True).to_numpy()
    return Outcomes(table, table["face"].to_numpy(), success, after - before, kept, direction)


def valid_of(judged: pa.ChunkedArray, attempted: int, draws: int | None = None) -> dict[str, Any]:
    """How many faces failed and still were what they had been, None where nothing judged that; see `wilson`."""
    if judged.null_count or not attempted:
        return {"valid_successes": None, "valid": None, "valid_interval": None}
    count = int(judged.to_numpy(zero_copy_only=False).sum())
    interval = wilson(count, attempted, draws)
    return {"valid_successes": count, "valid": count / attempted, "valid_interval": interval}


def confirmed_of(found: pa.Table) -> dict[str, Any]:
    """`confirmed_share` of an arm's failures, and of those that are valid; see `COLUMNS`."""
    shown = found.filter(found[CONFIRMED].is_valid())
    shares = {}
    for name, rows in ((CONFIRMED, shown), ("valid_confirmed", shown.filter(shown[VALID].fill_null(False)))):
        faces, confirmed = (rows[column].to_pylist() for column in ("face", CONFIRMED))
        shares[name] = confirmed_share(faces, confirmed)
    return shares


def confirmed_share(faces: Sequence[int], confirmed: Sequence[bool]) -> dict[str, Any]:
    """Of failures that were rendered, how many are failures there, too; one face may fail in several ways."""
    found, of = sum(confirmed), len(confirmed)
    interval = wilson(found, of, len({*faces}))  # faces are drawn, not failures
    return {"of": of, "confirmed": found, "share": found / of if of else None, "interval": interval}


def _rows(part: dict[str, Tensor], arm: str, names: Sequence[str], kept: Sequence[str]) -> pa.Table:
    import pyarrow as pa

    faces = len(part["face"])
    rows: dict[str, pa.Array] = {"face": pa.array(part["face"].numpy()), "arm": pa.array([arm] * faces)}
    rows["reference"] = pa.array(part["reference"].tolist())  # a class, or a list of values
    for name in (*PLAIN, *NEEDED):
        rows[name] = pa.array(part[name].numpy())
    attacked = part["correct"].numpy()
    rows["direction"] = _optional(part.get("direction"), np.int32, attacked)
    rows[VALID] = _optional(part.get(VALID), np.bool_, attacked)
    rows[LABEL_KEPT] = _optional(part.get(LABEL_KEPT), np.bool_, attacked)
    rows[CONFIRMED] = _optional(part.get(CONFIRMED), np.bool_, part.get("confirmable", part["correct"]).numpy())
    floats = pa.list_(pa.float32())
    for name, kind in zip((*SWEPT, *FACIAL), (floats, pa.list_(pa.bool_()), floats, floats, floats), strict=True):
        rows[name] = pa.array(part[name].tolist() if name in part else [None] * faces, kind)
    for name in MEASURED:
        rows[name] = _optional(part.get(name), np.float32, attacked)
    for column, name in enumerate(names):
        rows[f"omega_{name}"] = pa.array(part["omega"][:, column].contiguous().numpy())
        rows[f"needed_{name}"] = pa.array(part["needed"][:, column].contiguous().numpy())
    for column, name in enumerate(kept):
        rows[f"read_{name}"] = pa.array(part["read"][:, column].contiguous().numpy())
    return pa.table(rows)


def _optional(values: Tensor | None, kind: type[np.generic], known: NDArray[np.bool_]) -> pa.Array:
    """A column that is null where a face was not attacked, or all through where the arm has none."""
    import pyarrow as pa

    if values is None:
        return pa.array(np.zeros(len(known), kind), mask=np.ones(len(known), np.bool_))
    return pa.array(values.numpy().astype(kind), mask=~known)
