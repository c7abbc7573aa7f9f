"""The loop that every recipe shares: seeded batches, a schedule, a moving average, and checkpoints to go on from.

It runs through accelerate: on one device, or under ``accelerate launch`` on several, each of which takes its share of
every batch. On a single CUDA device whole steps are recorded as CUDA graphs, since small networks are bound by the
launching of their kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.executors import Batches, Precision, Progress, autocast
from sia_gen.core.files import atomic
from sia_gen.core.modules import device_of
from sia_gen.core.seeds import stream

SAVE_EVERY, SAVE_EVERY_GPU = 250, 2500  # steps
CHECKPOINT = "checkpoint.pt"
BETAS, AVERAGE, DECAY_FROM = (0.9, 0.99), 0.998, 0.5
WARM_UP = 3  # steps of a kind that run before one is recorded: they allocate what later ones reuse

Draw = Callable[[int], tuple[Tensor, ...]]
"""A step → what its batch consists of, tensors with a row for each item. Depends on the step alone."""


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, items: int) -> Tensor:
    return torch.from_numpy(stream(seed * 1_000_003 + epoch, "epoch").permutation(items))


def batch_indices(seed: int, step: int, items: int, batch: int) -> Tensor:
    """Which items a step sees, int64 ``[batch]``: depends on (seed, step) alone, so a resumed run sees the same."""
    per_epoch = max(1, items // batch)
    epoch, position = divmod(step, per_epoch)
    return _order(seed, epoch, items)[position * batch : (position + 1) * batch]


def fit(
    model: nn.Module,
    draw: Draw,
    loss: Callable[..., Tensor],
    out: Path,
    *,
    steps: int,
    rate: float,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = BETAS,
    precision: Precision = "no",
    kind: Callable[[int], Hashable] = lambda step: None,
    settings: dict[str, object],
    progress: Progress | None = None,
) -> nn.Module:
    """Minimise ``loss(model, step, *draw(step))`` with AdamW for ``steps`` steps; returns the model's moving average.

    The loss is a mean over the items it is given, which lie on the model's device: when memory runs out, a step takes
    its batch in parts, half as large as before, whose gradients it adds up, and a warning is logged. What looks at a
    batch as a whole, batch norm for one, then sees the parts. Steps of one ``kind`` compute alike but for what is
    drawn. ``precision`` is that of the loss.

    The rate falls linearly to zero over the second half of the steps. The state is saved in ``out`` every
    250 steps, on a GPU every 2500; the same call goes on from there, and on a CPU ends with the same weights as an
    uninterrupted one. Raises `RequestError` for a checkpoint of other ``settings``, `WorkError` when the loss is not
    finite.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs

    if steps < 1:
        raise RequestError(f"steps={steps} is below 1; train for at least one step")
    device = device_of(model)
    averaged = deepcopy(model)
    on_gpu = device.type == "cuda"
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=torch.tensor(rate, device=device) if on_gpu else rate,
        betas=betas,
        weight_decay=weight_decay,
        fused=True,
        capturable=on_gpu,
    )
    path, first = out / CHECKPOINT, 0
    if path.exists():
        first = _resume(path, settings, model, averaged, optimiser)
    # A stage of a generator's training leaves its finest layers alone.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(cpu=not on_gpu, kwargs_handlers=[unused])
    alone, rank = accelerator.num_processes == 1, accelerator.process_index
    if not alone:
        model = accelerator.prepare_model(model)
    model.train()
    means, news = (list(_floating(network)) for network in (averaged, accelerator.unwrap_model(model)))
    counts = list(zip(_counting(averaged), _counting(accelerator.unwrap_model(model)), strict=True))
    every = SAVE_EVERY_GPU if on_gpu else SAVE_EVERY
    stepper = _Steps(model, loss, accelerator.backward, optimiser, precision, kind, graphs=on_gpu and alone)
    with _fast(on_gpu):
        for step in range(first, steps):
            now = rate * min(1.0, (1 - step / steps) / (1 - DECAY_FROM))
            for group in optimiser.param_groups:
                if on_gpu:
                    group["lr"].fill_(now)
                else:
                    group["lr"] = now
            drawn = tuple(tensor[rank :: accelerator.num_processes] for tensor in draw(step))
            value = stepper(step, drawn)
            with torch.no_grad():
                share = min(AVERAGE, (1 + step) / (10 + step))
                torch._foreach_lerp_(means, news, 1 - share)
                for mean, new in counts:
                    mean.copy_(new)
            if (step + 1) % every == 0 or step + 1 == steps:
                told = accelerator.gather(value.reshape(1)).mean().item()
                if told != told or told in (float("inf"), float("-inf")):
                    raise WorkError(f"the loss is {told} at step {step + 1}; lower the rate, or delete '{path}'")
                if accelerator.is_main_process:
                    state = {"settings": settings, "step": step + 1}
                    state |= {"model": accelerator.unwrap_model(model).state_dict()}
                    state |= {"averaged": averaged.state_dict(), "optimiser": optimiser.state_dict()}
                    with atomic(path) as partial:
                        torch.save(state, partial)
            if progress and ((step + 1) % 25 == 0 or step + 1 == steps):
                progress(step + 1, steps, f"loss {value.item():.4f}")
    return averaged.eval()


