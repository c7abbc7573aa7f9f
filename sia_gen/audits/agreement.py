"""Whether an audit on generated faces agrees with faces that the studio renders, where every value is exact.

Letters: B faces, K attributes, F factors of the studio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.audit_report import AuditReport
from sia_gen.audits.finished import FinishedAudit
from sia_gen.audits.reference import Followed
from sia_gen.audits.report import RENDERING, write_report
from sia_gen.audits.results import read_results
from sia_gen.audits.statistics import wilson
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Batches, Progress, resolve_device
from sia_gen.core.files import write_json
from sia_gen.core.images import Images, quantise
from sia_gen.generators.generator import Codes
from sia_gen.generators.stylegan2 import StyleGAN2
from sia_gen.studio.factors import FACTORS, NAMES, FaceSpec, sample
from sia_gen.studio.studio import Studio
from sia_gen.targets.target import Target, classify
from sia_gen.targets.task import Classification, Following, eligible

VALUES = 4  # of each attribute that are rendered: half way and all the way to both ends of its range
SPACE, BATCH = "factors", 8


class StudioGenerator:
    """The studio as a generator that is not differentiable: codes are factor values ``[B, F]``, edits add to them.

    Values stay within the factors' ranges. A seed is the same person as in a generator that was taught on renders.
    """

    def __init__(self, studio: Studio, device: torch.device | str = "cpu") -> None:
        self.studio, self.device = studio, device
        self.name, self.resolution = "studio", studio.resolution
        self.edit_shapes: Mapping[str, torch.Size] = {SPACE: torch.Size([len(FACTORS)])}
        self.landmarks = torch.empty(0)

    def sample(self, seeds: Sequence[int]) -> Codes:
        return sample(seeds).values.to(self.device)

    def render(self, codes: Codes, edits: Tensor | None = None, space: str | None = None) -> Images:
        values = codes if edits is None else codes + edits
        low, high = (torch.tensor([getattr(f, end) for f in FACTORS], device=values.device) for end in ("low", "high"))
        made = self.studio.render(FaceSpec(values.clamp(low, high)))
        self.landmarks = made.landmarks / self.resolution  # [B, 68, 2] in picture widths, of the faces just rendered
        return made.images


class TrueLandmarks:
    """A landmark target; each prediction ``[B, 2, 68, 2]`` brings along where they lie in the faces just rendered."""

    label, differentiable = None, False

    def __init__(self, target: Target, rendered: StudioGenerator) -> None:
        self.target, self.rendered = target, rendered
        self.name, self.task = target.name, Following(target.task)

    def predict(self, images: Images) -> Tensor:
        points = self.target.predict(images).float()
        return torch.stack([points, self.rendered.landmarks.to(points)], dim=1)


def studio_space(audited: AttributeSpace) -> AttributeSpace:
    """Those of the audited attributes that are factors of the studio, with the same ranges, each moving its factor."""
    known = audited.select([name for name in audited.names if name in NAMES])
    directions = torch.zeros(len(known.names), len(FACTORS))
    for row, name in enumerate(known.names):
        directions[row, NAMES.index(name)] = 1.0
    return AttributeSpace("studio", SPACE, known.attributes, directions)


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
    if not isinstance(source, StyleGAN2) or source.config.latents != len(NAMES):
        raise RequestError(f"'{source.name}' was not trained on the studio's {len(NAMES)} factors; audit one that was")
    place, space = resolve_device(device), studio_space(finished.audited)
    if len(space.names) < 2:
        raise RequestError(f"'{run}' audits fewer than two factors of the studio; audit more attributes")
    model = finished.target(target, device)
    rendered = StudioGenerator(Studio(makehuman, source.resolution, place), place)
    if isinstance(model, Followed):
        model = TrueLandmarks(model.target, rendered)
    seeds = read_results(report.folder, ["face"], "pixel")["face"].to_pylist()[:faces]
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
            "semantic": _confirmed(rendered, model, seeds, report, ["semantic"], space.names),
            "alone": _confirmed(rendered, model, seeds, report, space.names, space.names),
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
        result = attack(rendered, space, target, codes, _truth(target, codes), seeds=part)
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


def _truth(target: Target, codes: Codes) -> Tensor | None:
    """The true class ``[B]`` of rendered faces, or None where the target names no factor's classes."""
    if target.label is None or target.label.attribute not in NAMES or not isinstance(target.task, Classification):
        return None
    return classify(codes[:, NAMES.index(target.label.attribute)], target.label.thresholds)


@torch.no_grad()
def _confirmed(
    rendered: StudioGenerator,
    target: Target,
    seeds: Sequence[int],
    report: AuditReport,
    arms: Sequence[str],
    names: Sequence[str],
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
        codes = rendered.sample(table["face"].tolist())
        edits = torch.zeros_like(codes)
        for name in names:
            moved = np.nan_to_num(table[f"omega_{name}"].to_numpy())
            edits[:, NAMES.index(name)] = torch.from_numpy(moved.astype(np.float32))
        before, after = (_predicted(rendered, target, codes, change) for change in (None, edits))
        truth = _truth(target, codes)
        reference = target.task.decide(before) if truth is None else truth.to(before.device)
        right = eligible(target.task, before, reference)
        chosen = right.cpu().numpy()
        confirmed += target.task.failed(after, reference).cpu().numpy()[chosen].tolist()
        shown += table["face"].to_numpy()[chosen].tolist()
    found, of = sum(confirmed), len(confirmed)
    interval = wilson(found, of, len({*shown}))  # one face may fail in several arms: faces are drawn, not failures
    return {"of": of, "confirmed": found, "share": found / of if of else None, "interval": interval}


def _predicted(rendered: StudioGenerator, target: Target, codes: Codes, edits: Tensor | None) -> Tensor:
    """What the target says of 8-bit renders ``[B, ...]``."""

    def predict(part: slice) -> Tensor:
        images = rendered.render(codes[part], None if edits is None else edits[part], SPACE)
        return target.predict(quantise(images.float()))

    return torch.cat(list(Batches(BATCH)(len(codes), predict)))
