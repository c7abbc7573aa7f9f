"""What is done about a class that is rare, each way a row: one engine teaches all of them, for the same steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal

from sia_gen.core.errors import RequestError, unknown

Added = Literal["no", "generated", "semantic", "joint", "tail", "real"]
Loss = Literal["plain", "effective", "focal", "ldam", "softmax"]
After = Literal["no", "tau", "adjusted"]
Augment = Literal["no", "randaugment", "trivialaugment", "augmix", "mixup", "cutmix", "erasing"]


@dataclass(frozen=True)
class Remedy:
    """``added``: which faces of the rare classes join the data, of a generator or real ones; ``beside``: whether as
    many of the other classes join it, so that being generated tells little of a face's class; ``data``: whether the
    data set itself is learnt from; ``draw``: how often pictures of a class are seen, as often as there are, or each
    class alike by repeating or by leaving out; ``loss``; ``after``: what is done to the last layer of the model that
    was taught; ``augment``: how pictures are varied, beside what all rows do;
    the operations of RandAugment, TrivialAugment and AugMix are drawn for four pictures at a time."""

    words: str
    added: Added = "no"
    beside: bool = True
    data: bool = True
    draw: Literal["as it is", "over", "under"] = "as it is"
    loss: Loss = "plain"
    after: After = "no"
    augment: Augment = "no"


REMEDIES = {
    "plain": Remedy("nothing"),
    "over-sampling": Remedy("rare pictures seen more often", draw="over"),
    "under-sampling": Remedy("pictures of frequent classes left out", draw="under"),
    "class-balanced": Remedy("weights by the effective number (Cui et al., CVPR 2019)", loss="effective"),
    "focal": Remedy("focal loss (Lin et al., ICCV 2017)", loss="focal"),
    "ldam-drw": Remedy("LDAM with deferred weights (Cao et al., NeurIPS 2019), features not normalised", loss="ldam"),
    "balanced-softmax": Remedy("balanced softmax (Ren et al., NeurIPS 2020)", loss="softmax"),
    "logit-adjusted": Remedy("logits adjusted after training (Menon et al., ICLR 2021)", after="adjusted"),
    "tau-normalised": Remedy("last layer τ-normalised after training (Kang et al., ICLR 2020)", after="tau"),
    "randaugment": Remedy("RandAugment (Cubuk et al., 2020)", augment="randaugment"),
    "trivialaugment": Remedy("TrivialAugment (Müller & Hutter, ICCV 2021)", augment="trivialaugment"),
    "augmix": Remedy("AugMix (Hendrycks et al., ICLR 2020), without its consistency loss", augment="augmix"),
    "mixup": Remedy("MixUp (Zhang et al., ICLR 2018)", augment="mixup"),
    "cutmix": Remedy("CutMix (Yun et al., ICCV 2019)", augment="cutmix"),
    "erasing": Remedy("random erasing (Zhong et al., AAAI 2020)", augment="erasing"),
    "generated-rare": Remedy("generated faces of the rare classes", added="generated", beside=False, draw="over"),
    "generated": Remedy("generated faces, as many of each class", added="generated", draw="over"),
    "sia-semantic": Remedy("such faces made hard by their other attributes", added="semantic", draw="over"),
    "sia-joint": Remedy("such faces made hard by their other attributes and pixels", added="joint", draw="over"),
    "generated-alone": Remedy("generated faces of all classes, no data", added="generated", data=False),
    "generated-tail": Remedy(
        "faces of a generator taught on the data set alone, told the factors and landmarks of its pictures",
        added="tail", draw="over",
    ),
    "generated-tail-alone": Remedy("such faces of all classes, no data", added="tail", data=False),
    "oracle": Remedy("as many more real pictures of the rare classes", added="real", beside=False, draw="over"),
}  # fmt: skip
GENERATED = [name for name, row in REMEDIES.items() if row.added not in ("no", "tail", "real") and row.data]
TAIL = [name for name, row in REMEDIES.items() if row.added == "tail"]
WITHOUT = [name for name, row in REMEDIES.items() if row.added == "no"]

# Of the losses, at what their papers use most.
BETA = 0.9999  # of the effective number
GAMMA = 2.0  # of focal loss
MARGIN = 0.5  # the largest of LDAM, that of the rarest class, times its scale
SCALE = 10.0  # of LDAM: 30 in the paper, where logits are cosines; here as large as logits become
DEFERRED = 0.8  # share of the steps after which LDAM weighs classes
TAUS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # of what is done after training: the best on other pictures is taken


def remedy(name: str, known: list[str]) -> Remedy:
    """The remedy of this name; raises `RequestError` that lists those ``known``."""
    if name not in known:
        raise unknown("remedy", name, known)
    return REMEDIES[name]


def plan(counts: Sequence[int], faces: int, beside: bool) -> dict[int, int]:
    """How many faces each class gets: as many as the most frequent has more, ``faces`` at most; with ``beside`` each as
    many as the class that gets most. Where none is missing, each gets all of them."""
    missing = [min(faces, max(counts) - count) for count in counts]
    if beside or not any(missing):
        missing = [max(missing) or faces] * len(counts)
    return {number: count for number, count in enumerate(missing) if count}


@dataclass(frozen=True)
class RebalancingSettings:
    """How much is generated and learnt, and how hard.

    faces     faces made of each class, at most, and no more than the most frequent class has more than the rarest
    rounds    times that faces are made and learnt from; hard ones are for the model as it then is
    steps     training steps a round
    batch     pictures of a step
    rate      learning rate at its highest
    attack    steps of the attack on each face that is made hard, which ends where the model first errs: worst points
              are less likely faces, and teach less
    """

    faces: int = 1000
    rounds: int = 2
    steps: int = 750
    batch: int = 32
    rate: float = 1e-3
    attack: int = 6

    def __post_init__(self) -> None:
        for name, least, most in (
            ("faces", 1, 100_000), ("rounds", 1, 100), ("steps", 1, 1_000_000), ("batch", 2, 4096), ("attack", 1, 1000)
        ):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise RequestError(f"{name}={value!r} is outside {least}…{most}; choose a whole number in that range")
        if isinstance(self.rate, bool) or not isinstance(self.rate, Real) or not 0 < self.rate <= 1:
            raise RequestError(f"rate={self.rate!r} is outside 0…1; give a learning rate, as 0.0005")
