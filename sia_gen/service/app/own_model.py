"""Bring a model: a zip of a transformers folder or a hub id, and what it predicts; it then is a target in every tab."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.service.app.audit_request import fitting
from sia_gen.service.runs import KEPT_SECONDS
from sia_gen.service.trial import BROUGHT, PICTURES
from sia_gen.service.uploads import LARGEST, MB, Uploads
from sia_gen.service.words import in_words

TELLS = f"""An image classifier as transformers' `save_pretrained` writes it: a zip of its folder with safetensors and
JSON files alone, up to {LARGEST // MB} MB, or its id on the hub. No code of it is run; it is tried on {PICTURES}
pictures, for {BROUGHT.seconds:g} s at most. It is kept for {KEPT_SECONDS // 86400} days after its last use, and whoever
has its name can use it."""
NOTHING = "does not say"


class OwnModel:
    """Components and their events; ``targets`` are the drop-downs that offer the model once it is there."""

    def __init__(self, uploads: Uploads, factors: Sequence[str], targets: Sequence[gr.Dropdown]) -> None:
        self.uploads, self.targets = uploads, targets
        with gr.Accordion("Your own model", open=False):
            gr.Markdown(TELLS)
            with gr.Row(equal_height=True):
                archive = gr.File(label="Zip of its folder", file_types=[".zip"], height=120, min_width=220)
                hub = gr.Textbox(label="or its hub id", placeholder="owner/name", min_width=200)
                meaning = gr.Dropdown(
                    [(NOTHING, ""), *((in_words(name), name) for name in factors)],
                    value="",
                    label="What does class 1 mean?",
                    info="That is then judged by the verifier",
                    min_width=200,
                )
                cut = gr.Textbox(label="from which value on", value="0.5", info="As 0.5 or 30,60", min_width=140)
            add = gr.Button("Use this model", size="md")
            said = gr.HTML("", container=False)
            own = gr.State([])  # names of what this visitor brought
        add.click(
            self.add,
            [archive, hub, meaning, cut, own],
            [archive, said, own, *targets],
            concurrency_limit=1,
            concurrency_id="upload",
            show_progress_on=[said],
            api_visibility="private",
        )

    def add(self, archive: str | None, hub: str, meaning: str, cut: str, own: list[str]) -> list[Any]:
        """Check, keep and offer the model; the file that was sent is then removed."""
        path = None if archive is None else Path(archive)
        try:
            with fitting():
                name = self.uploads.add(path, hub or "", f"{meaning}:{cut}" if meaning else None)
        except (RequestError, WorkError) as error:
            raise gr.Error(str(error), duration=15, print_exception=False) from None
        if path is not None:
            path.unlink(missing_ok=True)
        own = [*own, name]
        menus = [gr.Dropdown([*(value for _, value in menu.choices), *own], value=name) for menu in self.targets]
        return [None, f"<p role='status'>'{name}' is a target now, in every tab.</p>", own, *menus]
