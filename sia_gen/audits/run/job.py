"""The work of an audit: what an attack leaves of one chunk of faces in one arm.

Letters: N faces of a chunk, A arms, C columns of ω, M random directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sia_gen.attack.result import AttackResult
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.evidence.control import group
from sia_gen.audits.evidence.reference import as_sampled
from sia_gen.audits.evidence.rendered import Rendered, class_of, taught
from sia_gen.audits.evidence.validity import Gate
from sia_gen.audits.evidence.witness import Witness
from sia_gen.audits.run.arms import Arm
from sia_gen.audits.run.examples import best_pictures, joint_pictures
from sia_gen.audits.run.results import ARMS, CONFIRMED, NEEDED, is_control, part_of
from sia_gen.core.executors import Precision, Progress
from sia_gen.generators.generator import Codes, Generator
from sia_gen.studio.factors import NAMES
from sia_gen.studio.sampling import sample


@dataclass(frozen=True)
class Chunk:
    """Consecutive faces of an audit; ``first`` is the number of the first of them.

    ``rendered`` ``[N, 3, R, R]`` are the unedited ones on the CPU, which every arm begins with. ``known`` ``[N]`` are
    the classes that were asked of the generator, where its codes say so.
    """

    first: int
    seeds: Sequence[int]
    codes: Codes
    rendered: Tensor
    reference: Tensor | None
    known: Tensor | None = None


@dataclass(frozen=True)
class Job:
    """What every arm of an audit shares; ``space`` are all audited attributes, ``gate`` says what is valid.

    ``rendered`` confirms failures, None where no studio can.
    """

    generator: Generator
    witness: Witness
    space: AttributeSpace
    gate: Gate | None = None
    rendered: Rendered | None = None
    precision: Precision = "no"

    def chunk(self, first: int, seeds: Sequence[int]) -> Chunk:
        """The faces of these seeds, with the reference where the verifier reads it."""
        codes = self.generator.sample(seeds)
        rendered, reference = as_sampled(self.generator, self.space, codes, self.witness.verified, self.precision)
        known = class_of(self.witness.target, sample(seeds).values) if taught(self.generator) else None
        return Chunk(first, seeds, codes, rendered, reference, known)

    def run(
        self, arm: Arm, chunk: Chunk, progress: Progress, alone: Sequence[dict[str, Tensor]] = ()
    ) -> dict[str, Tensor]:
        """Attack a chunk and give its part; ``alone`` are those of single attributes, from the best of which it starts.

        So what several attributes do is never less than what one of them does.
        """
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
            start=best(alone)[:, list(arm.columns)] if alone and arm.columns else None,
            progress=progress,
        )
        width = len(self.space.attributes) + 1
        part = part_of(result, self.witness.target.task, chunk.seeds, arm.columns, width, direction)
        if alone:
            part |= nearest([part, *alone])
        part |= self.witness.statement(result, self.gate, chunk.codes.device, chunk.known)
        part |= self._confirmed(arm, chunk, result)
        if arm.name == "joint":
            part |= joint_pictures(result, chunk.first)
        elif arm.columns and arm.name not in ARMS and direction is None:
            part |= best_pictures(result)
        return part

    def _confirmed(self, arm: Arm, chunk: Chunk, result: AttackResult) -> dict[str, Tensor]:
        """Which failures the target also shows on the same people, rendered with the same attributes, bool ``[N]``.

        "confirmable" are those that it gets right, rendered as they are. Nothing where no studio is at hand, or where
        an arm moves something else than the studio's factors. Pixel residuals are not rendered.
        """
        if self.rendered is None or not arm.columns or is_control(arm.name) or not {*arm.space.names} <= {*NAMES}:
            return {}
        rows = result.success.nonzero().flatten()
        part = {name: torch.zeros_like(result.success) for name in ("confirmable", CONFIRMED)}
        if len(rows):
            changes = {name: result.omega[rows, index] for index, name in enumerate(arm.space.names)}
            right, failed = self.rendered.failures([chunk.seeds[row] for row in rows.tolist()], changes)
            part["confirmable"][rows], part[CONFIRMED][rows] = right, failed & right
        return part


def best(parts: Sequence[dict[str, Tensor]]) -> Tensor:
    """Of several arms' parts the worst point of each face, ω ``[N, C]``; 0 where nothing was moved."""
    failed, loss = (torch.stack([part[name] for part in parts]) for name in ("success", "loss_after"))  # [A, N]
    worst = torch.where(failed == failed.any(dim=0), loss, -torch.inf).argmax(dim=0)  # [N]
    omega = torch.stack([part["omega"] for part in parts])  # [A, N, C]
    return omega[worst, torch.arange(len(worst))].nan_to_num()


def worst_alone(singles: Sequence[AttackResult]) -> Tensor:
    """Of what each of K attributes does alone, in their order, the worst point of each face: ω ``[N, K]``."""
    parts = []
    for index, one in enumerate(singles):
        omega = torch.zeros(len(one.omega), len(singles))
        omega[:, index] = one.omega[:, 0]
        parts.append({"success": one.success, "loss_after": one.loss_after, "omega": omega})
    return best(parts)


def nearest(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Of the points at which each face fails in any of several arms, what is kept of the least change."""
    least = torch.stack([part["least"] for part in parts]).nan_to_num(torch.inf).argmin(dim=0)  # [N]
    faces = torch.arange(len(least))
    found = {name: torch.stack([part[name] for part in parts])[least, faces] for name in (*NEEDED, "needed")}
    own = parts[0]["success"][:, None] & ~parts[0]["omega"].isnan()  # what the first arm moves, where it succeeds
    found["needed"] = torch.where(own, found["needed"].nan_to_num(), torch.nan)
    return found
