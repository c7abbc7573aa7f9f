"""One judge of what any attack gives on one target's faces: failed, valid, confirmed, and how like it looks.

Letters: N faces, R resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sia_gen.attack.result import AttackResult
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.evidence.statistics import wilson
from sia_gen.audits.evidence.witness import VALID, Once
from sia_gen.audits.run.job import Chunk, Job
from sia_gen.audits.run.resolve import Request
from sia_gen.audits.run.results import CONFIRMED
from sia_gen.core.executors import Batches
from sia_gen.core.images import Images, from_bytes, quantise, to_bytes
from sia_gen.targets.target import Target, ask
from sia_gen.targets.task import eligible

Judged = tuple[Tensor, Tensor, Tensor | None]

WINDOW = 11  # pixels of the structural similarity's


class Judge:
    """Judges what any attack gives on one target's faces, in the same way."""

    def __init__(self, request: Request, once: Once, title: str = "") -> None:
        self.request, self.witness = request, request.witness
        self.title = title or request.witness.target.name  # what a table calls the target
        self.gate = request.witness.gate(once, request.generator, request.seed, request.device)
        self.job = Job(request.generator, self.witness, request.audited, self.gate, request.rendered)
        self.chunk: Chunk = self.job.chunk(0, request.seeds)
        self.target, device = self.witness.target, self.chunk.codes.device
        self.original = quantise(self.chunk.rendered.to(device))
        task = self.target.task
        prediction = self._predict(self.original)
        given = self.chunk.reference
        reference = task.decide(prediction) if given is None else given.to(device)
        self.reference, self.correct = reference, eligible(task, prediction, reference)

    def run(
        self,
        attack: SemanticImageAttack,
        space: AttributeSpace | None = None,
        start: Tensor | None = None,
        rendered: Tensor | None = None,
    ) -> AttackResult:
        """Attack its faces along ``space``, all that is audited by default; ``rendered`` are others in their place."""
        request, chunk = self.request, self.chunk
        return attack(
            request.generator, request.audited if space is None else space, self.target, chunk.codes, chunk.reference,
            seeds=chunk.seeds, rendered=chunk.rendered if rendered is None else rendered, start=start,
        )  # fmt: skip

    def judged(self, found: AttackResult | Tensor) -> Judged:
        """The 8-bit images ``[N, 3, R, R]`` of an attack, which made the target fail, and which of these are valid.

        Of an attack in pixels alone every failure is valid: the face below is as it was. None where nothing tells.
        """
        if isinstance(found, AttackResult):
            adversarial, success = from_bytes(found.adversarial), found.success
            part = self.witness.statement(found, self.gate, self.chunk.codes.device, self.chunk.known)
            moved = found.omega.any()
            return adversarial, success, part.get(VALID) if moved else success
        adversarial = quantise(found).cpu()
        success = self.fails(adversarial) & self.correct.cpu()
        return adversarial, success, success

    def row(self, found: AttackResult | Tensor, judged: Judged, *, rendered: bool = True) -> dict[str, Any]:
        """What a table says of an attack, of what `judged` gave; the studio is asked where it is to be ``rendered``."""
        adversarial, success, valid = judged
        confirmed = self.confirmed(found, success) if rendered else None
        row = {**counted(self.correct.cpu(), success, valid), CONFIRMED: confirmed}
        return row | self._apart(adversarial)

    def confirmed(self, found: AttackResult | Tensor, success: Tensor) -> dict[str, int] | None:
        """Of how many failures the studio can tell, and how many it shows, too; None where it can of none."""
        rows = success.nonzero().flatten()
        if not isinstance(found, AttackResult) or not found.omega.any() or self.job.rendered is None or not len(rows):
            return None
        names = self.job.space.names
        changes = {name: found.omega[rows, index] for index, name in enumerate(names)}
        right, failed = self.job.rendered.failures([self.chunk.seeds[row] for row in rows.tolist()], changes)
        return {"of": int(right.sum()), "confirmed": int((right & failed).sum())}

    def fails(self, images: Tensor) -> Tensor:
        """Whether the target fails on these pictures of its faces, bool ``[N]`` on the CPU."""
        return self.target.task.failed(self._predict(images.to(self.original.device)), self.reference).cpu()

    def _apart(self, adversarial: Tensor) -> dict[str, float | None]:
        """How like the pictures are to the unedited ones, of faces that were attacked."""
        from kornia.metrics import ssim

        rows = self.correct.cpu()
        before, after = self.original.cpu()[rows], adversarial[rows]
        if not len(before):
            return {"similarity": None, "distance": None}
        distance = None
        if self.witness.verifier is not None and len(self.original) > 1:  # of one face nothing says how features vary
            looks = [self._features(images) for images in (before, after)]
            spread = self._features(self.original.cpu()).std(dim=0).clamp(min=1e-6)
            distance = float(((looks[1] - looks[0]) / spread).square().mean(dim=1).sqrt().mean())
        return {"similarity": float(ssim(before, after, WINDOW).mean()), "distance": distance}

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        verifier, device = self.witness.verifier, self.chunk.codes.device
        assert verifier is not None
        return torch.cat([verifier.look(part.to(device))[1].float().cpu() for part in _as_shown(images)])

    @torch.no_grad()
    def _predict(self, images: Tensor) -> Tensor:
        return torch.cat(list(Batches(32)(len(images), lambda part: ask(self.target, images[part]))))


class Counting:
    """A target that counts the pictures it is asked about."""

    def __init__(self, target: Target) -> None:
        self.target, self.asked = target, 0
        self.name, self.task, self.label, self.differentiable = (
            target.name, target.task, target.label, target.differentiable
        )  # fmt: skip

    def predict(self, images: Images) -> Tensor:
        self.asked += len(images)
        return self.target.predict(images)


def counted(attempted: Tensor, success: Tensor, valid: Tensor | None) -> dict[str, Any]:
    """Shares of the faces that were ``attempted``, bool ``[N]``, with their intervals; None where nothing is judged."""
    of, successes = int(attempted.sum()), int(success.sum())
    count = None if valid is None else int(valid.sum())
    return {
        "attempted": of,
        "successes": successes,
        "success": successes / of if of else 0.0,
        "interval": wilson(successes, of),
        "valid": None if count is None else count / of if of else 0.0,
        "valid_interval": None if count is None else wilson(count, of),
    }


def titles(targets: Sequence[str | Path | Target], requests: Sequence[Request]) -> list[str]:
    """What tables call targets: their names, or of several of one name what was given, numbered where that is one."""
    names = [request.witness.target.name for request in requests]
    given = [name if isinstance(each, Target) else str(each) for each, name in zip(targets, names, strict=True)]
    told = [long if names.count(name) > 1 else name for name, long in zip(names, given, strict=True)]
    return [f"{name} {told[: at + 1].count(name)}" if told.count(name) > 1 else name for at, name in enumerate(told)]


def remembered() -> Once:
    """What is looked at once for all targets of a table, which have the same faces."""
    known: dict[str, dict[str, Tensor]] = {}

    def once(name: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        if name not in known:
            known[name] = dict(make())
        return known[name]

    return once


def _as_shown(images: Tensor) -> Sequence[Tensor]:
    """Images ``[N, 3, R, R]`` as 8 bits hold them, in batches."""
    return from_bytes(to_bytes(images)).split(32)
