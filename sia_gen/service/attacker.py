"""Attacks on a few faces, held against the same reference as in an audit, and what is to be said of each.

Letters: N faces, K attributes, R resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from threading import RLock
from typing import Any

import torch
from torch import Tensor

from sia_gen.attack.result import AttackResult
from sia_gen.attack.sia import SemanticImageAttack, Watch
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.load import load_attributes
from sia_gen.audits.evidence.reference import as_sampled
from sia_gen.audits.evidence.rendered import Rendered, StudioGenerator, class_of, taught
from sia_gen.audits.evidence.validity import Gate
from sia_gen.audits.evidence.witness import Once, Witness
from sia_gen.audits.run.job import best
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Progress
from sia_gen.generators.generator import Generator
from sia_gen.generators.load import load_generator
from sia_gen.studio.factors import NAMES
from sia_gen.studio.makehuman import installed
from sia_gen.studio.sampling import sample
from sia_gen.studio.studio import Studio
from sia_gen.targets.load import load_target
from sia_gen.targets.target import Target
from sia_gen.targets.task import Classification, Detection, Following, Task, Verification


@dataclass(frozen=True)
class Attacked:
    """Faces of ``seeds``, attacked in ``space``; ``queries`` ``[N]`` are all images that the target was shown."""

    seeds: Sequence[int]
    space: AttributeSpace
    attack: SemanticImageAttack
    result: AttackResult
    queries: Tensor


def make(name: str, how: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Make tensors each time that they are asked for."""
    return dict(how())


class Attacker:
    """A generator, its attributes less the one that the target predicts, and the target beside its verifier."""

    def __init__(
        self, generator: Generator, attributes: AttributeSpace, witness: Witness, device: str, once: Once = make
    ) -> None:
        """``once`` gives the tensors of a name, which it makes at the first time, see `Witness.gate`."""
        label = witness.target.label
        self.once = once
        self.generator, self.witness, self.device = generator, witness, torch.device(device)
        self.known = attributes
        self.space = attributes if label is None else attributes.without(label.attribute)
        self._once = RLock()

    def attack(
        self,
        seeds: Sequence[int],
        attributes: Sequence[str] | None,
        attack: SemanticImageAttack,
        *,
        watch: Watch | None = None,
        progress: Progress | None = None,
    ) -> Attacked:
        """Attack each face, beginning at the worst point of one attribute alone, so that together they never do less.

        An attack that stops at the first failure begins at the face, as it seeks the nearest one, not the worst.

        ``attributes`` are names, by default all but the one that the target predicts.
        """
        space = self.space if attributes is None else self.known.select(attributes)
        target = self.witness.target
        codes = self.generator.sample(seeds)
        rendered, reference = as_sampled(self.generator, space, codes, self.witness.verified, attack.precision)
        attack = attack.suited(target)
        start, queries = None, torch.zeros(len(seeds), dtype=torch.int64)
        if attack.box > 0 and attack.stop == "never":
            start, queries = self._alone(attack, space, seeds, codes, rendered, reference, progress)
        result = attack(
            self.generator, space, target, codes, reference,
            seeds=seeds, rendered=rendered, start=start, progress=progress, watch=watch,
        )  # fmt: skip
        return Attacked(seeds, space, attack, result, queries + result.queries)

    def _alone(
        self,
        attack: SemanticImageAttack,
        space: AttributeSpace,
        seeds: Sequence[int],
        codes: Tensor,
        rendered: Tensor,
        reference: Tensor | None,
        progress: Progress | None,
    ) -> tuple[Tensor, Tensor]:
        """Each face's worst point of one attribute alone, ω ``[N, K]``, and the images asked for it ``[N]``.

        A row of a batch is a face and an attribute; ω may move in that attribute alone.
        """
        faces, attributes = len(seeds), len(space.attributes)
        pairs = [(face, index) for index in range(attributes) for face in range(faces)]
        found = []
        for first in range(0, len(pairs), attack.batch):
            if progress:
                progress(first, len(pairs), "each attribute alone")
            face, index = (torch.tensor(column) for column in zip(*pairs[first : first + attack.batch], strict=True))
            here = face.to(codes.device)
            result = attack.alone()(
                self.generator, space, self.witness.target, codes[here], None if reference is None else reference[here],
                seeds=[seeds[each] for each in face.tolist()], rendered=rendered[face],
                allowed=torch.eye(attributes, dtype=torch.bool)[index],
            )  # fmt: skip
            found.append((result.success, result.loss_after, result.omega, result.queries))
        success, loss, omega, queries = (torch.cat(parts) for parts in zip(*found, strict=True))
        parts = [
            {"success": success[rows], "loss_after": loss[rows], "omega": omega[rows]}
            for rows in torch.arange(len(pairs)).view(attributes, faces)
        ]
        return best(parts), queries.view(attributes, faces).sum(dim=0)

    @cached_property
    def gate(self) -> Gate | None:
        """What tells valid faces, from unedited ones; None without a verifier."""
        with self._once:
            return self.witness.gate(self.once, self.generator, 0, self.device)

    @cached_property
    def rendered(self) -> Rendered | None:
        """Who confirms failures; None where no studio can."""
        with self._once:
            if not taught(self.generator) or installed() is None:
                return None
            return Rendered(self.witness.target, _studio(self.generator.resolution, self.device))

    def valid(self, attacked: Attacked) -> dict[str, Tensor]:
        """What the verifier and the identity model say of each face, see `Witness.statement`; nothing without them."""
        known = class_of(self.witness.target, sample(attacked.seeds).values) if taught(self.generator) else None
        return self.witness.statement(attacked.result, self.gate, self.device, known)

    def confirmed(self, attacked: Attacked) -> Tensor | None:
        """Which failures the target also shows where the studio renders the same people so, bool ``[N]``.

        None where no studio can, or something else than its factors was moved.
        """
        names, rows = attacked.space.names, attacked.result.success.nonzero().flatten()
        if self.rendered is None or not {*names} <= {*NAMES}:
            return None
        told = torch.zeros_like(attacked.result.success)
        if len(rows):
            changes = {name: attacked.result.omega[rows, index] for index, name in enumerate(names)}
            right, failed = self.rendered.failures([attacked.seeds[row] for row in rows.tolist()], changes)
            told[rows] = right & failed
        return told


