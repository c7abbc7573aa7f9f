"""The loop that every recipe shares: seeded batches, a schedule, a moving average, and checkpoints to go on from.

Letters: N items, B items of a step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.executors import Precision, Progress, autocast
from sia_gen.core.files import atomic
from sia_gen.core.foreign import first_line, one_line
from sia_gen.core.modules import device_of
from sia_gen.studio.renders import RenderSet
from sia_gen.training.processes import Team
from sia_gen.training.stepper import Lessons, Stepper

SAVE_EVERY = 250  # steps, on a CPU
SAVE_AFTER = 60.0  # seconds, on a GPU
REPORT_EVERY = {"cpu": 25, "cuda": 200}  # steps: to read the loss is to wait for it
CHECKPOINT = "checkpoint.pt"
BETAS, AVERAGE, DECAY_FROM = (0.9, 0.99), 0.998, 0.5
WEIGHT_DECAY = 0.05  # of networks that read pictures
GPU_BATCHES = 4  # times the batch of a CPU is that of a GPU
RISE = 50  # the first one in so many of the steps raise the rate
TRIED = 4  # algorithms of a convolution, of which the fastest is taken


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
    Raises `RequestError` for a checkpoint of other ``settings``, `WorkError` when the loss or a weight is not finite,
    which keeps the checkpoint before. Of several processes memory that runs out ends all.
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

        stepper = Stepper(model, optimiser, lessons, inside, device, team)
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
                moved = all(bool(weight.isfinite().all()) for weight in plain.parameters())
                if not math.isfinite(told) or not moved:
                    wrong = "a weight is not finite" if math.isfinite(told) else f"the loss is {told}"
                    raise WorkError(
                        f"{wrong} at step {step}; start anew in another folder, with a lower rate where one can be told"
                    )
                average.finish()
                saved = time.monotonic()
                if team.rank == 0:
                    state = {"settings": settings, "step": step, "model": plain.state_dict()}
                    state |= {"averaged": averaged.state_dict(), "optimiser": optimiser.state_dict()}
                    with atomic(path) as partial, one_line(f"writing '{path}'"):  # a full disk is no OSError to torch
                        torch.save(state, partial)
            if progress and reported and team.rank == 0:
                progress(step, steps, f"loss {told:.4f}")
    team.wait()
    return averaged.eval()


def learn(
    recipe: str,
    model: nn.Module,
    data: RenderSet,
    tables: tuple[Tensor, ...],
    prepare: Callable[..., tuple[Tensor, ...]],
    loss: Callable[..., Tensor],
    out: Path,
    *,
    usual: int,
    rate: float,
    steps: int,
    batch: int | None,
    seed: int,
    precision: Precision,
    progress: Progress | None,
) -> tuple[nn.Module, dict[str, object]]:
    """`fit` on all training faces of a render set, whose rows are in ``tables``; gives the network, and its settings.

    ``batch`` is ``usual`` unless given, on a GPU more; ``rate`` is that of the usual batch. ``prepare`` is of
    `Lessons`.
    """
    batch = batch_for(batch, usual, device_of(model))
    settings: dict[str, object] = {"recipe": recipe, "steps": steps, "batch": batch, "seed": seed}
    settings |= {"precision": precision, "renders": data.settings}
    made = fit(
        model,
        Lessons(tables, torch.arange(data.training), prepare, batch, seed),
        loss,
        out,
        steps=steps,
        rate=scaled_rate(rate, batch, usual),
        weight_decay=WEIGHT_DECAY,
        settings=settings,
        precision=precision,
        progress=progress,
    )
    return made, settings


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
