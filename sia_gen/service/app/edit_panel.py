"""One face edited live: a slider per attribute, the face before and after, and what the verifier reads."""

from __future__ import annotations

import math
from typing import Any

import gradio as gr
from PIL import Image

from sia_gen.attributes.attribute_space import Attribute
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.images import to_pil
from sia_gen.core.seeds import MAX_FACES, face_seeds
from sia_gen.service.editor import Editor
from sia_gen.service.words import HOW_READ, in_words

SIDE, HEIGHT = 320, 260  # of the pictures, and of their place on the page
STEPS = 100
OPENING_FACE = 40  # of the embedded default's run 0: sharp, seen from the front, in even light
HEADINGS = ["attribute", "before", "after", "change", "unit"]


class EditPanel:
    """Components and their events, made where the object is made."""

    def __init__(self, editor: Editor, seed: int = 0) -> None:
        self.editor, self.seed = editor, seed
        attributes = editor.space.attributes
        before, after, readings = self.edit(OPENING_FACE, *[0.0] * len(attributes))
        with gr.Row(equal_height=False):
            with gr.Column(scale=3):
                with gr.Row():
                    face = gr.Number(
                        OPENING_FACE, label="Face", precision=0, minimum=0, maximum=MAX_FACES - 1, min_width=120
                    )
                    another = gr.Button("Next face", min_width=120)
                    reset = gr.Button("Undo all changes", min_width=120)
                with gr.Row():
                    sliders = [_slider(attribute) for attribute in attributes]
            with gr.Column(scale=2, min_width=500, elem_classes="beside"):
                with gr.Row():
                    self.before = _image(before, "Before")
                    self.after = _image(after, "After")
                self.readings = gr.Dataframe(
                    readings,
                    headers=HEADINGS,
                    column_widths=["31%", "15%", "15%", "14%", "25%"],
                    label=f"As the verifier reads both: {HOW_READ}",
                    interactive=False,
                    visible=editor.verifier is not None,
                )
        inputs, outputs = [face, *sliders], [self.before, self.after, self.readings]
        # Only the last position of a slider under way counts.
        gr.on(
            [face.change, *(slider.change for slider in sliders)],
            self.edit,
            inputs,
            outputs,
            trigger_mode="always_last",
            show_progress="hidden",
            api_name="edit",
        )
        another.click(
            lambda number: (int(number or 0) + 1) % MAX_FACES,
            face,
            face,
            show_progress="hidden",
            api_visibility="private",
        )
        reset.click(lambda: [0.0] * len(sliders), None, sliders, show_progress="hidden", api_visibility="private")

    def edit(self, face: int | None, *changes: float) -> tuple[Image.Image, Image.Image, list[list[Any]]]:
        """The face before and after the changes, and the readings of both."""
        if face is None or not 0 <= face < MAX_FACES:
            raise gr.Error(f"face={face} is outside 0…{MAX_FACES - 1}; choose a number in that range", duration=8)
        try:
            edits = self.editor.change(
                face_seeds(self.seed, int(face) + 1)[-1:], dict(zip(self.editor.space.names, changes, strict=True))
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


def _image(value: Image.Image, label: str) -> gr.Image:
    return gr.Image(value, label=label, format="png", interactive=False, height=HEIGHT, buttons=["download"])


def _enlarge(images: Any) -> Image.Image:
    return to_pil(images[0]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
