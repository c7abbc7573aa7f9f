"""The run store: one folder a run, named by what was asked, so that asking again resumes or shows it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sia_gen.core.errors import RequestError


def run_store() -> Path:
    """Where runs lie: the environment's ``SIA_GEN_RUNS``, else ``runs`` in the working directory."""
    return Path(os.environ.get("SIA_GEN_RUNS") or "runs")


def slug(name: str) -> str:
    """A name as the name of a folder: ``hf:owner/name`` becomes ``hf-owner-name``."""
    found = re.sub(r"[^a-z0-9]+", "-", Path(name).name.lower() if Path(name).is_dir() else name.lower()).strip("-")
    if not found:
        raise RequestError(f"'{name}' gives no name for a run folder; give one with --out")
    return found
