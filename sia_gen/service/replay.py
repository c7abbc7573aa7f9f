"""One attacked face step by step: what an attack shows on its way, and what is said of where it ended.

Letters: B faces of a batch, K attributes, R resolution.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sia_gen.attack.balls import length
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import Attribute, AttributeSpace
from sia_gen.audits.evidence.reference import reference_name
from sia_gen.core.errors import WorkError
from sia_gen.core.executors import Progress
from sia_gen.core.files import atomic, read_json, writable_folder, write_json
from sia_gen.core.images import from_pil, to_bytes, to_pil
from sia_gen.service.attacker import Attacked, Attacker, named, said
from sia_gen.targets.task import Classification, MultiLabel, Task

NUMBERS, STRIP = "attack.json", "steps.webp"
KINDS = ("semantic", "adversarial")
MOST_GAIN = 64  # of what a residual is enlarged by


@dataclass(frozen=True)
class Step:
    """A point that the target was shown: pictures uint8 ``[3, R, R]``, and plain numbers of it.

    ``shares`` are the probabilities of classes or labels by name, empty for other tasks.
    """

    semantic: Tensor
    adversarial: Tensor
    loss: float
    output: float
    failed: bool
    shares: Mapping[str, float]
    changes: Mapping[str, float]
    spent: float


@dataclass(frozen=True)
class Replay:
    """A face's steps, the first being the face as sampled, and the verdict on the ``worst`` of them.

    A gentle attack has its first failure in that place, where there was one.
    ``valid`` and ``confirmed`` are None where nothing judged that; ``doubts`` say why it is not valid.
    """

    about: Mapping[str, Any]
    attributes: tuple[Attribute, ...]
    steps: tuple[Step, ...] = ()
    worst: int = 0
    correct: bool = True
    failed: bool = False
    valid: bool | None = None
    doubts: tuple[str, ...] = ()
    confirmed: bool | None = None
    queries: int = 0

    @property
    def resolution(self) -> int:
        return self.steps[0].semantic.shape[-1]

    @property
    def end(self) -> str:
        """What the step is called that the attack gives."""
        gentle = self.about["attack"].get("stop") == "success"
        return "the first failure" if gentle and self.failed else "the worst"

    @property
    def gain(self) -> int:
        """By how much the residual is enlarged, to be seen; 0 where there is none."""
        levels = self.about["attack"]["epsilon"] * 255
        return int(min(MOST_GAIN, 127 // levels)) if levels else 0

    def residual(self, number: int) -> Image.Image:
        """What the residual adds in a step, ``gain`` times, around grey."""
        step = self.steps[number]
        change = step.adversarial.to(torch.int16) - step.semantic.to(torch.int16)
        return to_pil((128 + self.gain * change).clamp(0, 255).to(torch.uint8))

    def pictures(self) -> dict[str, Image.Image]:
        """The face before, and where the attack ended, by name."""
        worst = self.steps[self.worst]
        named = {"before": to_pil(self.steps[0].semantic)} | {kind: to_pil(getattr(worst, kind)) for kind in KINDS}
        return named | ({"residual": self.residual(self.worst)} if self.gain else {})

    def content(self) -> dict[str, Any]:
        """Everything but the pictures, as plain data."""
        told = asdict(dataclasses.replace(self, steps=())) | {
            "gain": self.gain,
            "attributes": [asdict(a) for a in self.attributes],
        }
        numbers = [{name: value for name, value in vars(step).items() if name not in KINDS} for step in self.steps]
        return told | {"steps": numbers}

    def save(self, folder: Path) -> None:
        """Write the numbers, and the steps as one picture in lossless WebP: a row each, semantic and adversarial."""
        folder, side = writable_folder(folder), self.resolution
        strip = Image.new("RGB", (len(KINDS) * side, len(self.steps) * side))
        for row, step in enumerate(self.steps):
            for column, kind in enumerate(KINDS):
                strip.paste(to_pil(getattr(step, kind)), (column * side, row * side))
        with atomic(folder / STRIP) as partial:
            strip.save(partial, format="WEBP", lossless=True, method=6)
        write_json(folder / NUMBERS, self.content())

    def pack(self, path: Path) -> None:
        """Zip the pictures from before and of where the attack ended as PNG, and the numbers of all steps."""
        with atomic(path) as partial, zipfile.ZipFile(partial, "w") as archive:
            for name, picture in self.pictures().items():
                with archive.open(f"{name}.png", "w") as file:
                    picture.save(file, format="PNG")
            archive.writestr(NUMBERS, json.dumps(self.content(), indent=2, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path) -> Replay:
        """What `save` wrote; raises `WorkError` where it is missing or damaged."""
        told = read_json(folder / NUMBERS)
        try:
            with Image.open(folder / STRIP) as strip:
                pixels = to_bytes(from_pil(strip))
            side = pixels.shape[2] // len(KINDS)
            steps = []
            for row, numbers in enumerate(told.pop("steps")):
                pair = pixels[:, row * side : (row + 1) * side].split(side, dim=2)
                steps.append(Step(*pair, **numbers))
            told.pop("gain")
            attributes = tuple(
                Attribute(**entry | {"curve": tuple(entry["curve"])}) for entry in told.pop("attributes")
            )
            return cls(**told | {"attributes": attributes, "steps": tuple(steps), "doubts": tuple(told["doubts"])})
        except (OSError, KeyError, TypeError, AttributeError) as error:
            raise WorkError(f"cannot read the attack in '{folder}' ({error!r}); attack the face again") from None


@dataclass
class Recorder:
    """Keeps the steps of one face's attack as they come; `watch` is told of them."""

    task: Task
    space: AttributeSpace
    attack: SemanticImageAttack
    steps: list[Step] = field(default_factory=list)

    def watch(self, faces: NDArray, point: Mapping[str, Tensor]) -> None:
        prediction, images, reference = point["prediction"], point["images"], point["reference"]
        omega = point.get("omega", torch.zeros(1, len(self.space.attributes)))
        size = float(length(omega, self.space.low[None], self.space.high[None])[0])
        self.steps.append(
            Step(
                to_bytes(point.get("semantic", images))[0].cpu(),
                to_bytes(images)[0].cpu(),
                float(point["loss"][0]),
                float(self.task.output(prediction, reference)[0]),
                bool(self.task.failed(prediction, reference)[0]),
                shares(self.task, prediction[0]),
                dict(zip(self.space.names, omega[0].tolist(), strict=True)),
                size,
            )
        )


