"""The commands that make the shipped weights.

As in `sia_gen.cli`, everything heavy is imported inside the command that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from sia_gen.core.errors import RequestError
from sia_gen.service.commands.options import (
    AsJson,
    Device,
    Generator,
    MakeHuman,
    Seed,
    names_of,
    print_json,
    require_precision,
    resolve,
)

train = typer.Typer(help="The recipes that make the shipped weights.", no_args_is_help=True)

Out = Annotated[Path, typer.Option(help="Folder to write to; the same command goes on where it was stopped.")]
Renders = Annotated[Path, typer.Option(help="Folder that 'sia-gen studio render' wrote.")]
Steps = Annotated[int, typer.Option(help="Training steps.")]
Adversarial = Annotated[
    int, typer.Option(help="Further steps of the generator against a discriminator, for a GPU; 20000, for example.")
]
Batch = Annotated[
    int | None,
    typer.Option(help="Faces of a training step; by default 16 to 64 by recipe, on a GPU four times as many."),
]
Precision = Annotated[str, typer.Option(help="Of the training: no or bf16, which is fast on a GPU.")]


@train.command()
def generator(
    renders: Renders,
    out: Out,
    family: Annotated[str, typer.Option(help="stylegan2, or ddpm: a diffusion model.")] = "stylegan2",
    steps: Annotated[int | None, typer.Option(help="Training steps; by default 26000, of ddpm 6000.")] = None,
    adversarial: Adversarial = 0,
    batch: Batch = None,
    precision: Precision = "no",
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train a StyleGAN2 by paired regression on renders, then against a discriminator where asked; or a DDPM."""
    from sia_gen.training.generators.diffusion import train_diffusion
    from sia_gen.training.generators.stylegan2 import train_generator

    if family not in ("stylegan2", "ddpm"):
        raise RequestError(f"family={family} is neither stylegan2 nor ddpm; choose one of these")
    if family == "ddpm" and adversarial:
        raise RequestError("--adversarial is for the family stylegan2; leave it out")
    chosen: dict[str, Any] = {} if steps is None else {"steps": steps}

    def work(**common: Any) -> Mapping[str, Any]:
        if family == "ddpm":
            return train_diffusion(renders, out, **chosen, **common)
        return train_generator(renders, out, adversarial=adversarial, **chosen, **common)

    _train(work, out, as_json, seed, device, batch, precision)


