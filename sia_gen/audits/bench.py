"""Whether audits tell the truth: targets with a known flaw, and without one, are trained, audited and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.load import load_attributes
from sia_gen.audits.audit_report import AuditReport
from sia_gen.audits.diagnose import audit
from sia_gen.audits.finding import RULE
from sia_gen.audits.finished import fingerprint
from sia_gen.audits.results import outcomes
from sia_gen.audits.run_folder import FORMAT
from sia_gen.audits.statistics import Floats, mean_interval, wilson
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Progress
from sia_gen.core.files import pretrained_folder, read_json, writable_folder, write_json
from sia_gen.core.seeds import face_seeds, stream
from sia_gen.generators.generator import Generator
from sia_gen.generators.load import load_generator
from sia_gen.studio.renders import RenderSet, read_renders, write_renders
from sia_gen.training.planted import PLANT, SIDE, Case, cases, train_case

RENDERS, FRESH = "faces-renders", "renders"  # the shipped ones, and those made in the suite's folder
RENDERED = 5000  # fresh renders, as many as are shipped
FAR = 1000  # how far the seed of fresh renders is from that of the audited faces
ATTRIBUTES = (
    "age", "sex", "skin_tone", "yaw", "smile", "mouth_open", "light_azimuth", "light_strength", "hair_colour",
    "hair_length", "glasses", "background_lightness",
)  # fmt: skip
ATTACK = SemanticImageAttack(steps=4)  # bars come from attributes alone; the ascent only shows what failing takes
SIMULATED = 4000
RESULT, ROW, SETTINGS = "planted.json", "row.json", "bench.json"
TOP = 3


def planted_suite(
    out: str | Path,
    *,
    renders: str | Path | None = None,
    makehuman: str | Path | None = None,
    models: int = 32,
    generator: str | Path | Generator = "faces-stylegan2",
    attributes: Sequence[str] | AttributeSpace | None = None,
    faces: int = 24,
    steps: int = 1200,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train ``models`` small targets on ``renders`` (the shipped ones by default), audit each, and count.

    With ``makehuman``, as many faces as are shipped are rendered freshly into ``out`` instead, at the side that the
    targets see and from a seed of their own.
    Audited are twelve ``attributes``, as many of them as the generator has, unless others are given.
    Each model has a folder in ``out`` with its weights and an audit, each on other faces; the same call goes on where
    one stopped.
    ``progress`` counts models, after renders. Writes `planted.json` and returns its content:

    - "rank_1", "top_3": share of planted models whose cause is the first, or among the first three, of the bars;
    - "named": share of planted models whose finding names the cause;
    - "false_alarms": share of balanced models in which something stands out;
    - "rates", "means": how often the 95 % interval from every other face holds the rate of failure, or the mean change
      of output, of the rest, with its own interval, models being what was drawn; "expected" is how often it would if
      the intervals are right: less than 0.95, since both halves vary;
    - "models": a row for each; its "score" on held-out renders, and the "effect" there of what was planted (see
      `train_case`).

    Raises `RequestError` for a folder of another suite or of something else, and as `audit` does.
    """
    if renders is not None and makehuman is not None:
        raise RequestError(f"renders='{renders}' and makehuman='{makehuman}' both say what to train on; give one")
    planned = cases(models)
    face_seeds(seed + models, faces)  # every fault of the request shows before anything is trained
    source = generator if isinstance(generator, Generator) else load_generator(str(generator), device)
    if isinstance(attributes, AttributeSpace):
        space = attributes
    else:
        space = load_attributes(source.name if isinstance(generator, Generator) else str(generator), device)
        space = space.select([name for name in ATTRIBUTES if name in space.names] if attributes is None else attributes)
    settings: dict[str, Any] = {"faces": faces, "steps": steps, "seed": seed, "attributes": space.names}
    settings |= {"generator": source.name, "edits": fingerprint(space), "plant": PLANT, "format": FORMAT, "rule": RULE}
    _require_same_suite(Path(out), settings)
    if makehuman is not None:
        fresh: dict[str, Any] = {"seed": seed + FAR, "resolution": SIDE, "device": device, "progress": progress}
        renders = write_renders(makehuman, Path(out) / FRESH, RENDERED, **fresh)
    data = read_renders(_shipped_renders() if renders is None else renders)
    settings["renders"] = data.settings
    _require_same_suite(Path(out), settings)
    out = writable_folder(out)
    write_json(out / SETTINGS, settings)
    rows = []
    for number, case in enumerate(planned):
        folder = out / case.name
        if not (folder / ROW).exists():
            if progress:
                progress(number, models, case.name)
            row = _measured(case, data, folder, source, space, faces, steps, seed + number, device)
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


def _require_same_suite(out: Path, settings: Mapping[str, Any]) -> None:
    if not (out / SETTINGS).exists():
        if out.is_dir() and any(path.name != FRESH and not path.name.startswith(".") for path in out.iterdir()):
            raise RequestError(f"'{out}' holds files that are no suite's; choose another --out or an empty folder")
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
    generator: Generator,
    space: AttributeSpace,
    faces: int,
    steps: int,
    seed: int,
    device: str,
) -> dict[str, Any]:
    target, score, effect = train_case(case, data, folder, steps=steps, device=device)
    report = audit(generator, target, space, faces=faces, seed=seed, attack=ATTACK, device=device, out=folder / "audit")
    return row_of(case, score, effect, report)


