"""Says where the work failed, whatever a foreign model raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sia_gen.core.errors import Cancelled, RequestError, WorkError


@contextmanager
def blame(where: str) -> Iterator[None]:
    """Raises `WorkError` that begins with ``where`` for whatever the block raises, but for what says enough already."""
    try:
        yield
    except (RequestError, Cancelled, torch.OutOfMemoryError):
        raise
    except WorkError as error:
        raise WorkError(f"{where}: {error}") from error
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise WorkError(
            f"{where}: {type(error).__name__}: {reason}; mend the target or the generator and run the same again"
        ) from error
