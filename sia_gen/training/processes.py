"""Several processes of one training, as ``accelerate launch`` and ``torchrun`` start them: the first one writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sia_gen.core.errors import RequestError
from sia_gen.core.executors import resolve_device
from sia_gen.core.files import read_json

TRAINING = "training.json"  # settings and figures of a training, in its folder


def launched() -> bool:
    """Whether this process is one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Whether this process is alone, or the first of several."""
    return int(os.environ.get("RANK", "0")) == 0


def require_alone(what: str) -> None:
    """Raise `RequestError` for what several processes cannot share."""
    if launched():
        count = os.environ["WORLD_SIZE"]
        raise RequestError(f"'{what}' is for one process, not for {count}; start it without 'accelerate launch'")


def training_device(name: str) -> torch.device:
    """As `resolve_device`; of several processes each has its own of that kind."""
    place = resolve_device(name)
    if not launched():
        return place
    from accelerate import PartialState

    return PartialState(cpu=place.type == "cpu").device


def first_writes(finish: Callable[[], Any], out: Path) -> Any:
    """Have one process do what is left once a network is trained; all get the figures that it wrote."""
    if not launched():
        return finish()
    from accelerate import PartialState

    state = PartialState()
    if state.is_main_process:
        finish()
    state.wait_for_everyone()
    return read_json(out / TRAINING)["figures"]
