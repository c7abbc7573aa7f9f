"""A finished audit on the page: its report, and the run to download."""

from __future__ import annotations

import html
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from sia_gen.audits.finished.audit_report import HISTOGRAM, AuditReport
from sia_gen.audits.run.run_folder import REPORT
from sia_gen.service.runs import pack

NOTHING = "<h3>No run yet</h3><p>Choose a target and press <b>Run the audit</b>.</p>"
# The report has no scripts and may run none; the app makes room for all of it, and for what is opened in it.
FRAME = """<iframe srcdoc="{page}" title="{title}" sandbox="allow-same-origin"
  onload="const page = this.contentDocument.documentElement;
  new ResizeObserver(() => this.style.height = page.offsetHeight + 32 + 'px').observe(page)"></iframe>"""


class ResultPanel:
    """Components, made where the object is made; `values` fills them, in the order of `components`."""

    def __init__(self, controls: gr.Column) -> None:
        # Gradio copies what it serves, so zips live only as long as the app.
        self._zips = tempfile.TemporaryDirectory(prefix="sia-gen-")
        with controls:
            self.download = gr.DownloadButton("Download this run (zip)", interactive=False, size="md")
        self.report = gr.HTML(NOTHING, elem_id="report", elem_classes="report", container=False)

    @property
    def components(self) -> list[gr.components.Component]:
        return [self.report, self.download]

    def values(self, report: AuditReport) -> list[Any]:
        return [
            framed(report.folder / REPORT, "Report of the audit"),
            gr.DownloadButton(value=self._zip(report), interactive=True),
        ]

    def _zip(self, report: AuditReport) -> str:
        path = Path(self._zips.name) / f"{report.folder.name}.zip"
        made = report.folder / HISTOGRAM  # written last
        if not path.exists() or path.stat().st_mtime <= made.stat().st_mtime:
            pack(report, path)
        return str(path)


def framed(path: Path, title: str) -> str:
    """A page in a page."""
    return FRAME.format(page=html.escape(path.read_text(encoding="utf-8"), quote=True), title=title)
