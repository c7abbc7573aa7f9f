"""Choose a target, attributes and budgets, run the audit, follow it, stop it, and see the result."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import gradio as gr

from sia_gen.core.errors import Cancelled, RequestError, WorkError
from sia_gen.core.seeds import MAX_SEED
from sia_gen.service.app.audit_request import FACES, MAX_EPSILON, MAX_FACES, MAX_STEPS, AuditRequest
from sia_gen.service.app.faces import choices, known
from sia_gen.service.app.jobs import Jobs, Update
from sia_gen.service.app.result_panel import ResultPanel
from sia_gen.service.models import Models
from sia_gen.service.offer import Offer
from sia_gen.service.runs import RunStore

STOPPED = "Stopped. What was finished is kept: the same request goes on from there."
FAULT = "The audit broke off because of a fault in this app. What was finished is kept; run it again."


class AuditPanel:
    """Components and their events, made where the object is made.

    ``attributes`` are the names of each generator's attributes.
    """

    def __init__(
        self,
        attributes: Mapping[str, Sequence[str]],
        offer: Offer,
        store: RunStore,
        jobs: Jobs,
        models: Models,
        seed: int = 0,
    ) -> None:
        self.offer = offer
        targets = offer.targets
        self.store, self.jobs, self.models = store, jobs, models
        generators = list(attributes)
        first = store.first()
        shown = first.histogram["target"] if first is not None else None
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=300) as controls:
                self.target = gr.Dropdown(
                    list(targets),
                    value=shown if shown in targets else targets[0],
                    label="Target",
                    info="The model under audit",
                    allow_custom_value=offer.local,
                )
                generator = gr.Dropdown(
                    generators,
                    value=generators[0],
                    label="Generator",
                    visible=offer.local or len(generators) > 1,
                    allow_custom_value=offer.local,
                )
                faces = gr.Slider(1, MAX_FACES, FACES, step=1, label="Faces")
                quick = gr.Checkbox(False, label="A quick look", info="Each attribute alone and the control, no more")
                with gr.Accordion("Attributes and budgets", open=False):
                    chosen = gr.CheckboxGroup(
                        choices(attributes[generators[0]]),
                        value=list(attributes[generators[0]]),
                        label="Attributes",
                        info="The one that the target predicts is left out by itself",
                    )
                    steps = gr.Slider(1, MAX_STEPS, 10, step=1, label="Steps of ascent")
                    box = gr.Slider(0.05, 1, 1, step=0.05, label="Share of each attribute's safe range")
                    epsilon = gr.Slider(0, MAX_EPSILON, 1, step=0.5, label="Pixel residual, in 8-bit steps (1/255)")
                    number = gr.Number(seed, label="Seed", precision=0, minimum=0, maximum=MAX_SEED)
                with gr.Row():
                    self.start = gr.Button("Run the audit", variant="primary", size="md", min_width=150)
                    self.stop = gr.Button("Stop", variant="stop", interactive=False, size="md", min_width=80)
                self.status = gr.HTML("", elem_classes="status", container=False)
                finished = store.finished()
                self.earlier = gr.Dropdown(finished, value=None, label="Finished runs")
            with gr.Column(scale=3, min_width=600):
                self.result = ResultPanel(controls)
        generator.change(self._offer, generator, chosen, show_progress="hidden", api_visibility="private")
        self.start.click(
            self.audit,
            [generator, self.target, chosen, faces, number, steps, box, epsilon, quick],
            [self.status, self.start, self.stop, self.earlier, *self.result.components],
            concurrency_limit=1,
            concurrency_id="audit",
            show_progress="minimal",
            show_progress_on=[self.status],
            api_visibility="private",
        )
        # `audit` itself says that it was stopped: two events that both did could come in either order.
        self.stop.click(self.halt, None, None, queue=False, show_progress="hidden", api_visibility="private")
        self.earlier.input(self.show, self.earlier, self.result.components, api_visibility="private")

    def _offer(self, generator: str) -> gr.CheckboxGroup:
        names = known(self.models, self.offer, generator)
        return gr.CheckboxGroup(choices(names), value=names)

    def _idle(self, message: str) -> dict[gr.components.Component, Any]:
        return {
            self.status: f"<p role='status'>{html.escape(message)}</p>",
            self.start: gr.Button(interactive=True),
            self.stop: gr.Button(interactive=False),
        }

    def _busy(self, update: Update, left: float | None) -> dict[gr.components.Component, Any]:
        what = update.what if update.done < update.total else "writing the report"
        text = html.escape(f"{what} ({update.done} of {update.total}{rest(left)})")
        return {
            self.status: f"<label>{text}<progress max='{update.total}' value='{update.done}'></progress></label>",
            self.start: gr.Button(interactive=False),
            self.stop: gr.Button(interactive=True),
        }

    def audit(
        self,
        generator: str,
        target: str,
        attributes: list[str],
        faces: int,
        seed: int | None,
        steps: int,
        box: float,
        epsilon: float,
        quick: bool,
        visitor: gr.Request,
    ) -> Iterator[dict[gr.components.Component, Any]]:
        """Audit, telling where it is; the last value is the result."""
        try:
            asked = AuditRequest(
                generator=self.offer.generator(generator),
                target=self.offer.known(target),
                attributes=tuple(attributes),
                faces=faces,
                seed=seed,
                steps=steps,
                box=box,
                epsilon=epsilon,
                quick=quick,
            )
            work = partial(asked.run, self.store, self.models.device, find=self.offer.target)
            job = self.jobs.start(visitor.session_hash, work)
            # Closed on every way out, also when the visitor leaves: that ends the work.
            with closing(job.updates()) as updates:
                for update in updates:
                    yield self._busy(update, job.left)
            report = job.result()
        except Cancelled:
            yield self._idle(STOPPED)
        except (RequestError, WorkError) as error:
            yield self._idle("")
            raise gr.Error(str(error), duration=10, print_exception=False) from None
        except Exception as error:  # a fault of ours: the visitor can go on, and the log tells where it lies
            yield self._idle("")
            raise gr.Error(FAULT, duration=10) from error
        else:
            yield {
                **self._idle("Done."),
                self.earlier: gr.Dropdown(self.store.finished(), value=report.folder.name),
                **dict(zip(self.result.components, self.result.values(report), strict=True)),
            }

    def halt(self, visitor: gr.Request) -> None:
        """Stop the visitor's audit."""
        self.jobs.stop(visitor.session_hash, "audit")

    def refresh(self, shown: str | None) -> dict[gr.components.Component, Any]:
        """The finished runs as they are now, and unless one is ``shown`` the newest of them."""
        finished = self.store.finished()
        if shown in finished:
            return {self.earlier: gr.Dropdown(finished, value=shown)}
        newest = self.store.first()
        values = [] if newest is None else self.result.values(newest)
        return {
            self.earlier: gr.Dropdown(finished, value=finished[0] if finished else None),
            **dict(zip(self.result.components, values, strict=bool(values))),
        }

    def show(self, name: str) -> list[Any]:
        """A finished run by name."""
        try:
            return self.result.values(self.store.report(name))
        except (RequestError, WorkError) as error:
            raise gr.Error(str(error), duration=10, print_exception=False) from None


def rest(seconds: float | None) -> str:
    """How long it will take, to the nearest ten seconds or minute."""
    if seconds is None:
        return ""
    about = f"{max(10, round(seconds, -1)):.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    return f", about {about} left"
