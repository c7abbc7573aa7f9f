"""What a model is hardened on, each way a row: one engine teaches all of them, for the same steps and batch."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Literal

from sia_gen.core.errors import RequestError, unknown


@dataclass(frozen=True)
class Regimen:
    """``hard``: how each face is changed beside its unedited self; ``pixels``: what is done to every picture's pixels
    while it is learnt from; ``augment``: how pictures are varied,
    beside what all rows do; its operations are drawn for four pictures at a time."""

    words: str
    hard: Literal["no", "random", "semantic", "joint"] = "no"
    pixels: Literal["no", "pgd", "trades"] = "no"
    augment: Literal["no", "randaugment", "augmix"] = "no"


REGIMENS = {
    "standard": Regimen("unedited faces alone"),
    "random": Regimen("attributes changed at random", hard="random"),
    "randaugment": Regimen("RandAugment (Cubuk et al., 2020)", augment="randaugment"),
    "augmix": Regimen("AugMix (Hendrycks et al., ICLR 2020), without its consistency loss", augment="augmix"),
    "pgd": Regimen("PGD in the pixels of every picture (Madry et al., ICLR 2018)", pixels="pgd"),
    "trades": Regimen("TRADES in the pixels of every picture (Zhang et al., ICML 2019)", pixels="trades"),
    "sia-semantic": Regimen("the worst attributes that the attack finds", hard="semantic"),
    "sia-joint": Regimen("the worst attributes and pixels that the attack finds", hard="joint"),
    "sia-joint-pgd": Regimen(
        "the worst attributes, and PGD in the pixels of every picture", hard="semantic", pixels="pgd"
    ),
    "sia-joint-trades": Regimen("both, and TRADES besides", hard="joint", pixels="trades"),
}


def regimen(name: str) -> Regimen:
    """The regimen of this name; raises `RequestError` that lists what there is."""
    if name not in REGIMENS:
        raise unknown("regimen", name, list(REGIMENS))
    return REGIMENS[name]


@dataclass(frozen=True)
class HardeningSettings:
    """How much is learnt, and how hard.

    faces     generated faces a round, each unedited and, where the regimen says so, changed
    attacked  share of the faces that are changed against the model, where the regimen attacks; others are at random
    rounds    times that new faces are made; all those before are learnt from, too
    steps     training steps a round
    batch     pictures of a step
    rate      learning rate at its highest
    attack    steps of the attack on each face
    epsilon   radius of what PGD, TRADES and, where no audit says another, the attack add to pixels
    """

    faces: int = 4000
    attacked: float = 0.25
    rounds: int = 2
    steps: int = 3000
    batch: int = 32
    rate: float = 2e-3
    attack: int = 6
    epsilon: float = 1 / 255

    def __post_init__(self) -> None:
        for name, least, most in (
            ("faces", 8, 100_000), ("rounds", 1, 100), ("steps", 1, 1_000_000), ("batch", 2, 4096), ("attack", 1, 1000)
        ):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise RequestError(f"{name}={value!r} is outside {least}…{most}; choose a whole number in that range")
        fractions = {
            name: isinstance(value, Real) and not isinstance(value, bool) and 0 <= value <= 1
            for name, value in (("attacked", self.attacked), ("rate", self.rate), ("epsilon", self.epsilon))
        }
        if not fractions["attacked"]:
            raise RequestError(f"attacked={self.attacked!r} is outside 0…1; give a share of the faces, as 0.25")
        if not fractions["rate"] or not self.rate:
            raise RequestError(f"rate={self.rate!r} is outside 0…1; give a learning rate, as 0.0005")
        if not fractions["epsilon"] or not self.epsilon:
            raise RequestError(
                f"epsilon={self.epsilon!r} is outside 0…1, the range of a pixel; give 1/255, for example"
            )
