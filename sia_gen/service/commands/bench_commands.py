"""Commands that measure the audits themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sia_gen.core.errors import RequestError
from sia_gen.service.commands.options import (
    AsJson,
    Attributes,
    Device,
    Epsilon,
    Generator,
    MakeHuman,
    RunGenerator,
    Seed,
    Steps,
    listed,
    names_of,
    print_json,
    radii_of,
    radius,
    require_precision,
    resolve,
)

Corruptions = Annotated[
    bool, typer.Option("--corruptions/--no-corruptions", help="Show the models corrupted renders, too.")
]
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
    from sia_gen.service.commands.bench_tables import show_agreement
    from sia_gen.service.commands.terminal import progress_bar

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
def attacks(
    targets: Annotated[
        list[str] | None, typer.Option("--target", help="A classifier; repeatable. smile-classifier by default.")
    ] = None,
    generator: Generator = "faces-stylegan2",
    attributes: Attributes = None,
    faces: Annotated[int, typer.Option(help="How many faces to attack.")] = 32,
    epsilon: Epsilon = "1/255",
    norm: Annotated[str, typer.Option(help="Of the pixel residual: linf or l2.")] = "linf",
    steps: Steps = 10,
    baselines: Annotated[
        str | None,
        typer.Option(help="As FGSM,PGD; all by default, '' for none. More of them: pip install --no-deps torchattacks"),
    ] = None,
    ablations: Annotated[bool, typer.Option("--ablations", help="Show what the joint attack is made of, too.")] = False,
    transfer: Annotated[
        bool, typer.Option("--transfer", help="Show the pictures made against each target to the others, too.")
    ] = False,
    label: Annotated[str | None, typer.Option(help="What the targets predict, as smile:0.5.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write the table to, as JSON.")] = None,
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Compare attacks on classifiers: pixel baselines, attributes, and both."""
    from sia_gen.audits.proof.attacks import attack_table
    from sia_gen.service.commands.bench_tables import show_attacks
    from sia_gen.service.commands.terminal import progress_bar

    if norm not in ("linf", "l2"):
        raise RequestError(f"norm={norm} is neither linf nor l2; choose one of these")
    chosen = None if baselines is None else listed(baselines)
    with progress_bar(quiet=as_json) as progress:
        content = attack_table(
            targets or ["smile-classifier"], generator=generator, attributes=names_of(attributes), faces=faces,
            epsilon=radius(epsilon), norm=norm, steps=steps, baselines=chosen, ablations=ablations, transfer=transfer,  # type: ignore[arg-type]
            label=label, out=out, seed=seed, device=resolve(device), progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(content)
    else:
        show_attacks(content)


@bench.command()
def robustness(
    targets: Annotated[
        list[str] | None,
        typer.Option("--target", help="A model with gradients; repeatable. smile-classifier by default."),
    ] = None,
    generator: Generator = "faces-stylegan2",
    attributes: Attributes = None,
    faces: Annotated[int, typer.Option(help="How many faces to attack.")] = 32,
    radii: Annotated[
        str, typer.Option(help="Comma-separated radii of the pixel attacks; '' for none.")
    ] = "1/255,2/255,4/255",
    steps: Steps = 20,
    label: Annotated[str | None, typer.Option(help="What the targets predict, as smile:0.5.")] = None,
    confirm: Annotated[
        bool | None, typer.Option("--confirm/--no-confirm", help="Render people, where a studio is at hand.")
    ] = None,
    corrupted: Corruptions = True,
    out: Annotated[Path | None, typer.Option(help="File to write the report to, as JSON.")] = None,
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """What models stand: clean renders, pixels, attributes, renders at their ends, and corruptions."""
    from sia_gen.audits.proof.robustness import robustness as work
    from sia_gen.service.commands.bench_tables import show_robustness
    from sia_gen.service.commands.terminal import progress_bar

    with progress_bar(quiet=as_json) as progress:
        content = work(
            targets or ["smile-classifier"], generator=generator, attributes=names_of(attributes), faces=faces,
            radii=radii_of(radii), steps=steps, label=label, confirm="auto" if confirm is None else confirm,
            corrupt=corrupted, out=out, seed=seed, device=resolve(device), progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(content)
    else:
        show_robustness(content)


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
    from sia_gen.service.commands.bench_tables import show_suite
    from sia_gen.service.commands.terminal import progress_bar

    with progress_bar(quiet=as_json) as progress:
        content = planted_suite(
            out, renders=renders, makehuman=makehuman, models=models, generator=generator, faces=faces, steps=steps,
            seed=seed, device=resolve(device), progress=progress,
        )  # fmt: skip
    if as_json:
        print_json({**content, "out": str(out)})
        return
    show_suite(content)
    print(f"\nWritten to {out}")


@bench.command()
def imbalance(
    out: Annotated[Path, typer.Option(help="Folder of the suite; the same command goes on in it.")] = Path(
        "runs/imbalance"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="One label, ratio, network and seed; some minutes.")] = False,
    labels: Annotated[str | None, typer.Option(help="Comma-separated: glasses, smile, age, glasses+smile.")] = None,
    ratios: Annotated[str | None, typer.Option(help="Comma-separated, most frequent : rarest class, as 10,50.")] = None,
    networks: Annotated[str | None, typer.Option(help="Comma-separated: resnet, vit.")] = None,
    seeds: Annotated[int | None, typer.Option(help="How many of each.")] = None,
    faces: Annotated[int | None, typer.Option(help="Generated faces of a class, at most.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps of each row.")] = None,
    remedies: Annotated[
        str | None, typer.Option(help="Comma-separated, as plain,oracle,generated; those that they need come along.")
    ] = None,
    tail_generator: Annotated[
        bool,
        typer.Option(
            "--tail-generator",
            help="Ask a generator taught on each long tail alone, told the factors and landmarks of its pictures, too; "
            "half an hour for each.",
        ),
    ] = False,
    search: Annotated[
        bool, typer.Option("--search", help="Choose a learning rate for each row, of three; three times as long.")
    ] = False,
    renders: Annotated[Path | None, typer.Option(help="Renders to use; the shipped faces-renders by default.")] = None,
    generator: Generator = "faces-stylegan2",
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Teach networks on long tails of renders by every remedy, and see which helps the rare classes most."""
    from sia_gen.rebalancing.bench import imbalance_suite, scale_of
    from sia_gen.service.commands.bench_tables import show_imbalance
    from sia_gen.service.commands.terminal import progress_bar

    scale = scale_of(
        quick, labels=names_of(labels), ratios=names_of(ratios), architectures=names_of(networks), seeds=seeds,
        faces=faces, steps=steps, remedies=names_of(remedies), tail=tail_generator, search=search,
    )  # fmt: skip
    with progress_bar(quiet=as_json) as progress:
        content = imbalance_suite(
            out, scale=scale, renders=renders, generator=generator, seed=seed, device=resolve(device),
            progress=progress,
        )  # fmt: skip
    if as_json:
        print_json({**content, "out": str(out)})
        return
    show_imbalance(content)
    print(f"\nWritten to {out}")


@bench.command()
def hardening(
    out: Annotated[Path, typer.Option(help="Folder of the suite; the same command goes on in it.")] = Path(
        "runs/hardening"
    ),
    target: Annotated[
        str, typer.Option(help="The model to harden copies of, as for harden.")
    ] = "smile-classifier-planted",
    by: Annotated[
        str | None, typer.Option(help="Comma-separated, as for harden; standard, random, PGD, TRADES and SIA's.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Copies hardened by each, counted up from --seed.")] = 3,
    faces: Annotated[int, typer.Option(help="Faces generated in each round.")] = 4000,
    rounds: Annotated[int, typer.Option(help="Times that new faces are made against the model as it is.")] = 2,
    steps: Annotated[int, typer.Option(help="Training steps of a round.")] = 3000,
    judged: Annotated[int, typer.Option(help="Faces, others than are learnt from, to attack each copy on.")] = 32,
    epsilon: Epsilon = "1/255",
    radii: Annotated[
        str, typer.Option(help="Comma-separated radii of the pixel attacks that measure; '' for none.")
    ] = "1/255,2/255,4/255",
    corrupted: Corruptions = True,
    generator: Generator = "faces-stylegan2",
    attributes: Attributes = None,
    precision: Annotated[str, typer.Option(help="Of drawing and training: no or bf16.")] = "no",
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Harden copies of a model by every regimen, and see what each then stands."""
    from sia_gen.hardening.bench import REGIMENS_MEASURED, Cells, hardening_suite
    from sia_gen.hardening.regimens import HardeningSettings
    from sia_gen.service.commands.bench_tables import show_hardening
    from sia_gen.service.commands.terminal import progress_bar

    require_precision(precision)
    cells = Cells(
        by=REGIMENS_MEASURED if by is None else tuple(listed(by)), seeds=seeds, judged=judged, radii=radii_of(radii),
        corrupt=corrupted,
        hardening=HardeningSettings(faces=faces, rounds=rounds, steps=steps, epsilon=radius(epsilon)),
    )  # fmt: skip
    with progress_bar(quiet=as_json) as progress:
        content = hardening_suite(
            out, target=target, cells=cells, generator=generator, attributes=names_of(attributes), seed=seed,
            device=resolve(device), precision=precision, progress=progress,  # type: ignore[arg-type]
        )  # fmt: skip
    if as_json:
        print_json({**content, "out": str(out)})
        return
    show_hardening(content)
    print(f"\nWritten to {out}")
