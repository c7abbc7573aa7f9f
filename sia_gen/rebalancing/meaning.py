"""What a data set's classes mean: which attributes they are cut from, where, and which of them is the lower.

Letters: B faces, A attributes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.evidence.reference import VERIFIER, VerifiedLabel, shipped_verifier
from sia_gen.audits.evidence.witness import unfamiliar
from sia_gen.core.errors import RequestError, unknown
from sia_gen.core.files import slug
from sia_gen.core.seeds import uniforms
from sia_gen.generators.generator import Generator
from sia_gen.hardening.labelled import LabelledImages
from sia_gen.studio.factors import FACTORS, NAMES
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.target import Label, Target, classify
from sia_gen.targets.task import Classification
from sia_gen.training.groups import class_names

MARGIN = 0.02  # of the attribute's range: no face is asked for nearer to a cut, where its class is a matter of chance
CLEAR = 0.15  # of the class's width, by which a reading has to lie within: on the brink glasses hardly show
WITHOUT = ("no", "not", "non", "without")  # how the name of a lower class begins


@dataclass(frozen=True)
class Meant:
    """A class is a part of each label's range; of several labels every combination is one, the last counts fastest."""

    labels: tuple[Label, ...]

    @property
    def attributes(self) -> list[str]:
        return [label.attribute for label in self.labels]

    @property
    def parts(self) -> list[tuple[int, ...]]:
        """Of each class, which part of each label's range it is."""
        return list(product(*(range(len(label.thresholds) + 1) for label in self.labels)))

    @property
    def names(self) -> tuple[str, ...]:
        """What the classes are called, as "no glasses, smile"."""
        each = [
            class_names(name, label.thresholds, FACTORS[NAMES.index(name)].unit)
            for name, label in zip(self.attributes, self.labels, strict=True)
        ]
        return tuple(", ".join(named) for named in product(*each))

    def of(self, values: Tensor) -> Tensor:
        """The class ``[B]`` of faces by the values ``[B, A]`` of the attributes."""
        made = torch.zeros(len(values), dtype=torch.int64, device=values.device)
        for column, label in enumerate(self.labels):
            made = made * (len(label.thresholds) + 1) + classify(values[:, column], label.thresholds)
        return made

    def ends(self, number: int, ranges: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """Between which values of each attribute, which lies in its range, faces of a class are asked for."""
        found = []
        for label, part, (low, high) in zip(self.labels, self.parts[number], ranges, strict=True):
            cuts, margin = (-math.inf, *label.thresholds, math.inf), MARGIN * (high - low)
            found.append((max(low, cuts[part] + margin), min(high, cuts[part + 1] - margin)))
        return found

    def clear(self, number: int, ranges: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """Between which readings a face is surely of a class; the lowest and the highest part are open at an end."""
        found = []
        for label, part, (low, high) in zip(self.labels, self.parts[number], ranges, strict=True):
            cuts = (low, *label.thresholds, high)
            margin = CLEAR * (cuts[part + 1] - cuts[part])
            first, last = part == 0, part == len(label.thresholds)
            found.append((-math.inf if first else cuts[part] + margin, math.inf if last else cuts[part + 1] - margin))
        return found

    def asked(self, seeds: Sequence[int], told: Tensor, ends: Sequence[tuple[float, float]]) -> Tensor:
        """The values ``[B, A]`` that faces are asked to have: as ``told`` where that lies between, else from all."""
        columns = []
        for column, (low, high) in enumerate(ends):
            purpose = "rebalance" + (f" {self.attributes[column]}" if column else "")
            drawn = low + (high - low) * uniforms(seeds, (), purpose).to(told)
            now = told[:, column]
            columns.append(torch.where((now >= low) & (now <= high), now, drawn))
        return torch.stack(columns, dim=1)


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
    return None, ((sum(_range(attribute)) / 2,) if attribute in NAMES else ())


def in_order(images: LabelledImages, attribute: str, cuts: Sequence[float], known: bool) -> LabelledImages:
    """The same images, their classes counted from low to high, as is ``known`` or as their names tell.

    Raises `RequestError` for names that do not tell, and unless there is a cut between any two classes.
    """
    names = images.classes
    if len(cuts) != len(names) - 1:
        low, high = _range(attribute)
        parts = (low + (high - low) * part / len(names) for part in range(1, len(names)))
        example = ",".join(f"{part:.2g}" for part in parts)
        remedies = ["name those without a picture, too, with --classes"] if len(names) <= len(cuts) else []
        remedies += [f"give one less than classes, as --class {attribute}:{example}"] if example else []
        classes, several = "class" if len(names) == 1 else "classes", "" if len(cuts) == 1 else "s"
        raise RequestError(
            f"the data set has {len(names)} {classes} ({', '.join(names)}) and {attribute} {len(cuts)} cut{several}; "
            f"{', or '.join(remedies)}"
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


def _range(attribute: str) -> tuple[float, float]:
    """Where an attribute of the studio lies; 0…1 of others."""
    if attribute not in NAMES:
        return 0.0, 1.0
    factor = FACTORS[NAMES.index(attribute)]
    return factor.low, factor.high


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
    left = images.left_out.items()
    notes = [f"{count} {'picture' if count == 1 else 'pictures'} left out: {why}" for why, count in left]
    for name, count in zip(images.classes, images.counts, strict=True):
        if count == 0:
            notes.append(f"class '{name}' has no picture at all: all that is known of it is generated")
        elif count == 1:
            notes.append(f"class '{name}' has a single picture")
    return notes
