"""The faces that a model is hardened on: generated, labelled without it, and changed against it.

Letters: N faces, K attributes, R resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from sia_gen.attack.balls import project_budget
from sia_gen.attack.edit import edit
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attack.starts import random_omega
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.evidence.reference import VERIFIER, Followed, followed
from sia_gen.core.executors import Batches, Precision, Progress, autocast
from sia_gen.core.images import from_bytes, quantise, to_bytes
from sia_gen.generators.generator import Codes, Generator
from sia_gen.hardening.regimens import Regimen
from sia_gen.hardening.truth import Truth
from sia_gen.targets.target import Target

BATCH = 32


def _attacked(progress: Progress, faces: int, what: str, done: int, total: int, _: str) -> None:
    """Tells of an attack, which counts its points, how many of the faces they amount to."""
    progress(done * faces // total, faces, what)


@dataclass(frozen=True)
class Faces:
    """Where faces come from. ``focus`` are attributes that half of them are moved along alone, where there are any;
    ``attacked`` is the share that an attack changes, where the regimen has one; faces are drawn in ``precision``."""

    generator: Generator
    space: AttributeSpace
    truth: Truth
    attack: SemanticImageAttack
    focus: tuple[str, ...]
    attacked: float = 1.0
    verifier: str = VERIFIER
    precision: Precision = "no"

    def draw(self, seeds: Sequence[int], regimen: Regimen, target: Target, progress: Progress) -> tuple[Tensor, Tensor]:
        """Pictures uint8 ``[M, 3, R, R]`` and what is to be learnt of them: each face as it is, and as changed.

        Changed faces of which it is not known what is right are left out.
        """
        codes = self.generator.sample(seeds)
        plain = self._pictures(codes, None)

        def look(part: slice, show: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
            return self.truth.of(seeds[part], show(plain))

        truth, lessons, read = self._known(codes, look)
        if regimen.hard == "no":
            return plain, lessons.cpu()
        changed = self._changed(codes, seeds, truth, regimen, target, progress)

        def look_again(part: slice, show: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
            return self.truth.after(seeds[part], show(changed), truth[part], read[part])

        again, known = self._known(codes, look_again)
        return torch.cat([plain, changed[known.cpu()]]), torch.cat([lessons, again[known]]).cpu()

    @torch.no_grad()
    def _pictures(self, codes: Codes, omega: Tensor | None) -> Tensor:
        """The faces edited, uint8 on the CPU."""

        def render(part: slice) -> Tensor:
            moved = None if omega is None else omega[part].to(codes.device)
            with autocast(codes.device, self.precision):
                images = edit(self.generator, self.space, codes[part], moved)
            return to_bytes(quantise(images.float())).cpu()

        return torch.cat(list(Batches(BATCH)(len(codes), render)))

    @torch.no_grad()
    def _known(
        self, codes: Codes, look: Callable[[slice, Callable[[Tensor], Tensor]], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """What ``look`` gives of all faces, a part at a time; it is handed how to see that part of pictures."""

        def see(part: slice) -> tuple[Tensor, ...]:
            return look(part, lambda pictures: from_bytes(pictures[part]).to(codes.device))

        return tuple(torch.cat(each) for each in zip(*Batches(BATCH)(len(codes), see), strict=True))

    def _changed(
        self, codes: Codes, seeds: Sequence[int], truth: Tensor, regimen: Regimen, target: Target, progress: Progress
    ) -> Tensor:  # fmt: skip
        """The same faces changed, uint8 ``[N, 3, R, R]``: at random, the first of them by the attack."""
        alone = self._alone(len(seeds))
        omega, device = self._random(seeds, alone), codes.device
        if regimen.hard == "random":
            return self._pictures(codes, omega)
        asked = followed(target, device, self.verifier)
        attack = self.attack if regimen.hard == "joint" else replace(self.attack, epsilon=0.0)
        first = torch.arange(len(seeds)) < round(self.attacked * len(seeds))
        side, left = self.generator.resolution, torch.ones(len(seeds), dtype=torch.bool)
        changed = torch.empty(len(seeds), 3, side, side, dtype=torch.uint8)
        for index in range(-1, len(self.focus)):
            rows = ((alone == index) & first).nonzero().flatten()
            if not len(rows):
                continue
            space = self.space if index < 0 else self.space.select([self.focus[index]])
            # One attribute is searched from end to end; with pixels it is then followed uphill like several.
            chosen = attack.alone() if index >= 0 and regimen.hard == "semantic" else attack
            what = "attacking faces" + (f" along {self.focus[index]} alone" if index >= 0 else "")
            result = replace(chosen.suited(asked), precision=self.precision)(
                self.generator, space, asked, codes[rows.to(device)],
                None if isinstance(asked, Followed) else truth[rows.to(truth.device)],
                seeds=[seeds[row] for row in rows.tolist()],
                progress=partial(_attacked, progress, len(rows), what),
            )  # fmt: skip
            right = rows[result.correct]  # others are wrong as they are
            changed[right], left[right] = result.adversarial[result.correct], False
        rows = left.nonzero().flatten()
        if len(rows):
            changed[rows] = self._pictures(codes[rows.to(device)], omega[rows])
        return changed

    def _alone(self, faces: int) -> Tensor:
        """Which attribute of the focus each face is moved along alone, −1 for all together, int64 ``[N]``."""
        number = torch.arange(faces)
        if not self.focus:
            return torch.full((faces,), -1)
        return torch.where(number % 2 == 0, number // 2 % len(self.focus), -1)

    def _random(self, seeds: Sequence[int], alone: Tensor) -> Tensor:
        """Anywhere in the box and the budget ``[N, K]``; along an attribute alone anywhere in its range."""
        low, high = (end.cpu().expand(len(seeds), -1) * self.attack.box for end in (self.space.low, self.space.high))
        omega = random_omega(seeds, low, high, restart=1)
        together = project_budget(omega, low, high, self.attack.budget)
        columns = [self.space.names.index(name) for name in self.focus]
        single = torch.zeros_like(omega)
        for index, column in enumerate(columns):
            rows = alone == index
            single[rows, column] = omega[rows, column]
        return torch.where((alone < 0)[:, None], together, single)
