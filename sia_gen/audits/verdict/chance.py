"""What chance does: how random directions move a target while they change the picture as much as an attribute does.

Letters: N correct faces, P points of a sweep, E random directions of a face.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sia_gen.attack.trace import WAYS
from sia_gen.audits.evidence.control import EACH
from sia_gen.audits.evidence.statistics import Floats, Groups
from sia_gen.audits.run.results import CHANGES, COLUMNS, SWEPT, Outcomes, control_arm, outcomes


def points(found: Outcomes, name: str) -> Floats:
    """One of `SWEPT` at the points of a sweep, float ``[N, P]``."""
    values = found.rows[name].combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(float)
    return values.reshape(len(found.face), -1 if len(found.face) else 1)


def picture_change(found: Outcomes) -> Floats:
    """How far an attribute changes each face's picture on its ways up and down: root mean square, ``[N, 2]``."""
    return _furthest(points(found, CHANGES))


class Chance:
    """A finished run's random directions, to be looked at within any change of the picture."""

    def __init__(self, folder: Path) -> None:
        self.arms = [outcomes(folder, control_arm(number), [*COLUMNS, *SWEPT]) for number in range(EACH)]
        self.sweeps = [[points(arm, name) for name in SWEPT] for arm in self.arms]
        self.furthest = np.stack([_furthest(changes) for *_, changes in self.sweeps])  # [E, N, 2]

    @property
    def face(self) -> Groups:
        """Seeds ``[N]`` of the faces."""
        return self.arms[0].face

    @property
    def group(self) -> Groups:
        """Which directions each face was moved along ``[N]``: those of one group share them."""
        return self.arms[0].direction // EACH

    def reached(self, most: Floats) -> float | None:
        """The share of ``most`` ``[N, 2]`` that directions change the picture by, mean of all; None without faces."""
        shares = np.minimum(1.0, self.furthest / np.maximum(most, np.finfo(float).tiny))
        return float(shares.mean()) if shares.size else None

    def noise(self, found: Outcomes) -> float | None:
        """Mean |difference| of what the target said of the unedited faces in this arm and in the control's arms."""
        said = points(found, "outputs")[:, 0]
        apart = [np.abs(outputs[:, 0] - said) for outputs, *_ in self.sweeps]
        return float(np.mean(apart)) if len(said) else None

    def within(self, most: Floats) -> Outcomes:
        """All directions one after the other, ``[E · N]``, as if none had changed the picture by more than ``most``.

        ``most`` ``[N, 2]`` holds for the ways up and down. Between two points of a sweep the largest change of output
        so far is held to grow evenly, past the last one to stay; a face fails if a point does that lies within, to the
        nearest point, and validly if the worst point along the whole direction is valid.
        """
        import pyarrow as pa

        parts = [_within(sweep, most) for sweep in self.sweeps]
        success = np.concatenate([success for _, success in parts])
        rows = pa.concat_tables([arm.rows for arm in self.arms])
        if not rows["valid"].null_count:
            valid = rows["valid"].to_numpy(zero_copy_only=False) & success
            rows = rows.set_column(rows.schema.get_field_index("valid"), "valid", pa.array(valid))
        return Outcomes(
            rows,
            face=np.tile(self.face, EACH),
            success=success,
            moved=np.concatenate([largest for largest, _ in parts]),
            kept=np.ones(len(success), dtype=bool),
            direction=np.tile(self.group, EACH),
        )


def typical(folder: Path, attributes: Sequence[str]) -> Outcomes:
    """`Chance.within` the mean of what these attributes change in each picture."""
    sizes = [picture_change(outcomes(folder, name, SWEPT)) for name in attributes]
    return Chance(folder).within(np.mean(sizes, axis=0))


def _furthest(changes: Floats) -> Floats:
    """The largest of a sweep's changes ``[N, P]`` on its ways up and down: ``[N, 2]``."""
    return np.stack([changes[:, way].max(axis=1, initial=0.0) for way in WAYS], axis=1)


def _within(sweep: Sequence[Floats], most: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """The largest |change of output| ``[N]`` along a direction within ``most`` ``[N, 2]``, and whether a face fails."""
    outputs, failures, changes = sweep
    effects = np.abs(outputs - outputs[:, :1])
    largest = np.zeros(len(most))
    failed: NDArray[np.bool_] = np.zeros(len(most), np.bool_)
    for way, limit in zip(WAYS, most.T, strict=True):
        grown, effect = (
            np.maximum.accumulate(np.concatenate([values[:, :1], values[:, way]], axis=1), axis=1)
            for values in (changes, effects)
        )
        reached = [np.interp(*row) for row in zip(limit, grown, effect, strict=True)]
        largest = np.maximum(largest, reached)
        nearest = (grown[:, 1:] + grown[:, :-1]) / 2 <= limit[:, None]
        failed |= (nearest & (failures[:, way] > 0)).any(axis=1)
    return largest, failed