@train.command()
def verifier(
    renders: Renders,
    out: Out,
    steps: Steps = 6_000,
    batch: Batch = None,
    precision: Precision = "no",
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train the verifier, which reads every factor off an image."""
    from sia_gen.training.verifier import train_verifier

    def work(**common: Any) -> Mapping[str, Any]:
        return train_verifier(renders, out, steps=steps, **common)

    _train(work, out, as_json, seed, device, batch, precision)


@train.command()
def identity(
    renders: Renders,
    out: Out,
    steps: Steps = 4_000,
    batch: Batch = None,
    precision: Precision = "no",
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train the identity model on renders that show each person several times."""
    from sia_gen.training.identity import train_identity

    def work(**common: Any) -> Mapping[str, Any]:
        return train_identity(renders, out, steps=steps, **common)

    _train(work, out, as_json, seed, device, batch, precision)


@train.command()
def landmarks(
    renders: Renders,
    out: Out,
    steps: Steps = 6_000,
    batch: Batch = None,
    precision: Precision = "no",
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train a ViTPose that finds the 68 landmarks of a face."""
    from sia_gen.training.landmarks import train_landmarks

    def work(**common: Any) -> Mapping[str, Any]:
        return train_landmarks(renders, out, steps=steps, **common)

    _train(work, out, as_json, seed, device, batch, precision)


@train.command()
def target(
    renders: Renders,
    out: Out,
    label: Annotated[str, typer.Option(help="The factor to classify.")] = "smile",
    thresholds: Annotated[
        str | None, typer.Option(help="Values of the factor between classes, as 21,37,53; its middle.")
    ] = None,
    architecture: Annotated[str, typer.Option(help="resnet or vit.")] = "resnet",
    planted: Annotated[str | None, typer.Option(help="A factor that follows the label in the training faces.")] = None,
    strength: Annotated[float, typer.Option(help="In which share of the training faces it does, 0.5…1.")] = 0.95,
    steps: Steps = 4_000,
    batch: Batch = None,
    precision: Precision = "no",
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train a classifier of one factor, with a planted cause or without."""
    from sia_gen.training.predictor import RATES
    from sia_gen.training.target import train_target

    if architecture not in RATES:
        raise RequestError(f"architecture={architecture} is none of {', '.join(RATES)}; choose one of these")
    try:
        cuts = [float(part) for part in thresholds.split(",")] if thresholds else None
    except ValueError:
        raise RequestError(f"--thresholds {thresholds} are no numbers; write them as 21,37,53") from None

    def work(**common: Any) -> Mapping[str, Any]:
        settings = {"label": label, "thresholds": cuts, "architecture": architecture}
        return train_target(renders, out, **settings, planted=planted, strength=strength, steps=steps, **common)

    _train(work, out, as_json, seed, device, batch, precision)


@train.command()
def attributes(
    out: Out,
    generator: Generator = "faces-stylegan2",
    verifier: Annotated[str, typer.Option(help="A shipped name, a folder or hf:owner/name.")] = "verifier",
    identity: Annotated[
        str | None, typer.Option(help="An identity model, which says how far edited faces stay the same person.")
    ] = None,
    names: Annotated[
        str | None, typer.Option("--attributes", help="Comma-separated factors; the shipped generator's by default.")
    ] = None,
    faces: Annotated[int, typer.Option(help="How many faces to fit to.")] = 4096,
    trials: Annotated[int, typer.Option(help="How many faces to measure on.")] = 64,
    as_json: AsJson = False,
    seed: Seed = 1,
    device: Device = "auto",
) -> None:
    """Find a generator's attributes as the verifier reads them."""
    from sia_gen.training.attributes import fit_attributes

    def work(**common: Any) -> Mapping[str, Any]:
        settings = {"identity": identity, "names": names_of(names), "faces": faces, "trials": trials}
        space = fit_attributes(generator, verifier, out, **settings, **common)
        return {found.name: {"slope": found.slope, "leakage": found.leakage} for found in space.attributes}

    run_recipe(work, out, as_json, seed, device)


@train.command(name="all")
def everything(
    out: Out,
    makehuman: MakeHuman = None,
    faces: Annotated[int, typer.Option(help="Faces to render and train on.")] = 50_000,
    jobs: Annotated[
        int | None, typer.Option(help="Recipes that run side by side; by default all on a GPU, one on a CPU.")
    ] = None,
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Make all shipped weights: renders, generator, verifier, identity, attributes, landmarks, targets."""
    from sia_gen.training.everything import train_everything

    def work(**common: Any) -> dict[str, Any]:
        return train_everything(makehuman, out, faces=faces, jobs=jobs, **common)

    run_recipe(work, out, as_json, seed, device)


def _train(
    work: Callable[..., Mapping[str, Any]],
    out: Path,
    as_json: bool,
    seed: int,
    device: str,
    batch: int | None,
    precision: str,
) -> None:
    """Do a recipe with this batch and precision; of several processes the first one tells of it."""
    from sia_gen.training.processes import is_first

    require_precision(precision)
    run_recipe(partial(work, batch=batch, precision=precision), out, as_json, seed, device, tells=is_first())


def run_recipe(
    work: Callable[..., Mapping[str, Any]], out: Path, as_json: bool, seed: int, device: str, tells: bool = True
) -> None:
    """Do a recipe with a progress bar, once its place will do, and print the figures that it gives."""
    from sia_gen.core.files import require_place
    from sia_gen.service.commands.terminal import progress_bar, show_entries

    require_place(out)
    with progress_bar(quiet=as_json or not tells) as progress:
        figures = work(seed=seed, device=resolve(device), progress=progress)
    if not tells:
        return
    if as_json:
        print_json({**figures, "out": str(out)})
        return
    rows = {name: value if isinstance(value, Mapping) else {"value": value} for name, value in figures.items()}
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for name, row in rows.items():
        alike.setdefault(tuple(row), []).append({"figure": name, **row})
    for group in alike.values():
        if len(group) > 1 or len(alike) == 1:
            show_entries("figures", group)
        else:  # a row of its own kind reads better upright
            name = group[0].pop("figure")
            show_entries(name, [{"figure": key, "value": value} for key, value in group[0].items()])
    print(f"\nWritten to {out}")
