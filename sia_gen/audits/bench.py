"""Whether audits tell the truth: targets with a known flaw, and without one, are trained, audited and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.audit_report import AuditReport
from sia_gen.audits.diagnose import audit
from sia_gen.audits.results import outcomes
from sia_gen.audits.statistics import bootstrap, wilson
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Progress
from sia_gen.core.files import pretrained_folder, read_json, writable_folder, write_json
from sia_gen.generators.generator import Generator
from sia_gen.studio.renders import RenderSet, read_renders
from sia_gen.training.planted import Case, cases, train_case

RENDERS = "faces-renders"
ATTRIBUTES = (
    "age", "sex", "skin_tone", "yaw", "smile", "mouth_open", "light_azimuth", "light_strength", "hair_colour",
    "hair_length", "glasses", "background_lightness",
)  # fmt: skip
ATTACK = SemanticImageAttack(steps=4)  # bars come from attributes alone; the ascent only shows what failing takes
RESULT, ROW, SETTINGS = "planted.json", "row.json", "bench.json"
TOP = 3


def planted_suite(
    out: str | Path,
    *,
    renders: str | Path | None = None,
    models: int = 32,
    generator: str | Path | Generator = "faces-stylegan2",
    attributes: Sequence[str] | AttributeSpace = ATTRIBUTES,
    faces: int = 24,
    steps: int = 1200,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train ``models`` small targets on ``renders`` (the shipped ones by default), audit each, and count.

    Each model has a folder in ``out`` with its weights and its audit; the same call goes on where one stopped.
    ``progress`` counts models. Writes `planted.json` and returns its content:

    - "rank_1", "top_3": share of planted models whose cause is the first, or among the first three, of the bars;
    - "named": share of planted models whose finding names the cause;
    - "false_alarms": share of balanced models in which something stands out;
    - "coverage": how often the 95 % interval from every other face holds the mean of the rest, with "expected", how
      often it does if intervals are right: 1 − 2Φ(−1.96/√2) = 0.83, since both halves vary;
    - "models": a row for each.

    Raises `RequestError` for a folder of another suite and as `audit` does.
    """
    out = writable_folder(out)
    planned = cases(models)
    data = read_renders(_shipped_renders() if renders is None else renders)
    named = attributes.names if isinstance(attributes, AttributeSpace) else list(attributes)
    settings = {"renders": data.settings, "faces": faces, "steps": steps, "seed": seed, "attributes": named}
    settings["generator"] = generator.name if isinstance(generator, Generator) else str(generator)
    _same_suite(out, settings)
    rows = []
    for number, case in enumerate(planned):
        folder = out / case.name
        if not (folder / ROW).exists():
            if progress:
                progress(number, models, case.name)
            row = _measured(case, data, folder, generator, attributes, faces, steps, seed, device)
            write_json(folder / ROW, row)
        rows.append(read_json(folder / ROW))
    if progress:
        progress(models, models, "done")
    content = {"settings": settings, **summary(rows), "models": rows}
    write_json(out / RESULT, content)
    return content


def _shipped_renders() -> Path:
    folder = pretrained_folder() / RENDERS
    if not folder.is_dir():
        raise RequestError(f"no '{RENDERS}' are shipped here; name renders with --renders DIR")
    return folder


def _same_suite(out: Path, settings: Mapping[str, Any]) -> None:
    if not (out / SETTINGS).exists():
        write_json(out / SETTINGS, settings)
        return
    found = read_json(out / SETTINGS)
    for name, value in settings.items():
        if found.get(name) != value:
            raise RequestError(
                f"'{out}' holds a suite with {name}={found.get(name)}, not {value}; choose another --out or the same "
                "settings"
            )


def _measured(
    case: Case,
    data: RenderSet,
    folder: Path,
    generator: str | Path | Generator,
    attributes: Sequence[str] | AttributeSpace,
    faces: int,
    steps: int,
    seed: int,
    device: str,
) -> dict[str, Any]:
    target, score = train_case(case, data, folder, steps=steps, device=device)
    report = audit(
        generator, target, attributes, faces=faces, seed=seed, attack=ATTACK, device=device, out=folder / "audit"
    )
    return row_of(case, score, report)


def row_of(case: Case, score: float, report: AuditReport) -> dict[str, Any]:
    """What an audit said of one model, against what was planted in it."""
    bars = report.histogram["attributes"]
    names = [row["name"] for row in bars]
    covered = [_covers(report, name) for name in names]
    cause = bars[names.index(case.cause)] if case.cause in names else None
    return {
        "model": case.name,
        "label": case.label,
        "planted": case.kind,
        "cause": case.cause,
        "architecture": case.architecture,
        "score": score,
        "correct": report.histogram["correct"],
        "first": names[0],
        "rank": None if cause is None else names.index(case.cause) + 1,
        "change": None if cause is None else cause["output_change"],
        "control": None if cause is None else cause["control"]["output_change"],
        "stands_out": [row["name"] for row in bars if row["stands_out"]],
        "covered": sum(sum(pair) for pair in covered),
        "intervals": sum(len(pair) for pair in covered),
        "finding": report.finding,
    }


def _covers(report: AuditReport, arm: str) -> list[bool]:
    """Whether the intervals of half of the faces, of success and change of output, hold the other half's mean."""
    _, success, change = outcomes(report.folder, arm)
    if len(change) < 2:
        return []
    half, rest = slice(0, None, 2), slice(1, None, 2)
    rate = wilson(int(success[half].sum()), len(success[half]))
    mean = bootstrap(change[half], np.arange(len(change[half])), 0)
    return [
        bool(rate[0] <= success[rest].mean() <= rate[1]),
        bool(mean[0] <= change[rest].mean() <= mean[1]),
    ]


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The counts over all models, each with its Wilson interval."""
    from scipy.stats import norm

    planted = [row for row in rows if row["cause"] is not None]
    balanced = [row for row in rows if row["cause"] is None]

    def share(hits: Sequence[bool]) -> dict[str, Any]:
        count, of = sum(hits), len(hits)
        return {"of": of, "count": count, "share": count / of if of else None, "interval": wilson(count, of)}

    covered, intervals = sum(row["covered"] for row in rows), sum(row["intervals"] for row in rows)
    return {
        "rank_1": share([row["rank"] == 1 for row in planted]),
        "top_3": share([row["rank"] is not None and row["rank"] <= TOP for row in planted]),
        "named": share([row["cause"] in row["stands_out"] for row in planted]),
        "false_alarms": share([bool(row["stands_out"]) for row in balanced]),
        "coverage": {
            "of": intervals,
            "share": covered / intervals if intervals else None,
            "expected": round(1 - 2 * float(norm.sf(norm.isf(0.025) / 2**0.5)), 3),
        },
    }
