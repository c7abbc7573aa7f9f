"""Choose a face and a target, attack it, watch the steps arrive, and go through them again."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from sia_gen.core.errors import Cancelled, RequestError, WorkError
from sia_gen.core.seeds import MAX_FACES
from sia_gen.service.app.attack_page import page
from sia_gen.service.app.attack_request import MAX_BUDGET, AttackRequest
from sia_gen.service.app.audit_request import MAX_EPSILON, MAX_STEPS
from sia_gen.service.app.faces import QUIET, any_face, choices, known, next_face
from sia_gen.service.app.jobs import Jobs, Update
from sia_gen.service.models import Models
from sia_gen.service.offer import Offer
from sia_gen.service.replay import NUMBERS, Replay

ATTACK = "attack"  # kind of job
FAULT = "The attack broke off because of a fault in this app. Try it again."
# sia-gen attack --target smile-classifier-planted --face 12 --replay sia_gen/service/first_attack
FIRST_ATTACK = Path(__file__).parents[1] / "first_attack"
NOTHING = "<p>Choose a face and a target, and press <b>Attack</b>.</p>"
EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "A smile read off the light": {"target": "smile-classifier-planted", "face": 12},
    "Light alone, no residual": {
        "target": "smile-classifier-planted", "face": 2, "attributes": ["light_azimuth"], "epsilon": 0,
    },
    "A healthy classifier, small budget": {"target": "smile-classifier", "face": 2, "budget": 0.3, "epsilon": 0},
    "Glasses that get lost": {"target": "glasses-classifier", "face": 6},
    "Pixels rather than attributes": {"target": "smile-classifier", "face": 2, "budget": 0.1, "epsilon": 4},
}  # fmt: skip
"""What each example changes of the settings that the panel opens with."""


class AttackPanel:
    """Components and their events, made where the object is made.

    ``attributes`` are the names of each generator's attributes.
    """

    def __init__(
        self, attributes: Mapping[str, Sequence[str]], offer: Offer, models: Models, jobs: Jobs, seed: int = 0
    ) -> None:
        self.attributes, self.offer, self.models, self.jobs, self.seed = attributes, offer, models, jobs, seed
        generators, targets = list(offer.generators), offer.targets
        self._files = tempfile.TemporaryDirectory(prefix="sia-gen-")  # of the attack that the app opens with
        first = _first(generators, targets)
        names = list(attributes[generators[0]])
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                self.target = gr.Dropdown(
                    list(targets),
                    value=first.about["target"] if first else targets[0],
                    label="Target",
                    info="The model under attack",
                    allow_custom_value=offer.local,
                )
                self.face = gr.Number(
                    first.about["face"] if first else 0, label="Face", precision=0, minimum=0, maximum=MAX_FACES - 1
                )
                with gr.Row():
                    another = gr.Button("Next face", size="md", min_width=100)
                    anyone = gr.Button("Random face", size="md", min_width=100)
                self.budget = gr.Slider(
                    0.1, MAX_BUDGET, 1, step=0.1, label="Budget ρ", info="1: one attribute at an end of its range"
                )
                self.epsilon = gr.Slider(
                    0, MAX_EPSILON, 1, step=0.5, label="Residual ε", info="8-bit steps (1/255) per pixel; 0: none"
                )
                self.gentle = gr.Checkbox(
                    False, label="Gentle", info="Small steps to the first failure: more often valid than the worst one"
                )
                with gr.Row():
                    self.start = gr.Button("Attack", variant="primary", size="md", min_width=120)
                    self.stop = gr.Button("Stop", variant="stop", interactive=False, size="md", min_width=80)
                self.status = gr.HTML("", elem_classes="status", container=False)
                with gr.Accordion("Attributes and steps", open=False):
                    self.generator = gr.Dropdown(
                        generators,
                        value=generators[0],
                        label="Generator",
                        visible=offer.local or len(generators) > 1,
                        allow_custom_value=offer.local,
                    )
                    self.chosen = gr.CheckboxGroup(
                        choices(names),
                        value=names,
                        label="Attributes",
                        info="The one that the target predicts is left out by itself",
                    )
                    self.steps = gr.Slider(1, MAX_STEPS, 10, step=1, label="Steps of ascent")
                self.download = gr.DownloadButton(
                    "Download pictures and numbers", self._packed(first), interactive=first is not None, size="md"
                )
            with gr.Column(scale=4, min_width=320):
                self.result = gr.HTML(page(first) if first else NOTHING, elem_id="attack", container=False)
                examples = self._examples(targets)
        inputs = [
            self.generator, self.target, self.face, self.chosen, self.budget, self.epsilon, self.steps, self.gentle
        ]  # fmt: skip
        outputs = [self.status, self.start, self.stop, self.result, self.download]
        told = {
            "fn": self.attack, "inputs": inputs, "outputs": outputs, "concurrency_limit": 1, "concurrency_id": "attack",
            "show_progress": "minimal", "show_progress_on": [self.status], "api_visibility": "private",
        }  # fmt: skip
        self.start.click(**told)
        another.click(next_face, self.face, self.face, **QUIET).then(**told)
        anyone.click(any_face, None, self.face, **QUIET).then(**told)
        for button, values in examples.items():
            settings = [self.target, self.face, self.chosen, self.budget, self.epsilon, self.steps, self.gentle]
            button.click(partial(self._set, values), self.generator, settings, **QUIET).then(**told)
        self.stop.click(self.halt, None, None, queue=False, **QUIET)
        self.generator.change(self._offer, self.generator, self.chosen, **QUIET)

    def _packed(self, first: Replay | None) -> str | None:
        if first is None:
            return None
        archive = Path(self._files.name) / f"face-{first.about['face']}.zip"
        first.pack(archive)
        return str(archive)

    def _examples(self, targets: Sequence[str]) -> dict[gr.Button, Mapping[str, Any]]:
        offered = {name: values for name, values in EXAMPLES.items() if values["target"] in targets}
        if not offered:
            return {}
        gr.Markdown("**Examples**: each sets face, target and budgets, and attacks.")
        with gr.Row():
            return {gr.Button(name, size="sm", min_width=150): values for name, values in offered.items()}

    def _set(self, values: Mapping[str, Any], generator: str) -> list[Any]:
        """What an example sets, in the order of its outputs."""
        names = known(self.models, self.offer, generator)
        plain = {"attributes": names, "budget": 1, "epsilon": 1, "steps": 10, "gentle": False} | values
        return [plain[name] for name in ("target", "face", "attributes", "budget", "epsilon", "steps", "gentle")]

    def _offer(self, generator: str) -> gr.CheckboxGroup:
        names = known(self.models, self.offer, generator)
        return gr.CheckboxGroup(choices(names), value=names)

    def attack(
        self,
        generator: str,
        target: str,
        face: int | None,
        attributes: list[str],
        budget: float,
        epsilon: float,
        steps: int,
        gentle: bool,
        visitor: gr.Request,
    ) -> Iterator[dict[gr.components.Component, Any]]:
        """Attack, showing each step as it comes; the last value is the result."""
        live: list[Replay] = []
        try:
            asked = AttackRequest(
                generator=self.offer.generator(generator),
                target=self.offer.known(target),
                face=face,
                attributes=tuple(attributes),
                budget=budget,
                epsilon=epsilon,
                steps=steps,
                gentle=gentle,
                seed=self.seed,
            )
            work = partial(asked.run, self.models, live.append, find=self.offer.target)
            job = self.jobs.start(visitor.session_hash, work, ATTACK)
            seen = 0
            with closing(job.updates()) as updates:
                for update in updates:
                    now, seen, news = seen, len(live), self._busy(update)
                    if seen > now:
                        number = len(live[-1].steps) - 1
                        news[self.result] = page(live[-1], f"Face {face}: step {number} of {steps} …")
                    yield news
            shown = job.result()
        except Cancelled:
            yield self._idle("Stopped.")
        except (RequestError, WorkError) as error:
            yield self._idle("")
            raise gr.Error(str(error), duration=10, print_exception=False) from None
        except Exception as error:  # a fault of ours: the visitor can go on, and the log tells where it lies
            yield self._idle("")
            raise gr.Error(FAULT, duration=10) from error
        else:
            with tempfile.TemporaryDirectory(prefix="sia-gen-") as folder:
                archive = Path(folder) / f"face-{face}.zip"
                shown.pack(archive)
                download = gr.DownloadButton(value=str(archive), interactive=True)
                yield {**self._idle("Done."), self.result: page(shown), self.download: download}

    def _idle(self, message: str) -> dict[gr.components.Component, Any]:
        return {
            self.status: f"<p role='status'>{html.escape(message)}</p>",
            self.start: gr.Button(interactive=True),
            self.stop: gr.Button(interactive=False),
        }

    def _busy(self, update: Update) -> dict[gr.components.Component, Any]:
        text = html.escape(update.what)
        return {
            self.status: f"<label>{text}<progress max='{update.total}' value='{update.done}'></progress></label>",
            self.start: gr.Button(interactive=False),
            self.stop: gr.Button(interactive=True),
        }

    def halt(self, visitor: gr.Request) -> None:
        """Stop the visitor's attack."""
        self.jobs.stop(visitor.session_hash, ATTACK)


def _first(generators: Sequence[str], targets: Sequence[str]) -> Replay | None:
    """The finished attack that a visitor sees at once, where its models are offered."""
    if not (FIRST_ATTACK / NUMBERS).is_file():
        return None
    first = Replay.load(FIRST_ATTACK)
    return first if first.about["generator"] in generators and first.about["target"] in targets else None
