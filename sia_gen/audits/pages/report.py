"""`report.html`: what an audit found, as one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sia_gen.attributes.attribute_space import Attribute
from sia_gen.audits.evidence.reference import MOVING, VERIFIED
from sia_gen.audits.pages.figure import BARS, CURVES, DRAWN, MATRIX, extent
from sia_gen.audits.pages.page import data_uri, write_page
from sia_gen.audits.run.run_folder import REPORT
from sia_gen.audits.verdict import finding
from sia_gen.core.files import read_json

RENDERING = "rendering.json"
TEMPLATE = "report.html.jinja"
SHOWN = 4  # attributes named under a picture


def write_report(content: Mapping[str, Any], attributes: Sequence[Attribute], folder: Path) -> None:
    """Render what `histogram.json` holds, and `rendering.json` where there is one, with every picture inside."""
    told = {
        "attribute_list": attributes,
        "rule": finding,
        "entangled": content.get("entangled", ""),  # which older runs do not say
        "quick": finding.QUICK if content["settings"].get("quick") else "",
        "measured": content.get("measured", ""),
        "label_read": content["reference"] == VERIFIED,
        "label_judged": content["gate"] is not None and content["gate"]["label"] is not None,
        "landmarks_read": content["reference"] == MOVING,
        "gated": content["gate"] is not None,
        "same_person": content["gate"]["same_person"] if content["gate"] else None,
        "rendering": read_json(folder / RENDERING) if (folder / RENDERING).exists() else None,
        "bars": _bars(content) if content["correct"] else [],
        "curves": data_uri(folder / CURVES) if content["correct"] else "",
        "curved": [row for row in content["attributes"][:DRAWN] if row["curve"]["change"]],
        "moved": data_uri(folder / MATRIX) if content["collateral"]["names"] else "",
        "picture": lambda name: data_uri(folder / name),
        "changes": lambda omega: _changes(omega, attributes),
    }
    filters = {"number": _number, "percent": _percent, "q": _q, "short": _short, "words": _words}
    write_page(folder / REPORT, "sia_gen.audits.pages", TEMPLATE, filters, {**content, **told})


def _bars(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The chart's bars: each a row, its ends in percent of the chart's width, and the faces that it opens."""
    rows = content["attributes"][:BARS]
    _, widest = extent(rows)

    def percent(value: float | None) -> float:
        return 100 * min((value or 0.0) / widest, 1.0)

    return [
        {
            "row": row,
            "width": percent(row["output_change"]),
            "whisker": [percent(end) for end in row["output_interval"] or ()],
            "control": percent(row["control"]["output_change"]),
            "faces": [example for example in content["examples"] if example["arm"] == row["name"]],
        }
        for row in rows
    ]


def _changes(omega: Mapping[str, float], attributes: Sequence[Attribute]) -> str:
    """The largest changes of a face in words, by their share of the safe range: "age +12 years, yaw −8 degrees"."""
    moved = [a for a in attributes if omega.get(a.name)]
    moved.sort(key=lambda a: -abs(omega[a.name]) / (a.high - a.low))
    words = [f"{a.name} {_signed(omega[a.name])} {a.unit}".strip() for a in moved[:SHOWN]]
    rest = len(moved) - len(words)
    if rest:
        words.append(f"and {rest} smaller changes" if rest > 1 else "and a smaller one")
    return ", ".join(words) or "nothing moved"


def _signed(value: float) -> str:
    return f"{value:+.2g}".replace("-", "−") if abs(value) < 10 else f"{value:+.0f}".replace("-", "−")


def _number(value: float | None, signed: bool = False) -> str:
    if value is None:
        return "–"
    if signed:
        return _signed(value)
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}"


def _short(value: float) -> str:
    return f"{value:.3g}"


def _words(value: Any) -> str:
    """A setting as one would say it: "none", not None; "steps 4, stop success", not a mapping's braces."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_words(part)}" for name, part in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value)) or "none"
    return _short(value) if isinstance(value, float) else str(value)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _q(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
