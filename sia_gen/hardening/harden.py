"""Hardening: a classifier learns from generated, attacked faces, is saved in its own format, and audited again.

Letters: N faces.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.load import load_attributes
from sia_gen.audits.diagnose import audit
from sia_gen.audits.evidence.reference import verified_label
from sia_gen.audits.evidence.rendered import taught
from sia_gen.audits.finished.audit_report import AuditReport
from sia_gen.audits.finished.comparison import compare
from sia_gen.audits.finished.inputs import FinishedAudit
from sia_gen.audits.run.run_folder import MADE_OF
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Precision, Progress
from sia_gen.core.files import is_file, read_json, read_tensors, writable_folder, write_json, write_tensors
from sia_gen.core.locate import locate
from sia_gen.core.seeds import MAX_SEED, seeds_apart, whole
from sia_gen.generators.generator import Generator
from sia_gen.generators.load import load_generator
from sia_gen.hardening.faces import Faces
from sia_gen.hardening.figures import figures
from sia_gen.hardening.lessons import loss, prepared
from sia_gen.hardening.page import write_card, write_page
from sia_gen.hardening.regimens import HardeningSettings, regimen
from sia_gen.hardening.trainable import Trainable
from sia_gen.studio.renders import read_renders, shipped_renders
from sia_gen.targets.adapted import MARK
from sia_gen.targets.formats.pretrained import WEIGHTS
from sia_gen.targets.load import load_target
from sia_gen.targets.target import Target, configured
from sia_gen.training.loop import fit
from sia_gen.training.processes import TRAINING, once, training_device
from sia_gen.training.stepper import Lessons

WORK, ROUND, DRAWN, TAUGHT = ".harden", "round-{}", "faces.safetensors", "taught.safetensors"
AUDIT = "audit"  # folder of the second audit
JUDGED = 2000  # shipped renders that a model is measured on before and after
DEFAULT = "sia-semantic"


@dataclass(frozen=True)
class Hardened:
    """What came of it: the ``folder`` of the model, its ``figures`` before and after, and where there was a run its
    second audit's ``comparison`` with the first, and the ``page`` that shows both."""

    folder: Path
    target: Target
    figures: dict[str, Any] | None
    comparison: dict[str, Any] | None
    page: Path


