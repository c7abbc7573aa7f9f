"""Several processes of one training, each of which takes its part of every batch.

``accelerate launch`` starts them, as ``torchrun`` does: on several GPUs and, told ``--multi_gpu``, on a CPU, too:

    accelerate launch --multi_gpu --num_processes 2 -m sia_gen.cli harden … --device cpu

Its own ``--cpu`` starts a single one, unless there is MPI and a list of hosts for it.

Alone, a process needs nothing of this, nor the process-wide state that accelerate keeps.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sia_gen.core.errors import RequestError
from sia_gen.core.executors import resolve_device
from sia_gen.core.files import read_json

PATIENCE = timedelta(days=2)  # of processes that wait for one another, also while one of them draws or audits
TRAINING = "training.json"  # settings and figures of a training, in its folder


def launched() -> bool:
    """Whether this process is one of several of ``accelerate launch``."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Whether this process is alone, or the first of several."""
    return int(os.environ.get("RANK", "0")) == 0


def training_device(name: str) -> torch.device:
    """As `resolve_device`; of several processes each has its own of that kind."""
    place = resolve_device(name)
    if not launched():
        return place
    from accelerate import PartialState

    return PartialState(cpu=place.type == "cpu", timeout=PATIENCE).device


def require_alone(what: str) -> None:
    """Raise `RequestError` for what several processes cannot share."""
    if launched():
        count = os.environ["WORLD_SIZE"]
        raise RequestError(f"'{what}' is for one process, not for {count}; start it without 'accelerate launch'")


def once(work: Callable[[], Any]) -> None:
    """Have one process do ``work``, which leaves a file for all, and the others wait for it.

    It begins once all are here, so that what one of them found undone before, all of them did.
    """
    if not launched():
        work()
        return
    from accelerate import PartialState

    state = PartialState()
    state.wait_for_everyone()
    if state.is_main_process:
        work()
    state.wait_for_everyone()


def first_writes(work: Callable[[], Any], out: Path) -> Any:
    """Have one process do what is done once a network is trained; gives all of them the figures that it wrote."""
    if not launched():
        return work()
    once(work)
    return read_json(out / TRAINING)["figures"]


class Team:
    """The processes that train a model: one, or those that accelerate launched, which share their gradients."""

    def __init__(self, device: torch.device) -> None:
        self._accelerator: Any = None
        self.count, self.rank = 1, 0
        if launched():
            from accelerate import Accelerator, DistributedDataParallelKwargs

            # A stage of a generator's training leaves its finest layers alone.
            unused = DistributedDataParallelKwargs(find_unused_parameters=True)
            # The precision is asked of us, whatever accelerate's own settings say: see `autocast`.
            given = {"mixed_precision": "no", "kwargs_handlers": [unused]}
            self._accelerator = Accelerator(cpu=device.type == "cpu", **given)
            self.count, self.rank = self._accelerator.num_processes, self._accelerator.process_index

    def prepare(self, model: nn.Module) -> nn.Module:
        """The model, which averages its gradients over the processes where there are several."""
        return model if self._accelerator is None else self._accelerator.prepare(model)

    def backward(self, value: Tensor) -> None:
        if self._accelerator is None:
            value.backward()
        else:
            self._accelerator.backward(value)

    def mean(self, value: Tensor) -> Tensor:
        """A scalar's mean over the processes; all of them must ask."""
        return value if self._accelerator is None else self._accelerator.gather(value.reshape(1)).mean()

    def wait(self) -> None:
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()
