"""What a verdict is told by: its charts, the page that shows them, and the file that says the audit is finished."""

from __future__ import annotations

from pathlib import Path

from sia_gen.audits.pages.figure import draw_collateral, draw_curves, draw_histogram
from sia_gen.audits.pages.report import write_report
from sia_gen.audits.run.run_folder import HISTOGRAM
from sia_gen.audits.verdict.judge import Verdict
from sia_gen.core.files import write_json


def tell(verdict: Verdict) -> Path:
    """Write charts, report and `histogram.json` into the run folder, which it gives; each is whole or absent."""
    content, folder = verdict.content, verdict.plan.folder.path
    draw_histogram(content, folder)
    draw_curves(content, folder)
    draw_collateral(content, folder)
    write_report(content, verdict.plan.request.audited.attributes, folder)
    write_json(folder / HISTOGRAM, content)  # last: where it lies, the audit is finished
    return folder
