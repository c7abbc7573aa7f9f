"""Trains small targets whose flaw is known because it was planted, to see whether an audit finds it.

Letters: N faces.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Progress, resolve_device
from sia_gen.core.files import writable_folder
from sia_gen.core.images import from_bytes
from sia_gen.core.seeds import stream
from sia_gen.studio.factors import FACTORS, NAMES
from sia_gen.studio.renders import RenderSet
from sia_gen.targets.load import load_target
from sia_gen.targets.target import Target, classify
from sia_gen.training.groups import class_names
from sia_gen.training.network import save_network
from sia_gen.training.predictor import along, chosen_faces, sides, teach

Kind = Literal["balanced", "correlated", "left out", "noisy"]

SIDE, SIZES = 64, (16, 32, 64, 128)
STRENGTH = 0.95  # share of the training faces in which a correlated cause goes along with the label
MISSING = 0.5  # sd of a cause above which no face is trained on, where a range is left out
WRONG = 0.8  # share of labels that miss what they are of where the cause lies above its median: the lowest is given
TOLERANCE = 0.25  # of the label's range

PLANT = {"side": SIDE, "strength": STRENGTH, "missing": MISSING, "wrong": WRONG, "tolerance": TOLERANCE}
"""How flaws are planted, and in what: targets with others of these are another suite's."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One target to train: what it predicts, what is planted in it and how, and what it is made of.

    ``cuts`` are where the label's classes meet; none for a regression of its value, as a share of its range.
    """

    label: str
    cuts: tuple[float, ...]
    kind: Kind = "balanced"
    cause: str | None = None
    architecture: Literal["resnet", "vit"] = "resnet"
    seed: int = 0

    @property
    def name(self) -> str:
        planted = self.kind if self.cause is None else f"{self.cause}-{self.kind.replace(' ', '-')}"
        return f"{self.label}-{planted}-{self.architecture}-{self.seed}"


CLASSED: dict[str, tuple[float, ...]] = {
    "smile": (0.5,),
    "glasses": (0.5,),
    "mouth_open": (0.35,),
    "hair_length": (0.5,),
    "age": (30, 60),
}
PLANTED: tuple[tuple[str, str, Kind], ...] = (
    ("smile", "light_azimuth", "correlated"),
    ("glasses", "hair_colour", "correlated"),
    ("age", "light_strength", "correlated"),
    ("hair_length", "yaw", "correlated"),
    ("mouth_open", "skin_tone", "correlated"),
    ("smile", "background_lightness", "correlated"),
    ("glasses", "hair_length", "correlated"),
    ("mouth_open", "age", "correlated"),
    ("smile value", "hair_colour", "correlated"),
    ("glasses", "skin_tone", "noisy"),
    ("hair_length", "light_azimuth", "noisy"),
    ("glasses", "yaw", "left out"),
)


def cases(models: int) -> list[Case]:
    """The first ``models`` cases: six planted ones, then one of each label without a flaw, and so on.

    The next eleven are of the other architecture, the eleven after that have the other six flaws. After 44, 20 of which
    have none, seeds change. Raises `RequestError` for less than one.
    """
    if models < 1:
        raise RequestError(f"models={models} is below 1; train at least one")
    found: list[Case] = []
    half = len(PLANTED) // 2
    for turn in itertools.count():
        architecture: Literal["resnet", "vit"] = "vit" if turn % 2 else "resnet"
        seed, part = divmod(turn // 2, 2)
        flawed = PLANTED[part * half : (part + 1) * half]
        found += [_case(label, kind, cause, architecture, seed) for label, cause, kind in flawed]
        found += [_case(label, "balanced", None, architecture, turn // 2) for label in CLASSED]
        if len(found) >= models:
            return found[:models]


def _case(label: str, kind: Kind, cause: str | None, architecture: Literal["resnet", "vit"], seed: int) -> Case:
    factor, _, value = label.partition(" ")
    cuts = () if value else CLASSED[factor]
    return Case(label=factor, cuts=cuts, kind=kind, cause=cause, architecture=architecture, seed=seed)


def train_case(
    case: Case, data: RenderSet, out: Path, *, steps: int, device: str = "cpu", progress: Progress | None = None
) -> tuple[Target, float, float | None]:
    """Train the target of a case, or go on with it, in folder ``out``; gives it and how it does on held-out renders.

    That is its score, the share of right classes, or for a regression that of values within the tolerance; and the
    effect: the mean error where the planted cause works against a face, less that where it does not. An error is how
    far the probability of the right class is from 1, or a value from the truth, as a share of the label's range.
    Training may hardly have taken up what was planted. None where nothing was, or where no face tells.
    """
    factor, out = FACTORS[NAMES.index(case.label)], writable_folder(out)
    if case.cuts:
        wanted = classify(data.value(case.label), case.cuts)
        names = class_names(case.label, case.cuts, factor.unit)
    else:
        wanted = (data.value(case.label) - factor.low) / (factor.high - factor.low)
        names = [case.label]
    settings: dict[str, object] = {"recipe": "planted", "case": repr(case), "steps": steps, "renders": data.settings}
    label = {"attribute": case.label, "thresholds": list(case.cuts)}
    extra = {"kind": "target", "label": label, **({} if case.cuts else {"tolerance": TOLERANCE})}
    taught, chosen = plant(case, data, wanted)
    made = teach(
        data,
        taught,
        chosen,
        names,
        out,
        extra,
        architecture=case.architecture,
        factors=(case.label, case.cause),
        settings=settings,
        steps=steps,
        seed=case.seed,
        device=device,
        progress=progress,
        side=SIDE,
        sizes=SIZES,
    )
    save_network(made, out, SIDE)
    target, place = load_target(out, device), resolve_device(device)
    with torch.inference_mode():
        parts = data.images[data.training :].split(64)
        told = torch.cat([target.predict(from_bytes(part).to(place)).cpu() for part in parts])
    truth = wanted[data.training :]
    if case.cuts:
        right, off = told.argmax(1) == truth, 1 - target.task.output(told, truth)
    else:
        off = (told.squeeze(1) - truth).abs()
        right = off <= TOLERANCE
    effect = None
    if case.cause is not None:
        against = _against(case, case.cause, data, wanted)[data.training :]
        if (against > 0).any() and (against < 0).any():
            effect = round((off[against > 0].mean() - off[against < 0].mean()).item(), 4)
    return target, round(right.float().mean().item(), 4), effect


def _against(case: Case, cause: str, data: RenderSet, wanted: Tensor) -> Tensor:
    """1 where the planted cause works against a face's label ``[N]``, −1 where not, 0 for those on no side."""
    if case.kind == "correlated":
        return -along(data, _side(case, data, wanted), cause)
    return torch.sign(data.latents[:, NAMES.index(cause)] - (MISSING if case.kind == "left out" else 0.0))


def _side(case: Case, data: RenderSet, wanted: Tensor) -> Tensor:
    """Which half of its range each label ``[N]`` lies in."""
    if wanted.is_floating_point():
        return torch.sign(data.latents[:, NAMES.index(case.label)])
    return sides(wanted, len(case.cuts) + 1)


def plant(case: Case, data: RenderSet, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """What the target of a case is taught: the labels ``[N]``, and the numbers of the faces it sees, int64."""
    follows = case.cause if case.kind == "correlated" else None
    chosen = chosen_faces(data, _side(case, data, wanted), follows, STRENGTH, case.seed)
    if case.cause is None or follows:
        return wanted, chosen
    latent = data.latents[:, NAMES.index(case.cause)]
    if case.kind == "left out":
        return wanted, chosen[latent[chosen] <= MISSING]
    # Labels drawn at random teach nothing false: a network averages them out, and the flaw is hardly there.
    missed = torch.from_numpy(stream(case.seed, "wrong labels").random(len(wanted)) < WRONG) & (latent > 0)
    return torch.where(missed, torch.zeros_like(wanted), wanted), chosen
