"""One face edited live: a slider per attribute, the face before and after, and what the verifier reads.

K attributes.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from PIL import Image

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.images import to_pil
from sia_gen.core.seeds import MAX_FACES, face_seeds
from sia_gen.service.editor import Editor

SIDE = 320
STEPS = 200
HEADINGS = ["factor", "before", "after", "change", "unit"]


class EditPanel:
    """Components and their events, made where the object is made."""

    def __init__(self, editor: Editor, seed: int = 0) -> None:
        self.editor, self.seed = editor, seed
        attributes = editor.space.attributes
        before, after, readings = self.edit(0, *[0.0] * len(attributes))
        with gr.Row(equal_height=False):
            with gr.Column(scale=3):
                with gr.Row():
                    face = gr.Number(0, label="Face", precision=0, minimum=0, maximum=MAX_FACES - 1, min_width=120)
                    another = gr.Button("Next face", min_width=120)
                    reset = gr.Button("Undo all changes", min_width=120)
                with gr.Row():
                    sliders = [_slider(attribute) for attribute in attributes]
            with gr.Column(scale=3, min_width=600):
                with gr.Row():
                    self.before = _image(before, "Before")
                    self.after = _image(after, "After")
                self.readings = gr.Dataframe(
                    readings,
                    headers=HEADINGS,
                    label="As the verifier reads both images",
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
                reading.name,
                f"{reading.before:.3g}",
                f"{reading.after:.3g}",
                f"{reading.after - reading.before:+.2g}",
                reading.unit,
            ]
            for reading in (edits.readings[0] if edits.readings else ())
        ]
        return _enlarge(edits.before), _enlarge(edits.after), rows


def _slider(attribute: Any) -> gr.Slider:
    span = attribute.high - attribute.low
    return gr.Slider(
        attribute.low,
        attribute.high,
        0.0,
        step=float(f"{span / STEPS:.1g}"),
        label=f"{attribute.name} ({_signed(attribute.low)}…{_signed(attribute.high)} {attribute.unit})",
        info=f"{attribute.negative} ← → {attribute.positive}",
        min_width=240,
    )


def _signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "−") if value else "0"


def _image(value: Image.Image, label: str) -> gr.Image:
    return gr.Image(value, label=label, format="png", interactive=False, height=SIDE, buttons=["download"])


def _enlarge(images: Any) -> Image.Image:
    return to_pil(images[0]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
