"""Two targets side by side: attacked on the same face, or as two finished audits of the same faces found them."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import gradio as gr

from sia_gen.audits.finished.comparison import compare
from sia_gen.core.errors import Cancelled, RequestError, WorkError
from sia_gen.core.seeds import MAX_FACES
from sia_gen.service.app.attack_page import page
from sia_gen.service.app.attack_panel import ATTACK, FAULT
from sia_gen.service.app.attack_request import MAX_BUDGET, AttackRequest
from sia_gen.service.app.audit_request import MAX_EPSILON
from sia_gen.service.app.faces import QUIET, next_face
from sia_gen.service.app.jobs import Jobs
from sia_gen.service.models import Models
from sia_gen.service.offer import Offer
from sia_gen.service.runs import RunStore
from sia_gen.service.words import in_words

OPENING_FACE = 12
HEADINGS = ["attribute", "first: change of output", "second", "difference", "95 % interval", "q"]
NO_RUNS = "Audits that have ended can be compared here: run two of them, with the same settings, in the tab Audit."


class ComparePanel:
    """Components and their events, made where the object is made."""

    def __init__(self, offer: Offer, models: Models, store: RunStore, jobs: Jobs, seed: int = 0) -> None:
        generators, targets = offer.generators, offer.targets
        self.offer = offer
        self.models, self.store, self.jobs, self.seed = models, store, jobs, seed
        with gr.Accordion("Two targets on the same face"):
            with gr.Row(equal_height=True):
                generator = gr.Dropdown(
                    list(generators), value=generators[0], label="Generator", visible=len(generators) > 1, min_width=150
                )
                self.pair = pair = [
                    gr.Dropdown(list(targets), value=value, label=label, min_width=190, allow_custom_value=offer.local)
                    for label, value in zip(("First target", "Second target"), _pair(targets), strict=True)
                ]
                face = gr.Number(
                    OPENING_FACE, label="Face", precision=0, minimum=0, maximum=MAX_FACES - 1, min_width=90
                )
                budget = gr.Slider(0.1, MAX_BUDGET, 1, step=0.1, label="Budget ρ", min_width=150)
                epsilon = gr.Slider(0, MAX_EPSILON, 1, step=0.5, label="Residual ε (1/255)", min_width=150)
            with gr.Row():
                start = gr.Button("Attack both", variant="primary", size="md", min_width=120)
                another = gr.Button("Next face", size="md", min_width=100)
            status = gr.HTML("", elem_classes="status", container=False)
            with gr.Row(equal_height=False):
                results = [gr.HTML("", container=False, min_width=320) for _ in pair]
        with gr.Accordion("Two audits of the same faces"):
            finished = store.finished()
            with gr.Row(equal_height=True):
                self.runs = [gr.Dropdown(finished, label=f"{which} run", value=None) for which in ("First", "Second")]
            self.finding = gr.Markdown("" if finished else NO_RUNS)
            self.table = gr.Dataframe(headers=HEADINGS, interactive=False, visible=False, label="Each attribute alone")
        told = {
            "fn": self.both,
            "inputs": [generator, *pair, face, budget, epsilon],
            "outputs": [status, *results],
            "concurrency_limit": 1,
            "concurrency_id": ATTACK,
            "show_progress": "minimal",
            "show_progress_on": [status],
            "api_visibility": "private",
        }
        start.click(**told)
        another.click(next_face, face, face, **QUIET).then(**told)
        gr.on([run.input for run in self.runs], self.runs_side_by_side, self.runs, [self.finding, self.table], **QUIET)

    def both(
        self,
        generator: str,
        first: str,
        second: str,
        face: int | None,
        budget: float,
        epsilon: float,
        visitor: gr.Request,
    ) -> Iterator[list[Any]]:
        """Attack the face with one target's eyes after the other; gives the status and both pages."""
        pages = ["", ""]
        try:
            for place, target in enumerate((first, second)):
                asked = AttackRequest(
                    generator=self.offer.generator(generator), target=self.offer.known(target), face=face,
                    budget=budget, epsilon=epsilon, seed=self.seed,
                )  # fmt: skip
                work = partial(asked.run, self.models, None, find=self.offer.target)
                job = self.jobs.start(visitor.session_hash, work, ATTACK)
                with closing(job.updates()) as updates:
                    for update in updates:
                        yield [f"<p role='status'>{html.escape(f'{target}: {update.what} …')}</p>", *pages]
                pages[place] = f"<h3>{html.escape(target)}</h3>{page(job.result())}"
            yield ["<p role='status'>Done.</p>", *pages]
        except Cancelled:
            yield ["<p role='status'>Stopped.</p>", *pages]
        except (RequestError, WorkError) as error:
            raise gr.Error(str(error), duration=10, print_exception=False) from None
        except Exception as error:  # a fault of ours: the log tells where it lies
            raise gr.Error(FAULT, duration=10) from error

    def refresh(self) -> list[gr.Dropdown]:
        """The finished runs as they are now."""
        return [gr.Dropdown(self.store.finished()) for _ in self.runs]

    def runs_side_by_side(self, first: str | None, second: str | None) -> list[Any]:
        """What differs between two finished audits."""
        if not first or not second:
            return [gr.skip(), gr.skip()]
        try:
            found = compare(*(self.store.report(name).folder for name in (first, second)))
        except (RequestError, WorkError) as error:
            raise gr.Error(str(error), duration=10, print_exception=False) from None
        rows = [_row(row) for row in found["attributes"]]
        return [f"**{found['finding']}**", gr.Dataframe(rows, headers=HEADINGS, visible=True)]


def _pair(targets: Sequence[str]) -> tuple[str, str]:
    """A target with a planted cause beside the one without, if there are such, else the first and the last."""
    for name in targets[::-1]:
        if f"{name}-planted" in targets:
            return f"{name}-planted", name
    return targets[0], targets[-1]


def _row(row: dict[str, Any]) -> list[str]:
    interval = "–" if row["change_interval"] is None else "{:+.2f} … {:+.2f}".format(*row["change_interval"])
    numbers = [_number(row[f"change_{which}"]) for which in ("first", "second")]
    return [in_words(row["name"]), *numbers, _number(row["change_difference"], "+"), interval, f"{row['q']:.2g}"]


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.2f}"