def row_of(case: Case, score: float, effect: float | None, report: AuditReport) -> dict[str, Any]:
    """What an audit said of one model, against what was planted in it."""
    bars = report.histogram["attributes"]
    names = [row["name"] for row in bars]
    halves = [outcomes(report.folder, name) for name in names]
    measured = case.cause in names and report.histogram["correct"] > 0
    cause = bars[names.index(case.cause)] if measured else None
    return {
        "model": case.name,
        "label": case.label,
        "planted": case.kind,
        "cause": case.cause,
        "architecture": case.architecture,
        "score": score,
        "effect": effect,
        "correct": report.histogram["correct"],
        "first": names[0],
        "rank": None if cause is None else names.index(case.cause) + 1,
        "change": None if cause is None else cause["output_change"],
        "control": None if cause is None else cause["control"]["output_change"],
        "stands_out": [row["name"] for row in bars if row["stands_out"]],
        "rates": _covered([rate_coverage(found.success.astype(float)) for found in halves]),
        "means": _covered([mean_coverage(found.change[found.kept]) for found in halves]),
        "finding": report.finding,
    }


def _covered(checks: Sequence[tuple[bool, float] | None]) -> dict[str, float]:
    told = [check for check in checks if check is not None]
    held, expected = (sum(check[part] for check in told) for part in (0, 1))
    return {"of": len(told), "held": held, "expected": expected}


def rate_coverage(success: Floats) -> tuple[bool, float] | None:
    """Whether Wilson's interval from every other face holds the rate of the rest, and how likely it is to if right.

    None where all faces did alike, which says nothing.
    """
    from scipy.stats import binom

    half, rest = success[::2], success[1::2]
    rate = float(success.mean()) if len(success) > 1 else 0.0
    if rate in (0.0, 1.0):
        return None
    inside = []
    for failed in range(len(half) + 1):
        low, high = wilson(failed, len(half))
        others = np.arange(len(rest) + 1)
        held = (others >= low * len(rest) - 1e-9) & (others <= high * len(rest) + 1e-9)
        inside.append(binom.pmf(others, len(rest), rate)[held].sum())
    expected = float(binom.pmf(np.arange(len(half) + 1), len(half), rate) @ np.array(inside))
    alike = rate ** len(success) + (1 - rate) ** len(success)  # in which it is always held, and which are left out here
    expected = (expected - alike) / (1 - alike)
    low, high = wilson(int(half.sum()), len(half))
    return bool(low <= rest.mean() <= high), expected


def mean_coverage(change: Floats) -> tuple[bool, float] | None:
    """The same of the interval of a mean; what to expect is simulated with normal numbers.

    None for fewer than four faces, and where all faces did alike.
    """
    from scipy.stats import t

    half, rest = change[::2], change[1::2]
    if len(rest) < 2 or not change.std():
        return None
    low, high = mean_interval(half, np.arange(len(half))) or (0.0, 0.0)
    random = stream(len(change), "coverage")
    drawn = random.standard_normal((SIMULATED, len(half)))
    others = random.standard_normal((SIMULATED, len(rest))).mean(axis=1)
    reach = t.ppf(0.975, len(half) - 1) * drawn.std(axis=1, ddof=1) / len(half) ** 0.5
    expected = float((np.abs(others - drawn.mean(axis=1)) <= reach).mean())
    return bool(low <= rest.mean() <= high), expected


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The counts over all models, each with its Wilson interval."""
    planted = [row for row in rows if row["cause"] is not None]
    balanced = [row for row in rows if row["cause"] is None]

    def share(hits: Sequence[bool]) -> dict[str, Any]:
        count, of = sum(hits), len(hits)
        return {"of": of, "count": count, "share": count / of if of else None, "interval": wilson(count, of)}

    def coverage(kind: str) -> dict[str, Any]:
        of, held, expected = (np.array([row[kind][key] for row in rows], float) for key in ("of", "held", "expected"))
        count = int(of.sum())
        if not count:
            return {"of": 0, "share": None, "expected": None, "interval": None}
        found = np.concatenate([np.arange(each) < hits for each, hits in zip(of, held, strict=True)]).astype(float)
        low, high = mean_interval(found, np.repeat(np.arange(len(rows)), of.astype(int))) or (0.0, 1.0)
        shares = {"share": float(found.mean()), "expected": float(expected.sum()) / count}
        return {"of": count, **shares, "interval": [low, min(high, 1.0)]}

    return {
        "rank_1": share([row["rank"] == 1 for row in planted]),
        "top_3": share([row["rank"] is not None and row["rank"] <= TOP for row in planted]),
        "named": share([row["cause"] in row["stands_out"] for row in planted]),
        "false_alarms": share([bool(row["stands_out"]) for row in balanced]),
        "rates": coverage("rates"),
        "means": coverage("means"),
    }
