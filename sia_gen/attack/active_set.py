"""Which face is in which row of the batch, what is known of each, and who leaves: rows stay full while faces wait.

Letters: N faces, B rows of the batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sia_gen.attack.balls import per_face
from sia_gen.core.executors import Batches

Rows: TypeAlias = dict[str, Tensor]
"""Tensors with B as first axis."""


class ActiveSet:
    """N faces pass through at most ``batch`` rows; each is evaluated ``steps`` + 1 times a restart unless it leaves.

    Counters live on the host, where they cost no synchronisation; tensors live in ``rows`` on the device, the best
    evaluated point of each face in ``best``; what leaves is gathered in ``results`` on the CPU.
    """

    def __init__(self, faces: int, batch: int, steps: int, restarts: int, stop_at_success: bool) -> None:
        self.steps, self.restarts, self.stop_at_success = steps, restarts, stop_at_success
        self.waiting = deque(range(faces))
        self.batches = Batches(min(batch, faces))
        self.rows: Rows = {}
        self.best: Rows = {}
        self.results: Rows = {}
        self.face: NDArray = np.empty(0, dtype=np.int64)  # [B] the face in each row, −1 where it left
        self.point: NDArray = np.empty(0, dtype=np.int64)  # [B] points evaluated in this restart
        self.restart: NDArray = np.empty(0, dtype=np.int64)  # [B]
        self.correct: NDArray = np.zeros(faces, dtype=bool)
        self.success: NDArray = np.zeros(faces, dtype=bool)
        self.taken: NDArray = np.zeros(faces, dtype=np.int64)  # [N] ascent steps
        self.queries: NDArray = np.zeros(faces, dtype=np.int64)  # [N]

    @property
    def unfinished(self) -> bool:
        return bool(self.waiting) or bool((self.face >= 0).any())

    @property
    def first(self) -> NDArray:
        """Rows that are about to show their face as sampled: ``[B]`` bool."""
        return (self.point == 0) & (self.restart == 0)

    @property
    def total(self) -> int:
        """Points that would be evaluated if nobody left early."""
        return len(self.correct) * self.restarts * (self.steps + 1)

    @property
    def done(self) -> int:
        """Points of ``total`` that are evaluated or no longer needed."""
        points = self.steps + 1
        here = self.face >= 0
        to_come = (self.restarts - self.restart[here]) * points - self.point[here]
        return self.total - len(self.waiting) * self.restarts * points - int(to_come.sum())

    def fill(self, fresh: Callable[[NDArray], Rows]) -> None:
        """Give the rows of those who left to waiting faces, ``fresh`` being their rows; close up what stays empty."""
        left = np.flatnonzero(self.face < 0)
        room = self.batches.size - (len(self.face) - len(left))
        new = np.array([self.waiting[i] for i in range(min(room, len(self.waiting)))], dtype=np.int64)
        if len(new):
            rows = fresh(new)
            if len(left) == len(self.face):
                # Nothing known before the first evaluation: `best` and a reference of the target's own come with it.
                self.rows, self.best = rows, {}
                self.face, self.point, self.restart = new, np.zeros_like(new), np.zeros_like(new)
                left = left[:0]
            else:
                filled, left = left[: len(new)], left[len(new) :]
                index = self._index(filled)
                for name, values in rows.items():
                    self.rows[name][index] = values
                self.face[filled], self.point[filled], self.restart[filled] = new, 0, 0
            for _ in new:
                self.waiting.popleft()
        if len(left):
            self._take(np.flatnonzero(self.face >= 0))

    def judge(self, failed: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """From who failed at this point ``[B]`` to who is done, who restarts, and who succeeds for the first time."""
        first, last = self.first, self.point == self.steps
        correct = np.where(first, ~failed, self.correct[self.face])
        succeeds = failed & correct & ~self.success[self.face]
        success = succeeds | self.success[self.face]
        done = ~correct | (success & self.stop_at_success) | (last & (success | (self.restart + 1 == self.restarts)))
        return done, last & ~done, succeeds

    def count(self, failed: NDArray, done: NDArray, again: NDArray, succeeds: NDArray) -> None:
        """Enter a judged point into the counters; those who go on are about to take a step."""
        self.correct[self.face] |= self.first & ~failed
        self.success[self.face] |= succeeds
        self.queries[self.face] += 1
        self.taken[self.face] += ~(done | again)
        self.point = np.where(again, 0, self.point + 1)
        self.restart = self.restart + again

    def keep_best(self, point: Rows, better: Tensor) -> None:
        """Remember the points of the rows marked ``[B]``."""
        if not self.best:
            self.best = dict(point)
        else:
            self.best = {name: torch.where(per_face(better, new), new, self.best[name]) for name, new in point.items()}

    def store(self, rows: Rows, which: NDArray) -> None:
        """Put the marked rows ``[B]`` into the results of their faces."""
        if not which.any():
            return
        index, faces = self._index(np.flatnonzero(which)), torch.from_numpy(self.face[which])
        for name, values in rows.items():
            if name not in self.results:
                self.results[name] = torch.empty(len(self.correct), *values.shape[1:], dtype=values.dtype)
            self.results[name][faces] = values.detach()[index].cpu()

    def drop(self, done: NDArray) -> None:
        """Let the marked faces ``[B]`` leave with their best point."""
        self.store({f"{name}_after": values for name, values in self.best.items()}, done)
        self.face = np.where(done, -1, self.face)

    def shrink(self) -> None:
        """Halve the batch after it ran out of memory; who no longer fits starts over later, with the same outcome."""
        self.batches.halve()
        back = self.face[self.batches.size :]
        back = back[back >= 0]
        self.waiting.extendleft(reversed(back.tolist()))
        for counter in (self.correct, self.success, self.taken, self.queries):
            counter[back] = 0
        self._take(np.arange(min(self.batches.size, len(self.face))))

    def _take(self, keep: NDArray) -> None:
        index = self._index(keep)
        self.rows = {name: values[index] for name, values in self.rows.items()}
        self.best = {name: values[index] for name, values in self.best.items()}
        self.face, self.point, self.restart = self.face[keep], self.point[keep], self.restart[keep]

    def _index(self, rows: NDArray) -> Tensor:
        return torch.from_numpy(rows).to(next(iter(self.rows.values())).device)
