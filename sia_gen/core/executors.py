"""How batches run: which device and precision, and what happens when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.foreign import first_line

T = TypeVar("T")
Precision = Literal["no", "bf16", "fp16"]
Progress = Callable[[int, int, str], None]
"""Told (done, total, what) during long work; may raise `Cancelled`."""


def resolve_device(name: str) -> torch.device:
    """A torch device from ``"auto"``, ``"cpu"``, ``"cuda:1"`` …; raises `RequestError` if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)  # TypeError for no text
        torch.zeros(1, device=device).cpu()  # as "meta" cannot
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = first_line(error)
        raise RequestError(f"device '{name}' cannot be used ({reason}); use --device cpu") from None
    return device


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Mixed precision for the models; ω, δ and losses stay float32 outside of it.

    It is what accelerate's ``Accelerator.autocast`` enters, but without its process-wide state, which refuses a second
    precision in one process: two audits of a service, or an attack inside mixed-precision training.
    """
    dtype = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


@dataclass
class Batches:
    """Cuts ``count`` items into batches; halves the size and repeats the batch when memory runs out.

    The size only ever shrinks, and a warning is logged. Raises `WorkError` when even one item does not fit.
    """

    size: int

    def __call__(self, count: int, work: Callable[[slice], T]) -> Iterator[T]:
        """Yield ``work(slice)`` over consecutive slices of ``range(count)``."""
        start = 0
        while start < count:
            part = slice(start, min(start + self.size, count))
            try:
                result = work(part)
            except torch.OutOfMemoryError:
                fitted = False
            else:
                fitted = True
            if fitted:
                yield result
                start = part.stop
            else:
                self.halve()

    def halve(self) -> None:
        """Halve the size; call it outside of the ``except`` block, whose traceback still holds the memory."""
        if self.size == 1:
            raise WorkError("out of memory on a single image; use --device cpu or a smaller model")
        self.size //= 2
        logging.getLogger(__name__).warning("out of memory: batch halved to %d", self.size)
        torch.cuda.empty_cache()
