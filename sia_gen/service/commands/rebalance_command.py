"""The command that fills in the classes that a data set lacks.

As in `sia_gen.cli`, everything heavy is imported inside the command that needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sia_gen.service.commands.options import AsJson, Device, Generator, Seed, names_of, print_json, resolve

if TYPE_CHECKING:
    from sia_gen.rebalancing.rebalance import Rebalanced


def rebalance(
    data: Annotated[
        Path, typer.Option(help="Labelled pictures: a folder for each class, or a Hugging Face data set's folder.")
    ],
    label: Annotated[
        str, typer.Option("--class", help="Attribute that the classes are cut from, and where: glasses:0.5, age:30,60.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; the same command goes on in it.")],
    target: Annotated[
        str | None, typer.Option(help="A classifier to train with both; without one the faces are only written.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="Column of the labels; 'label' or the attribute's.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="Names of the classes, low to high, as 'no glasses,glasses'.")
    ] = None,
    generator: Generator = "faces-stylegan2",
    by: Annotated[
        str | None, typer.Option(help="How: generated, sia-semantic or sia-joint; sia-semantic with a target.")
    ] = None,
    faces: Annotated[
        int | None, typer.Option(help="Faces of each rare class, at most; as many as are missing by default.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Times that faces are made against the model as it is.")] = 2,
    steps: Annotated[int, typer.Option(help="Training steps of a round.")] = 750,
    batch: Annotated[int, typer.Option(help="Pictures of a step.")] = 32,
    rate: Annotated[float, typer.Option(help="Learning rate at its highest.")] = 1e-3,
    force: Annotated[bool, typer.Option("--force", help="Also where the classes are balanced.")] = False,
    precision: Annotated[str, typer.Option(help="Of the training: no or bf16.")] = "no",
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Generate faces of the rare classes of a data set, and train a classifier with both."""
    from sia_gen.rebalancing.rebalance import rebalance as work
    from sia_gen.rebalancing.remedies import RebalancingSettings
    from sia_gen.service.commands.recipe_commands import require_precision
    from sia_gen.service.commands.terminal import progress_bar
    from sia_gen.training.processes import is_first

    require_precision(precision)
    settings = RebalancingSettings(faces=faces, rounds=rounds, steps=steps, batch=batch, rate=rate)
    with progress_bar(quiet=as_json or not is_first()) as progress:
        found = work(
            data, label, out, target=target, column=column, classes=names_of(classes), generator=generator, by=by,
            settings=settings, force=force, seed=seed, device=resolve(device), precision=precision,  # type: ignore[arg-type]
            progress=progress,
        )  # fmt: skip
    if not is_first():
        return
    if as_json:
        told = {"classes": list(found.classes), "counts": found.counts, "added": found.added, "notes": found.notes}
        print_json({"out": str(found.folder), **told, "figures": found.figures})
    else:
        _show(found)


def _show(found: Rebalanced) -> None:
    from sia_gen.rebalancing.measures import MEASURES
    from sia_gen.service.commands.terminal import show_entries

    rows = zip(found.classes, found.counts, found.added, strict=True)
    entries = [{"class": name, "there": str(count), "generated": str(added)} for name, count, added in rows]
    show_entries("Pictures of each class", entries)
    for note in found.notes:
        print(f"Note: {note}")
    for name, figures in (found.figures or {}).items():
        before, after = figures["before"], figures["after"]
        entries = [
            {"measure": words, "before": before[key], "after": after[key]}
            for key, words in MEASURES.items()
            if before[key] is not None
        ]
        pairs = zip(found.classes, before["recalls"], after["recalls"], strict=True)
        entries += [{"measure": f"right of '{each}'", "before": a, "after": b} for each, a, b in pairs if a is not None]
        print()
        show_entries(f"On {before['pictures']} pictures, {name}", entries)
    if any(found.added):
        print(f"\nWritten to {found.folder}")
