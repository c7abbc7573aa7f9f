"""Rebalancing: faces of the classes that a data set has few of are generated, and a classifier learns from both.

Letters: N images.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.load import known_attributes
from sia_gen.audits.evidence.rendered import class_of
from sia_gen.audits.evidence.validity import identity_for
from sia_gen.audits.proof.figures import JUDGED
from sia_gen.core.errors import RequestError, differing
from sia_gen.core.executors import Precision, Progress
from sia_gen.core.files import (
    is_file,
    read_json,
    read_tensors,
    require_own,
    require_place,
    shipped,
    writable_folder,
    write_json,
    write_tensors,
)
from sia_gen.core.locate import lasting
from sia_gen.core.modules import weights_digest
from sia_gen.core.seeds import MAX_SEED, whole
from sia_gen.generators.generator import Generator
from sia_gen.generators.load import load_generator
from sia_gen.hardening.labelled import LABEL, LabelledImages, data_folder, is_shipped, read_labelled
from sia_gen.hardening.trainable import Trainable
from sia_gen.rebalancing.faces_folder import PARTS, Faces, card_values, fill, finish
from sia_gen.rebalancing.learning import teach
from sia_gen.rebalancing.meaning import Meant, described, in_order, parted, reader, same_order, told_by, told_of
from sia_gen.rebalancing.measures import answers, held_out, measured, not_held_out
from sia_gen.rebalancing.model_card import write_model_card
from sia_gen.rebalancing.rare_faces import RareFaces
from sia_gen.rebalancing.remedies import GENERATED, RebalancingSettings, Remedy, plan, remedy
from sia_gen.studio.factors import MIRRORED, NAMES
from sia_gen.studio.renders import read_renders, shipped_renders
from sia_gen.targets.load import load_target
from sia_gen.targets.target import Label, Target, ask
from sia_gen.targets.task import Classification
from sia_gen.training.processes import launched, once, training_device

FACES, MODEL, RESULT, SETTINGS, WORK = "faces", "model", "rebalance.json", "settings.json", ".work"
BALANCED = 1.25  # times the rarest class: no more is called balanced


@dataclass(frozen=True)
class Rebalanced:
    """What came of it, in ``folder``: how many pictures each class had (``counts``) and how many faces were ``added``;
    the ``target`` that learnt from both, where one was given, and its ``figures`` before and after; what to say of it
    in ``notes``."""

    folder: Path
    classes: tuple[str, ...]
    counts: list[int]
    added: list[int]
    notes: list[str]
    target: Target | None = field(default=None, repr=False)
    figures: dict[str, Any] | None = None


def rebalance(
    data: str | Path,
    label: str,
    out: str | Path = "rebalanced",
    *,
    target: str | Path | Target | nn.Module | None = None,
    column: str | None = None,
    classes: Sequence[str] | None = None,
    generator: str | Path | Generator = "faces-stylegan2",
    attributes: AttributeSpace | None = None,
    by: str | None = None,
    settings: RebalancingSettings | None = None,
    force: bool = False,
    seed: int = 0,
    device: str = "cpu",
    precision: Precision = "no",
    progress: Progress | None = None,
) -> Rebalanced:
    """Generate faces of the rare classes of ``data``, write them as a data set, and train ``target`` with both.

    ``data`` is what `read_labelled` reads. ``label`` is the attribute that its classes are cut from and where, as
    ``"glasses:0.5"`` or ``"age:30,60"``; two classes of an attribute of the studio meet in the middle of its range
    unless told. ``column`` holds the labels, "label" or the attribute's own unless told; ``classes`` are their names
    from low to high, needed where neither the data nor the target says which is which. ``by`` is one of `GENERATED`:
    "generated" with a target, else "generated-rare". All but the latter make as many faces of the frequent classes:
    else a model learns that what looks generated is of the rare class. Faces that are hard for the target ("sia-…")
    take eight to nine times as long, and in all that was measured taught no more that shows.

    ``out`` gets ``faces``, a Hugging Face data set with the seed and every change of each face; ``model``, the target
    in its own format, trained further; and `rebalance.json`. Pictures are taken as their middle square at the
    generator's side. A fifth of each class of five or more is kept from training and measured on; that flatters
    "before" where the target had learnt from them. The same call goes on where one was stopped. A data set in which no
    class has more than 1.25 times the pictures of another is left alone unless ``force`` is set.

    Raises `RequestError` for data that cannot be read, a label that nothing moves or reads, a target of other classes
    or that cannot be trained, and a folder of something else; `OSError` where the disk is full, which keeps the rest.
    """
    settings, place = settings or RebalancingSettings(), training_device(device)
    whole("seed", seed, 0, MAX_SEED)
    require_place(out)
    require_own(Path(out), SETTINGS)
    by = by or ("generated-rare" if target is None else "generated")
    chosen = remedy(by, GENERATED)
    if target is None and chosen.added != "generated":
        raise RequestError(f"by={by} makes faces hard for a model, but there is none; name one with --target")
    source = generator if isinstance(generator, Generator) else load_generator(generator, device)
    space = known_attributes(generator, source, attributes, device)
    attribute, cuts = parted(label)
    verified = reader(attribute, space, source, place)
    model = None
    if target is not None:
        model = target if isinstance(target, Target) else load_target(target, device)
    names, usual = told_by(model, attribute)
    images = read_labelled(
        data, source.resolution, columns=[column] if column else [LABEL, attribute], classes=classes or names,
        cuts=cuts or usual, attribute=attribute, progress=progress,
    )  # fmt: skip
    images = in_order(images, attribute, cuts or usual, known=bool(classes or names))
    meant = Label(attribute, tuple(cuts or usual))
    counts, notes = images.counts, told_of(images)
    attack = SemanticImageAttack(steps=settings.attack).gentle()
    told = {
        "data": str(data_folder(data).resolve()), "attribute": attribute, "cuts": list(meant.thresholds),
        "classes": list(images.classes), "counts": counts, "pictures": images.digest, "by": by, **asdict(settings),
        "seed": seed, "precision": precision, "generator": _lasting("generator", generator, source.name),
        "attributes": space.names, "target": None if model is None else _lasting("target", target, model.name),
    } | ({"gentle": True} if chosen.added != "generated" else {})  # fmt: skip
    if max(counts) <= BALANCED * min(counts) and not force:
        notes.append("the classes are balanced already, so nothing was done; --force generates faces all the same")
        return Rebalanced(Path(out), images.classes, counts, [0] * len(counts), notes)
    student = None if model is None else _student(model, images, meant).to(place)
    if student is not None:
        told["weights"] = weights_digest(student)
        notes += not_held_out(images)
    identity = identity_for(described(images.classes, meant), place)
    faces = RareFaces.of(source, space, (verified,), Meant((meant,)), attack, identity)
    folder = Path(out)
    once(lambda: _open(folder, told))
    if not is_file(folder / RESULT):
        work = _Work(folder, told, images, settings, chosen, seed, precision, progress, place)
        made = work.run(faces, student, model)

        def end() -> None:
            ours = isinstance(generator, str) and generator in shipped("generator")
            named = told | {"generator": source.name, "target": None if model is None else model.name}
            finish(folder / FACES, images.classes, made, card_values(named, faces, chosen.added, ours))
            added = torch.bincount(made.labels, minlength=len(counts)).tolist()
            figures = None
            if student is not None and model is not None:
                figures = work.figures(student, model, meant)
                student.save(writable_folder(folder / MODEL))
                write_model_card(folder / MODEL, named, added, figures)
            result = {
                "settings": told, "added": added, "refused": dict(made.refused), "faces_a_minute": made.a_minute,
                "notes": notes, "figures": figures,
            }  # fmt: skip
            write_json(folder / RESULT, result)
            for done in (folder / WORK, folder / FACES / PARTS):
                shutil.rmtree(done, ignore_errors=True)

        once(end)
    result = read_json(folder / RESULT)
    mended: Target | None = None
    if model is not None and student is not None:
        mended = student.found_again(folder / MODEL, model, device)
    return Rebalanced(folder, images.classes, counts, result["added"], result["notes"], mended, result["figures"])


@dataclass
class _Work:
    """Rounds of faces and of learning, each of which is kept once done."""

    folder: Path
    told: dict[str, Any]
    images: LabelledImages
    settings: RebalancingSettings
    chosen: Remedy
    seed: int
    precision: Precision
    progress: Progress | None
    place: torch.device

    def __post_init__(self) -> None:
        self.held = held_out(self.images.labels, self.seed)

    def run(self, faces: RareFaces, student: Trainable | None, model: Target | None) -> Faces:
        """All rounds; the student has learnt after it."""
        rounds = self.settings.rounds if student is not None else 1
        wanted = plan(self.images.counts, self.settings.faces, self.chosen.beside)
        every: list[Faces] = []
        people: Tensor | None = None
        for number in range(rounds):
            now = {k: part for k, count in wanted.items() if (part := _part(count, number, rounds))}
            against = None if student is None or model is None else student.put_into(model)
            make = partial(
                fill, self.folder / FACES, faces, now, self.chosen.added, against, "" if model is None else model.name,
                round_number=number, seed=self.seed, before=people, progress=self.progress,
            )  # fmt: skip
            if launched():
                once(make)  # by one process; the others read what it wrote
            made, people = make()
            every.append(made)
            if student is not None:
                self._learn(student, every, number)
        return Faces.together(every)

    def _learn(self, student: Trainable, every: Sequence[Faces], number: int) -> None:
        work = writable_folder(self.folder / WORK / f"round-{number}")
        learnt = work / "taught.safetensors"
        if not is_file(learnt):
            made = Faces.together(every)
            kept = ~self.held
            pictures = [self.images.images[kept], *([made.pictures] if len(made.rows) else [])]
            labels = torch.cat([self.images.labels[kept], made.labels])
            averaged = teach(
                student, torch.cat(pictures), labels, len(self.images.classes), self.chosen, work,
                steps=self.settings.steps, batch=self.settings.batch, rate=self.settings.rate, seed=self.seed,
                mirror=self.told["attribute"] not in MIRRORED, settings=self.told | {"round": number},
                precision=self.precision, progress=self.progress,
            )  # fmt: skip
            once(partial(write_tensors, learnt, averaged.state_dict()))
        student.load_state_dict(read_tensors(learnt)[0])

    def figures(self, student: Trainable, model: Target, meant: Label) -> dict[str, Any]:
        """Before and after, on the pictures that were held out, and on renders whose labels are exact."""
        sets = {"held out": (self.images.images[self.held], self.images.labels[self.held])}
        folder = None if is_shipped(self.told["data"]) else shipped_renders()  # some of which it then learnt from
        if folder is not None and meant.attribute in NAMES:
            renders = read_renders(folder, JUDGED)
            truth = class_of(described(self.images.classes, meant), renders.values)
            assert truth is not None  # of an attribute among the studio's
            sets["renders"] = (renders.images, truth)
        models = {"before": model, "after": student.eval().put_into(model)}
        return {
            name: {
                when: measured(answers(partial(ask, each), pictures, self.place), truth)
                for when, each in models.items()
            }
            for name, (pictures, truth) in sets.items()
            if len(truth)
        }


def _part(count: int, number: int, rounds: int) -> int:
    """How many of ``count`` faces a round makes."""
    return count * (number + 1) // rounds - count * number // rounds


def _lasting(kind: str, given: Any, called: str) -> str:
    """What a model is found again by, or where it was in hand is ``called``."""
    return lasting(kind, given) if isinstance(given, str | Path) else called


def _student(model: Target, images: LabelledImages, meant: Label) -> Trainable:
    if not isinstance(model.task, Classification):
        raise RequestError(f"'{model.name}' is no classifier, so that its data has no classes to balance; give one")
    student = Trainable(model)
    same_order(model, images, meant)
    return student


def _open(folder: Path, told: dict[str, Any]) -> None:
    """Begin in a new folder, or go on in one of the same call; raises `RequestError` where it holds another."""
    writable_folder(folder)
    if not is_file(folder / SETTINGS):
        write_json(folder / SETTINGS, told)
    other = differing(read_json(folder / SETTINGS), told)
    if other is not None:
        raise RequestError(f"'{folder}' was made with {other}; choose another --out")
