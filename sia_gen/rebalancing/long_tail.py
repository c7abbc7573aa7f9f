"""Long tails cut out of labelled renders, and the small networks that learn from them.

Letters: B images, N renders, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sia_gen.core.errors import RequestError
from sia_gen.core.images import Images
from sia_gen.core.modules import one_seed
from sia_gen.core.seeds import stream
from sia_gen.rebalancing.meaning import Meant
from sia_gen.studio.renders import RenderSet
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.target import Label, Target
from sia_gen.targets.task import Classification
from sia_gen.training.network import make_resnet, make_vit, network_input

CUTS: dict[str, tuple[float, ...]] = {"glasses": (0.5,), "smile": (0.5,), "age": (21, 37, 53, 69)}
LABELS = (*CUTS, "glasses+smile")  # the last are two labels at once, each combination being a class
SIDE, SIZES = 64, (16, 32, 64, 128)
RATES = {"resnet": 2e-3, "vit": 1e-3}
TRIED = (1.0, 0.5, 2.0)  # times these, where a search is asked for; of those alike the first
TESTED, CHOSEN_ON = 200, 60  # renders of each class that are measured on, and that choices are made on
MOST = 1600  # renders of the most frequent class


@dataclass(frozen=True, kw_only=True)
class Tail:
    """One data set: the most frequent class, the lowest, has ``ratio`` times the pictures of the rarest, the highest.

    Those between fall off geometrically. ``seed`` draws the pictures and starts the network.
    """

    label: str
    ratio: int
    architecture: Literal["resnet", "vit"] = "resnet"
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.label}-{self.ratio}-{self.architecture}-{self.seed}"

    @property
    def attributes(self) -> list[str]:
        return self.label.split("+")

    @property
    def meant(self) -> Meant:
        return Meant(tuple(Label(name, CUTS[name]) for name in self.attributes))

    @property
    def classes(self) -> tuple[str, ...]:
        return self.meant.names


@dataclass(frozen=True)
class Split:
    """Rows of the renders, int64: the long tail, as many ``more`` of its rare classes, those that choices are made
    on, and those that are measured on; ``counts`` of the tail's classes, ``labels`` ``[N]`` of all renders."""

    tail: Tensor
    more: Tensor
    chosen_on: Tensor
    tested: Tensor
    counts: list[int]
    labels: Tensor


def split(data: RenderSet, tail: Tail, faces: int) -> Split:
    """Cut a long tail out; at most ``faces`` real pictures more of each class are laid aside for the oracle.

    What is measured and chosen on is the same for every ratio and seed. Raises `RequestError` for too few renders.
    """
    labels = tail.meant.of(torch.stack([data.value(name) for name in tail.attributes], dim=1))
    fixed = [_shuffled(labels, number, 0, "bench") for number in range(len(tail.classes))]
    aside = TESTED + CHOSEN_ON
    most = min(MOST, min(map(len, fixed)) - aside)
    if most < 2 * tail.ratio:
        raise RequestError(
            f"{len(data)} renders leave {max(0, most)} of a class to learn from, too few for a ratio of {tail.ratio}; "
            "give more renders or a lower ratio"
        )
    counts = [round(most * tail.ratio ** (-place / (len(fixed) - 1))) for place in range(len(fixed))]
    rows, more = [], []
    for rest, count in zip((rows[aside:] for rows in fixed), counts, strict=True):
        order = rest[torch.from_numpy(stream(tail.seed, f"tail {tail.label}").permutation(len(rest)))]
        rows.append(order[:count])
        more.append(order[count : count + min(faces, most - count)])
    return Split(
        torch.cat(rows), torch.cat(more), torch.cat([row[TESTED:aside] for row in fixed]),
        torch.cat([row[:TESTED] for row in fixed]), counts, labels,
    )  # fmt: skip


def _shuffled(labels: Tensor, number: int, seed: int, purpose: str) -> Tensor:
    rows = (labels == number).nonzero().flatten()
    return rows[torch.from_numpy(stream(seed, f"{purpose} {number}").permutation(len(rows)))]


class Seen(nn.Module):
    """A network shown images ``[B, 3, R, R]`` in [0, 1] at its own size; gives logits ``[B, C]``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Images) -> Tensor:
        return self.network(network_input(images, SIDE)).logits


def network(tail: Tail, device: torch.device) -> Seen:
    """An untaught network of a case, the same for all remedies."""
    with one_seed(tail.seed):
        resnet = tail.architecture == "resnet"
        made = make_resnet(tail.classes, SIZES, False, {}) if resnet else make_vit(tail.classes, SIDE, False, {})
    made = made.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Seen(made)


def as_target(model: nn.Module, tail: Tail) -> Target:
    labels = tail.meant.labels
    made = ModuleTarget(model, Classification(tail.classes), tail.name, labels[0] if len(labels) == 1 else None)
    return made  # type: ignore[return-value]  # a frozen one
