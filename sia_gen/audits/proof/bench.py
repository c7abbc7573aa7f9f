"""Whether audits tell the truth: targets with a known flaw, and without one, are trained, audited and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.load import known_attributes
from sia_gen.audits.diagnose import audit
from sia_gen.audits.evidence.statistics import CONFIDENCE, ROUNDING, wilson
from sia_gen.audits.finished.audit_report import AuditReport
from sia_gen.audits.finished.inputs import fingerprint
from sia_gen.audits.proof.suite import open_suite, require_same_suite
from sia_gen.audits.run.run_folder import FORMAT
from sia_gen.audits.verdict.finding import RULE
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Progress
from sia_gen.core.files import read_json, require_place, write_json
from sia_gen.core.seeds import MAX_SEED, face_seeds
from sia_gen.generators.generator import Generator
from sia_gen.generators.load import load_generator
from sia_gen.studio.renders import SHIPPED, RenderSet, read_renders, shipped_renders, write_renders
from sia_gen.training.network import shrunk
from sia_gen.training.planted import PLANT, SIDE, Case, cases, train_case
from sia_gen.training.processes import require_alone

FRESH = "renders"  # those made in the suite's folder
RENDERED = 5000  # fresh renders, as many as are shipped
FAR = 1000  # how far the seeds of fresh renders, and those of audits from them, are from what recipes are given
ATTRIBUTES = (
    "age", "sex", "skin_tone", "yaw", "smile", "mouth_open", "light_azimuth", "light_strength", "hair_colour",
    "hair_length", "glasses", "background_lightness",
)  # fmt: skip
ATTACK = SemanticImageAttack(steps=4)  # bars come from attributes alone; the ascent only shows what failing takes
RESULT, ROW = "planted.json", "row.json"
TOP = 3


def planted_suite(
    out: str | Path,
    *,
    renders: str | Path | None = None,
    makehuman: str | Path | None = None,
    models: int = 44,
    generator: str | Path | Generator = "faces-stylegan2",
    attributes: Sequence[str] | AttributeSpace | None = None,
    faces: int = 32,
    steps: int = 1200,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train ``models`` small targets on ``renders`` (the shipped ones by default), audit each, and count.

    With ``makehuman``, as many faces as are shipped are rendered freshly into ``out`` instead, at the side that the
    targets see and from a seed of their own.
    Audited are twelve ``attributes``, as many of them as the generator has, unless others are given.
    Each model has a folder in ``out`` with its weights and two audits, each on other faces; the same call goes on where
    one stopped.
    ``progress`` counts models, after renders. Writes `planted.json` and returns its content:

    - "rank_1", "top_3": share of planted models whose cause is the first, or among the first three, of the bars;
    - "named": share of planted models whose finding names the cause;
    - "false_alarms": share of balanced models in which something stands out;
    - "rates", "means": how often the 95 % interval of an attribute's rate of failure, or mean change of output, holds
      the figure of the second audit, with an interval of its own, models being what was drawn; "expected" is how often
      it would if the intervals are right and changes of output normal: less than 0.95, since both audits vary;
    - "models": a row for each; its "score" on held-out renders, and the "effect" there of what was planted (see
      `train_case`).

    Raises `RequestError` for a folder of another suite or of something else, and as `audit` does.
    """
    if renders is not None and makehuman is not None:
        raise RequestError(f"renders='{renders}' and makehuman='{makehuman}' both say what to train on; give one")
    require_alone("bench planted")
    planned = cases(models)
    highest = MAX_SEED - 2 * FAR - 2 * models  # so that the last audit has a seed of its own
    if not 0 <= seed <= highest:
        raise RequestError(f"seed={seed} is outside 0…{highest}; choose a number in that range")
    if steps < 1:
        raise RequestError(f"steps={steps} is below 1; train for at least one step")
    face_seeds(seed, faces)  # every fault of the request shows before anything is trained
    require_place(out)
    source = generator if isinstance(generator, Generator) else load_generator(generator, device)
    space = known_attributes(generator, source, attributes, device)
    if not isinstance(attributes, AttributeSpace):
        space = space.select([name for name in ATTRIBUTES if name in space.names] if attributes is None else attributes)
    settings: dict[str, Any] = {"faces": faces, "steps": steps, "seed": seed, "attributes": space.names}
    settings |= {"generator": source.name, "edits": fingerprint(space), "plant": PLANT, "format": FORMAT, "rule": RULE}
    require_same_suite(Path(out), settings, [FRESH])
    if makehuman is not None:
        fresh: dict[str, Any] = {"seed": seed + FAR, "resolution": SIDE, "device": device, "progress": progress}
        renders = write_renders(makehuman, Path(out) / FRESH, RENDERED, **fresh)
    renders = shipped_renders() if renders is None else renders
    if renders is None:
        raise RequestError(f"no '{SHIPPED}' are shipped here; name renders with --renders DIR")
    data = shrunk(read_renders(renders), SIDE)
    settings["renders"] = data.settings
    out = open_suite(out, settings, [FRESH])
    rows = []
    for number, case in enumerate(planned):
        folder = out / case.name
        if not (folder / ROW).exists():
            if progress:
                progress(number, models, case.name)
            row = _measured(case, data, folder, source, space, faces, steps, seed + 2 * FAR + 2 * number, device)
            write_json(folder / ROW, row)
        rows.append(read_json(folder / ROW))
    if progress:
        progress(models, models, "done")
    content = {"settings": settings, **summary(rows), "models": rows}
    write_json(out / RESULT, content)
    return content


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
    report, again = (
        audit(
            generator,
            target,
            space,
            faces=faces,
            seed=other,
            attack=ATTACK,
            confirm=False,
            device=device,
            out=folder / name,
        )
        for name, other in (("audit", seed), ("again", seed + 1))
    )
    return row_of(case, score, effect, report, again)


