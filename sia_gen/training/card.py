"""Model cards: the README.md beside shipped weights, written by the recipe that makes them from what it measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sia_gen.core.files import atomic

CARD = "README.md"
TEMPLATES = Path(__file__).parent / "cards"


def write_card(folder: Path, template: str, renders: Mapping[str, Any], held_out: int, **values: object) -> None:
    """Fill in ``cards/<template>.md`` for the weights in ``folder``, trained on renders with these settings."""
    values |= {"name": folder.resolve().name, "held_out": held_out, "render": _command(renders)}
    values["drawn"] = "with the correlations that the command plants" if renders["skews"] else "independently"
    data = _filled("data", {**renders, **values}).rstrip()
    with atomic(folder / CARD) as partial:
        partial.write_text(_filled(template, {**values, "data": data}), encoding="utf-8")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _filled(template: str, values: Mapping[str, object]) -> str:
    return (TEMPLATES / f"{template}.md").read_text(encoding="utf-8").format(**values)


def _command(renders: Mapping[str, Any]) -> str:
    skews = "".join(f" --skew {s['factor']}={s['given']}:{s['strength']:g}" for s in renders["skews"])
    options = f"--faces {renders['faces']} --seed {renders['seed']} --resolution {renders['resolution']}{skews}"
    if renders["pictures"] > 1:
        options += f" --pictures {renders['pictures']}"
    return f"sia-gen studio render --makehuman DIR {options} --out renders"
