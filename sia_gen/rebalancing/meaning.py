"""What a data set's classes mean: which attribute they are cut from, where, and which of them is the lower."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.evidence.reference import VERIFIER, VerifiedLabel, shipped_verifier
from sia_gen.audits.evidence.witness import unfamiliar
from sia_gen.core.errors import RequestError, unknown
from sia_gen.core.files import slug
from sia_gen.generators.generator import Generator
from sia_gen.hardening.labelled import LabelledImages
from sia_gen.studio.factors import FACTORS, NAMES
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.target import Label, Target
from sia_gen.targets.task import Classification
from sia_gen.training.groups import class_names

WITHOUT = ("no", "not", "non", "without")  # how the name of a lower class begins


def parted(text: str) -> tuple[str, tuple[float, ...]]:
    """``"age:30,60"`` → the attribute and where it is cut, nowhere if that is not said."""
    attribute, _, rest = text.partition(":")
    try:
        cuts = tuple(float(part) for part in rest.split(",")) if rest else ()
    except ValueError:
        cuts = (math.nan,)
    if not attribute or not all(map(math.isfinite, cuts)) or list(cuts) != sorted(set(cuts)):
        raise RequestError(f"class {text} is no attribute with rising cuts; write it as glasses:0.5 or age:30,60")
    return attribute, cuts


def reader(attribute: str, space: AttributeSpace, generator: Generator, place: torch.device) -> VerifiedLabel:
    """What reads an attribute off a face.

    Raises `RequestError` for one that nothing moves, or that nothing reads, and for a generator whose faces are not
    such as the verifier was taught on.
    """
    verifier = shipped_verifier(place)
    if verifier is None:
        raise RequestError(f"no '{VERIFIER}' is shipped here, which reads the class of a face; train one first")
    read = [factor.name for factor in verifier.factors]
    known = [name for name in space.names if name in read]
    if attribute not in known:
        remedy = "choose one that the generator moves and the verifier reads"
        raise unknown("class attribute", attribute, known, remedy)
    if unfamiliar(generator, verifier):
        raise RequestError(
            f"the verifier was taught on renders, and most faces of '{generator.name}' do not look so to it, so that "
            "their class is not read; choose a generator of faces like renders, as faces-stylegan2"
        )
    return VerifiedLabel(verifier, read.index(attribute), ())


def told_by(model: Target | None, attribute: str) -> tuple[tuple[str, ...] | None, tuple[float, ...]]:
    """The classes from low to high and their cuts, as the target has them; else the middle of the studio's range."""
    if (
        model is not None
        and isinstance(model.task, Classification)
        and model.label is not None
        and model.label.attribute == attribute
    ):
        return model.task.classes, model.label.thresholds
    if attribute in NAMES:
        factor = FACTORS[NAMES.index(attribute)]
        return None, ((factor.low + factor.high) / 2,)
    return None, ()


def in_order(images: LabelledImages, attribute: str, cuts: Sequence[float], known: bool) -> LabelledImages:
    """The same images, their classes counted from low to high, as is ``known`` or as their names tell.

    Raises `RequestError` for names that do not tell, and unless there is a cut between any two classes.
    """
    names = images.classes
    if len(cuts) != len(names) - 1:
        raise RequestError(
            f"the data set has {len(names)} classes ({', '.join(names)}) and {attribute} {len(cuts)} cuts; give one "
            f"less than classes, as --class {attribute}:0.5"
        )
    if known:
        return images
    rank = _low_to_high(names, attribute, cuts)
    if rank is None:
        raise RequestError(
            f"which of the classes {', '.join(names)} is lowest in {attribute} is not told by their names; give "
            "them with --classes, low to high"
        )
    place = torch.empty(len(names), dtype=torch.int64)
    place[torch.tensor(rank)] = torch.arange(len(names))
    return replace(images, labels=place[images.labels], classes=tuple(names[index] for index in rank))


def _low_to_high(names: Sequence[str], attribute: str, cuts: Sequence[float]) -> list[int] | None:
    """The classes' numbers in rising order, as their names tell; None where these do not."""
    order = [slug(name) for name in names]
    numbers = [re.fullmatch(r"(?:(?:class|label)-)?(\d+)", name) for name in order]
    if all(numbers):
        values = [int(number[1]) for number in numbers if number]
        return sorted(range(len(names)), key=values.__getitem__)
    unit = FACTORS[NAMES.index(attribute)].unit if attribute in NAMES else ""
    usual = [slug(name) for name in class_names(attribute, cuts, unit)]
    if set(order) == set(usual):
        return [order.index(name) for name in usual]
    lower = [index for index, name in enumerate(order) if name.split("-")[0] in WITHOUT]
    return [lower[0], 1 - lower[0]] if len(names) == 2 and len(lower) == 1 else None


def same_order(model: Target, images: LabelledImages, label: Label) -> None:
    """Raises `RequestError` unless a classifier has a data set's classes, which are the ``label``'s, low to high."""
    assert isinstance(model.task, Classification)
    known = model.task.classes
    if len(known) != len(images.classes):
        raise RequestError(
            f"'{model.name}' has {len(known)} classes ({', '.join(known)}), the data set {len(images.classes)} "
            f"({', '.join(images.classes)}); give a target of the same"
        )
    ours, its = ([slug(name) or name for name in names] for names in (images.classes, known))
    rank: list[int] | None = list(range(len(known)))
    if set(ours) == set(its):
        rank = [its.index(name) for name in ours]
    elif model.label is None or model.label.attribute != label.attribute:
        rank = _low_to_high(known, label.attribute, label.thresholds)
    if rank is None:
        raise RequestError(
            f"which of the classes {', '.join(known)} of '{model.name}' is lowest in {label.attribute} is not told by "
            f"their names; give a target of the classes {', '.join(images.classes)}"
        )
    if rank != sorted(rank):
        raise RequestError(
            f"'{model.name}' counts its classes {', '.join(known)}, but from low to high they are "
            f"{', '.join(images.classes)}; give a target that counts them so"
        )


def described(classes: Sequence[str], label: Label) -> Target:
    """A data set's classes as a target, of which nothing is asked."""
    made = ModuleTarget(_silent, Classification(tuple(classes)), "the data set", label)
    return made  # type: ignore[return-value]  # a frozen one


def _silent(images: Any) -> Any:
    raise AssertionError("a data set is asked nothing")


def told_of(images: LabelledImages) -> list[str]:
    """What is to be said of a data set besides its figures."""
    notes = [f"{count} rows are left out: {why}" for why, count in images.left_out.items()]
    for name, count in zip(images.classes, images.counts, strict=True):
        if count == 0:
            notes.append(f"class '{name}' has no picture at all: all that is known of it is generated")
        elif count == 1:
            notes.append(f"class '{name}' has a single picture")
    return notes
