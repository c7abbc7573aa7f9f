"""The commands that draw one face or a few: attacked, and edited.

As in `sia_gen.cli`, everything heavy is imported inside the command that needs it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sia_gen.core.errors import RequestError
from sia_gen.service.commands.options import (
    AsJson,
    Attributes,
    Box,
    Budget,
    Channels,
    Classes,
    Crop,
    Device,
    EditPrecision,
    Epsilon,
    Generator,
    InputRange,
    Precision,
    Queries,
    Seed,
    Size,
    Steps,
    Target,
    attack_of,
    names_of,
    print_json,
    require_precision,
    resolve,
)

Face = Annotated[list[int] | None, typer.Option(help="Number of a face in the run, from 0; repeatable.")]
Faces = Annotated[int | None, typer.Option(help="The first N faces of the run, instead of --face.")]


def attack(
    generator: Generator = "faces-stylegan2",
    target: Target = "smile-classifier",
    face: Face = None,
    faces: Faces = None,
    attributes: Attributes = None,
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("attack.png"),
    replay: Annotated[
        Path | None, typer.Option(help="Folder for the steps of each face, and whether it is valid and confirmed.")
    ] = None,
    steps: Steps = 10,
    box: Box = 1.0,
    budget: Budget = 1.0,
    epsilon: Epsilon = "1/255",
    gentle: Annotated[
        bool, typer.Option("--gentle", help="Take small steps, and stop where the target first errs.")
    ] = False,
    queries: Queries = None,
    precision: Precision = "no",
    size: Size = None,
    channels: Channels = None,
    input_range: InputRange = None,
    crop: Crop = None,
    classes: Classes = None,
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Attack one face or a few: before, semantic and adversarial images, and the attributes that were used."""
    from sia_gen.service.commands.attack_sheet import attack_sheet
    from sia_gen.service.commands.sheet import require_png
    from sia_gen.service.commands.sheet_tables import show_attack
    from sia_gen.service.commands.terminal import progress_bar
    from sia_gen.targets.adapted import asked_as

    require_png(out)
    wanted = _wanted(seed, face, faces)
    settings = attack_of(steps, box, budget, epsilon, queries, precision, gentle)
    shown = {"size": size, "channels": channels, "input_range": input_range, "crop": crop, "classes": classes}
    target = asked_as(target, **shown)
    with progress_bar(quiet=as_json) as progress:
        asked = (names_of(attributes), settings, resolve(device), progress)
        sheet = attack_sheet(generator, target, wanted, *asked, replay)
    sheet.save(out)
    if as_json:
        print_json({**sheet.summary, "out": str(out)})
    else:
        show_attack(sheet.summary)
        print(f"\nImages: {out}")


def edit(
    generator: Generator = "faces-stylegan2",
    face: Face = None,
    faces: Faces = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="attribute=+20: a change in the attribute's unit; repeatable.")
    ] = None,
    precision: EditPrecision = "no",
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("edit.png"),
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Edit faces by attribute: before and after; without --set, a contact sheet of every attribute.

    What an edit did is read back by the verifier, in units.
    """
    from sia_gen.service.commands.edit_sheet import change_sheet, sweep_sheet
    from sia_gen.service.commands.sheet import require_png
    from sia_gen.service.commands.sheet_tables import show_changes, show_sweeps
    from sia_gen.service.commands.terminal import progress_bar
    from sia_gen.service.editor import load_editor

    require_png(out)
    wanted = _wanted(seed, face, faces)
    omega = _omega(changes or [])
    require_precision(precision, "fp16")
    editor = load_editor(generator, resolve(device), precision)  # type: ignore[arg-type]
    with progress_bar(quiet=as_json) as progress:
        sheet = change_sheet(editor, wanted, omega) if omega else sweep_sheet(editor, wanted, progress)
    sheet.save(out)
    if as_json:
        print_json({"generator": editor.generator.name, **sheet.summary, "out": str(out)})
    else:
        (show_changes if omega else show_sweeps)(sheet.summary)
        print(f"\nImages: {out}")


def _wanted(seed: int, numbers: list[int] | None, faces: int | None) -> dict[int, int]:
    """The faces that were asked for: number in the run → seed."""
    from sia_gen.core.seeds import MAX_FACES, face_seeds

    if numbers and faces is not None:
        raise RequestError(f"--faces {faces} and --face {numbers[0]} exclude each other; give one of them")
    for number in numbers or []:
        if not 0 <= number < MAX_FACES:
            raise RequestError(f"face={number} is outside 0…{MAX_FACES - 1}; choose a number in that range")
    if not numbers:
        return dict(enumerate(face_seeds(seed, 1 if faces is None else faces)))
    seeds = face_seeds(seed, max(numbers) + 1)
    return {number: seeds[number] for number in numbers}


def _omega(changes: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in changes:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise RequestError(f"--set {text} is no change; write it as attribute=+20")
        if name in found:
            raise RequestError(f"--set {text}: '{name}' is already set to {found[name]:+g}; set it once")
        found[name] = number
    return found
