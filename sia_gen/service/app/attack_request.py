"""An attack on one face that a visitor asks for, within what a shared machine can give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import monotonic

from pydantic import Field

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.core.errors import WorkError
from sia_gen.core.executors import Progress
from sia_gen.core.seeds import MAX_FACES, MAX_SEED, face_seeds
from sia_gen.core.settings import settings
from sia_gen.service import gpu
from sia_gen.service.app.audit_request import MAX_EPSILON, MAX_STEPS, fitting
from sia_gen.service.attacker import require_attributes
from sia_gen.service.models import Models
from sia_gen.service.offer import Find, as_named
from sia_gen.service.replay import Replay, replay

LONGEST = 600.0  # seconds of one attack
MAX_BUDGET = 5.0  # half ranges: about as far as all attributes at once


@settings
class AttackRequest:
    """``epsilon`` is in 8-bit steps; a value out of range raises a `RequestError` that names it.

    ``attributes`` are names, by default all; the one that the target predicts is left out. ``gentle``: see
    `SemanticImageAttack.gentle`.
    """

    generator: str = "faces-stylegan2"
    target: str = "smile-classifier-planted"
    face: int = Field(0, ge=0, lt=MAX_FACES)
    attributes: tuple[str, ...] | None = None
    budget: float = Field(1.0, gt=0, le=MAX_BUDGET)
    epsilon: float = Field(1.0, ge=0, le=MAX_EPSILON)
    steps: int = Field(10, ge=1, le=MAX_STEPS)
    gentle: bool = False
    seed: int = Field(0, ge=0, le=MAX_SEED)

    def __post_init__(self) -> None:
        if self.attributes is not None and not self.attributes:
            raise ValueError("no attribute is chosen; choose one or more")

    def run(
        self, models: Models, show: Callable[[Replay], None] | None, progress: Progress, find: Find = as_named
    ) -> Replay:
        """Attack the face; ``show`` is told of it after each step, unless a GPU is lent for the whole attack."""
        asked = replace(self, target=find(self.target, progress))
        with fitting(asked.target):
            if gpu.LENT:
                progress(0, 1, "waiting for a GPU")
                return gpu.on_gpu(asked)
            return asked.here(models, show, progress)

    def here(self, models: Models, show: Callable[[Replay], None] | None, progress: Progress) -> Replay:
        """The same with these models."""
        progress = within(LONGEST, progress)
        attacker = models.attacker(self.generator, self.target)
        names = attacker.space.names if self.attributes is None else require_attributes(attacker, self.attributes)
        attack = SemanticImageAttack(steps=self.steps, budget=self.budget, epsilon=self.epsilon / 255)
        attack = attack.gentle() if self.gentle else attack
        seed = face_seeds(self.seed, self.face + 1)[-1]
        return replay(attacker, self.face, seed, names, attack, show, progress)


def within(seconds: float, progress: Progress) -> Progress:
    """The same progress, which raises `WorkError` once the work takes longer: others wait for it."""
    end = monotonic() + seconds

    def report(done: int, total: int, what: str) -> None:
        if monotonic() > end:
            raise WorkError(f"{what} took more than {seconds / 60:.0f} minutes; ask for fewer steps or a smaller model")
        progress(done, total, what)

    return report
