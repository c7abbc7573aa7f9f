"""One face edited live: a slider per attribute, the face before and after, and what the verifier reads."""

from __future__ import annotations

import math
from typing import Any

import gradio as gr
from PIL import Image

from sia_gen.attributes.attribute_space import Attribute
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import shipped
from sia_gen.core.images import to_pil
from sia_gen.core.seeds import MAX_FACES, face_seeds
from sia_gen.service.app.faces import QUIET, any_face, next_face
from sia_gen.service.models import Models
from sia_gen.service.words import HOW_READ, grouped, in_words

SIDE, HEIGHT = 320, 260  # of the pictures, and of their place on the page
STEPS = 100
OPEN = 3  # groups of sliders that are unfolded
OPENING_FACE = 27  # of the embedded default's run 0: sharp, seen from the front, in even light
HEADINGS = ["attribute", "before", "after", "change", "unit"]


class EditPanel:
    """Components and their events, made where the object is made."""

    def __init__(self, generator: str, models: Models, seed: int = 0) -> None:
        self.generator, self.models, self.seed = generator, models, seed
        attributes = models.attributes(generator).attributes
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                with gr.Row(equal_height=False):
                    face = gr.Number(
                        OPENING_FACE, label="Face", precision=0, minimum=0, maximum=MAX_FACES - 1, min_width=100
                    )
                    another = gr.Button("Next face", size="md", min_width=90)
                    anyone = gr.Button("Random face", size="md", min_width=90)
                    reset = gr.Button("Undo all changes", size="md", min_width=120)
                sliders = {}
                for number, (group, members) in enumerate(grouped(attributes).items()):
                    with gr.Accordion(group, open=number < OPEN), gr.Row():
                        sliders |= {attribute.name: _slider(attribute) for attribute in members}
            with gr.Column(scale=2, min_width=320, elem_classes="beside"):
                with gr.Row():
                    self.before = _image("Before")
                    self.after = _image("After")
                self.readings = gr.Dataframe(
                    headers=HEADINGS,
                    column_widths=["26%", "17%", "16%", "19%", "22%"],
                    label=f"As the verifier reads both: {HOW_READ}",
                    interactive=False,
                    wrap=True,
                    elem_classes="readings",
                    visible=bool(shipped("verifier")),
                )
        self.names = list(sliders)
        self.inputs, self.outputs = [face, *sliders.values()], [self.before, self.after, self.readings]
        # Only the last position of a slider under way counts.
        gr.on(
            [face.change, *(slider.change for slider in sliders.values())],
            self.edit,
            self.inputs,
            self.outputs,
            trigger_mode="always_last",
            **QUIET,
        )
        another.click(next_face, face, face, **QUIET)
        anyone.click(any_face, None, face, **QUIET)
        reset.click(lambda: [0.0] * len(sliders), None, list(sliders.values()), **QUIET)

    def edit(self, face: int | None, *changes: float) -> tuple[Image.Image, Image.Image, list[list[Any]]]:
        """The face before and after the changes, and the readings of both."""
        if face is None or not 0 <= face < MAX_FACES:
            raise gr.Error(
                f"face={face} is outside 0…{MAX_FACES - 1}; choose a number in that range",
                duration=8,
                print_exception=False,
            )
        try:
            edits = self.models.edit(
                self.generator, face_seeds(self.seed, int(face) + 1)[-1:], dict(zip(self.names, changes, strict=True))
            )
        except (RequestError, WorkError) as error:
            raise gr.Error(str(error), duration=8, print_exception=False) from None
        rows = [
            [
                in_words(reading.name),
                f"{reading.before:.3g}",
                f"{reading.after:.3g}",
                f"{reading.change:+.2g}",
                reading.unit,
            ]
            for reading in (edits.readings[0] if edits.readings else ())
        ]
        return _enlarge(edits.before), _enlarge(edits.after), rows


def _slider(attribute: Attribute) -> gr.Slider:
    # Ends rounded inwards, to numbers that can be read.
    step = 10.0 ** math.floor(math.log10((attribute.high - attribute.low) / STEPS))
    low, high = (round(math.trunc(round(end / step, 6)) * step, 6) for end in (attribute.low, attribute.high))
    return gr.Slider(
        low,
        high,
        0.0,
        step=step,
        label=f"{in_words(attribute.name)} ({_signed(low)}…{_signed(high)} {attribute.unit})",
        info=f"{attribute.negative} ← → {attribute.positive}",
        min_width=300,
    )


def _signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "−") if value else "0"


def _image(label: str) -> gr.Image:
    return gr.Image(label=label, format="png", interactive=False, height=HEIGHT, min_width=140, buttons=["download"])


def _enlarge(images: Any) -> Image.Image:
    return to_pil(images[0]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
