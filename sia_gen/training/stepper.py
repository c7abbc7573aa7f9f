"""One step of a training: which rows it sees, what is made of them, their gradients, and the move of the weights.

What is learnt from lies on the device that learns, where rows are gathered and augmented. On a GPU a step is captured
once as a CUDA graph and replayed: launching the kernels of small networks takes longer than running them.

Letters: N items, B items of a step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Batches
from sia_gen.core.foreign import first_line
from sia_gen.core.seeds import stream
from sia_gen.training.processes import Team

EAGER = 3  # steps of a kind before it is captured as a graph


@dataclass(frozen=True)
class Lessons:
    """What is learnt from: ``tables`` with a row for each of N items, of which those ``chosen``, int64, are seen.

    ``prepare(random, *rows)`` makes of B rows what the loss takes, on the device of the rows, and draws with the
    generator ``random`` alone. Which rows a step sees, and what is drawn, depends on ``seed`` and the step alone;
    ``first`` is the number of the first step.
    """

    tables: tuple[Tensor, ...]
    chosen: Tensor
    prepare: Callable[..., tuple[Tensor, ...]]
    batch: int
    seed: int
    first: int = 0


def batch_indices(seed: int, step: int, items: int, batch: int) -> Tensor:
    """Which items a step sees, int64 ``[B]``: depends on (seed, step) alone, so a resumed run sees the same."""
    epoch, position = divmod(step, max(1, items // batch))
    return _epoch(seed, epoch, items)[position * batch : (position + 1) * batch]


def _epoch(seed: int, epoch: int, items: int) -> Tensor:
    return torch.from_numpy(stream(seed * 1_000_003 + epoch, "epoch").permutation(items))


class Stepper:
    """Takes the steps of a model: gathers rows, prepares them, adds up gradients and moves the weights."""

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        lessons: Lessons,
        loss: Callable[..., Tensor],
        device: torch.device,
        team: Team,
    ) -> None:
        self._team = team
        self._model, self._optimiser, self._lessons, self._loss, self._device = model, optimiser, lessons, loss, device
        self._tables = _resident(lessons.tables, device)
        self._random = torch.Generator(device)
        self._items = len(lessons.chosen)
        self._whole = min(lessons.batch, self._items)  # of all processes
        self._batch = self._whole // team.count
        if not self._batch:
            raise RequestError(f"batch={self._whole} is less than the {team.count} processes; give each a face or more")
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)
        self._parts = Batches(self._batch)
        self._value = torch.zeros((), device=device)
        self._captures = device.type == "cuda" and team.count == 1
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]] = {}
        self._seen: dict[Hashable, int] = {}

    def __call__(self, step: int, kind: Hashable) -> Tensor:
        """Take a step; gives its loss, on the device, which the next step overwrites."""
        step += self._lessons.first
        epoch, position = divmod(step, max(1, self._items // self._whole))
        if epoch != self._epoch:
            order = self._lessons.chosen[_epoch(self._lessons.seed, epoch, self._items)]
            self._epoch, self._order = epoch, order.to(self._tables[0].device)
        start, count, rank = position * self._whole, self._team.count, self._team.rank
        items = self._prepared(
            self._order[start + rank : start + self._batch * count : count],
            (self._lessons.seed * 1_000_003 + step) * count + rank,
        )
        self._seen[kind] = self._seen.get(kind, 0) + 1
        if self._captures and self._parts.size == self._batch and self._seen[kind] == EAGER + 1:
            self._capture(kind, items)
        if kind in self._graphs:
            graph, inputs = self._graphs[kind]
            for place, item in zip(inputs, items, strict=True):
                place.copy_(item)
            graph.replay()
        else:
            self._value.copy_(self._gradients(kind, items))
            self._optimiser.step()
        return self._value

    @torch.no_grad()
    def _prepared(self, index: Tensor, seed: int) -> tuple[Tensor, ...]:
        rows = [table.index_select(0, index).to(self._device) for table in self._tables]
        return self._lessons.prepare(self._random.manual_seed(seed), *rows)

    def _gradients(self, kind: Hashable, items: tuple[Tensor, ...]) -> Tensor:
        """Leave the gradients of a step's loss in the model; gives the loss. Halves the parts until they fit."""
        while True:
            self._model.zero_grad(set_to_none=True)
            total = torch.zeros((), device=self._device)
            try:
                for some in zip(*(tensor.split(self._parts.size) for tensor in items), strict=True):
                    total += self._add_gradients(kind, some)
                return total
            except torch.OutOfMemoryError:
                if self._team.count > 1:  # the others are at their part's end, and would wait for gradients for ever
                    raise
                # halved below, where neither the traceback nor a variable holds the memory
            self._parts.halve()

    def _capture(self, kind: Hashable, items: tuple[Tensor, ...]) -> None:
        """Record a step of this kind, which takes none; where that cannot be done, all go on without graphs."""
        graph, inputs = torch.cuda.CUDAGraph(), tuple(item.clone() for item in items)
        self._model.zero_grad(set_to_none=True)
        try:
            with torch.cuda.graph(graph, stream=torch.cuda.current_stream(self._device)):
                self._value.copy_(self._add_gradients(kind, inputs))
                self._optimiser.step()
        except Exception as error:  # of memory, of what may not be captured
            reason = first_line(error)
            logging.getLogger(__name__).warning("steps are not captured as a CUDA graph (%s): slower", reason)
            self._captures = False
        else:
            self._graphs[kind] = graph, inputs

    def _add_gradients(self, kind: Hashable, items: Sequence[Tensor]) -> Tensor:
        """Backward through a part of the batch; gives its share of the loss. Its graph ends with this call."""
        value = self._loss(self._model, kind, *items) * (len(items[0]) / self._batch)
        self._team.backward(value)
        return value.detach()


def _resident(tables: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """The tables on the device, or where they are if they do not fit there."""
    try:
        return [table.to(device) for table in tables]
    except torch.OutOfMemoryError:
        return list(tables)
