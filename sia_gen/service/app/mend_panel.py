"""Mend a target: teach a copy of it on faces that made it fail, audit it again, and see before and after."""

from __future__ import annotations

import hashlib
import html
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr

from sia_gen.audits.finished.audit_report import finished_settings
from sia_gen.audits.run.run_folder import MADE_OF
from sia_gen.core.errors import Cancelled, RequestError, WorkError
from sia_gen.core.executors import Progress
from sia_gen.hardening.harden import harden
from sia_gen.hardening.regimens import REGIMENS, HardeningSettings
from sia_gen.service.app.audit_panel import rest
from sia_gen.service.app.audit_request import fitting
from sia_gen.service.app.jobs import Jobs
from sia_gen.service.app.result_panel import framed
from sia_gen.service.runs import MENDED, RunStore

KIND = "audit"  # of job: as long, and behind the same ones
FACES, STEPS = (100, 1500, 400), (50, 750, 200)  # least, most and first value, a round
STOPPED = "Stopped. What was finished is kept: the same request goes on from there."
FAULT = "The mending broke off because of a fault in this app. What was finished is kept; run it again."
TELLS = """Choose a run whose target is to be mended. A copy of it learns from new faces that make it fail, and is then
audited as the run was. On two cores that takes about five to twenty minutes."""


class MendPanel:
    """Components and their events, made where the object is made."""

    def __init__(self, store: RunStore, jobs: Jobs, device: str) -> None:
        self.store, self.jobs, self.device = store, jobs, device
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                gr.Markdown(TELLS)
                self.run = gr.Dropdown(store.finished(), value=None, label="Finished run")
                ways = [(row.words, name) for name, row in REGIMENS.items()]
                by = gr.Dropdown(ways, value="sia-semantic", label="What is learnt from")
                faces = gr.Slider(FACES[0], FACES[1], FACES[2], step=50, label="Faces a round")
                rounds = gr.Slider(1, 3, 1, step=1, label="Rounds")
                steps = gr.Slider(STEPS[0], STEPS[1], STEPS[2], step=50, label="Training steps a round")
                with gr.Row():
                    start = gr.Button("Mend", variant="primary", size="md", min_width=120)
                    stop = gr.Button("Stop", variant="stop", size="md", min_width=80)
                status = gr.HTML("", elem_classes="status", container=False)
                download = gr.DownloadButton("Download the mended model (zip)", interactive=False, size="md")
            with gr.Column(scale=3, min_width=320):
                page = gr.HTML("<p>No model has been mended yet.</p>", elem_classes="report", container=False)
        start.click(
            self.mend,
            [self.run, by, faces, rounds, steps],
            [status, page, download],
            concurrency_limit=1,
            concurrency_id=KIND,
            show_progress="minimal",
            show_progress_on=[status],
            api_visibility="private",
        )
        stop.click(self.halt, None, None, queue=False, show_progress="hidden", api_visibility="private")

    def mend(
        self, run: str | None, by: str, faces: int, rounds: int, steps: int, visitor: gr.Request
    ) -> Iterator[list[Any]]:
        """Mend, telling where it is; the last value is the page and the model."""
        try:
            if not run:
                raise RequestError("no run is chosen; finish one in the tab Audit, and choose it here")
            report = self.store.report(run)
            settings = HardeningSettings(faces=faces, rounds=rounds, steps=steps)
            told = hashlib.sha256(f"{run} {by} {settings}".encode()).hexdigest()[:8]
            folder = self.store.folder / MENDED / f"{run}-{told}"

            def work(progress: Progress) -> Any:
                with fitting(folder, report.folder):
                    made_of = finished_settings(report)[MADE_OF].values()
                    with fitting(*filter(None, made_of)):
                        return harden(
                            out=folder, run=report.folder, by=by, settings=settings, device=self.device,
                            progress=progress,
                        )  # fmt: skip

            job = self.jobs.start(visitor.session_hash, work, KIND)
            with closing(job.updates()) as updates:
                for update in updates:
                    text = html.escape(f"{update.what} ({update.done} of {update.total}{rest(job.left)})")
                    bar = f"<progress max='{update.total}' value='{update.done}'></progress>"
                    yield [f"<label>{text}{bar}</label>", gr.skip(), gr.skip()]
            made = job.result()
        except Cancelled:
            yield [f"<p role='status'>{STOPPED}</p>", gr.skip(), gr.skip()]
        except (RequestError, WorkError) as error:
            raise gr.Error(str(error), duration=10, print_exception=False) from None
        except Exception as error:  # a fault of ours: the log tells where it lies
            raise gr.Error(FAULT, duration=10) from error
        else:
            with tempfile.TemporaryDirectory(prefix="sia-gen-") as place:
                archive = shutil.make_archive(str(Path(place) / folder.name), "zip", made.folder)
                model = gr.DownloadButton(value=archive, interactive=True)
                yield ["<p role='status'>Done.</p>", framed(made.page, "Before and after"), model]

    def halt(self, visitor: gr.Request) -> None:
        """Stop the visitor's work."""
        self.jobs.stop(visitor.session_hash, KIND)

    def refresh(self, chosen: str | None) -> gr.Dropdown:
        """The finished runs as they are now."""
        finished = self.store.finished()
        return gr.Dropdown(finished, value=chosen if chosen in finished else next(iter(finished), None))
