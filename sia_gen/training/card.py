"""Model cards: the README.md beside shipped weights, and its pictures, made by the recipes from what they measured.

Letters: B images, R resolution, P points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sia_gen.attributes.attribute_space import Attribute
from sia_gen.core.files import atomic
from sia_gen.core.images import Images, contact_sheet

CARD, SHEET = "README.md", "sheet.jpg"
QUALITY = 90  # of the pictures
SPREAD = 0.5  # what `sia-gen studio render` spreads evenly unless told
TEMPLATES = Path(__file__).parent / "cards"


def write_card(folder: Path, template: str, renders: Mapping[str, Any], held_out: int, **values: object) -> None:
    """Fill in ``cards/<template>.md`` for the weights in ``folder``, trained on renders with these settings."""
    values |= {"name": folder.resolve().name, "held_out": held_out, "render": _command(renders)}
    values["drawn"] = _drawn(renders["spread"])
    if renders["skews"]:
        values["drawn"] = "with the correlations that the command plants"
    data = _filled("data", {**renders, **values}).rstrip()
    with atomic(folder / CARD) as partial:
        partial.write_text(_filled(template, {**values, "data": data}), encoding="utf-8")


def draw_sheet(path: Path, rows: Sequence[Images], labels: Sequence[str] = ()) -> None:
    """Write rows of images ``[B, 3, R, R]``, labelled at the left, as one picture."""
    with atomic(path) as partial:
        contact_sheet(rows, labels).save(partial, quality=QUALITY)


def with_points(images: Images, points: Tensor) -> Images:
    """Images ``[B, 3, R, R]`` with a green dot at each of the points ``[B, P, 2]``, in picture widths, x first."""
    made, side = images.clone(), images.shape[-1]
    for image, dots in zip(made, (points * side).long().clamp(0, side - 1), strict=True):
        image[:, dots[:, 1], dots[:, 0]] = image.new_tensor([[0.0], [1.0], [0.0]])
    return made


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def attribute_table(attributes: Sequence[Attribute]) -> str:
    """What was measured of each attribute."""
    header = [
        "attribute", "unit", "safe range of a change", "sd over faces", "slope", "leakage", "Spearman", "same person"
    ]  # fmt: skip
    rows = [
        (
            a.name,
            a.unit,
            f"{a.low:g}…{a.high:+g}",
            a.sd,
            f"{a.slope:.2f}",
            f"{a.leakage:.2f}",
            *("–" if value is None else f"{value:.2f}" for value in (a.monotony, a.identity)),
        )
        for a in attributes
    ]
    return table(header, rows)


def _filled(template: str, values: Mapping[str, object]) -> str:
    return (TEMPLATES / f"{template}.md").read_text(encoding="utf-8").format(**values)


def _drawn(spread: float) -> str:
    """How faces are drawn of which this share is spread evenly."""
    ways = (("as people go together in a population", 1 - spread), ("evenly over their ranges", spread))
    some = [f"in {share:.0%} of the faces {words}" if share < 1 else words for words, share in ways if share]
    return ", ".join(some)


def _command(renders: Mapping[str, Any]) -> str:
    skews = "".join(f" --skew {s['factor']}={s['given']}:{s['strength']:g}" for s in renders["skews"])
    options = f"--faces {renders['faces']} --seed {renders['seed']} --resolution {renders['resolution']}{skews}"
    if renders["pictures"] > 1:
        options += f" --pictures {renders['pictures']}"
    if renders["spread"] != SPREAD:
        options += f" --spread {renders['spread']:g}"
    return f"sia-gen studio render {options} --out renders"
