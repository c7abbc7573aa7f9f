"""The folder of a suite: the same call goes on in it, and a call with other settings is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sia_gen.core.errors import RequestError, differing
from sia_gen.core.files import is_file, read_json, require_own, writable_folder, write_json

SETTINGS = "bench.json"


def require_same_suite(
    out: Path, settings: Mapping[str, Any], besides: Sequence[str] = (), absent: Mapping[str, Any] | None = None
) -> None:  # fmt: skip
    """Raise `RequestError` for a folder that holds another suite, or something else than what is called ``besides``.

    ``absent``: what a setting was where the folder, of an older version, does not say.
    """
    require_own(out, SETTINGS, besides)
    if not is_file(out / SETTINGS):
        return
    found = {**(absent or {}), **read_json(out / SETTINGS)}
    other = differing({name: found.get(name) for name in settings}, settings)
    if other is not None:
        raise RequestError(f"'{out}' holds a suite with {other}; choose another --out or the same settings")


def open_suite(
    out: str | Path, settings: Mapping[str, Any], besides: Sequence[str] = (), absent: Mapping[str, Any] | None = None
) -> Path:  # fmt: skip
    """The folder of a suite with these settings, new or to be gone on in; raises as `require_same_suite` does."""
    require_same_suite(Path(out), settings, besides, absent)
    folder = writable_folder(out)
    write_json(folder / SETTINGS, settings)
    return folder
