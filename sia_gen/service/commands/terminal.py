"""What the command line shows: progress on stderr, tables on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sia_gen.core import executors

BAR_WIDTH = 12
PIPE_WIDTH = 160  # a pipe has no width to fit into
LOG_SECONDS = 10.0  # between two lines of progress in a log
EIGHTHS = " ▏▎▍▌▋▊▉"


@contextmanager
def progress_bar(quiet: bool) -> Iterator[executors.Progress | None]:
    """A progress callback that draws on stderr, or writes a line there now and then where that is no terminal.

    None where nobody looks (``quiet``).
    """
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        yield log_lines(LOG_SECONDS)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=escape(what))

        yield show


def log_lines(seconds: float) -> executors.Progress:
    """A progress callback that writes a line on stderr when what is done has changed, at most every ``seconds``."""
    last = [monotonic(), ""]

    def show(done: int, total: int, what: str) -> None:
        line = f"{done} of {total}: {what}"
        if monotonic() - last[0] >= seconds and line != last[1]:
            print(line, file=sys.stderr, flush=True)
            last[:] = monotonic(), line

    return show


def bar(share: float, width: int = BAR_WIDTH) -> str:
    """A bar of ``share`` (0 … 1) of ``width`` characters, to an eighth of one."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, part = divmod(eighths, 8)
    return "█" * full + (EIGHTHS[part] if part else "")


def show_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; headings that start with ">" are right-aligned, and the last column to the left is wrapped."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate(headings, 1):
        justify: Literal["left", "right"] = "right" if heading.startswith(">") else "left"
        wrapped = place == len(headings) and justify == "left"
        table.add_column(heading.removeprefix(">"), justify=justify, no_wrap=not wrapped)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    print(title)
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def show_entries(title: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """Print plain entries, a column per key."""
    if not entries:
        print(f"no {title} are shipped")
        return
    show_table(title, [key.replace("_", " ") for key in entries[0]], [list(map(_cell, e.values())) for e in entries])


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.3g}"
    return {None: "–", True: "yes", False: "no"}.get(value, str(value))


def number(value: float | None, form: str) -> str:
    """A number in a table, a dash for none."""
    return "–" if value is None else format(value, form)


def interval(ends: Sequence[float]) -> str:
    """Of a share, in per cent."""
    return f"{100 * ends[0]:.0f}–{ends[1]:.0%}"


def signed_interval(ends: Sequence[float] | None, form: str) -> str:
    """Of a difference; a dash for none."""
    return "–" if ends is None else f"{ends[0]:{form}} … {ends[1]:{form}}"
