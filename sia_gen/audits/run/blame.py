"""Says where the work failed, whatever a foreign model raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sia_gen.core.errors import WorkError
from sia_gen.core.foreign import one_line


@contextmanager
def blame(where: str) -> Iterator[None]:
    """Raises `WorkError` that begins with ``where`` for whatever the block raises, but for what says enough already."""
    try:
        with one_line("the target or the generator"):
            yield
    except WorkError as error:
        raise WorkError(f"{where}: {error}") from error
