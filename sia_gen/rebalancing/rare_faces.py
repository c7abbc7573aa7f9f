"""Faces of a class that is rare: its attributes are moved past the cuts, the others, if asked, to where a model errs.

Letters: B faces, A attributes that classes are cut from, K attributes, C numbers of a code, E those of an edit, P faces
before, R resolution.
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
from sia_gen.core.seeds import seeds_apart
from sia_gen.generators.generator import Codes, Generator
from sia_gen.rebalancing.meaning import MARGIN, Meant
from sia_gen.rebalancing.remedies import Added
from sia_gen.studio.factors import FACTORS, NAMES
from sia_gen.studio.sampling import sample
from sia_gen.targets.identity import Identity
from sia_gen.targets.target import Target
from sia_gen.targets.verifier import Verifier

BATCH = 32
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
    verified: tuple[VerifiedLabel, ...]
    meant: Meant
    attack: SemanticImageAttack
    gate: Gate
    alike: float

    def __post_init__(self) -> None:
        for number, parts in enumerate(self.meant.parts):
            for label, part, (low, high), (least, most) in zip(
                self.meant.labels, parts, self.ends(number), self._ranges(), strict=True
            ):
                if low >= high:
                    cuts = ",".join(f"{cut:g}" for cut in label.thresholds)
                    raise RequestError(
                        f"{label.attribute}:{cuts} leaves no room for class {part}: faces lie in {least:g}…{most:g} "
                        f"and {MARGIN * (most - least):g} away from a cut; set cuts further apart"
                    )

    @classmethod
    def of(
        cls, generator: Generator, space: AttributeSpace, verified: tuple[VerifiedLabel, ...], meant: Meant,
        attack: SemanticImageAttack, identity: Identity | None,
    ) -> RareFaces:  # fmt: skip
        """With the reach of likely faces, and how alike people look, measured on unedited faces of the generator."""
        verifier = verified[0].verifier
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
        return cls(generator, space, verified, meant, attack, Gate.of(verifier, identity, features), alike)

    @property
    def verifier(self) -> Verifier:
        return self.verified[0].verifier

    @property
    def factors(self) -> list[int]:
        """Where among the verifier's readings those of the classes' attributes are."""
        return [each.factor for each in self.verified]

    def ends(self, number: int) -> list[tuple[float, float]]:
        """Between which values of each attribute faces of a class are asked for."""
        return self.meant.ends(number, self._ranges())

    def clear(self, number: int) -> list[tuple[float, float]]:
        """Between which readings a face is surely of a class; the lowest and the highest part are open at an end."""
        return self.meant.clear(number, self._ranges())

    def _ranges(self) -> list[tuple[float, float]]:
        found = []
        for name, factor in zip(self.meant.attributes, self.factors, strict=True):
            known = self.verifier.factors[factor]
            drawn = FACTORS[NAMES.index(name)] if name in NAMES else None
            span = (known.mean - 2 * known.sd, known.mean + 2 * known.sd)
            found.append(span if drawn is None else (drawn.low, drawn.high))
        return found

    def draw(
        self, seeds: Sequence[int], number: int, hard: Added, target: Target | None, before: Tensor,
        progress: Progress | None = None,
    ) -> Drawn:  # fmt: skip
        """Faces of class ``number``, those of these seeds that pass; ``hard`` is "generated", "semantic" or "joint".

        Each face's attributes stay where they lie within the class, else they are moved to values drawn from all of
        the class. What the attack then made of it is kept if it passes, else the face without. It passes if the
        verifier clearly reads the class, if it is a likely face, and if nobody of ``before`` ``[P, 64]`` and of the
        others looks as it does.
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
                names, change = self.meant.attributes, asked - told
                reads = ["read"] if len(names) == 1 else [f"read_{name}" for name in names]
                rows.append(
                    {"seed": seed, "codes": _digest(codes[row]), "hard": version.hard}
                    | dict(zip(names, asked[row].tolist(), strict=True))
                    | dict(zip(reads, version.values[row].tolist(), strict=True))
                    | {"distance": float(version.distance[row]), "likeness": likeness}
                    | {f"omega_{name}": float(moved) for name, moved in zip(names, change[row], strict=True)}
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
        """The values ``[B, A]`` that each face is asked to have, and whether the attributes reach as far ``[B]``."""
        asked = self.meant.asked(seeds, told, self.ends(number))
        own, change = self.space.select(self.meant.attributes), asked - told
        return asked, ((change >= own.low.cpu()) & (change <= own.high.cpu())).all(dim=1)

    def _versions(
        self, seeds: Sequence[int], codes: Codes, change: Tensor, number: int, hard: Added, target: Target | None,
        progress: Progress | None,
    ) -> tuple[list[_Version], dict[str, Tensor]]:  # fmt: skip
        """The same faces, their attributes changed by so much ``[B, A]``: made hard, if that is asked, and as they are.

        And what the target says of them.
        """
        own = self.space.select(self.meant.attributes)
        others = self.space.select([name for name in self.space.names if name not in own.names])
        moved = Moved(self.generator, self.space.space, codes.shape[1:])
        packed = moved.pack(codes, own.edits(change.to(own.directions)))
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
        """Codes, and where the attributes of each face lie ``[B, A]``: as the generator was told, else as is read."""
        codes = self.generator.sample(seeds)
        if taught(self.generator):
            return codes, sample(seeds).values[:, [NAMES.index(name) for name in self.meant.attributes]]

        @torch.no_grad()
        def read(part: slice) -> Tensor:
            images = quantise(self.generator.render(codes[part]).float())
            return self.verifier.read(images)[:, self.factors]

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
        verifier, identity = self.verifier, self.gate.identity

        def judge(part: slice) -> tuple[Tensor, ...]:
            images = from_bytes(pictures[part]).to(verifier.mean.device)
            read, features = verifier.look(images)
            embedded = images.new_zeros(len(images), 1) if identity is None else identity.embed(images)
            return read[:, self.factors].float(), self.gate.distance(features), embedded

        values, distance, embedded = (
            torch.cat(parts).cpu() for parts in zip(*Batches(BATCH)(len(pictures), judge), strict=True)
        )
        low, high = torch.tensor(self.clear(number)).T
        meant = ((values >= low) & (values <= high)).all(dim=1)
        moves = dict(zip(others.names, omega.T, strict=True))
        return _Version(pictures, moves, there, hard, values, meant, distance, embedded)

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
    values: Tensor
    meant: Tensor
    distance: Tensor
    embedding: Tensor


def _digest(codes: Tensor) -> str:
    return hashlib.sha256(codes.cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
