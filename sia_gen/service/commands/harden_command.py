"""The commands that mend a model: after an audit, and where classes are rare.

As in `sia_gen.cli`, everything heavy is imported inside the command that needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sia_gen.service.commands.options import (
    AsJson,
    Attributes,
    Device,
    Epsilon,
    Generator,
    Seed,
    names_of,
    print_json,
    require_precision,
    resolve,
)

if TYPE_CHECKING:
    from sia_gen.hardening.harden import Hardened
    from sia_gen.rebalancing.rebalance import Rebalanced


def harden(
    out: Annotated[Path, typer.Option(help="Folder of the hardened model; the same command goes on in it.")],
    run: Annotated[Path | None, typer.Option(help="A finished audit: its target is hardened against it.")] = None,
    target: Annotated[
        str | None, typer.Option(help="A classifier, as for audit; with a run: where its target lies.")
    ] = None,
    generator: Annotated[str | None, typer.Option(help="Where faces come from, if not from the run's.")] = None,
    attributes: Attributes = None,
    label: Annotated[str | None, typer.Option(help="What the target predicts, as smile:0.5 or age:30,60.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Labelled pictures to learn from besides: a folder a class, Hugging Face's, or faces-renders."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="What the data calls the target's classes, in the target's order: 'plain,spectacles'."),
    ] = None,
    by: Annotated[
        str, typer.Option(help="How: standard, random, randaugment, augmix, pgd, trades, sia-semantic, sia-joint …")
    ] = "sia-semantic",
    faces: Annotated[int, typer.Option(help="Faces generated in each round.")] = 4000,
    attacked: Annotated[
        float, typer.Option(help="Share of them that are attacked, where the regimen does; others change at random.")
    ] = 0.25,
    rounds: Annotated[int, typer.Option(help="Times that new faces are made against the model as it is.")] = 2,
    steps: Annotated[int, typer.Option(help="Training steps of a round.")] = 3000,
    batch: Annotated[int, typer.Option(help="Pictures of a step.")] = 32,
    rate: Annotated[float, typer.Option(help="Learning rate at its highest.")] = 2e-3,
    epsilon: Epsilon = "1/255",
    again: Annotated[bool, typer.Option("--audit/--no-audit", help="Audit the hardened model as the run did.")] = True,
    precision: Annotated[str, typer.Option(help="Of drawing and training: no or bf16.")] = "no",
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Harden a classifier on generated faces that make it fail, and audit it again. With the defaults it takes
    half an hour or more on a CPU.

    Several processes share the steps, on GPUs or with --device cpu: accelerate launch --multi_gpu --num_processes 2 -m
    sia_gen.cli harden …
    """
    from sia_gen.hardening.harden import harden as work
    from sia_gen.hardening.regimens import HardeningSettings
    from sia_gen.service.commands.options import radius
    from sia_gen.service.commands.terminal import progress_bar
    from sia_gen.training.processes import is_first

    require_precision(precision)
    settings = HardeningSettings(
        faces=faces, attacked=attacked, rounds=rounds, steps=steps, batch=batch, rate=rate, epsilon=radius(epsilon)
    )
    with progress_bar(quiet=as_json or not is_first()) as progress:
        found = work(
            target, out, run=run, generator=generator, attributes=names_of(attributes), label=label, data=data,
            classes=names_of(classes), by=by, settings=settings, again=again, seed=seed, device=resolve(device),
            precision=precision, progress=progress,  # type: ignore[arg-type]
        )  # fmt: skip
    if not is_first():
        return
    if as_json:
        print_json({"out": str(found.folder), "figures": found.figures, "comparison": found.comparison})
    else:
        _show(found)


def _show(found: Hardened) -> None:
    from sia_gen.hardening.page import verdict
    from sia_gen.service.commands.terminal import show_entries

    if found.comparison is not None:
        print(f"{found.comparison['finding']}\n")
    if found.figures is not None:
        before, after = found.figures["before"], found.figures["after"]
        classes = getattr(found.target.task, "classes", ["all faces"])
        measure = found.figures["measure"].capitalize()
        rows = [("all", before["balanced"], after["balanced"])]
        rows += [(name, share, after["groups"][name]) for name, share in before["groups"].items()]
        rows += [
            (f"{classes[number]}, {name} {side}", before["cells"][name][number][end], after["cells"][name][number][end])
            for name in before["cells"]
            for number in range(len(before["cells"][name]))
            for end, side in enumerate(("below its median", "above its median"))
            if before["cells"][name][number][end] is not None
        ]
        entries = [{"faces": name, "before": f"{a:.1%}", "after": f"{b:.1%}"} for name, a, b in rows]
        show_entries(f"{measure}, of {before['renders']} renders whose labels are exact", entries)
        print(f"\n{verdict(found.figures)}")
    print(f"\nWritten to {found.folder}; before and after: {found.page}")


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
        str | None,
        typer.Option(help="generated (default with a target), generated-rare (without), sia-semantic or sia-joint."),
    ] = None,
    faces: Annotated[
        int, typer.Option(help="Faces of a class, at most; never more than the commonest has more than the rarest.")
    ] = 1000,
    rounds: Annotated[int, typer.Option(help="Times that faces are made and learnt from.")] = 2,
    steps: Annotated[int, typer.Option(help="Training steps of a round.")] = 750,
    batch: Annotated[int, typer.Option(help="Pictures of a step.")] = 32,
    rate: Annotated[float, typer.Option(help="Learning rate at its highest.")] = 1e-3,
    force: Annotated[bool, typer.Option("--force", help="Also where the classes are balanced.")] = False,
    precision: Annotated[str, typer.Option(help="Of the training: no or bf16.")] = "no",
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Generate faces of the rare classes of a data set, and train a classifier with both.

    With a target as many faces of the other classes are made, too: else the classifier learns that what looks generated
    is rare.
    """
    from sia_gen.rebalancing.rebalance import rebalance as work
    from sia_gen.rebalancing.remedies import RebalancingSettings
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
        _show_rebalanced(found)


def _show_rebalanced(found: Rebalanced) -> None:
    from sia_gen.rebalancing.measures import compared
    from sia_gen.service.commands.terminal import show_entries

    rows = zip(found.classes, found.counts, found.added, strict=True)
    entries = [{"class": name, "there": str(count), "generated": str(added)} for name, count, added in rows]
    show_entries("Pictures of each class", entries)
    for note in found.notes:
        print(f"Note: {note}")
    for name, figures in (found.figures or {}).items():
        before, after = figures["before"], figures["after"]
        rows = compared(found.classes, before, after)
        entries = [{"measure": words, "before": a, "after": b} for words, a, b in rows]
        print()
        show_entries(f"On {before['pictures']} pictures, {name}", entries)
    if any(found.added):
        print(f"\nWritten to {found.folder}")
