"""Hardening: a target learns from generated, attacked faces, is saved in its own format, and audited again.

Letters: N faces.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.diagnose import audit
from sia_gen.audits.evidence.reference import NONE, VERIFIER
from sia_gen.audits.finished.audit_report import AuditReport
from sia_gen.audits.finished.comparison import compare
from sia_gen.audits.proof.figures import JUDGED, figures, measured
from sia_gen.audits.run.run_folder import MADE_OF
from sia_gen.core.errors import RequestError, differing
from sia_gen.core.executors import Precision, Progress
from sia_gen.core.files import is_file, read_json, require_own, require_place, writable_folder, write_json
from sia_gen.generators.generator import Generator
from sia_gen.hardening.page import PAGE, write_card, write_page
from sia_gen.hardening.regimens import HardeningSettings
from sia_gen.hardening.resolve import Asked, resolve
from sia_gen.hardening.teach import teach
from sia_gen.studio.renders import read_renders, shipped_renders
from sia_gen.targets.target import Target, configured
from sia_gen.training.processes import TRAINING, once

WORK = ".harden"
AUDIT = "audit"  # folder of the second audit
DEFAULT = "sia-semantic"


@dataclass(frozen=True)
class Hardened:
    """What came of it: the ``folder`` of the model, its ``figures`` before and after, and where there was a run its
    second audit's ``comparison`` with the first, the ``page`` that shows both, and the ``seconds`` that drawing faces
    and learning took; None of a folder of an older version."""

    folder: Path
    target: Target = field(repr=False)
    figures: dict[str, Any] | None
    comparison: dict[str, Any] | None
    page: Path
    seconds: dict[str, float] | None


def harden(
    target: str | Path | Target | None = None,
    out: str | Path = "hardened",
    *,
    run: str | Path | None = None,
    generator: str | Path | Generator | None = None,
    attributes: Sequence[str] | AttributeSpace | None = None,
    label: str | None = None,
    data: str | Path | None = None,
    classes: Sequence[str] | None = None,
    by: str = DEFAULT,
    settings: HardeningSettings | None = None,
    again: bool = True,
    seed: int = 0,
    device: str = "cpu",
    precision: Precision = "no",
    progress: Progress | None = None,
) -> Hardened:
    """Teach a copy of ``target`` on generated faces and write it to the folder ``out``, in the target's own format.

    ``run`` is a finished audit: its target, generator, attributes and label are taken, half of the faces are moved
    along what stood out alone, and unless ``again`` is False the hardened model is audited as the first was, and both
    are compared; ``target`` and ``generator`` then say where these lie now, if not where they did. Without a run
    ``target`` is named, as for `audit`: a classifier, a multi-label one, a regression or a detector of 68 landmarks.
    ``by`` is a row of `REGIMENS`. The faces are others than those of audits. What is right of them is what the
    generator was told where it was, and what the verifier reads; of several labels what the model said of the unedited
    face. No picture from outside is used, unless ``data`` is a folder of labelled ones, as `read_labelled` reads it,
    which a classifier then learns from besides; ``classes`` are what its classes are called there, in the target's
    order, where not as the target calls them. Of "faces-renders" the first 2000 are left out: it is measured on
    those.

    Interrupted, the same call goes on, and on a CPU ends with the same weights. Several processes share the steps, see
    `sia_gen.training.processes`. Raises `RequestError` for a target that cannot be trained or has no label that the
    verifier reads, and for a folder that holds something else.
    """
    require_place(out)
    asked = resolve(
        target, run, generator, attributes, label, data, classes, by, settings or HardeningSettings(), seed, device,
        precision, progress,
    )  # fmt: skip
    folder = _open(out, asked.told)
    if not is_file(folder / TRAINING):
        took = teach(asked, folder / WORK, progress)
        once(lambda: _finish(asked, folder, took))
    mended = configured(asked.student.found_again(folder, asked.model, device), asked.label, None)
    comparison = _again(asked, mended, folder, device, progress) if again and asked.finished is not None else None
    kept = read_json(folder / TRAINING)
    found = kept["figures"]
    once(lambda: _tell(asked, folder, found, comparison))
    return Hardened(folder, mended, found, comparison, folder / PAGE, kept.get("seconds"))


def _open(out: str | Path, told: dict[str, Any]) -> Path:
    """The folder, new, or of the same hardening; raises `RequestError` for one that holds something else."""
    folder = writable_folder(out)
    there = folder / TRAINING if is_file(folder / TRAINING) else folder / WORK / "settings.json"
    if not is_file(there):
        require_own(folder)
        once(lambda: write_json(writable_folder(folder / WORK) / "settings.json", told))
        return folder
    before = read_json(there)
    before = before.get("settings", before)
    if before.get("recipe") != told["recipe"]:
        raise RequestError(f"'{folder}' holds a model that was not hardened there; choose another --out")
    other = differing(before, told)
    if other is not None:
        raise RequestError(f"'{folder}' was hardened with {other}; choose another --out")
    return folder


def _finish(asked: Asked, folder: Path, seconds: dict[str, float]) -> None:
    """Save the model with its figures, and leave nothing of the work."""
    model = asked.model
    asked.student.eval()
    asked.student.save(folder)
    found: dict[str, Any] | None = None
    measure = measured(model)
    if (renders := shipped_renders()) is not None and measure is not None:
        data = read_renders(renders, JUDGED)
        pair = (("before", model), ("after", asked.student.put_into(model)))
        found = {"measure": measure}
        found |= {name: figures(each, data, asked.faces.focus, asked.device) for name, each in pair}
    write_card(asked.told, asked.regimen.words, found, folder)
    write_json(folder / TRAINING, {"settings": asked.told, "figures": found, "seconds": seconds})
    shutil.rmtree(folder / WORK, ignore_errors=True)


def _again(asked: Asked, mended: Target, folder: Path, device: str, progress: Progress | None) -> dict[str, Any]:
    """Audit the hardened model as the first was, and compare both."""
    assert asked.finished is not None
    known = asked.finished.settings
    by = known[MADE_OF].get("verifier", VERIFIER)
    again = partial(
        audit, asked.told["made_of"]["generator"] or asked.faces.generator, mended, asked.finished.asked,
        faces=known["faces"], seed=known["seed"], attack=SemanticImageAttack(**known["attack"]), label=asked.label,
        towards=known["towards"], pairs=[tuple(pair.split("+")) for pair in known["pairs"]], out=folder / AUDIT,
        device=device, confirm="auto" if known["confirmed_by"] else False,
        quick=bool(known.get("quick")), verifier=None if by == NONE else by, progress=progress,
    )  # fmt: skip
    once(again)
    return compare(asked.finished.report.folder, folder / AUDIT)


def _tell(asked: Asked, folder: Path, found: Any, comparison: dict[str, Any] | None) -> None:
    content = {
        "name": asked.model.name, "settings": asked.told, "words": asked.regimen.words, "figures": found,
        "comparison": comparison, "classes": list(getattr(asked.model.task, "classes", ["all faces"])),
        "finding_before": "", "finding_after": "",
    }  # fmt: skip
    if asked.finished is not None and comparison is not None:
        content["finding_before"] = asked.finished.report.finding
        content["finding_after"] = AuditReport.load(folder / AUDIT).finding
    write_page(content, folder)
