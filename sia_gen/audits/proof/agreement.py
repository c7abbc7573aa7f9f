"""Whether an audit on generated faces agrees with faces that the studio renders, where every value is exact.

Letters: B faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.evidence.rendered import Rendered, StudioGenerator, class_of, require_taught, studio_space
from sia_gen.audits.evidence.statistics import wilson
from sia_gen.audits.finished.audit_report import AuditReport
from sia_gen.audits.finished.inputs import FinishedAudit
from sia_gen.audits.pages.report import RENDERING, write_report
from sia_gen.audits.run.results import as_sampled_in, confirmed_share, read_results, together
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Progress, resolve_device
from sia_gen.core.files import write_json
from sia_gen.targets.target import Target

VALUES = 4  # of each attribute that are rendered: half way and all the way to both ends of its range
BATCH = 8


def agreement(
    run: str | Path,
    makehuman: str | Path | None = None,
    *,
    generator: str | Path | None = None,
    target: str | Path | None = None,
    faces: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Sweep each attribute of a finished audit in the studio, on the same people, and compare.

    ``generator`` and ``target`` are named where the run's names do not find them again; ``faces`` are the first of the
    run, by default all. Writes `rendering.json` into the run folder, adds it to the report, and returns its content:
    "attributes", a row for each; "spearman", the correlation over attributes of the audit's mean |change of output|
    with the rendered one, None where one has no order; "confirmed", for the semantic arm and for all attributes alone,
    in what share of the failures the target also fails when the studio renders the face with the same changes ("of"
    those that it gets right rendered as they were).

    Raises `RequestError` for a run without factors of the studio, or of a generator that was not taught on renders.
    """
    if faces is not None and faces < 1:
        raise RequestError(f"faces={faces} is below 1; render one face or more")
    finished = FinishedAudit.load(run, generator, device)
    report, settings, source = finished.report, finished.settings, finished.generator
    require_taught(source)
    place, space = resolve_device(device), studio_space(finished.audited)
    if len(space.names) < 2:
        raise RequestError(f"'{run}' audits fewer than two factors of the studio; audit more attributes")
    model = finished.target(target, device)
    asked = Rendered.of(model, source, place, makehuman)
    rendered, model = asked.rendered, asked.target
    seeds = read_results(report.folder, ["face"], as_sampled_in(settings))["face"].to_pylist()[:faces]
    whole = [arm for arm in together(settings) if arm == "semantic"]
    steps = len(space.names) + 1
    rows = []
    for index, name in enumerate(space.names):
        if progress:
            progress(index, steps, f"rendering {name}")
        rows.append(_swept(rendered, space.select([name]), model, seeds, report, settings["attack"]["box"]))
    if progress:
        progress(steps - 1, steps, "confirming")
    content = {
        "faces": len(seeds),
        "values": VALUES,
        "spearman": _rank_correlation([row["audit"] for row in rows], [row["rendered"] for row in rows]),
        "attributes": sorted(rows, key=lambda row: -row["rendered"]),
        "confirmed": {
            "semantic": _confirmed(asked, seeds, report, whole, space.names),
            "alone": _confirmed(asked, seeds, report, space.names, space.names),
        },
    }
    write_json(report.folder / RENDERING, content)
    write_report(report.histogram, finished.audited.attributes, report.folder)
    if progress:
        progress(steps, steps, "done")
    return content


def _rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's; None where all values of one are alike."""
    from scipy.stats import spearmanr

    if len(set(first)) == 1 or len(set(second)) == 1:
        return None
    return float(spearmanr(first, second).statistic)


def _swept(
    rendered: StudioGenerator,
    space: AttributeSpace,
    target: Target,
    seeds: Sequence[int],
    report: AuditReport,
    box: float,
) -> dict[str, Any]:
    """One attribute: how far it moves the output on renders, beside what the audit said."""
    attack = SemanticImageAttack(steps=VALUES, box=box, epsilon=0.0, stop="never", step="sweep", batch=BATCH)
    failed, changes = 0, []
    for start in range(0, len(seeds), BATCH):  # no more results at once than are needed
        part = seeds[start : start + BATCH]
        codes = rendered.sample(part)
        result = attack(rendered, space, target, codes, class_of(target, codes), seeds=part)
        changes.append((result.output_after - result.output_before).abs()[result.correct])
        failed += int(result.success.sum())
    change = torch.cat(changes)
    attempted = len(change)
    (name,) = space.names
    bar = next(row for row in report.histogram["attributes"] if row["name"] == name)
    return {
        "name": name,
        "audit": bar["output_change"] or 0.0,
        "rendered": change.mean().item() if attempted else 0.0,
        "audit_success": bar["success"],
        "rendered_success": failed / attempted if attempted else 0.0,
        "interval": wilson(failed, attempted),
        "attempted": attempted,
    }


def _confirmed(
    rendered: Rendered, seeds: Sequence[int], report: AuditReport, arms: Sequence[str], names: Sequence[str]
) -> dict[str, Any]:
    """Of the failures in these arms, the share that are failures of the rendered face with the same changes too."""
    shown: list[int] = []
    confirmed: list[bool] = []
    for arm in arms:
        columns = ["face", "success", *(f"omega_{name}" for name in names)]
        table = read_results(report.folder, columns, arm).to_pandas()
        table = table[table["success"] & table["face"].isin(seeds)]
        if not len(table):
            continue
        changes = {name: torch.tensor(table[f"omega_{name}"].to_numpy()) for name in names}
        right, failed = (found.numpy() for found in rendered.failures(table["face"].tolist(), changes))
        confirmed += failed[right].tolist()
        shown += table["face"].to_numpy()[right].tolist()
    return confirmed_share(shown, confirmed)
