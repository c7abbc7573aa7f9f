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
from sia_gen.audits.proof.figures import JUDGED
from sia_gen.audits.run.run_folder import MADE_OF
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Precision, Progress
from sia_gen.core.locate import lasting
from sia_gen.core.modules import weights_digest
from sia_gen.core.seeds import MAX_SEED, whole
from sia_gen.generators.generator import Generator
from sia_gen.generators.load import load_generator
from sia_gen.hardening.faces import Faces
from sia_gen.hardening.labelled import LABEL, LabelledImages, is_shipped, one_text, read_labelled
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
    """A hardening that can begin: the ``model`` as it is, and the ``student``, its copy.

    ``told`` is what the folder is known by; ``finished`` the audit that it starts from, ``clean`` labelled pictures
    that are learnt from besides, if any.
    """

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
    classes: Sequence[str] | None,
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
    if run is None and target is None:
        raise RequestError("give a finished audit or a target, as --run runs/planted or --target smile-classifier")
    if run is not None and not (attributes is None and label is None):
        raise RequestError(f"the audit '{run}' has its own attributes and label; leave yours out")
    if isinstance(classes, str):
        raise one_text(classes)
    if data is None and classes is not None:
        raise RequestError(f"classes={','.join(classes)} are what labelled pictures have; give these with --data")
    place = training_device(device)
    finished, attack, focus, by_whom = None, SemanticImageAttack(), (), VERIFIER
    made_of = {
        "target": lasting("target", target) if isinstance(target, str | Path) else None,
        "generator": lasting("generator", generator) if isinstance(generator, str | Path) else None,
    }
    if run is not None:
        if isinstance(generator, Generator):
            raise RequestError(f"the audit '{run}' has its own generator; name where it lies now, or leave yours out")
        finished = FinishedAudit.load(run, generator, device)
        known = finished.settings
        model, source, space = finished.target(target, device), finished.generator, finished.audited
        label = known["label"]
        focus = tuple(row["name"] for row in finished.report.histogram["attributes"] if row["stands_out"])
        attack = SemanticImageAttack(**known["attack"])
        attack = attack if attack.epsilon else replace(attack, epsilon=settings.epsilon)
        made_of = known[MADE_OF] | {kind: name for kind, name in made_of.items() if name is not None}
        by_whom = made_of.get("verifier", VERIFIER)
    else:
        assert target is not None
        model = target if isinstance(target, Target) else load_target(target, device)
        source, space = _faces_of(generator, attributes, device)
        attack = replace(attack, epsilon=settings.epsilon)
    model = _plain(configured(model, label, None))
    if isinstance(model.task, Keypoints) and chosen.augment != "no":
        raise RequestError(f"'{by}' turns and shifts pictures, which moves landmarks; choose another regimen")
    truth = truth_of(model, source, place, by_whom)
    if model.label is not None and model.label.attribute in space.names:
        space = space.without(model.label.attribute)
    student = Trainable(model).to(place)
    clean = None if data is None else _clean(data, classes, model, source.resolution, progress)
    attack = replace(attack, steps=settings.attack, stop="never", restarts=1).suited(model)
    told = {
        "recipe": "harden", "by": by, **asdict(settings), "made_of": made_of, "moved": asdict(attack),
        "seed": seed, "precision": precision, "target": model.name, "weights": weights_digest(student),
        "generator": source.name, "attributes": space.names, "focus": list(focus), "label": label,
        "truth": truth.words, "data": None if clean is None else [len(clean.labels), clean.digest],
        "left_out": {} if clean is None else clean.left_out,
    }  # fmt: skip
    faces = Faces(source, space, truth, attack, focus, settings.attacked, by_whom, precision)
    return Asked(
        model, student, faces, chosen, settings, seed, precision, place, label, finished, clean, told
    )  # fmt: skip


def _clean(
    data: str | Path, classes: Sequence[str] | None, model: Target, side: int, progress: Progress | None
) -> LabelledImages:
    """Labelled pictures of the model's classes; raises `RequestError` for another kind of model, and other classes."""
    if not isinstance(model.task, Classification):
        raise RequestError(f"'{model.name}' has no classes to be labelled; leave the data out")
    columns: list[str] = [LABEL]
    cuts: tuple[float, ...] = ()
    if model.label is not None:
        columns, cuts = [model.label.attribute, LABEL], model.label.thresholds
    its = model.task.classes
    named = its if classes is None else tuple(classes)
    if named != its and (not len(named) == len(set(named)) == len(its) or set(named) == set(its)):
        raise RequestError(
            f"classes={','.join(named)} do not fit the {len(its)} of '{model.name}'; name each, in the order "
            f"{', '.join(its)}"
        )
    found = read_labelled(data, side, columns=columns, classes=named, cuts=cuts, progress=progress)
    if not is_shipped(data):
        return found
    kept, left_out = slice(JUDGED, None), found.left_out | {"measured on": JUDGED}
    return replace(found, images=found.images[kept], labels=found.labels[kept], left_out=left_out)


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