def harden(
    target: str | Path | Target | None = None,
    out: str | Path = "hardened",
    *,
    run: str | Path | None = None,
    generator: str | Path | Generator | None = None,
    attributes: Sequence[str] | AttributeSpace | None = None,
    label: str | None = None,
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
    are compared. Otherwise ``target`` is named, as for `audit`. ``by`` is a row of `REGIMENS`. The faces are others
    than those of audits; their labels are what the generator was told where it was, else what the verifier reads. No
    picture from outside is used.

    Interrupted, the same call goes on, and on a CPU ends with the same weights. `accelerate launch` shares the steps
    among processes. Raises `RequestError` for a target that cannot be trained or has no label that the verifier reads,
    and for a folder that holds something else.
    """
    chosen, settings = regimen(by), settings or HardeningSettings()
    whole("seed", seed, 0, MAX_SEED)
    if (run is None) == (target is None):
        raise RequestError("give a finished audit or a target, one of the two")
    place = training_device(device)
    finished = (
        None if run is None else FinishedAudit.load(run, generator if isinstance(generator, str) else None, device)
    )
    known: dict[str, Any] = {} if finished is None else finished.settings
    model: Target
    if finished is not None:
        named: Any = known[MADE_OF]["target"] or known["target"]
        model, source, space = finished.target(device=device), finished.generator, finished.audited
        label = known["label"]
        focus = tuple(row["name"] for row in finished.report.histogram["attributes"] if row["stands_out"])
        attack = SemanticImageAttack(**known["attack"])
    else:
        named = target
        model = target if isinstance(target, Target) else load_target(target, device)  # type: ignore[arg-type]
        source, space = _faces_of(generator, attributes, device)
        focus, attack = (), SemanticImageAttack()
    model = configured(model, label, None)
    verified = verified_label(model, place)
    if verified is None or not verified.thresholds:
        raise RequestError(
            f"nothing reads the classes of '{model.name}' off a face; say what it predicts, as label='smile:0.5'"
        )
    if model.label is not None and model.label.attribute in space.names:
        space = space.without(model.label.attribute)
    student = Trainable(model).to(place)
    attack = replace(attack, steps=settings.attack, stop="never", restarts=1).suited(model)
    faces = Faces(source, space, verified, attack, focus)
    told = {
        "recipe": "harden", "by": by, **asdict(settings), "seed": seed, "precision": precision, "target": model.name,
        "generator": source.name, "attributes": space.names, "focus": list(focus), "label": label,
        "told": taught(source),
    }  # fmt: skip
    folder = _open(out, told)
    if not is_file(folder / TRAINING):
        _teach(student, model, faces, folder, told, settings, chosen, seed, precision, progress)
        bare = named.partition(MARK)[0] if isinstance(named, str) else named
        source_folder = locate("target", bare) if isinstance(bare, str | Path) else None
        once(lambda: _finish(student, model, folder, told, focus, source_folder, place))
    mended = _mended(folder, named, student, model, device)
    mended = configured(mended, label, None)
    comparison = None
    if finished is not None and again:
        second = audit(
            known[MADE_OF]["generator"] or source, mended, known["attributes"],
            faces=known["faces"], seed=known["seed"],
            attack=SemanticImageAttack(**known["attack"]), label=label, towards=known["towards"],
            pairs=[tuple(pair.split("+")) for pair in known["pairs"]], out=folder / AUDIT, device=device,
            confirm="auto" if known["confirmed_by"] else False, progress=progress,
        )  # fmt: skip
        comparison = compare(finished.report.folder, second.folder)
    measured = read_json(folder / TRAINING)["figures"]
    content = {
        "name": model.name, "settings": told, "words": chosen.words, "figures": measured, "comparison": comparison,
        "classes": list(model.task.classes), "finding_before": "", "finding_after": "",  # type: ignore[attr-defined]
    }  # fmt: skip
    if finished is not None and comparison is not None:
        content["finding_before"] = finished.report.finding
        content["finding_after"] = AuditReport.load(folder / AUDIT).finding
    page = write_page(content, folder)
    return Hardened(folder, mended, measured, comparison, page)


def _faces_of(
    generator: str | Path | Generator | None, attributes: Sequence[str] | AttributeSpace | None, device: str
) -> tuple[Generator, AttributeSpace]:
    named = generator or "faces-stylegan2"
    source = named if isinstance(named, Generator) else load_generator(named, device)
    if isinstance(attributes, AttributeSpace):
        return source, attributes
    space = load_attributes(source.name if isinstance(named, Generator) else named, device)
    return source, space if attributes is None else space.select(attributes)


def _mended(folder: Path, named: Any, student: Trainable, model: Target, device: str) -> Target:
    """The hardened model as it is found again: by its folder, shown pictures as its original was, or as in hand."""
    if not is_file(folder / "config.json"):
        student.load_state_dict({f"network.{name}": value for name, value in read_tensors(folder / WEIGHTS)[0].items()})
        return replace(student.put_into(model), name=folder.name)  # type: ignore[type-var]
    _, mark, form = named.partition(MARK) if isinstance(named, str) else ("", "", "")
    return load_target(f"{folder.resolve()}{mark}{form}" if mark else folder, device)


def _open(out: str | Path, told: dict[str, Any]) -> Path:
    """The folder, new, or of the same hardening; raises `RequestError` for one that holds something else."""
    folder = writable_folder(out)
    found = [path.name for path in folder.iterdir() if path.name != WORK]
    there = folder / TRAINING if is_file(folder / TRAINING) else folder / WORK / "settings.json"
    if not is_file(there):
        if found:
            raise RequestError(f"'{folder}' holds something else, '{sorted(found)[0]}' for one; choose another --out")
        once(lambda: write_json(writable_folder(folder / WORK) / "settings.json", told))
        return folder
    before = read_json(there)
    before = before.get("settings", before)
    for name in {*before, *told}:
        if before.get(name) != told.get(name):
            raise RequestError(
                f"'{folder}' was hardened with {name}={before.get(name)}, not {told.get(name)}; choose another --out"
            )
    return folder


def _teach(
    student: Trainable, model: Target, faces: Faces, folder: Path, told: dict[str, Any], settings: HardeningSettings,
    chosen: Any, seed: int, precision: Precision, progress: Progress | None,
) -> None:  # fmt: skip
    """All rounds: faces drawn against the student as it is, then steps on all that were drawn so far."""
    device = next(student.parameters()).device
    pictures: list[Tensor] = []
    labels: list[Tensor] = []
    for number in range(settings.rounds):
        work = writable_folder(folder / WORK / ROUND.format(number))
        where = f"round {number + 1} of {settings.rounds}"
        drawn = work / DRAWN

        def draw(number: int = number, drawn: Path = drawn, where: str = where) -> None:
            seeds = seeds_apart(seed, f"harden {number}", settings.faces)
            made, classes = faces.draw(seeds, chosen, student.put_into(model), _placed(progress, where))
            write_tensors(drawn, {"pictures": made, "labels": classes})

        if not is_file(drawn):
            once(draw)
        found, _ = read_tensors(drawn)
        pictures.append(found["pictures"])
        labels.append(found["labels"])
        if is_file(work / TAUGHT):
            student.load_state_dict(read_tensors(work / TAUGHT)[0])
            continue
        tables = (torch.cat(pictures), torch.cat(labels))
        if len(tables[1].unique()) < 2:
            raise RequestError(f"all {len(tables[1])} faces are of one class; draw more faces")
        lessons = Lessons(tables, torch.arange(len(tables[1])), prepared(chosen), settings.batch, seed)
        averaged = fit(
            student, lessons, loss(chosen, settings.epsilon), work, steps=settings.steps, rate=settings.rate,
            settings=told | {"round": number}, precision=precision, progress=_placed(progress, where),
        )  # fmt: skip
        state = {name: value.detach().cpu().contiguous() for name, value in averaged.state_dict().items()}
        once(partial(write_tensors, work / TAUGHT, state))
        student.load_state_dict(state)
    student.to(device)


def _placed(progress: Progress | None, where: str) -> Progress:
    """Progress that says in which round it is."""

    def report(done: int, total: int, what: str) -> None:
        if progress:
            progress(done, total, f"{where}: {what}")

    return report


def _finish(
    student: Trainable, model: Target, folder: Path, told: dict[str, Any], focus: Sequence[str], source: Any,
    place: torch.device,
) -> None:  # fmt: skip
    """Save the model with its figures, and leave nothing of the work."""
    student.eval()
    student.save(folder, source if isinstance(source, Path) else None)
    found = None
    if (renders := shipped_renders()) is not None and model.label is not None:
        data = read_renders(renders, JUDGED)
        after = student.put_into(model)
        found = {name: figures(each, data, focus, place) for name, each in (("before", model), ("after", after))}
    write_card(told, regimen(told["by"]).words, found, folder)
    write_json(folder / TRAINING, {"settings": told, "figures": found})
    shutil.rmtree(folder / WORK, ignore_errors=True)
