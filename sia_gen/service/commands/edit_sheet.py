"""Sheets of edited faces: before and after, or every attribute from low to high. B faces, R resolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from sia_gen.core.executors import Progress
from sia_gen.core.images import contact_sheet
from sia_gen.service.commands.sheet import Sheet, enlargement, require_few
from sia_gen.service.editor import Editor

SWEEP_COLUMNS = ("lowest", "", "as sampled", "", "highest")


def change_sheet(editor: Editor, faces: Mapping[int, int], changes: Mapping[str, float]) -> Sheet:
    """A row per face (number → seed): before and after ``changes`` in units."""
    require_few(faces)
    edits = editor.change(list(faces.values()), changes)
    pairs = torch.stack([edits.before, edits.after], dim=1)  # [B, 2, 3, R, R]
    image = contact_sheet(
        list(pairs),
        [f"face {number}" for number in faces],
        ["before", "after"],
        enlargement(editor.generator.resolution),
    )
    summary: dict[str, Any] = {"changes": dict(changes), "faces": []}
    for index, (number, seed) in enumerate(faces.items()):
        readings = [asdict(reading) for reading in edits.readings[index]] if edits.readings else []
        summary["faces"].append({"face": number, "seed": seed, "readings": readings})
    return Sheet(image, summary)


def sweep_sheet(editor: Editor, faces: Mapping[int, int], progress: Progress | None = None) -> Sheet:
    """A row per face (number → seed) and attribute, from −2 to +2 sd within its safe range."""
    require_few(faces)
    rows: list[Tensor] = []
    labels: list[str] = []
    summary: dict[str, Any] = {"faces": []}
    total = len(faces) * len(editor.space.attributes)
    for number, seed in faces.items():
        entries = []
        for attribute in editor.space.attributes:
            sweep = editor.sweep(seed, attribute.name)
            rows.append(sweep.images)
            labels.append(
                f"{number}: {attribute.name} {sweep.asked[0]:+.3g} to {sweep.asked[-1]:+.3g} {attribute.unit}"
            )
            entries.append({"name": attribute.name, "unit": attribute.unit, "asked": sweep.asked, "read": sweep.read})
            if progress is not None:
                progress(len(rows), total, "edit")
        summary["faces"].append({"face": number, "seed": seed, "attributes": entries})
    return Sheet(contact_sheet(rows, labels, SWEEP_COLUMNS, enlargement(editor.generator.resolution)), summary)
