"""The folder of a suite: the same call goes on in it, and a call with other settings is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sia_gen.core.errors import RequestError
from sia_gen.core.files import is_file, is_folder, read_json, writable_folder, write_json

SETTINGS = "bench.json"


def require_same_suite(
    out: Path, settings: Mapping[str, Any], besides: Sequence[str] = (), absent: Mapping[str, Any] | None = None
) -> None:  # fmt: skip
    """Raise `RequestError` for a folder that holds another suite, or something else than what is called ``besides``.

    ``absent``: what a setting was where the folder, of an older version, does not say.
    """
    if not is_file(out / SETTINGS):
        if is_folder(out) and any(path.name not in besides and not path.name.startswith(".") for path in out.iterdir()):
            raise RequestError(f"'{out}' holds files that are no suite's; choose another --out or an empty folder")
        return
    found = {**(absent or {}), **read_json(out / SETTINGS)}
    for name, value in settings.items():
        if found.get(name) != value:
            raise RequestError(
                f"'{out}' holds a suite with {name}={found.get(name)}, not {value}; choose another --out or the same "
                "settings"
            )


def open_suite(
    out: str | Path, settings: Mapping[str, Any], besides: Sequence[str] = (), absent: Mapping[str, Any] | None = None
) -> Path:  # fmt: skip
    """The folder of a suite with these settings, new or to be gone on in; raises as `require_same_suite` does."""
    require_same_suite(Path(out), settings, besides, absent)
    folder = writable_folder(out)
    write_json(folder / SETTINGS, settings)
    return folder
