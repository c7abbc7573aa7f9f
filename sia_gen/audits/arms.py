"""The arms of an audit: which attack runs on which attributes, and what is kept of it.

Letters: N faces of a chunk, K attributes, M random directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sia_gen.attack.edit import edit
from sia_gen.attack.result import AttackResult
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.control import EACH, group
from sia_gen.audits.examples import best_pictures, joint_pictures
from sia_gen.audits.pairs import Pair, arm_of
from sia_gen.audits.reference import as_sampled
from sia_gen.audits.results import ARMS, control_arm, is_control, part_of
from sia_gen.audits.validity import Gate
from sia_gen.audits.witness import Witness
from sia_gen.core.executors import Batches, Precision, Progress
from sia_gen.core.images import to_bytes
from sia_gen.generators.generator import Codes, Generator

SINGLE_STEPS = 8  # values of one attribute that are tried: every quarter of the way to both ends of its range


@dataclass(frozen=True)
class Chunk:
    """Consecutive faces of an audit; ``first`` is the number of the first of them.

    ``rendered`` ``[N, 3, R, R]`` are the unedited ones on the CPU, which every arm begins with.
    """

    first: int
    seeds: Sequence[int]
    codes: Codes
    rendered: Tensor
    reference: Tensor | None


@dataclass(frozen=True)
class Arm:
    """One attack of the audit; ``columns`` are its attributes' places among the columns of ω.

    ``number`` says along which of its random directions a face is moved, where it is.
    """

    name: str
    attack: SemanticImageAttack
    space: AttributeSpace
    columns: tuple[int, ...]
    number: int = 0


@dataclass(frozen=True)
class Job:
    """What every arm of an audit shares; ``space`` are all audited attributes, ``gate`` says what is valid."""

    generator: Generator
    witness: Witness
    space: AttributeSpace
    gate: Gate | None = None
    precision: Precision = "no"

    def chunk(self, first: int, seeds: Sequence[int]) -> Chunk:
        """The faces of these seeds, with the reference where the verifier reads it."""
        codes = self.generator.sample(seeds)
        rendered, reference = as_sampled(self.generator, self.space, codes, self.witness.verified, self.precision)
        return Chunk(first, seeds, codes, rendered, reference)

    def run(self, arm: Arm, chunk: Chunk, progress: Progress) -> dict[str, Tensor]:
        """Attack a chunk and give its part."""
        direction = allowed = None
        if is_control(arm.name):
            # One direction at a time, so that a control is as narrow as a single attribute.
            direction = group(chunk.first + torch.arange(len(chunk.seeds)))[:, arm.number]  # [N]
            allowed = one_hot(direction, len(arm.space.attributes)).bool()  # [N, M]
        result = arm.attack(
            self.generator,
            arm.space,
            self.witness.target,
            chunk.codes,
            chunk.reference,
            seeds=chunk.seeds,
            allowed=allowed,
            rendered=chunk.rendered,
            progress=progress,
        )
        width = len(self.space.attributes) + 1
        part = part_of(result, self.witness.target.task, chunk.seeds, arm.columns, width, direction)
        part |= self.witness.statement(result, self._failing(arm, chunk, result), self.gate, chunk.codes.device)
        if arm.name == "joint":
            part |= joint_pictures(result, chunk.first)
        elif arm.name not in ARMS and direction is None:
            part |= best_pictures(result)
        return part

    @torch.no_grad()
    def _failing(self, arm: Arm, chunk: Chunk, result: AttackResult) -> Tensor:
        """uint8 ``[S, 3, R, R]``: the S faces that failed, without pixel residual, at the least change that does it."""
        rows = result.success.nonzero().flatten()
        if arm.attack.step != "sweep" or not len(rows):
            return result.semantic[rows]
        codes, space = chunk.codes[rows.to(chunk.codes.device)], arm.space.to(chunk.codes.device)
        omega = result.omega_needed[rows].to(codes.device)

        def render(part: slice) -> Tensor:
            return to_bytes(edit(self.generator, space, codes[part], omega[part])).cpu()

        return torch.cat(list(Batches(arm.attack.batch)(len(rows), render)))


def arms(
    attack: SemanticImageAttack,
    space: AttributeSpace,
    control: AttributeSpace,
    pairs: Sequence[Pair] = (),
) -> list[Arm]:
    """Joint, semantic, pixel, every attribute alone, random directions in the column after the attributes, and pairs.

    ``control`` are all random directions, a few of which each face is moved along.
    """
    count = len(space.attributes)
    # One attribute needs no gradient: its range is searched from end to end, and a random direction's in the same way.
    single = replace(attack, epsilon=0.0, stop="never", step="sweep", steps=SINGLE_STEPS, restarts=1, momentum=0.0)
    both = replace(attack, epsilon=0.0, stop="never", restarts=attack.restarts + (attack.step != "evolve"))
    return [
        Arm("joint", attack, space, tuple(range(count))),
        Arm("semantic", replace(attack, epsilon=0.0), space, tuple(range(count))),
        Arm("pixel", replace(attack, box=0.0), space, ()),
        *(Arm(name, single, space.select([name]), (index,)) for index, name in enumerate(space.names)),
        *(Arm(control_arm(number), single, control, (count,), number) for number in range(EACH)),
        *(
            Arm(arm_of(pair), both, space.select(pair), tuple(space.names.index(name) for name in pair))
            for pair in pairs
        ),
    ]
