"""The command that finds attributes in a generator that has none.

As in `sia_gen.cli`, everything heavy is imported inside the command that needs it.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sia_gen.core.errors import RequestError, named_file
from sia_gen.service.commands.options import AsJson, Device, Generator, Seed, names_of, print_json, resolve

if TYPE_CHECKING:
    from sia_gen.attributes.ways.scorer import Scorer


class By(StrEnum):
    scorer = "scorer"
    channels = "channels"
    sefa = "sefa"
    contrast = "contrast"
    prompts = "prompts"
    file = "file"


def find(
    generator: Generator = "faces-stylegan2",
    by: Annotated[
        By,
        typer.Option(
            help="How: what a scorer says, channels that move it, SeFa, two sets of faces, prompts, or a file."
        ),
    ] = By.scorer,
    scorer: Annotated[
        str | None,
        typer.Option(
            help="The shipped verifier or any target; a CLIP folder as FOLDER?classes=a face,a smile. By scorer and by "
            "channels the verifier unless named; by sefa, contrast and file it gives what is found its units."
        ),
    ] = None,
    names: Annotated[str | None, typer.Option(help="Which of its scores, comma-separated; all by default.")] = None,
    faces: Annotated[int, typer.Option(help="How many faces it scores.")] = 2048,
    count: Annotated[
        int, typer.Option(help="With sefa: how many directions; with channels: how many of them move each score.")
    ] = 10,
    beta: Annotated[
        float | None,
        typer.Option(help="With channels, instead of --count: all as relevant as this share of the foremost."),
    ] = None,
    name: Annotated[str, typer.Option(help="With contrast: the attribute's name.")] = "contrast",
    those: Annotated[str, typer.Option(help="With contrast: faces that have it, as 1,5,7.")] = "",
    others: Annotated[str, typer.Option(help="With contrast: faces that do not.")] = "",
    prompts: Annotated[
        list[str] | None,
        typer.Option("--prompt", help="With prompts: an attribute as 'age=an old man|a young man'; repeatable."),
    ] = None,
    file: Annotated[Path | None, typer.Option(help="With file: attributes that somebody found.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder; the generator's own by default, unless it is a shipped one.")
    ] = None,
    as_json: AsJson = False,
    seed: Seed = 1,
    device: Device = "auto",
) -> None:
    """Find a generator's attributes, and write them where audit and edit look for them."""
    from sia_gen.attributes.attribute_space import AttributeSpace
    from sia_gen.attributes.load import FILE, fitting
    from sia_gen.attributes.ways.channels import by_channels
    from sia_gen.attributes.ways.scorer import by_scorer, in_units
    from sia_gen.attributes.ways.unlabelled import by_contrast, by_prompts, by_sefa
    from sia_gen.core.files import require_place, shipped, writable_folder
    from sia_gen.core.seeds import face_seeds
    from sia_gen.generators.load import load_generator, place_of
    from sia_gen.service.commands.terminal import progress_bar, show_entries

    face_seeds(seed, faces)  # refuses wrong numbers before anything is loaded
    folder = out if out is not None else place_of(generator)
    if not isinstance(folder, Path):
        raise RequestError(f"'{generator}' is no folder that attributes could be written to; give --out")
    if out is None and generator in shipped("generator"):
        raise RequestError(f"the attributes of '{generator}' come with it and stay as they are; give --out")
    require_place(folder)
    place = resolve(device)
    source = load_generator(generator, place)
    with progress_bar(quiet=as_json) as progress:
        if by is By.scorer:
            asked, judge = names_of(names), _scorer(scorer or "verifier", place)
            space = by_scorer(source, judge, asked, faces=faces, seed=seed, progress=progress)
        elif by is By.channels:
            asked, judge = names_of(names), _scorer(scorer or "verifier", place)
            space = by_channels(source, judge, asked, count=count, beta=beta, seed=seed, progress=progress)
        elif by is By.sefa:
            space = by_sefa(source, count, seed)
        elif by is By.contrast:
            space = by_contrast(source, name, _numbers("those", those), _numbers("others", others), seed)
        elif by is By.prompts:
            space = by_prompts(source, dict(map(_prompts, prompts or ())))
        else:
            if file is None:
                raise RequestError("--by file wants --file, the attributes that somebody found; give it")
            with named_file():
                theirs = AttributeSpace.load(file)
            space = replace(fitting(theirs, source, "choose another --by"), generator=source.name)
        if scorer is not None and by not in (By.scorer, By.channels):
            space = in_units(source, space, _scorer(scorer, place), seed=seed, progress=progress)
    writable_folder(folder)
    space.save(folder / FILE)
    if as_json:
        print_json(
            {"generator": source.name, "attributes": space.names, "space": space.space, "out": str(folder / FILE)}
        )
    else:
        rows = [
            {
                "name": a.name,
                "unit": a.unit,
                "low": a.low,
                "high": a.high,
                "up": a.positive,
                "leakage": a.leakage if a.curve else "not measured",
            }
            for a in space.attributes
        ]
        show_entries(f"{len(rows)} attribute{'' if len(rows) == 1 else 's'} in '{space.space}'", rows)
        print(f"\nWritten to {folder / FILE}")


def _scorer(name: str, device: str) -> Scorer:
    from sia_gen.attributes.ways.scorer import of_target, of_verifier
    from sia_gen.core.files import shipped
    from sia_gen.targets.load import load_target
    from sia_gen.targets.verifier import load_verifier

    if name in shipped("verifier"):
        return of_verifier(load_verifier(name, device))
    return of_target(load_target(name, device))


def _prompts(text: str) -> tuple[str, tuple[str, str]]:
    """An attribute's name and its two texts from ``name=more|less``; raises `RequestError`."""
    name, _, texts = text.partition("=")
    more, _, less = (part.strip() for part in texts.partition("|"))
    if not (name.strip() and more and less):
        raise RequestError(f"--prompt {text} is no attribute; write it as 'age=an old man|a young man'")
    return name.strip(), (more, less)


def _numbers(option: str, text: str) -> list[int]:
    """Seeds of faces from text as ``1,5,7``; raises `RequestError`."""
    try:
        found = [int(part) for part in text.split(",") if part]
    except ValueError:
        raise RequestError(f"--{option} {text} are no numbers of faces; write them as 1,5,7") from None
    if any(number < 0 for number in found):
        raise RequestError(f"--{option} {text} holds a number below 0; faces are counted from there")
    return found
