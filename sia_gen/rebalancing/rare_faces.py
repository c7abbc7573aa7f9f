"""Faces of a class that is rare: its attribute is moved past the cuts, the others to where the model errs.

Letters: B faces, K attributes, C numbers of a code, E those of an edit, P faces before, R resolution.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sia_gen.attack.edit import edit
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.evidence.reference import VerifiedLabel
from sia_gen.audits.evidence.rendered import taught
from sia_gen.audits.evidence.validity import COMPARED, Gate
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Batches, Progress
from sia_gen.core.images import Images, from_bytes, quantise, to_bytes
from sia_gen.core.seeds import seeds_apart, uniforms
from sia_gen.generators.generator import Codes, Generator
from sia_gen.rebalancing.remedies import Added
from sia_gen.studio.factors import FACTORS, NAMES
from sia_gen.studio.sampling import sample
from sia_gen.targets.identity import Identity
from sia_gen.targets.target import Label, Target

BATCH = 32
MARGIN = 0.02  # of the attribute's range: no face is asked for nearer to a cut, where its class is a matter of chance
CLEAR = 0.15  # of the class's width, by which a reading has to lie within: on the brink glasses hardly show
OUT_OF_REACH, TWICE = "out of the attribute's range", "one person twice"  # why a face is refused
USUAL = 0.99  # share of people of whom nobody looks more alike


class Moved:
    """A generator whose codes ``[B, C + E]`` bring an edit along that every render starts from."""

    def __init__(self, generator: Generator, space: str, code: torch.Size) -> None:
        self.generator, self.space, self.code = generator, space, code
        self.name, self.resolution, self.edit_shapes = generator.name, generator.resolution, generator.edit_shapes

    def pack(self, codes: Codes, edits: Tensor) -> Codes:
        return torch.cat([codes.flatten(1), edits.flatten(1).to(codes)], dim=1)

    def sample(self, seeds: Sequence[int]) -> Codes:
        codes = self.generator.sample(seeds)
        return self.pack(codes, codes.new_zeros(len(codes), *self.edit_shapes[self.space]))

    def render(self, codes: Codes, edits: Tensor | None = None, space: str | None = None) -> Images:
        size = math.prod(self.code)
        codes, base = codes[:, :size], codes[:, size:].reshape(-1, *self.edit_shapes[self.space])
        edits = base if edits is None else base + edits
        return self.generator.render(codes.reshape(-1, *self.code), edits, self.space)


@dataclass(frozen=True)
class Drawn:
    """Faces that passed: ``pictures`` uint8 ``[B, 3, R, R]``, ``embeddings`` ``[B, 64]`` and what is told of each;
    ``refused`` counts the others by reason."""

    pictures: Tensor
    embeddings: Tensor
    rows: list[dict[str, Any]]
    refused: Counter[str]


@dataclass(frozen=True)
class RareFaces:
    """Where faces come from, and what judges them. ``alike``: the cosine from which two faces are one person.

    The identity model's own threshold takes one in seven pairs of different people for one person. Among some hundred
    faces each would have a double, so that ``alike`` is what the nearest of as many different people hardly reaches.
    """

    generator: Generator
    space: AttributeSpace
    verified: VerifiedLabel
    label: Label
    attack: SemanticImageAttack
    gate: Gate
    alike: float

    def __post_init__(self) -> None:
        for number in range(len(self.label.thresholds) + 1):
            low, high = self.ends(number)
            if low >= high:
                cuts, (least, most) = ",".join(f"{cut:g}" for cut in self.label.thresholds), self._range()
                raise RequestError(
                    f"{self.label.attribute}:{cuts} leaves no room for class {number}: faces lie in {least:g}…{most:g} "
                    f"and {MARGIN * (most - least):g} away from a cut; set cuts further apart"
                )

    @classmethod
    def of(
        cls, generator: Generator, space: AttributeSpace, verified: VerifiedLabel, label: Label,
        attack: SemanticImageAttack, identity: Identity | None,
    ) -> RareFaces:  # fmt: skip
        """With the reach of likely faces, and how alike people look, measured on unedited faces of the generator."""
        verifier = verified.verifier
        codes = generator.sample(seeds_apart(0, "gate", COMPARED))

        @torch.no_grad()
        def look(part: slice) -> tuple[Tensor, Tensor]:
            images = quantise(generator.render(codes[part]).float())
            embedded = images.new_zeros(len(images), 1) if identity is None else identity.embed(images)
            return verifier.look(images)[1].float(), embedded

        features, embedded = map(torch.cat, zip(*Batches(BATCH)(COMPARED, look), strict=True))
        alike = math.inf
        if identity is not None:
            alike = float((embedded @ embedded.T).fill_diagonal_(-1).amax(1).quantile(USUAL))
        return cls(generator, space, verified, label, attack, Gate.of(verifier, identity, features), alike)

    def ends(self, number: int) -> tuple[float, float]:
        """Between which values of the attribute faces of a class are asked for."""
        return asked_between(self.label, number, *self._range())

    def clear(self, number: int) -> tuple[float, float]:
        """Between which readings a face is surely of a class; the lowest and the highest class are open at an end."""
        low, high = self._range()
        cuts = (low, *self.label.thresholds, high)
        margin = CLEAR * (cuts[number + 1] - cuts[number])
        last = len(self.label.thresholds)
        return (
            -math.inf if number == 0 else cuts[number] + margin,
            math.inf if number == last else cuts[number + 1] - margin,
        )

    def _range(self) -> tuple[float, float]:
        if self.label.attribute in NAMES:
            factor = FACTORS[NAMES.index(self.label.attribute)]
            return factor.low, factor.high
        known = self.verified.verifier.factors[self.verified.factor]
        return known.mean - 2 * known.sd, known.mean + 2 * known.sd

    def draw(
        self, seeds: Sequence[int], number: int, hard: Added, target: Target | None, before: Tensor,
        progress: Progress | None = None,
    ) -> Drawn:  # fmt: skip
        """Faces of class ``number``, those of these seeds that pass; ``hard`` is "generated", "semantic" or "joint".

        Each face's attribute stays where it lies within the class, else it is moved to a value drawn from all of the
        class. What the attack then made of it is kept if it passes, else the face without. It passes if the verifier
        clearly reads the class, if it is a likely face, and if nobody of ``before`` ``[P, 64]`` and of the others looks
        as it does.
        """
        codes, told = self._told(seeds)
        asked, reached = self._asked(seeds, told, number)
        refused = Counter({OUT_OF_REACH: int((~reached).sum())})
        index = reached.nonzero().flatten().tolist()
        if not index:
            return Drawn(torch.empty(0), before[:0], [], refused)
        seeds, codes, told, asked = [seeds[i] for i in index], codes[index], told[index], asked[index]
        versions, said = self._versions(seeds, codes, asked - told, number, hard, target, progress)
        kept, vectors, people, rows = [], [], before, []
        for row, seed in enumerate(seeds):
            for version in versions:
                if not version.there[row]:
                    continue
                likeness = float((people @ version.embedding[row]).amax()) if len(people) else -1.0
                reason = self._reason(version, row, likeness)
                if reason:
                    continue
                told_of = {name: values[row].item() for name, values in said.items()}
                rows.append(
                    {"seed": seed, "codes": _digest(codes[row]), "hard": version.hard}
                    | {self.label.attribute: float(asked[row]), "read": float(version.value[row])}
                    | {"distance": float(version.distance[row]), "likeness": likeness}
                    | {f"omega_{self.label.attribute}": float(asked[row] - told[row])}
                    | {f"omega_{name}": float(moves[row]) for name, moves in version.omega.items()}
                    | told_of
                )
                kept.append(version.pictures[row])
                vectors.append(version.embedding[row])
                people = torch.cat([people if len(people) else version.embedding[:0], vectors[-1][None]])
                break
            else:
                refused[reason] += 1
        if not kept:
            return Drawn(torch.empty(0), before[:0], [], refused)
        return Drawn(torch.stack(kept), torch.stack(vectors), rows, refused)

    def _asked(self, seeds: Sequence[int], told: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """The value ``[B]`` that each face is asked to have, and whether the attribute reaches as far."""
        low, high = self.ends(number)
        asked = asked_values(seeds, told, low, high)
        attribute = self.space.attributes[self.space.names.index(self.label.attribute)]
        return asked, ((asked - told) >= attribute.low) & ((asked - told) <= attribute.high)

    def _versions(
        self, seeds: Sequence[int], codes: Codes, change: Tensor, number: int, hard: Added, target: Target | None,
        progress: Progress | None,
    ) -> tuple[list[_Version], dict[str, Tensor]]:  # fmt: skip
        """The same faces, their attribute changed by so much ``[B]``: made hard, if that is asked, and as they are.

        And what the target says of them.
        """
        own, others = self.space.select([self.label.attribute]), self.space.without(self.label.attribute)
        moved = Moved(self.generator, self.space.space, codes.shape[1:])
        packed = moved.pack(codes, own.edits(change[:, None].to(own.directions)))
        every = torch.ones(len(codes), dtype=torch.bool)
        nothing = torch.zeros(len(codes), len(others.names))
        as_it_is = self._judged(self._plain(moved, packed), nothing, others, number, every, hard=False)
        if hard == "generated" or target is None:
            return [as_it_is], {}
        attack = self.attack if hard == "joint" else replace(self.attack, epsilon=0.0)
        truth = torch.full((len(codes),), number, device=codes.device)
        result = attack.suited(target)(moved, others, target, packed, truth, seeds=seeds, progress=progress)
        said = {
            "right_before": result.correct, "fails": result.success, "output_before": result.output_before,
            "output_after": result.output_after,
        }  # fmt: skip
        # Those on which the target errs as they are were not attacked.
        changed = self._judged(result.adversarial, result.omega, others, number, result.correct, hard=True)
        return [changed, as_it_is], said

    def _told(self, seeds: Sequence[int]) -> tuple[Codes, Tensor]:
        """Codes, and where the attribute of each face lies ``[B]``: as the generator was told, else as it is read."""
        codes = self.generator.sample(seeds)
        if taught(self.generator):
            return codes, sample(seeds).values[:, NAMES.index(self.label.attribute)]

        @torch.no_grad()
        def read(part: slice) -> Tensor:
            images = quantise(self.generator.render(codes[part]).float())
            return self.verified.verifier.read(images)[:, self.verified.factor]

        return codes, torch.cat(list(Batches(BATCH)(len(codes), read))).cpu()

    @torch.no_grad()
    def _plain(self, moved: Moved, packed: Codes) -> Tensor:
        render = Batches(BATCH)(len(packed), lambda part: to_bytes(edit(moved, self.space, packed[part]).float()).cpu())
        return torch.cat(list(render))

    @torch.no_grad()
    def _judged(
        self, pictures: Tensor, omega: Tensor, others: AttributeSpace, number: int, there: Tensor, hard: bool
    ) -> _Version:
        """What the verifier, the gate and the identity model say of pictures uint8 ``[B, 3, R, R]``."""
        verifier, identity = self.verified.verifier, self.gate.identity

        def judge(part: slice) -> tuple[Tensor, ...]:
            images = from_bytes(pictures[part]).to(verifier.mean.device)
            read, features = verifier.look(images)
            embedded = images.new_zeros(len(images), 1) if identity is None else identity.embed(images)
            return read[:, self.verified.factor].float(), self.gate.distance(features), embedded

        value, distance, embedded = (
            torch.cat(parts).cpu() for parts in zip(*Batches(BATCH)(len(pictures), judge), strict=True)
        )
        low, high = self.clear(number)
        meant = (value >= low) & (value <= high)
        moves = dict(zip(others.names, omega.T, strict=True))
        return _Version(pictures, moves, there, hard, value, meant, distance, embedded)

    def _reason(self, version: _Version, row: int, likeness: float) -> str:
        """Why a face does not pass; nothing if it does."""
        if not version.meant[row]:
            return "not clearly read as the class"
        if not version.distance[row] <= 1:
            return "no likely face"
        return TWICE if likeness >= self.alike else ""


@dataclass(frozen=True)
class _Version:
    """B faces in one version: ``pictures``, ``omega`` ``[B]`` by attribute, which of them are ``there``, and what is
    said of each."""

    pictures: Tensor
    omega: dict[str, Tensor]
    there: Tensor
    hard: bool
    value: Tensor
    meant: Tensor
    distance: Tensor
    embedding: Tensor


def asked_between(label: Label, number: int, low: float, high: float) -> tuple[float, float]:
    """Between which values of an attribute that lies in ``low``…``high`` faces of a class are asked for."""
    cuts, margin = (-math.inf, *label.thresholds, math.inf), MARGIN * (high - low)
    return max(low, cuts[number] + margin), min(high, cuts[number + 1] - margin)


def asked_values(seeds: Sequence[int], told: Tensor, low: float, high: float) -> Tensor:
    """The value ``[B]`` that each face is asked to have: as ``told`` where that lies between, else drawn from all."""
    drawn = low + (high - low) * uniforms(seeds, (), "rebalance").to(told)
    return torch.where((told >= low) & (told <= high), told, drawn)


def _digest(codes: Tensor) -> str:
    return hashlib.sha256(codes.cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
