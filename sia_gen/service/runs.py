"""The run store: one folder a run, which may be finished, under way or stopped."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from sia_gen.audits.finished.audit_report import HISTOGRAM, AuditReport
from sia_gen.audits.run.run_folder import CONFIG, MADE_OF
from sia_gen.core.errors import unknown
from sia_gen.core.files import atomic, is_folder, read_json
from sia_gen.service.places import kept

# What a first visitor sees: sia-gen audit --target smile-classifier-planted, less parts/ and images/.
KEPT_SECONDS, DISK_SHARE = 30 * 24 * 3600, 0.2  # of a Space's runs
MENDED = ".mended"  # folder of the mended models, in that of the runs
LONGEST = 60  # letters of a folder's name
FIRST_RESULT = Path(__file__).parent / "first_result"


def default_folder() -> Path:
    """The environment's ``SIA_GEN_RUNS``; else on a Space its own disk ``/data`` if it has one, or a temporary folder,
    and ``runs`` in the working directory elsewhere."""
    if named := os.environ.get("SIA_GEN_RUNS"):
        return Path(named)
    if "SPACE_ID" not in os.environ:
        return Path("runs")
    return (kept() or Path(tempfile.gettempdir())) / "sia-gen-runs"


def slug(name: str) -> str:
    """A model's name as the name of a folder: ``hf:owner/name`` becomes ``hf-owner-name``."""
    short = Path(name).name if is_folder(Path(name)) else name
    plain = re.sub(r"[\W_]+", "-", short.lower()).strip("-")
    return plain[:LONGEST] or f"run-{hashlib.sha256(short.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class RunStore:
    """Runs by name; a name is never a path, so nothing outside of the folder can be asked for."""

    folder: Path = field(default_factory=default_folder)

    def finished(self) -> list[str]:
        """Names of the finished runs, newest first."""
        found = sorted(self.folder.glob(f"*/{HISTOGRAM}"), key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.parent.name for path in found]

    def path(self, name: str) -> Path:
        return self.folder / slug(name)

    def report(self, name: str) -> AuditReport:
        """A finished run; raises `RequestError` for any other name."""
        if name not in self.finished():
            raise unknown("run", name, self.finished())
        return AuditReport.load(self.folder / name)

    def first(self) -> AuditReport | None:
        """What to show at opening: the newest run, else the shipped one, else nothing."""
        newest = self.finished()[:1]
        if newest:
            return self.report(newest[0])
        return AuditReport.load(FIRST_RESULT) if (FIRST_RESULT / HISTOGRAM).is_file() else None

    def tidy(self, at_work: str = "") -> None:
        """On a Space, remove what is too old, and the oldest of what takes too much of the disk.

        Stopped runs and mended models go as finished runs do, the run ``at_work`` stays.
        """
        if "SPACE_ID" not in os.environ:
            return
        room, taken = DISK_SHARE * shutil.disk_usage(self.folder).total, 0
        found = [(_changed(there), there) for kind in ("[!.]*", f"{MENDED}/*") for there in self.folder.glob(kind)]
        for changed, there in sorted(found, reverse=True):
            taken += sum(path.stat().st_size for path in there.rglob("*") if path.is_file())
            if there.name != at_work and (taken > room or time.time() - changed > KEPT_SECONDS):
                shutil.rmtree(there, ignore_errors=True)


def _changed(run: Path) -> float:
    """When a run ended, or was last written to."""
    end = run / HISTOGRAM
    return end.stat().st_mtime if end.is_file() else max(path.stat().st_mtime for path in (run, *run.rglob("*")))


def pack(report: AuditReport, path: Path) -> None:
    """Zip a run to ``path``, less the parts that only a resumed run needs and files that are being written.

    Of a model's folder its name is told, not where it lies.
    """
    name = report.folder.name
    with (
        atomic(path) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive,
    ):
        for file in sorted(report.folder.rglob("*")):
            inside = file.relative_to(report.folder)
            if inside == Path(CONFIG):
                told = read_json(file)
                told[MADE_OF] = {kind: made and _without_place(made) for kind, made in told.get(MADE_OF, {}).items()}
                archive.writestr(str(Path(name) / inside), json.dumps(told, indent=2, ensure_ascii=False) + "\n")
            elif inside.parts[0] != "parts" and not file.name.startswith(".") and file.is_file():
                archive.write(file, Path(name) / inside)


def _without_place(model: str) -> str:
    return Path(model).name if Path(model).is_absolute() else model
