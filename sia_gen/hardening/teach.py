"""The rounds of a hardening: faces drawn against the student as it is, then steps on all that were drawn so far."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Progress
from sia_gen.core.files import is_file, read_json, read_tensors, writable_folder, write_json, write_tensors
from sia_gen.core.modules import device_of
from sia_gen.core.seeds import seeds_apart
from sia_gen.hardening.lessons import in_mirror, loss, prepared
from sia_gen.hardening.resolve import Asked
from sia_gen.targets.task import Classification
from sia_gen.training.loop import fit
from sia_gen.training.processes import once
from sia_gen.training.stepper import Lessons

ROUND, DRAWN, TAUGHT, SECONDS = "round-{}", "faces.safetensors", "taught.safetensors", "seconds"


def teach(asked: Asked, work: Path, progress: Progress | None) -> dict[str, float]:
    """Teach the student in place; what is finished lies in the folder ``work``, and is not done again.

    Gives the seconds that drawing faces and learning took, those of interrupted attempts too.
    """
    took = {"drawing": 0.0, "learning": 0.0}
    student, settings, device = asked.student, asked.settings, device_of(asked.student)
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a CPU
    pictures: list[Tensor] = [] if asked.clean is None else [asked.clean.images]
    truths: list[Tensor] = [] if asked.clean is None else [_sure(asked, asked.clean.labels)]
    for number in range(settings.rounds):
        folder = writable_folder(work / ROUND.format(number))
        told = _placed(progress, f"round {number + 1} of {settings.rounds}")

        def draw(number: int = number, folder: Path = folder, told: Progress = told) -> None:
            spent = _Spent(folder / "drawing.json", told)
            seeds = seeds_apart(asked.seed, f"harden {number}", settings.faces)
            made, right = asked.faces.draw(seeds, asked.regimen, student.put_into(asked.model), spent)
            write_tensors(folder / DRAWN, {"pictures": made, "truths": right}, spent.told())

        if not is_file(folder / DRAWN):
            once(draw)
        found, told_of = read_tensors(folder / DRAWN)
        took["drawing"] += float(told_of.get(SECONDS, 0))
        pictures.append(found["pictures"])
        truths.append(found["truths"])
        if is_file(folder / TAUGHT):
            state, told_of = read_tensors(folder / TAUGHT)
            student.load_state_dict(state)
            took["learning"] += float(told_of.get(SECONDS, 0))
            continue
        spent = _Spent(folder / "learning.json", told)
        averaged = fit(
            student, _lessons(asked, torch.cat(pictures), torch.cat(truths)),
            loss(asked.regimen, asked.model.task, settings.epsilon), folder, steps=settings.steps, rate=settings.rate,
            settings=asked.told | {"round": number}, precision=asked.precision, progress=spent,
        )  # fmt: skip
        state = {name: value.detach().cpu().contiguous() for name, value in averaged.state_dict().items()}
        took["learning"] += spent.seconds
        once(partial(write_tensors, folder / TAUGHT, state, spent.told()))
        student.load_state_dict(state)
    student.to(device)
    return {part: round(seconds, 3) for part, seconds in took.items()}


class _Spent:
    """Progress that keeps in a file how long a piece of work has taken, and starts from what stands there."""

    def __init__(self, path: Path, say: Progress) -> None:
        self.path, self.say, self.begun = path, say, time.perf_counter()
        self.before = float(read_json(path)[SECONDS]) if is_file(path) else 0.0

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.begun

    def told(self) -> dict[str, str]:
        """What a file of tensors says of how long its making took."""
        return {SECONDS: f"{self.seconds:.3f}"}

    def __call__(self, done: int, total: int, what: str) -> None:
        write_json(self.path, {SECONDS: round(self.seconds, 3)})
        self.say(done, total, what)


def _sure(asked: Asked, labels: Tensor) -> Tensor:
    """Labels ``[N]`` as probabilities of classes ``[N, C]``."""
    return one_hot(labels, len(asked.model.task.classes)).float()  # type: ignore[attr-defined]


def _lessons(asked: Asked, pictures: Tensor, truths: Tensor) -> Lessons:
    if isinstance(asked.model.task, Classification) and len(truths.argmax(1).unique()) < 2:
        raise RequestError(f"all {len(truths)} faces are of one class; draw more faces")
    turned = in_mirror(asked.model, truths)
    tables = (pictures, truths, truths if turned is None else turned)
    prepare = prepared(asked.regimen, turned is not None)
    return Lessons(tables, torch.arange(len(truths)), prepare, asked.settings.batch, asked.seed)


def _placed(progress: Progress | None, where: str) -> Progress:
    """Progress that says in which round it is."""

    def report(done: int, total: int, what: str) -> None:
        if progress:
            progress(done, total, f"{where}: {what}")

    return report
