"""The loop that every recipe shares: seeded batches, a schedule, a moving average, and checkpoints to go on from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.executors import Batches, Progress
from sia_gen.core.files import atomic
from sia_gen.core.modules import device_of
from sia_gen.core.seeds import stream

SAVE_EVERY = 250  # steps
CHECKPOINT = "checkpoint.pt"
BETAS, AVERAGE, DECAY_FROM = (0.9, 0.99), 0.998, 0.5

Draw = Callable[[int], tuple[Tensor, ...]]
"""A step → what its batch consists of, on the CPU: tensors with a row for each item. Depends on the step alone."""


def batch_indices(seed: int, step: int, items: int, batch: int) -> Tensor:
    """Which items a step sees, int64 ``[batch]``: depends on (seed, step) alone, so a resumed run sees the same."""
    per_epoch = max(1, items // batch)
    epoch, position = divmod(step, per_epoch)
    order = stream(seed * 1_000_003 + epoch, "epoch").permutation(items)
    return torch.from_numpy(order[position * batch : (position + 1) * batch])


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
    settings: dict[str, object],
    progress: Progress | None = None,
) -> nn.Module:
    """Minimise ``loss(model, step, *draw(step))`` with AdamW for ``steps`` steps; returns the model's moving average.

    The loss is a mean over the items it is given, which lie on the model's device: when memory runs out, a step takes
    its batch in parts, half as large as before, whose gradients it adds up, and a warning is logged. What looks at a
    batch as a whole, batch norm for one, then sees the parts.

    The rate falls linearly to zero over the second half of the steps. The state is saved in ``out`` every
    250 steps; the same call goes on from there, and on a CPU ends with the same weights as an uninterrupted one.
    Raises `RequestError` for a checkpoint of other ``settings``, `WorkError` when the loss is not finite.
    """
    if steps < 1:
        raise RequestError(f"steps={steps} is below 1; train for at least one step")
    averaged = deepcopy(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=betas, weight_decay=weight_decay)
    path, first = out / CHECKPOINT, 0
    if path.exists():
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
    model.train()
    parts: Batches | None = None
    for step in range(first, steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (1 - step / steps) / (1 - DECAY_FROM))
        drawn = draw(step)
        parts = parts or Batches(len(drawn[0]))
        value = _gradients(model, loss, step, drawn, parts)
        optimiser.step()
        with torch.no_grad():
            share = min(AVERAGE, (1 + step) / (10 + step))
            for mean, new in zip(averaged.state_dict().values(), model.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(new, 1 - share)
                else:
                    mean.copy_(new)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            if not torch.isfinite(value):
                raise WorkError(f"the loss is {value.item()} at step {step + 1}; lower the rate, or delete '{path}'")
            state = {"settings": settings, "step": step + 1, "model": model.state_dict()}
            state |= {"averaged": averaged.state_dict(), "optimiser": optimiser.state_dict()}
            with atomic(path) as partial:
                torch.save(state, partial)
        if progress and ((step + 1) % 25 == 0 or step + 1 == steps):
            progress(step + 1, steps, f"loss {value.item():.4f}")
    return averaged.eval()


def _gradients(
    model: nn.Module, loss: Callable[..., Tensor], step: int, drawn: tuple[Tensor, ...], parts: Batches
) -> Tensor:
    """Leave the gradients of a step's loss in the model; gives the loss. Halves the parts until they fit."""
    device, count = device_of(model), len(drawn[0])
    while True:
        model.zero_grad(set_to_none=True)
        total = torch.zeros((), device=device)
        try:
            for some in zip(*(tensor.split(parts.size) for tensor in drawn), strict=True):
                total += _add_gradients(model, loss, step, [tensor.to(device) for tensor in some], count)
            return total
        except torch.OutOfMemoryError:
            pass  # halved below, where neither the traceback nor a variable holds the memory
        parts.halve()


def _add_gradients(
    model: nn.Module, loss: Callable[..., Tensor], step: int, items: Sequence[Tensor], count: int
) -> Tensor:
    """Backward through a part of ``count`` items; gives its share of the loss. Its graph ends with this call."""
    value = loss(model, step, *items) * (len(items[0]) / count)
    value.backward()
    return value.detach()