def row_of(case: Case, score: float, effect: float | None, report: AuditReport, again: AuditReport) -> dict[str, Any]:
    """What an audit said of one model, against what was planted in it and what a second audit said."""
    bars = report.histogram["attributes"]
    names = [row["name"] for row in bars]
    others = {row["name"]: row for row in again.histogram["attributes"]}
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
        "rates": _covered([rate_coverage(row, others[row["name"]]) for row in bars]),
        "means": _covered([mean_coverage(row, others[row["name"]]) for row in bars]),
        "finding": report.finding,
    }


def _covered(checks: Sequence[tuple[bool, float] | None]) -> dict[str, float]:
    told = [check for check in checks if check is not None]
    held, expected = (sum(check[part] for check in told) for part in (0, 1))
    return {"of": len(told), "held": held, "expected": expected}


def rate_coverage(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[bool, float] | None:
    """Whether an attribute's Wilson interval holds its rate in a second audit, and how likely it was to.

    That is the chance when the faces that failed in either fall to the two as they may. None where all faces did alike,
    which says nothing.
    """
    from scipy.stats import hypergeom

    drawn, rest = first["attempted"], second["attempted"]
    failed = first["successes"] + second["successes"]
    if not drawn or not rest or failed in (0, drawn + rest):
        return None

    def held(count: int) -> bool:
        low, high = wilson(count, drawn)
        return low - ROUNDING <= (failed - count) / rest <= high + ROUNDING

    counts = np.arange(max(0, failed - rest), min(failed, drawn) + 1)
    chances = hypergeom.pmf(counts, drawn + rest, failed, drawn)
    return held(first["successes"]), float(chances @ np.array([held(int(count)) for count in counts]))


def mean_coverage(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[bool, float] | None:
    """The same of the mean change of output; how likely it is to be held if faces' changes are normal."""
    from scipy.stats import t

    drawn, rest = first["counted"], second["counted"]
    if drawn < 2 or not rest:
        return None
    low, high = first["output_interval"]
    reach = t.ppf((1 + CONFIDENCE) / 2, drawn - 1) / (1 + drawn / rest) ** 0.5  # a second mean varies, too
    return bool(low <= second["output_change"] <= high), float(1 - 2 * t.sf(reach, drawn - 1))


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The counts over all models, each with its Wilson interval."""
    planted = [row for row in rows if row["cause"] is not None]
    balanced = [row for row in rows if row["cause"] is None]

    def share(hits: Sequence[bool]) -> dict[str, Any]:
        count, of = sum(hits), len(hits)
        return {"of": of, "count": count, "share": count / of if of else None, "interval": wilson(count, of)}

    def coverage(kind: str) -> dict[str, Any]:
        of, held, expected = (sum(row[kind][key] for row in rows) for key in ("of", "held", "expected"))
        shares = {"share": held / of if of else None, "expected": expected / of if of else None}
        # One face may decide all of a model's attributes: models are drawn, not intervals.
        return {"of": of, **shares, "interval": wilson(held, of, sum(row[kind]["of"] > 0 for row in rows))}

    return {
        "rank_1": share([row["rank"] == 1 for row in planted]),
        "top_3": share([row["rank"] is not None and row["rank"] <= TOP for row in planted]),
        "named": share([row["cause"] in row["stands_out"] for row in planted]),
        "false_alarms": share([bool(row["stands_out"]) for row in balanced]),
        "rates": coverage("rates"),
        "means": coverage("means"),
    }
