"""The commands that audit a target, and that read what audits found.

As in `sia_gen.cli`, everything heavy is imported inside the command that needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sia_gen.service.commands.options import (
    AsJson,
    Attributes,
    Box,
    Budget,
    Channels,
    Classes,
    Crop,
    Device,
    Epsilon,
    Generator,
    InputRange,
    Precision,
    Queries,
    RunGenerator,
    Seed,
    Size,
    Steps,
    Target,
    attack_of,
    names_of,
    print_json,
    resolve,
)


def audit(
    generator: Generator = "faces-stylegan2",
    target: Target = "smile-classifier",
    faces: Annotated[int, typer.Option(help="How many faces to audit over.")] = 32,
    attributes: Attributes = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/TARGET by default.")] = None,
    steps: Steps = 10,
    box: Box = 1.0,
    budget: Budget = 1.0,
    epsilon: Epsilon = "1/255",
    queries: Queries = None,
    precision: Precision = "no",
    size: Size = None,
    channels: Channels = None,
    input_range: InputRange = None,
    crop: Crop = None,
    classes: Classes = None,
    towards: Annotated[str | None, typer.Option(help="A class that the target is to be driven towards.")] = None,
    label: Annotated[str | None, typer.Option(help="What the target predicts, as smile:0.5 or age:30,60.")] = None,
    pairs: Annotated[str | None, typer.Option(help="Attributes to move together, as age+yaw,smile+glasses.")] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Only each attribute alone and the control: no ascent, no renders."),
    ] = False,
    confirm: Annotated[
        bool | None,
        typer.Option(
            "--confirm/--no-confirm", help="Render failing faces in the studio, too; by default where that can be done."
        ),
    ] = None,
    verifier: Annotated[
        str, typer.Option(help="Who reads labels off edited faces: the shipped one, a folder or hub id, or none.")
    ] = "verifier",
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Find out which attributes make a target fail; the same command resumes a run that was stopped."""
    from sia_gen.audits.diagnose import audit as run
    from sia_gen.service.commands.audit_tables import show_audit
    from sia_gen.service.commands.terminal import progress_bar
    from sia_gen.service.runs import RunStore
    from sia_gen.targets.adapted import asked_as

    settings = attack_of(steps, box, budget, epsilon, queries, precision)
    shown = {"size": size, "channels": channels, "input_range": input_range, "crop": crop, "classes": classes}
    target = asked_as(target, **shown)
    folder = out or RunStore().path(target)
    with progress_bar(quiet=as_json) as progress:
        report = run(
            generator,
            target,
            names_of(attributes),
            faces=faces,
            seed=seed,
            out=folder,
            attack=settings,
            towards=towards,
            label=label,
            pairs=_pairs(pairs),
            quick=quick,
            confirm="auto" if confirm is None else confirm,
            verifier=verifier,
            device=resolve(device),
            progress=progress,
        )
    if as_json:
        print_json({**report.histogram, "out": str(folder)})
    else:
        show_audit(report.histogram)
        print(f"\nReport: {folder / 'report.html'}")


def compare(
    first: Annotated[Path, typer.Argument(help="Folder of a finished audit.")],
    second: Annotated[Path, typer.Argument(help="Folder of another, of the same faces.")],
    as_json: AsJson = False,
    seed: Seed = 0,  # every command takes it; a finished audit has its own
    device: Device = "auto",
) -> None:
    """Compare two audits of the same faces: two models, or one before and after a repair."""
    from sia_gen.audits.finished.comparison import compare as run
    from sia_gen.service.commands.audit_tables import show_comparison

    content = run(first, second)
    if as_json:
        print_json(content)
    else:
        show_comparison(content)


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished audit.")],
    out: Annotated[Path, typer.Option(help="Folder of the data set, new or empty.")],
    generator: RunGenerator = None,
    alone: Annotated[bool, typer.Option("--alone", help="Add failures with one attribute moved alone.")] = False,
    valid: Annotated[bool, typer.Option("--valid", help="Take only failures that passed the gate.")] = False,
    as_json: AsJson = False,
    seed: Seed = 0,  # every command takes it; a finished audit has its own
    device: Device = "auto",
) -> None:
    """Write the faces of a finished audit, before and after, as a Hugging Face data set."""
    from sia_gen.audits.finished.export import export as work
    from sia_gen.service.commands.terminal import progress_bar

    with progress_bar(quiet=as_json) as progress:
        images = work(
            run, out, generator=generator, alone=alone, valid=valid, device=resolve(device), progress=progress
        )
    if as_json:
        print_json({"images": images, "out": str(out)})
    else:
        print(f"{images} images, written to {out}")


def _pairs(text: str | None) -> list[tuple[str, ...]]:
    return [] if text is None else [tuple(name.strip() for name in pair.split("+")) for pair in text.split(",")]
