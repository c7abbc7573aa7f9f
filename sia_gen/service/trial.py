"""Try a target in a process of its own: one that hangs, or takes all memory, ends there and not with the service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import psutil
import torch

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import is_file, read_json, write_json
from sia_gen.core.foreign import foreign
from sia_gen.targets.load import load_target
from sia_gen.targets.target import ask

FACES, SIDE = 32, 128  # as many at a time as an attack asks about
SECONDS = 120.0  # to start the process, load the model, and ask it once
MEMORY = 6_000_000_000  # bytes that the process may hold, or half of what is free if that is less
LOOK_SECONDS = 0.05  # between two looks at what it holds


def try_out(name: str | Path, device: str = "cpu", seconds: float = SECONDS, memory: int = MEMORY) -> None:
    """Load a target by the name that `load_target` takes, and ask it about noise, forward and backward.

    Raises `RequestError` where that takes more than ``seconds`` or ``memory`` bytes, and whatever loading and asking
    raise; `WorkError` for one that ends its process.
    """
    memory = min(memory, psutil.virtual_memory().available // 2)
    with tempfile.TemporaryDirectory(prefix="sia-gen-trial-") as folder:
        told = Path(folder) / "told.json"
        command = [sys.executable, "-m", __name__, str(name), device, str(torch.get_num_threads()), str(told)]
        child = subprocess.Popen(
            [*command, str(int(seconds) + 1)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _watch(child, seconds, memory)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if not is_file(told):
            raise WorkError(f"the model ended its process with status {child.returncode}; mend it, or take another one")
        found = read_json(told)
    if found["error"]:
        raise (RequestError if found["wrong"] else WorkError)(found["error"])


def _watch(child: subprocess.Popen[bytes], seconds: float, memory: int) -> None:
    """Wait for the end of a process; raises `RequestError` when it goes too far."""
    end = monotonic() + seconds
    while child.poll() is None:
        if _held(child.pid) > memory:
            raise RequestError(
                f"the model takes more than {memory / 1e9:.1f} GB of memory with {FACES} faces; take a smaller one"
            )
        if monotonic() > end:
            raise RequestError(f"the model needs more than {seconds:g} s for {FACES} faces; take a faster one")
        sleep(LOOK_SECONDS)


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
    images = torch.rand(FACES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(device)
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
