"""What is asked of a hardening, checked, before anything is drawn or learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.load import known_attributes
from sia_gen.audits.evidence.reference import VERIFIER, unfollowed
from sia_gen.audits.finished.inputs import FinishedAudit
from sia_gen.audits.run.run_folder import MADE_OF
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Precision, Progress
from sia_gen.core.locate import lasting
from sia_gen.core.seeds import MAX_SEED, whole
from sia_gen.generators.generator import Generator
from sia_gen.generators.load import load_generator
from sia_gen.hardening.faces import Faces
from sia_gen.hardening.labelled import LABEL, LabelledImages, read_labelled
from sia_gen.hardening.regimens import HardeningSettings, Regimen, regimen
from sia_gen.hardening.trainable import Trainable
from sia_gen.hardening.truth import truth_of
from sia_gen.targets.load import load_target
from sia_gen.targets.points import Keypoints
from sia_gen.targets.target import Target, configured
from sia_gen.targets.task import Classification
from sia_gen.training.processes import training_device

GENERATOR = "faces-stylegan2"


@dataclass(frozen=True)
class Asked:
    """A hardening that can begin: the ``model`` as it is, what it was ``named``, and the ``student``, its copy.

    ``told`` is what the folder is known by; ``finished`` the audit that it starts from, ``clean`` labelled pictures
    that are learnt from besides, if any.
    """

    named: str | Path | Target
    model: Target
    student: Trainable
    faces: Faces
    regimen: Regimen
    settings: HardeningSettings
    seed: int
    precision: Precision
    device: torch.device
    label: str | None
    finished: FinishedAudit | None
    clean: LabelledImages | None
    told: dict[str, Any]


def resolve(
    target: str | Path | Target | None,
    run: str | Path | None,
    generator: str | Path | Generator | None,
    attributes: Sequence[str] | AttributeSpace | None,
    label: str | None,
    data: str | Path | None,
    by: str,
    settings: HardeningSettings,
    seed: int,
    device: str,
    precision: Precision,
    progress: Progress | None,
) -> Asked:
    """Find all that is named; arguments as for `harden`, which says what is refused."""
    chosen = regimen(by)
    whole("seed", seed, 0, MAX_SEED)
    if (run is None) == (target is None):
        raise RequestError("give a finished audit or a target, one of the two")
    place = training_device(device)
    finished, attack, focus, by_whom = None, SemanticImageAttack(), (), VERIFIER
    made_of = {
        "target": lasting("target", target) if isinstance(target, str | Path) else None,
        "generator": lasting("generator", generator) if isinstance(generator, str | Path) else None,
    }
    if run is not None:
        finished = FinishedAudit.load(run, generator if isinstance(generator, str) else None, device)
        known = finished.settings
        named: Any = known[MADE_OF]["target"] or known["target"]
        model, source, space = finished.target(device=device), finished.generator, finished.audited
        label = known["label"]
        focus = tuple(row["name"] for row in finished.report.histogram["attributes"] if row["stands_out"])
        attack = SemanticImageAttack(**known["attack"])
        made_of, by_whom = known[MADE_OF], known[MADE_OF].get("verifier", VERIFIER)
    else:
        named = target
        model = target if isinstance(target, Target) else load_target(named, device)
        source, space = _faces_of(generator, attributes, device)
        attack = replace(attack, epsilon=settings.epsilon)
    model = _plain(configured(model, label, None))
    if isinstance(model.task, Keypoints) and chosen.augment != "no":
        raise RequestError(f"'{by}' turns and shifts pictures, which moves landmarks; choose another regimen")
    truth = truth_of(model, source, place, by_whom)
    if model.label is not None and model.label.attribute in space.names:
        space = space.without(model.label.attribute)
    student = Trainable(model).to(place)
    clean = None if data is None else _clean(data, model, source.resolution, progress)
    attack = replace(attack, steps=settings.attack, stop="never", restarts=1).suited(model)
    told = {
        "recipe": "harden", "by": by, **asdict(settings), "made_of": made_of, "moved": asdict(attack),
        "seed": seed, "precision": precision, "target": model.name,
        "generator": source.name, "attributes": space.names, "focus": list(focus), "label": label,
        "truth": truth.words, "data": None if clean is None else [len(clean.labels), clean.digest],
    }  # fmt: skip
    faces = Faces(source, space, truth, attack, focus, settings.attacked, by_whom, precision)
    return Asked(
        named, model, student, faces, chosen, settings, seed, precision, place, label, finished, clean, told
    )  # fmt: skip


def _clean(data: str | Path, model: Target, side: int, progress: Progress | None) -> LabelledImages:
    """Labelled pictures of the model's classes; raises `RequestError` for another kind of model."""
    if not isinstance(model.task, Classification):
        raise RequestError(f"'{model.name}' has no classes to be labelled; leave the data out")
    columns: list[str] = [LABEL]
    cuts: tuple[float, ...] = ()
    if model.label is not None:
        columns, cuts = [model.label.attribute, LABEL], model.label.thresholds
    return read_labelled(data, side, columns=columns, classes=model.task.classes, cuts=cuts, progress=progress)


def _plain(target: Target) -> Target:
    """The target itself, as it decides: without a verifier beside it, or a class that it is driven towards."""
    target = unfollowed(target)
    if isinstance(target.task, Classification) and target.task.towards is not None:
        return replace(target, task=replace(target.task, towards=None))  # type: ignore[type-var]
    return target


def _faces_of(
    generator: str | Path | Generator | None, attributes: Sequence[str] | AttributeSpace | None, device: str
) -> tuple[Generator, AttributeSpace]:
    named = generator or GENERATOR
    source = named if isinstance(named, Generator) else load_generator(named, device)
    space = known_attributes(named, source, attributes, device)
    if attributes is None or isinstance(attributes, AttributeSpace):
        return source, space
    return source, space.select(attributes)
