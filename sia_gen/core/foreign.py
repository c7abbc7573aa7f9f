"""Other people's code, run so that whatever it prints, raises or ends with becomes one line of ours."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from sia_gen.core.errors import Cancelled, RequestError, WorkError

OUT_OF_MEMORY = "OutOfMemoryError"  # torch's, which is not imported for a name here


def first_line(error: BaseException) -> str:
    """The first line of what an error says, where that is more than a key or a number, else its type with it."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    kind = type(error).__name__
    if isinstance(error, KeyError) or not any(map(str.isalpha, said)):
        return f"{kind}: {said}" if said else kind
    return said


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Raise `WorkError` for whatever the block raises, ``what`` being what fails.

    That includes `SystemExit`, which would end the program as if all were done. Ctrl-C, memory that runs out and errors
    that are one line already pass.
    """
    try:
        yield
    except (RequestError, WorkError, Cancelled):
        raise
    except (Exception, SystemExit) as error:
        if type(error).__name__ == OUT_OF_MEMORY:
            raise
        kind, said = type(error).__name__, first_line(error)
        failure = WorkError(
            f"{what} fails ({said if said.startswith(kind) else f'{kind}: {said}'}); mend it and run the same again"
        )
        # contextlib takes a RuntimeError that StopIteration caused for its own, and raises the cause.
        raise failure from (None if isinstance(error, StopIteration) else error)


@contextmanager
def foreign(what: str) -> Iterator[None]:
    """Run other people's code: as `one_line`, and what it prints goes to stderr, as stdout is for results."""
    with one_line(what), redirect_stdout(sys.stderr):
        yield


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' log and bars: what they tell of is said in one line of our own, or not worth one."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
