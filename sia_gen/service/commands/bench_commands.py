"""Commands that measure the audits themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sia_gen.service.commands.options import (
    AsJson,
    Device,
    Generator,
    MakeHuman,
    RunGenerator,
    Seed,
    print_json,
    resolve,
)

bench = typer.Typer(help="Measure whether audits tell the truth.", no_args_is_help=True)


@bench.callback()
def options() -> None:
    """Measure whether audits tell the truth."""


@bench.command()
def rendering(
    run: Annotated[Path, typer.Argument(help="Folder of a finished audit.")],
    makehuman: MakeHuman = None,
    generator: RunGenerator = None,
    target: Annotated[
        str | None, typer.Option(help="The audited target, where its name alone does not find it.")
    ] = None,
    faces: Annotated[int | None, typer.Option(help="The first N faces of the audit instead of all.")] = None,
    as_json: AsJson = False,
    seed: Seed = 0,  # every command takes it; the audit has its own
    device: Device = "auto",
) -> None:
    """Hold a finished audit against faces that the studio renders with the same changes."""
    from sia_gen.audits.proof.agreement import agreement
    from sia_gen.service.commands.terminal import progress_bar, show_agreement

    with progress_bar(quiet=as_json) as progress:
        content = agreement(
            run,
            makehuman,
            generator=generator,
            target=target,
            faces=faces,
            device=resolve(device),
            progress=progress,
        )
    if as_json:
        print_json(content)
    else:
        show_agreement(content)


@bench.command()
def planted(
    out: Annotated[Path, typer.Option(help="Folder of the suite; the same command goes on in it.")] = Path(
        "runs/suite"
    ),
    renders: Annotated[
        Path | None, typer.Option(help="Renders to train on; the shipped faces-renders by default.")
    ] = None,
    makehuman: Annotated[
        Path | None, typer.Option(help="Folder of a MakeHuman copy: fresh renders are made and trained on instead.")
    ] = None,
    models: Annotated[int, typer.Option(help="How many targets, of each eleven five without a flaw.")] = 44,
    generator: Generator = "faces-stylegan2",
    faces: Annotated[int, typer.Option(help="Faces of each audit.")] = 32,
    steps: Annotated[int, typer.Option(help="Training steps of each target.")] = 1200,
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train targets with a known flaw, and without one, and count how often audits find it."""
    from sia_gen.audits.proof.bench import planted_suite
    from sia_gen.service.commands.terminal import progress_bar, show_suite

    with progress_bar(quiet=as_json) as progress:
        content = planted_suite(
            out,
            renders=renders,
            makehuman=makehuman,
            models=models,
            generator=generator,
            faces=faces,
            steps=steps,
            seed=seed,
            device=resolve(device),
            progress=progress,
        )
    if as_json:
        print_json({**content, "out": str(out)})
        return
    show_suite(content)
    print(f"\nWritten to {out}")
