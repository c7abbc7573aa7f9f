"""Where a service writes: never into its own folder, which may be read-only and another user's."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PERSISTENT = Path("/data")  # a Space's own disk, where it has one


def kept() -> Path | None:
    """The disk that outlives a restart of a Space, if it has one."""
    return PERSISTENT if "SPACE_ID" in os.environ and os.access(PERSISTENT, os.W_OK) else None


def settle() -> None:
    """Name places that can be written to for files of gradio, of the hub and of matplotlib, where none are named.

    To be called before these are imported. What is in temporary folders goes with the program.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    if not os.environ.get("GRADIO_TEMP_DIR"):
        # Gradio's own folder has a name that belongs to whoever served first on the machine.
        os.environ["GRADIO_TEMP_DIR"] = _temporary("app")
    home = Path(os.environ.get("HOME", "/"))
    writable = os.access(home, os.W_OK)
    if "HF_HOME" not in os.environ and (kept() or not writable):
        os.environ["HF_HOME"] = str(kept() / "huggingface") if kept() else _temporary("hub")
    if "MPLCONFIGDIR" not in os.environ and not writable:
        os.environ["MPLCONFIGDIR"] = _temporary("figures")


def _temporary(name: str) -> str:
    folder = tempfile.TemporaryDirectory(prefix=f"sia-gen-{name}-", ignore_cleanup_errors=True)
    _folders.append(folder)  # which goes when nothing holds it
    return folder.name


_folders: list[tempfile.TemporaryDirectory[str]] = []
