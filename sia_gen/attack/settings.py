"""What an attack is told: frozen, validated, its repr its configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sia_gen.attack.balls import Norm, Step
from sia_gen.core.executors import Precision
from sia_gen.core.settings import settings

MOST = 1_000_000  # of any count: far beyond what is of use, and small enough for every tensor


@settings
class AttackSettings:
    """How far, in which steps and until when an attack goes.

    steps           ascent steps a restart, 1 or more
    box             fraction 0…1 of each attribute's safe range; 0 leaves ω = 0 (the pixel-only arm, PGD)
    budget          ρ: how far ω may go in all, in half ranges: ‖ω / ((high − low) / 2)‖₂ ≤ ρ. One attribute at an end
                    of its range is about 1 away, K of them are √K away, and a larger budget limits nothing. A sweep
                    moves one attribute and keeps to its range
    epsilon         radius of the pixel residual, images being in [0, 1]; 0 leaves δ = 0 (the semantic-only arm)
    norm            "linf" (epsilon ≤ 1) or "l2" over the whole image
    semantic_step   step of ω, as a fraction of half of its range, box · (high − low) / 2; where the budget limits
                    anything, the length of the whole step as a fraction of the budget
    pixel_step      step of δ, as a fraction of epsilon
    step            "sign", or "normalised" in proportion to the gradient; a budget and the l2 ball always take the
                    latter. "sweep" asks no gradient: from the face outwards, up and down in turn, evenly to both ends
                    of every range at once, which finds the worst value of one attribute (epsilon 0, steps even, one
                    restart, no momentum)
                    "evolve" asks none either: it steps along an estimate from points around the face, for targets
                    that can only be asked
    pairs           of points asked for such an estimate; a restart costs at most 1 + steps · (1 + 2 · pairs) queries
    momentum        decay of the accumulated, L1-normalised gradient (MI-FGSM; Dong et al., arXiv 1710.06081)
    restarts        the first starts at the face, later ones anywhere in box × ball, for faces not yet successful
    stop            "never" spends all steps on each face and keeps its worst point; "success" drops it at its first
    batch           faces at a time; halved when memory runs out
    precision       of the models, "no", "bf16" or "fp16"; ω, δ and the loss are float32
    """

    steps: int = Field(10, ge=1, le=MOST)
    box: float = Field(1.0, ge=0, le=1, allow_inf_nan=False)
    budget: float = Field(1.0, gt=0, allow_inf_nan=False)
    epsilon: float = Field(1 / 255, ge=0, allow_inf_nan=False)
    norm: Norm = "linf"
    semantic_step: float = Field(0.2, gt=0, le=2, allow_inf_nan=False)
    pixel_step: float = Field(0.25, gt=0, le=2, allow_inf_nan=False)
    step: Step | Literal["sweep", "evolve"] = "sign"
    pairs: int = Field(8, ge=1, le=MOST)
    momentum: float = Field(0.0, ge=0, allow_inf_nan=False)
    restarts: int = Field(1, ge=1, le=MOST)
    stop: Literal["success", "never"] = "never"
    batch: int = Field(32, ge=1, le=MOST)
    precision: Precision = "no"

    def __post_init__(self) -> None:
        if self.norm == "linf" and self.epsilon > 1:
            raise ValueError(f"epsilon={self.epsilon:g} is more than 1, the whole range of a pixel; lower it")
        if self.step == "sweep":
            wrong = {
                f"epsilon={self.epsilon:g} is above 0": self.epsilon > 0,
                f"steps={self.steps} is odd": self.steps % 2 == 1,
                f"restarts={self.restarts} is above 1": self.restarts > 1,
                f"momentum={self.momentum:g} is above 0": self.momentum > 0,
            }
            for what, fault in wrong.items():
                if fault:
                    raise ValueError(f"{what}, which step='sweep' has no use for; change it")

    @property
    def by_gradient(self) -> bool:
        """Whether its steps follow the target's gradient."""
        return self.step not in ("sweep", "evolve")
