"""`before_after.html`: what hardening changed, as one self-contained page; and the picture in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sia_gen.audits.pages.figure import new_figure
from sia_gen.audits.pages.page import data_uri
from sia_gen.audits.pages.page import write_page as fill
from sia_gen.core.files import atomic
from sia_gen.hardening.regimens import regimen
from sia_gen.training.card import CARD, table

PAGE, FIGURE, TEMPLATE = "before_after.html", "before_after.png", "before_after.html.jinja"
OUTSIDE = ("picture from outside was used.", "labelled pictures from outside were learnt from besides.")
BARS = 10  # attributes, those that changed most
BEFORE, AFTER = "#cfdae4", "#5f97cc"


def verdict(figures: Mapping[str, Any]) -> str:
    """What hardening changed on renders, in one sentence."""
    (all_before, worst_before), (all_after, worst_after) = (
        (figures[when]["balanced"], figures[when]["worst"]) for when in ("before", "after")
    )
    gained, worst = all_after - all_before, worst_after - worst_before
    said = "better" if gained > 0 and worst >= 0 else "worse" if gained <= 0 and worst <= 0 else "not clearly better"
    return (
        f"On renders it is {said} than before: {figures['measure']} {all_before:.1%} → {all_after:.1%}, "
        f"in the worst group {worst_before:.1%} → {worst_after:.1%}."
    )


def write_page(content: Mapping[str, Any], folder: Path) -> None:
    """Render ``content``, the figures of both models and the comparison of their audits, if any."""
    picture = ""
    if content["comparison"] is not None and content["comparison"]["faces"]:
        _draw(content["comparison"], folder / FIGURE)
        picture = data_uri(folder / FIGURE)
    filters = {"percent": lambda share: "–" if share is None else f"{share:.1%}"}
    fill(
        folder / PAGE,
        "sia_gen.hardening",
        TEMPLATE,
        filters,
        {
            **content,
            "picture": picture,
            "without": without(content["settings"]),
            "verdict": verdict(content["figures"]) if content["figures"] else "",
        },
    )


def write_card(told: Mapping[str, Any], words: str, figures: Mapping[str, Any] | None, folder: Path) -> None:
    """`README.md` beside the hardened model: how it was made, and what it is worth."""
    found = "It was not measured: no labelled renders have its label."
    if figures is not None:
        before, after = figures["before"], figures["after"]
        rows = [
            ("all", before["balanced"], after["balanced"]),
            ("the worst of all groups", before["worst"], after["worst"]),
        ]
        found = table(
            [f"{figures['measure']}, of {before['renders']} renders", "before", "after"],
            [(name, f"{a:.1%}", f"{b:.1%}") for name, a, b in rows],
        )
        found = f"{verdict(figures)}\n\n{found}"
    values = {
        **told,
        "name": folder.resolve().name,
        "words": words,
        "figures": found,
        "known": told["truth"],
        "outside": f"{told['data'][0] if told['data'] else 'No'} {OUTSIDE[bool(told['data'])]}{without(told)}",
        "moved": _moved(told),
    }
    text = (Path(__file__).parent / "card.md").read_text(encoding="utf-8").format(**values)
    with atomic(folder / CARD) as partial:
        partial.write_text(text, encoding="utf-8")


def without(told: Mapping[str, Any]) -> str:
    """Which labelled pictures were left out, as a sentence."""
    left = ", ".join(f"{count} {why}" for why, count in told.get("left_out", {}).items())
    return f" Left out: {left}." if left else ""


def _moved(told: Mapping[str, Any]) -> str:
    """What faces were moved along."""
    if regimen(told["by"]).hard == "no":
        return "No face is moved"
    focus = f", half of them along {', '.join(told['focus'])} alone" if told["focus"] else ""
    return f"Moved along {', '.join(told['attributes'])}{focus}"


def _draw(comparison: Mapping[str, Any], path: Path) -> None:
    """Two bars an attribute, of the first audit and of the second; what they are is said in words, too."""
    rows = comparison["attributes"][:BARS]
    figure = new_figure(figsize=(8, 1.6 + 0.5 * len(rows)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for shift, which, colour in ((-0.2, "first", BEFORE), (0.2, "second", AFTER)):
        widths = [row[f"change_{which}"] or 0.0 for row in rows]
        places = [place + shift for place in range(len(rows))]
        second = which == "second"
        axes.barh(
            places, widths, height=0.36, color=colour, edgecolor="#333333", linewidth=0.8,
            hatch="//" if second else None, label="after" if second else "before",
        )  # fmt: skip
        for place, row, width in zip(places, rows, widths, strict=True):
            axes.text(width, place, f"  {row[f'success_{which}']:.0%} fail", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("mean |change of the target's output|, one attribute moved alone")
    axes.set_title(f"before and after, on {comparison['faces']} faces that both read right", loc="left", fontsize=11)
    axes.legend(frameon=False)
    with atomic(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