def _resume(path: Path, settings: dict[str, object], model: nn.Module, averaged: nn.Module, optimiser: Any) -> int:
    """Load a checkpoint; gives the step to go on with."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        found, first = state["settings"], int(state["step"])
        if found == settings:
            model.load_state_dict(state["model"])
            averaged.load_state_dict(state["averaged"])
            optimiser.load_state_dict(state["optimiser"])
    except Exception as error:  # what a damaged pickle raises is not to be foreseen
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise WorkError(f"cannot read checkpoint '{path}' ({reason}); delete it to start over") from None
    if found != settings:
        raise RequestError(f"'{path}' belongs to a run with {found}; choose another --out or delete it")
    return first


def _floating(network: nn.Module) -> Iterator[Tensor]:
    return (value for value in network.state_dict().values() if value.is_floating_point())


def _counting(network: nn.Module) -> Iterator[Tensor]:
    return (value for value in network.state_dict().values() if not value.is_floating_point())


@contextmanager
def _fast(on_gpu: bool) -> Iterator[None]:
    """On a GPU: TF32 in products, and the fastest algorithm of each convolution."""
    if not on_gpu:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, benchmark_limit=4, allow_tf32=True):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


class _Steps:
    """Takes steps of an optimiser: one by one, or replayed from CUDA graphs, one for each kind of step."""

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[..., Tensor],
        backward: Callable[[Tensor], None],
        optimiser: torch.optim.Optimizer,
        precision: Precision,
        kind: Callable[[int], Hashable],
        graphs: bool,
    ) -> None:
        self._model, self._loss, self._backward, self._optimiser = model, loss, backward, optimiser
        self._device, self._precision, self._kind = device_of(model), precision, kind
        self._graphs = graphs
        self._parts: Batches | None = None
        self._taken: dict[Hashable, int] = {}
        self._recorded: dict[Hashable, tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]] = {}
        self._aside = torch.cuda.Stream() if graphs else None

    def __call__(self, step: int, drawn: tuple[Tensor, ...]) -> Tensor:
        """Take a step; gives its loss."""
        drawn = tuple(tensor.to(self._device) for tensor in drawn)
        count, kind = len(drawn[0]), self._kind(step)
        self._parts = self._parts or Batches(count)
        taken = self._taken.get(kind, 0)
        self._taken[kind] = taken + 1
        if not self._graphs or self._parts.size < count:
            return self._plain(step, drawn)
        if taken < WARM_UP:
            assert self._aside is not None
            self._aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._aside):
                value = self._plain(step, drawn)
            torch.cuda.current_stream().wait_stream(self._aside)
            return value
        if kind not in self._recorded:
            self._recorded[kind] = self._record(step, drawn)
        graph, inputs, value = self._recorded[kind]
        for place, tensor in zip(inputs, drawn, strict=True):
            place.copy_(tensor)
        graph.replay()
        return value

    def _record(self, step: int, drawn: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]:
        inputs = [tensor.clone() for tensor in drawn]
        graph = torch.cuda.CUDAGraph()
        self._model.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            value = self._add_gradients(step, inputs, len(inputs[0]))
            self._optimiser.step()
        return graph, inputs, value

    def _plain(self, step: int, drawn: Sequence[Tensor]) -> Tensor:
        """Leave the gradients of a step's loss in the model, and follow them. Halves the parts until they fit."""
        assert self._parts is not None
        while True:
            self._model.zero_grad(set_to_none=True)
            total = torch.zeros((), device=self._device)
            try:
                for some in zip(*(tensor.split(self._parts.size) for tensor in drawn), strict=True):
                    total += self._add_gradients(step, some, len(drawn[0]))
                break
            except torch.OutOfMemoryError:
                pass  # halved below, where neither the traceback nor a variable holds the memory
            self._parts.halve()
        self._optimiser.step()
        return total

    def _add_gradients(self, step: int, items: Sequence[Tensor], count: int) -> Tensor:
        """Backward through a part of ``count`` items; gives its share of the loss. Its graph ends with this call."""
        with autocast(self._device, self._precision):
            value = self._loss(self._model, step, *items) * (len(items[0]) / count)
        self._backward(value)
        return value.detach()
