"""The rows of one case of the imbalance suite: each is taught, measured and written once.

Letters: M pictures, R resolution.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sia_gen.core.files import is_file, read_json, read_tensors, writable_folder, write_json, write_tensors
from sia_gen.core.images import from_bytes, to_bytes
from sia_gen.rebalancing.faces_folder import clock
from sia_gen.rebalancing.learning import finished, teach
from sia_gen.rebalancing.long_tail import RATES, SIDE, Seen, Split, Tail, network
from sia_gen.rebalancing.measures import answers, measured, of_each
from sia_gen.rebalancing.remedies import REMEDIES, TAUS, Remedy
from sia_gen.studio.factors import MIRRORED
from sia_gen.training.network import network_input

ROW, WEIGHTS = "row.json", "model.safetensors"


class CaseRows:
    """The rows of one case, each of which is read again once it is there."""

    def __init__(
        self, folder: Path, tail: Tail, parts: Split, images: Tensor, steps: int, batch: int, place: torch.device,
        tell: Callable[[str], None], rates: Sequence[float] = (1.0,),
    ) -> None:  # fmt: skip
        """``images`` uint8 ``[N, 3, R, R]`` are all renders; ``tell`` is told which row is begun. Of ``rates``, times
        the network's usual one, each row takes that which is best on the renders that choices are made on."""
        self.folder, self.tail, self.parts, self.images = folder, tail, parts, images
        self.steps, self.batch, self.place, self.tell, self.rates = steps, batch, place, tell, rates
        self.rows: list[dict[str, Any]] = []

    def row(self, name: str, remedy: Remedy, added: tuple[Tensor, Tensor] | None = None, before: float = 0.0) -> None:
        """Teach and measure one row; ``added`` pictures uint8 and labels took ``before`` seconds to make."""
        path = self._folder(name) / ROW
        if not is_file(path):
            self.tell(name)
            write_json(path, self._measured(name, remedy, added, before))
        self.rows.append(read_json(path))

    def best(self, names: Sequence[str]) -> str:
        """The row that does best on the renders that choices are made on."""
        return max((row for row in self.rows if row["remedy"] in names), key=lambda row: row["chosen_on"])["remedy"]

    def seconds(self, name: str) -> float:
        return next(row for row in self.rows if row["remedy"] == name)["seconds"]

    def model(self, name: str) -> Seen:
        """What a row taught."""
        made = network(self.tail, self.place)
        made.load_state_dict(read_tensors(self._folder(name) / WEIGHTS)[0])
        return made.eval()

    def _folder(self, name: str) -> Path:
        return writable_folder(self.folder / name)

    def _measured(
        self, name: str, remedy: Remedy, added: tuple[Tensor, Tensor] | None, before: float
    ) -> dict[str, Any]:
        begun, parts, tau, rate = clock(self.place), self.parts, None, None
        if remedy.after != "no" and remedy == REMEDIES.get(name) and len(self.rates) == 1:
            model: nn.Module = self.model("plain")
            before += self.seconds("plain")
        else:  # among several rates, that which suits the changed layer may be another than the plain row's
            model, rate = self._taught(name, remedy, added)
        if remedy.after != "no":
            model, tau = self._after(model, remedy)
        probabilities = answers(model, self.images[parts.tested], self.place)
        truth = parts.labels[parts.tested]
        guess = probabilities.argmax(1) == truth
        marks = ["".join(str(int(one)) for one in guess[truth == number]) for number in range(len(self.tail.classes))]
        note = f"{remedy.draw}, {remedy.loss}, {remedy.after}, {remedy.augment}" if name not in REMEDIES else ""
        return {
            "label": self.tail.label, "ratio": self.tail.ratio, "architecture": self.tail.architecture,
            "seed": self.tail.seed, "remedy": name, "is": note, "counts": parts.counts,
            "added": 0 if added is None else len(added[1]), "tau": tau, **measured(probabilities, truth),
            "chosen_on": self._chosen_on(model), "seconds": round(before + clock(self.place) - begun, 1),
            "right": marks, "each": of_each(probabilities, truth, self.tail.meant),
        } | ({"rate": rate} if len(self.rates) > 1 else {})  # fmt: skip

    def _taught(self, name: str, remedy: Remedy, added: tuple[Tensor, Tensor] | None) -> tuple[nn.Module, float]:
        """The model that a row teaches, at the best of the rates, and that rate."""
        pictures, labels = self.images[self.parts.tail], self.parts.labels[self.parts.tail]
        if added is not None:
            pictures = torch.cat([pictures[: None if remedy.data else 0], small(added[0])])
            labels = torch.cat([labels[: None if remedy.data else 0], added[1]])
        work = self._folder(name) / "work"
        found: list[tuple[float, nn.Module, float]] = []
        for times in self.rates:
            made = teach(
                network(self.tail, self.place), pictures, labels, len(self.tail.classes), remedy,
                writable_folder(work / f"{times:g}"), steps=self.steps, batch=self.batch,
                rate=times * RATES[self.tail.architecture], seed=self.tail.seed,
                mirror=not set(self.tail.attributes) & set(MIRRORED), settings={"case": repr(self.tail), "row": name},
            )  # fmt: skip
            found.append((self._score(made, remedy), made, times))
        _, best, rate = max(found, key=lambda one: one[0])
        write_tensors(self._folder(name) / WEIGHTS, best.state_dict())
        shutil.rmtree(work, ignore_errors=True)
        return best, rate

    def _score(self, model: nn.Module, remedy: Remedy) -> float:
        """What a row would be chosen by, were this its model."""
        return self._chosen_on(model if remedy.after == "no" else self._after(deepcopy(model), remedy)[0])

    def _after(self, model: nn.Module, remedy: Remedy) -> tuple[nn.Module, float]:
        """The last layer changed, as strongly as is best on the renders that choices are made on."""
        state = {name: value.clone() for name, value in model.state_dict().items()}
        scores = {}
        for tau in TAUS:
            model.load_state_dict(state)
            scores[tau] = self._chosen_on(finished(model, remedy.after, tau, self.parts.counts))
        best = max(scores, key=lambda tau: scores[tau])
        model.load_state_dict(state)
        return finished(model, remedy.after, best, self.parts.counts), best

    def _chosen_on(self, model: Callable[[Tensor], Tensor]) -> float:
        rows = self.parts.chosen_on
        told = answers(model, self.images[rows], self.place)
        return float(measured(told, self.parts.labels[rows])["balanced"])


def small(pictures: Tensor) -> Tensor:
    """Pictures uint8 ``[M, 3, R, R]`` at the networks' side, made smaller as the renders were."""
    if pictures.shape[-1] == SIDE:
        return pictures
    return torch.cat([to_bytes((network_input(from_bytes(part), SIDE) + 1) / 2) for part in pictures.split(64)])