@cache
def _studio(resolution: int, device: torch.device) -> StudioGenerator:
    """One for all attackers, which takes a second or two to make; as they, it is for one thread at a time."""
    return StudioGenerator(Studio(None, resolution, device), device)


def load_attacker(generator: str, target: str, device: str = "cpu") -> Attacker:
    """By the names that `load_generator` and `load_target` take; raises `RequestError` that names what exists."""
    made = load_generator(generator, device)
    return attacker_of(made, load_attributes(generator, device, made), load_target(target, device), device)


def attacker_of(
    generator: Generator, attributes: AttributeSpace, target: Target, device: str, once: Once = make
) -> Attacker:
    """The same of models in hand."""
    witness = Witness.of(target, attributes.names, torch.device(device), generator)
    return Attacker(generator, attributes, witness, device, once)


def require_attributes(attacker: Attacker, names: Sequence[str]) -> list[str]:
    """The named attributes less the one that the target predicts; raises `RequestError` where none is left."""
    left = [name for name in attacker.known.select(names).names if name in attacker.space.names]
    if not left:
        raise RequestError(f"{', '.join(names) or 'nothing'} leaves no attribute to move; choose another one")
    return left


def said(task: Task, prediction: Tensor) -> Any:
    """What the target said of one face, in short."""
    if isinstance(task, Detection):
        return "found" if prediction > 0 else "missed"
    return named(task, task.decide(prediction[None])[0])


def named(task: Task, decided: Tensor) -> Any:
    """The class's name or the values; nothing where it is points or an embedding."""
    if isinstance(task, Classification):
        return task.classes[int(decided)]
    return None if isinstance(task, Following | Verification | Detection) else decided.tolist()
