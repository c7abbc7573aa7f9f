"""What an audit gives back: a run folder that reads like an object."""

from __future__ import annotations

import html
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sia_gen.audits.run.results import read_results
from sia_gen.audits.run.run_folder import CONFIG, HISTOGRAM, REPORT, RunFolder, require_format
from sia_gen.core.errors import RequestError
from sia_gen.core.files import is_file, read_json

if TYPE_CHECKING:
    import pyarrow as pa


def finished_settings(report: AuditReport) -> dict[str, Any]:
    """The settings of a finished run; raises `RequestError` for one that another version made."""
    settings = read_json(report.folder / CONFIG)
    require_format(report.folder, settings, "audit again")
    return settings


@dataclass(frozen=True)
class AuditReport:
    """A finished audit: `histogram` is the content of `histogram.json`, `folder` the run folder.

    An audit without ``out`` lies in a temporary folder that goes with the report; `save` keeps it.
    """

    folder: Path
    histogram: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> AuditReport:
        """The report in a run folder; raises `RequestError` where there is none, `WorkError` where it is damaged."""
        if not is_file(Path(folder) / HISTOGRAM):
            raise RequestError(f"'{folder}' holds no finished audit; name another folder, or finish the audit in it")
        return cls(Path(folder), read_json(Path(folder) / HISTOGRAM))

    @property
    def finding(self) -> str:
        """What the audit found, in one plain sentence."""
        return self.histogram["finding"]

    def table(self) -> pa.Table:
        """All of `results.parquet`: a row per face and arm."""
        return read_results(self.folder)

    def to_pandas(self) -> Any:
        """`table` as a pandas frame."""
        return self.table().to_pandas()

    def save(self, path: str | Path) -> AuditReport:
        """Copy the run folder to ``path``; raises `RequestError` where another run lies or nothing can be written."""
        there = RunFolder.like(self.folder, path)
        if there.path.resolve() == self.folder.resolve():
            return self
        shutil.copytree(self.folder, there.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
        return AuditReport.load(there.path)

    def _repr_html_(self) -> str:
        page = html.escape((self.folder / REPORT).read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" title="audit report" style="width: 100%; height: 48rem; border: 0"></iframe>'
