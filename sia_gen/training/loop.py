"""The loop that every recipe shares: seeded batches, a schedule, a moving average, and checkpoints to go on from.

What is learnt from lies on the device that learns, where rows are gathered and augmented. On a GPU a step is captured
once as a CUDA graph and replayed: launching the kernels of small networks takes longer than running them.

Letters: N items, B items of a step.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.executors import Batches, Precision, Progress, autocast
from sia_gen.core.files import atomic
from sia_gen.core.foreign import first_line
from sia_gen.core.modules import device_of
from sia_gen.core.seeds import stream
from sia_gen.training.processes import Team

SAVE_EVERY = 250  # steps, on a CPU
SAVE_AFTER = 60.0  # seconds, on a GPU
REPORT_EVERY = {"cpu": 25, "cuda": 200}  # steps: to read the loss is to wait for it
CHECKPOINT = "checkpoint.pt"
BETAS, AVERAGE, DECAY_FROM = (0.9, 0.99), 0.998, 0.5
GPU_BATCHES = 4  # times the batch of a CPU is that of a GPU
RISE = 50  # the first one in so many of the steps raise the rate
TRIED = 4  # algorithms of a convolution, of which the fastest is taken
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


def batch_for(wanted: int | None, usual: int, device: torch.device) -> int:
    """The batch ``wanted``; without one the ``usual``, four of which a GPU takes at once.

    Raises `RequestError` for a batch below 2.
    """
    chosen = wanted if wanted is not None else usual * (1 if device.type == "cpu" else GPU_BATCHES)
    if chosen < 2:
        raise RequestError(f"batch={chosen} is below 2; give two faces or more")
    return chosen


def scaled_rate(rate: float, batch: int, usual: int) -> float:
    """The learning rate of a batch that is larger or smaller than usual: as its square root, which suits Adam."""
    return float(f"{rate * (batch / usual) ** 0.5:.3g}")


def share_done(step: int, steps: int) -> float:
    """How much of a training lies behind a step, 0…1."""
    return step / steps


def fit(
    model: nn.Module,
    lessons: Lessons,
    loss: Callable[..., Tensor],
    out: Path,
    *,
    steps: int,
    rate: float,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = BETAS,
    settings: dict[str, object],
    precision: Precision = "no",
    kind: Callable[[int, float], Hashable] = lambda step, done: None,
    progress: Progress | None = None,
) -> nn.Module:
    """Minimise ``loss(model, kind(step, done), *items)`` with AdamW for ``steps`` steps; returns the moving average.

    ``items`` is what the lessons give a step, ``done`` the share of the steps before it; a step's kind, of which there
    are few, is all that the loss may know of it. The loss is a mean over the items: when memory runs out, a step takes
    its batch in parts, half as large as before, whose gradients it adds up, and a warning is logged. What looks at a
    batch as a whole, batch norm for one, then sees the parts. It is computed in mixed ``precision`` where asked.

    The rate rises over the first fiftieth of the steps and falls linearly to zero over the second half. The state is
    saved in ``out`` every 250 steps, on a GPU every minute; the same call goes on from there, and on a CPU ends with
    the same weights as an uninterrupted one. Several processes, see `processes`, take a part of each batch each.
    Raises `RequestError` for a checkpoint of other ``settings``, `WorkError` when the loss is not finite.
    """
    if steps < 1:
        raise RequestError(f"steps={steps} is below 1; train for at least one step")
    averaged, device = deepcopy(model), device_of(model)
    on_gpu = device.type == "cuda"
    pace: Any = torch.tensor(rate, device=device) if on_gpu else rate  # a graph reads the rate where it lies
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=pace, betas=betas, weight_decay=weight_decay, fused=True, capturable=on_gpu
    )
    path, first = out / CHECKPOINT, 0
    if path.exists():
        first = _resume(path, settings, model, averaged, optimiser)
    plain, team = model, Team(device)
    model = team.prepare(model.train())
    average = _Average(averaged, plain)  # only now: what is prepared may have been moved
    saved, value = time.monotonic(), torch.zeros(())
    with _own_stream(device):

        def inside(*arguments: Any) -> Tensor:
            with autocast(device, precision):
                return loss(*arguments)

        stepper = _Stepper(model, optimiser, lessons, inside, device, team)
        step, done = first, share_done(first, steps)
        while done < 1:
            _set_rate(optimiser, pace, rate * min(1.0, RISE * (done + 1 / steps), (1 - done) / (1 - DECAY_FROM)))
            value = stepper(step, kind(step, done))
            average.follow(1 - min(AVERAGE, (1 + step) / (10 + step)))
            step, done = step + 1, share_done(step + 1, steps)
            last = done >= 1
            reported = last or step % REPORT_EVERY[device.type] == 0
            if on_gpu:
                due = reported and time.monotonic() - saved > SAVE_AFTER
            else:
                due = step % SAVE_EVERY == 0
            if not (last or due or reported):
                continue
            told = team.mean(value).item()
            if last or due:
                if not math.isfinite(told):
                    raise WorkError(f"the loss is {told} at step {step}; lower the rate, or delete '{path}'")
                average.finish()
                saved = time.monotonic()
                if team.rank == 0:
                    state = {"settings": settings, "step": step, "model": plain.state_dict()}
                    state |= {"averaged": averaged.state_dict(), "optimiser": optimiser.state_dict()}
                    with atomic(path) as partial:
                        torch.save(state, partial)
            if progress and reported and team.rank == 0:
                progress(step, steps, f"loss {told:.4f}")
    team.wait()
    return averaged.eval()


def _resume(
    path: Path, settings: dict[str, object], model: nn.Module, averaged: nn.Module, optimiser: torch.optim.Optimizer
) -> int:
    """Go on from a checkpoint; gives the number of steps that it has behind it."""
    paces = [group["lr"] for group in optimiser.param_groups]
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        found, first = state["settings"], int(state["step"])
        if found == settings:
            model.load_state_dict(state["model"])
            averaged.load_state_dict(state["averaged"])
            optimiser.load_state_dict(state["optimiser"])
            for group, pace in zip(optimiser.param_groups, paces, strict=True):
                group["lr"] = pace
    except Exception as error:  # what a damaged pickle raises is not to be foreseen
        reason = first_line(error)
        raise WorkError(f"cannot read checkpoint '{path}' ({reason}); delete it to start over") from None
    if found != settings:
        raise RequestError(f"'{path}' belongs to a run with {found}; choose another --out or delete it")
    return first


def _set_rate(optimiser: torch.optim.Optimizer, pace: Any, rate: float) -> None:
    if isinstance(pace, Tensor):
        pace.fill_(rate)
        return
    for group in optimiser.param_groups:
        group["lr"] = rate


class _Average:
    """The moving average of a model's weights and statistics in another of its kind."""

    def __init__(self, averaged: nn.Module, model: nn.Module) -> None:
        pairs = list(zip(averaged.state_dict().values(), model.state_dict().values(), strict=True))
        self._moving = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def follow(self, share: float) -> None:
        torch._foreach_lerp_([mean for mean, _ in self._moving], [new for _, new in self._moving], share)

    @torch.no_grad()
    def finish(self) -> None:
        """What is counted, as batches are, is not averaged."""
        for mean, new in self._counts:
            mean.copy_(new)


class _Stepper:
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
                pass  # halved below, where neither the traceback nor a variable holds the memory
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


@contextmanager
def _own_stream(device: torch.device) -> Iterator[None]:
    """A stream of its own for all work of a training on a GPU: graphs are not captured on the common one."""
    if device.type != "cuda":
        yield
        return
    precision, ours = torch.get_float32_matmul_precision(), torch.cuda.Stream(device)
    ours.wait_stream(torch.cuda.current_stream(device))
    # To try more algorithms of each convolution takes longer than the best of them saves.
    tried = torch.backends.cudnn.flags(enabled=True, benchmark=True, benchmark_limit=TRIED, allow_tf32=True)
    try:
        torch.set_float32_matmul_precision("high")
        with tried, torch.cuda.device(device), torch.cuda.stream(ours):
            yield
        torch.cuda.current_stream(device).wait_stream(ours)
    finally:
        torch.set_float32_matmul_precision(precision)