def replay(
    attacker: Attacker,
    face: int,
    seed: int,
    attributes: Sequence[str] | None,
    attack: SemanticImageAttack,
    show: Callable[[Replay], None] | None = None,
    progress: Progress | None = None,
) -> Replay:
    """Attack a face and say what became of it; ``show`` is told of it after each step.

    ``attributes`` are names, by default all but the one that the target predicts.
    """
    space = attacker.space if attributes is None else attacker.known.select(attributes)
    recorder = Recorder(attacker.witness.target.task, space, attack)
    shown = Replay(_about(attacker, face, seed, attack), space.attributes)
    tell = progress or (lambda done, total, what: None)

    def report(done: int, total: int, what: str) -> None:
        tell(done, total, what)
        if recorder.steps and show is not None:
            show(dataclasses.replace(shown, steps=tuple(recorder.steps)))

    found = attacker.attack([seed], attributes, attack, watch=recorder.watch, progress=report)
    shown = _ended(dataclasses.replace(shown, steps=tuple(recorder.steps)), attacker, found)
    if shown.failed:
        tell(1, 3, "asking the verifier whether it is valid")
        shown = _judged(shown, attacker, found)
        tell(2, 3, "rendering the same person in the studio")
        shown = _confirmed(shown, attacker, found)
    return shown


def shares(task: Task, prediction: Tensor) -> dict[str, float]:
    """The probabilities that a prediction gives to each class or label; nothing for other tasks."""
    prediction = prediction.float()
    if isinstance(task, Classification):
        return dict(zip(task.classes, prediction.softmax(dim=-1).tolist(), strict=True))
    if isinstance(task, MultiLabel):
        return dict(zip(task.labels, prediction.sigmoid().tolist(), strict=True))
    return {}


def _about(attacker: Attacker, face: int, seed: int, attack: SemanticImageAttack) -> dict[str, Any]:
    """What was asked, in plain data."""
    task = attacker.witness.target.task
    return {
        "generator": attacker.generator.name,
        "target": attacker.witness.target.name,
        "face": face,
        "seed": seed,
        "reference": reference_name(attacker.witness.target, attacker.witness.verified),
        "right": None,
        "said_before": None,
        "said_after": None,
        "measured": getattr(task, "measured", ""),
        "attack": asdict(attack),
    }


def _ended(shown: Replay, attacker: Attacker, attacked: Attacked) -> Replay:
    """The replay once its attack has ended: which step was the worst, and whether the target failed there."""
    result, task = attacked.result, attacker.witness.target.task
    loss = float(result.loss_after[0])
    worst = min(range(len(shown.steps)), key=lambda number: abs(shown.steps[number].loss - loss))
    correct, failed, queries = bool(result.correct[0]), bool(result.success[0]), int(attacked.queries[0])
    told = {
        "right": named(task, result.reference[0]),
        "said_before": said(task, result.prediction_before[0]),
        "said_after": said(task, result.prediction_after[0]),
    }
    about = {**shown.about, **told}
    return dataclasses.replace(shown, about=about, worst=worst, correct=correct, failed=failed, queries=queries)


def _judged(shown: Replay, attacker: Attacker, attacked: Attacked) -> Replay:
    """The same with what the verifier and the identity model say of a failure."""
    told = attacker.valid(attacked)
    if "valid" not in told:
        return shown
    return dataclasses.replace(shown, valid=bool(told["valid"][0]), doubts=tuple(_doubts(told, attacker)))


def _confirmed(shown: Replay, attacker: Attacker, attacked: Attacked) -> Replay:
    """The same with what the studio's render of the same person says of a failure."""
    told = attacker.confirmed(attacked)
    return shown if told is None else dataclasses.replace(shown, confirmed=bool(told[0]))


def _doubts(told: Mapping[str, Tensor], attacker: Attacker) -> Sequence[str]:
    """Why a failure is not valid, in words."""
    if told["valid"][0]:
        return []
    identity = attacker.witness.identity
    found = {
        "the verifier reads another label": not told.get("label_kept", torch.tensor([True]))[0],
        "the verifier's reading of the label moved too far": bool(told["drift"][0] > 1),
        "the identity model takes it for another person": identity is not None
        and bool(told["likeness"][0] < identity.threshold),
        "it is no likely face of this generator": bool(told["distance"][0] > 1),
    }
    return [why for why, so in found.items() if so] or ["the generator was asked for a face of the other class"]
