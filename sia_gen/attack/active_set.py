"""Which face is in which row of the batch, what is known of each, and who leaves: rows stay full while faces wait.

Letters: N faces, B rows of the batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sia_gen.core.executors import Batches

Rows: TypeAlias = dict[str, Tensor]
"""Tensors with B as first axis; never changed in place, as several may share one memory."""


@dataclass(frozen=True)
class Verdict:
    """What follows from a point for each row, ``[B]`` bool on the host."""

    failed: NDArray
    better: NDArray
    """Worst for the target so far."""
    nearer: NDArray
    """Fails at a smaller change than before."""
    succeeds: NDArray
    """Fails for the first time."""
    again: NDArray
    """Starts over at random."""
    done: NDArray

    @property
    def steps(self) -> NDArray:
        """Goes on from here."""
        return ~(self.again | self.done)


class ActiveSet:
    """N faces pass through at most ``batch`` rows; each shows ``steps`` + 1 points a restart unless it leaves before.

    Counters live on the host, where they need no synchronisation; tensors live in ``rows`` on the device, the best
    point of each face so far in ``best``; what leaves is gathered in ``results`` on the CPU.
    """

    def __init__(self, faces: int, batch: int, steps: int, restarts: int, stop_at_success: bool) -> None:
        self.steps, self.restarts, self.stop_at_success = steps, restarts, stop_at_success
        self.waiting = deque(range(faces))
        self.batches = Batches(min(batch, faces))
        self.rows: Rows = {}
        self.best: Rows = {}
        self.results: Rows = {}
        self.face: NDArray = np.empty(0, dtype=np.int64)  # [B] the face in each row, −1 where it left
        self.point: NDArray = np.empty(0, dtype=np.int64)  # [B] points shown in this restart
        self.restart: NDArray = np.empty(0, dtype=np.int64)  # [B]
        self.correct: NDArray = np.zeros(faces, dtype=bool)
        self.success: NDArray = np.zeros(faces, dtype=bool)
        self.taken: NDArray = np.zeros(faces, dtype=np.int64)  # [N] steps
        self.queries: NDArray = np.zeros(faces, dtype=np.int64)  # [N]

    @property
    def unfinished(self) -> bool:
        return bool(self.waiting) or bool((self.face >= 0).any())

    @property
    def first(self) -> NDArray:
        """Rows that show their face as sampled ``[B]``."""
        return (self.point == 0) & (self.restart == 0)

    @property
    def total(self) -> int:
        """Points to show if nobody left early."""
        return len(self.correct) * self.restarts * (self.steps + 1)

    @property
    def done(self) -> int:
        """Points of ``total`` that were shown or are no longer needed."""
        here, points = self.face >= 0, self.steps + 1
        to_come = (self.restarts - self.restart[here]) * points - self.point[here]
        return self.total - len(self.waiting) * self.restarts * points - int(to_come.sum())

    def fill(self, fresh: Callable[[NDArray], Rows]) -> None:
        """Give the rows of those who left to waiting faces, ``fresh`` being their rows; close up what stays empty."""
        left = np.flatnonzero(self.face < 0)
        stay = len(self.face) - len(left)
        new = np.array([self.waiting[i] for i in range(min(len(self.waiting), self.batches.size - stay))], np.int64)
        if len(new) and not stay:
            # `best`, and what `begin` keeps, come with the first evaluation.
            self.rows, self.best, left = fresh(new), {}, left[:0]
            self.face, self.point, self.restart = new, np.zeros_like(new), np.zeros_like(new)
        elif len(new):
            filled, left = left[: len(new)], left[len(new) :]
            self.put(filled, fresh(new))
            self.face[filled], self.point[filled], self.restart[filled] = new, 0, 0
        for _ in new:
            self.waiting.popleft()
        if len(left):
            self._take(np.flatnonzero(self.face >= 0))

    def put(self, index: NDArray, rows: Rows) -> None:
        """Replace some rows; ``index`` says which."""
        where = (self.on_device(index),)
        self.rows |= {name: self.rows[name].index_put(where, values) for name, values in rows.items()}

    def begin(self, rows: Rows) -> None:
        """What only the first evaluation tells: keep these of ``rows`` for those who show their face as sampled."""
        if self.first.all():
            self.rows |= rows
        elif self.first.any():
            index = np.flatnonzero(self.first)
            where = self.on_device(index)
            self.put(index, {name: values[where] for name, values in rows.items()})

    def judge(self, failed: NDArray, higher: NDArray, nearer: NDArray) -> Verdict:
        """From who fails, whose loss is the highest so far and who fails at the least change ``[B]`` to what follows.

        A point that fails is better than any that does not, whatever their losses.
        """
        before = self.success[self.face]
        first, last = self.first, self.point == self.steps
        correct = np.where(first, ~failed, self.correct[self.face])
        success = before | (failed & correct)
        succeeds = success & ~before
        stops = success & self.stop_at_success
        done = ~correct | stops | (last & (success | (self.restart + 1 == self.restarts)))
        better = first | stops | succeeds | (higher & (failed | ~before))
        return Verdict(failed, better, nearer & correct & ~first, succeeds, again=last & ~done, done=done)

    def keep_best(self, point: Rows, verdict: Verdict) -> None:
        if verdict.better.all():
            self.best = point
        elif verdict.better.any():
            index = self.on_device(np.flatnonzero(verdict.better))
            self.best = {name: self.best[name].index_put((index,), new[index]) for name, new in point.items()}

    def store(self, rows: Rows, which: NDArray) -> None:
        """Put the marked rows ``[B]`` into the results of their faces."""
        if which.any():
            index, faces = self.on_device(np.flatnonzero(which)), torch.from_numpy(self.face[which])
            for name, values in rows.items():
                if name not in self.results:
                    self.results[name] = torch.empty(len(self.correct), *values.shape[1:], dtype=values.dtype)
                self.results[name][faces] = values[index].cpu()

    def advance(self, verdict: Verdict, asked: int = 0) -> None:
        """Count the point just shown, and ``asked`` more for who goes on; let those who are done leave."""
        self.correct[self.face] |= self.first & ~verdict.failed
        self.success[self.face] |= verdict.succeeds
        self.queries[self.face] += 1 + asked * verdict.steps
        self.taken[self.face] += verdict.steps
        self.point = np.where(verdict.again, 0, self.point + 1)
        self.restart = self.restart + verdict.again
        self.face = np.where(verdict.done, -1, self.face)

    def shrink(self) -> None:
        """Halve the batch after it ran out of memory; who no longer fits starts over later, to the same end."""
        self.batches.halve()
        back = self.face[self.batches.size :]
        back = back[back >= 0]
        self.waiting.extendleft(reversed(back.tolist()))
        for counter in (self.correct, self.success, self.taken, self.queries):
            counter[back] = 0
        self._take(np.arange(min(self.batches.size, len(self.face))))

    def on_device(self, rows: NDArray) -> Tensor:
        return torch.from_numpy(rows).to(next(iter(self.rows.values())).device)

    def _take(self, keep: NDArray) -> None:
        if len(self.face):
            index = self.on_device(keep)
            self.rows = {name: values[index] for name, values in self.rows.items()}
            self.best = {name: values[index] for name, values in self.best.items()}
            self.face, self.point, self.restart = self.face[keep], self.point[keep], self.restart[keep]
