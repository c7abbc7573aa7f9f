"""Try a target in a process of its own: one that hangs, or takes all memory, ends there and not with the service."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import psutil
import torch

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.executors import Progress
from sia_gen.core.files import is_file, read_json, write_json
from sia_gen.core.foreign import foreign
from sia_gen.targets.load import load_target
from sia_gen.targets.target import ask

PICTURES, SIDE = 32, 128  # as many at a time as an attack asks about
LOOK_SECONDS = 0.05  # between two looks at what it holds


@dataclass(frozen=True)
class Limits:
    """``seconds`` to start the process, load the model and ask it once, and bytes of ``memory`` that it may hold.

    Where a ``share`` of what is free is less, it may hold only that.
    """

    seconds: float
    memory: float
    share: float


BROUGHT = Limits(seconds=120, memory=6e9, share=1 / 2)
LOCAL = Limits(seconds=600, memory=math.inf, share=4 / 5)


def try_out(name: str | Path, device: str = "cpu", limits: Limits = BROUGHT, progress: Progress | None = None) -> None:
    """Load a target by the name that `load_target` takes, and ask it about noise, forward and backward.

    Raises `RequestError` where that takes more than the limits, and whatever loading, asking and ``progress`` raise;
    `WorkError` for one that ends its process.
    """
    with tempfile.TemporaryDirectory(prefix="sia-gen-trial-") as folder:
        told = Path(folder) / "told.json"
        command = [sys.executable, "-m", __name__, str(name), device, str(torch.get_num_threads()), str(told)]
        status = watched([*command, str(int(limits.seconds) + 1)], limits, progress)
        if not is_file(told):
            raise WorkError(_ended(status))
        found = read_json(told)
    if found["error"]:
        raise (RequestError if found["wrong"] else WorkError)(found["error"])


def watched(command: list[str], limits: Limits, progress: Progress | None = None) -> int:
    """The exit status of a process, which is killed with all that it began where it goes too far.

    Raises `RequestError` for that, and what ``progress`` raises, which is told of it at each look.
    """
    free = psutil.virtual_memory().available * limits.share
    child = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        end = monotonic() + limits.seconds
        while child.poll() is None:
            if progress:
                progress(0, 1, "trying the model")
            if _held(child.pid) > min(limits.memory, free):
                raise RequestError(_too_much(limits.memory, free))
            if monotonic() > end:
                raise RequestError(
                    f"the model needs more than {limits.seconds:g} s for {PICTURES} pictures; take a faster one"
                )
            sleep(LOOK_SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return child.returncode


def _too_much(memory: float, free: float) -> str:
    if free < memory:
        return f"only {free / 1e9:.1f} GB are free for a trial; end other work or try later"
    return f"the model takes more than {memory / 1e9:.1f} GB of memory with {PICTURES} pictures; take a smaller one"


def _ended(status: int) -> str:
    if status < 0:
        how = signal.strsignal(-status) or f"signal {-status}"
        return f"the model's process was killed ({how}), most likely for memory; take a smaller model"
    return f"the model ended its process with status {status}; mend it, or take another one"


def _held(process: int) -> int:
    """Bytes that a process and those that it started hold."""
    held = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(process)
        for each in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                held += each.memory_info().rss
    return held


def _ask(name: str, device: str) -> None:
    target = load_target(name, device)
    images = torch.rand(PICTURES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(device)
    prediction = ask(target, images.requires_grad_(target.differentiable))
    if prediction.requires_grad:
        with foreign(f"target '{target.name}'"):
            prediction.float().sum().backward()


def main(name: str, device: str, threads: str, told: str, seconds: str) -> None:
    """What the process does; it ends by itself should nobody watch it."""
    signal.alarm(int(seconds))
    torch.set_num_threads(int(threads))
    error, wrong = "", False
    try:
        _ask(name, device)
    except (RequestError, WorkError) as raised:
        error, wrong = str(raised), isinstance(raised, RequestError)
    write_json(told, {"error": error, "wrong": wrong})
    os._exit(0)  # whatever it left running


if __name__ == "__main__":
    main(*sys.argv[1:])
