"""A model's robustness in one report: clean, in pixels, along attributes, rendered at their ends, and corrupted.

Letters: N faces, K attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.evidence.reference import VERIFIER, unfollowed
from sia_gen.audits.evidence.rendered import DrawnOnce, Rendered
from sia_gen.audits.evidence.statistics import wilson
from sia_gen.audits.proof.baselines import ensemble, pixel_attack, require_library
from sia_gen.audits.proof.corruptions import CORRUPTIONS, STRENGTHS, corrupted
from sia_gen.audits.proof.figures import Truths, figures, measured
from sia_gen.audits.proof.judge import Judge, counted, remembered, titles
from sia_gen.audits.run.job import worst_alone
from sia_gen.audits.run.resolve import resolve
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Progress
from sia_gen.core.files import require_file_place, write_json
from sia_gen.core.images import from_bytes
from sia_gen.core.seeds import face_seeds
from sia_gen.generators.generator import Generator
from sia_gen.studio.factors import NAMES
from sia_gen.studio.renders import RenderSet, read_renders, shipped_renders
from sia_gen.targets.target import Target
from sia_gen.targets.task import Classification

RADII = (1 / 255, 2 / 255, 4 / 255)
CLEAN, CORRUPTED, EXTREME = 2000, 500, 8  # renders that are read, renders corrupted, people rendered at both ends


def robustness(
    targets: Sequence[str | Path | Target],
    *,
    generator: str | Path | Generator = "faces-stylegan2",
    attributes: Sequence[str] | AttributeSpace | None = None,
    faces: int = 32,
    radii: Sequence[float] = RADII,
    steps: int = 20,
    label: str | None = None,
    confirm: bool | str = "auto",
    corrupt: bool = True,
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """How much models with gradients stand; the content of `robustness.json`, written to ``out`` where given.

    "targets" has an entry for each:

    - "clean": the share of renders that it reads right, and in its worst group (see `figures`); None where renders do
      not say what is right of it;
    - "pixels": per radius the share of ``faces`` on which at least one of an ensemble of pixel attacks succeeds (of
      classifiers; of others ours with ω = 0);
    - "semantic", "joint": the arms of an audit, failures, valid and confirmed ones;
    - "alone": per attribute, the share that fails when it moves alone from end to end of its range;
    - "extremes": per attribute, the share of people that fail when the studio renders them at the low and at the high
      end, of those that are right as they are: independent of generator and verifier; None without a studio;
    - "corruptions": per corruption the share of renders read right in each of five strengths; None without
      ``corrupt``.

    Raises `RequestError` for a target without gradients, for a radius outside 0…1, and for a classifier without the
    extra "baselines" unless ``radii`` is empty.
    """
    if out is not None:
        require_file_place(out)
    measure = Robustness(
        generator=generator, attributes=attributes, faces=faces, radii=radii, steps=steps, label=label, confirm=confirm,
        seed=seed, device=device, corrupt=corrupt,
    )  # fmt: skip
    if not targets:
        raise RequestError("there is no target; name one or more")
    reports = [measure.asked(target, progress) for target in targets]
    for report, title in zip(reports, titles(targets, [each.request for each in reports]), strict=True):
        report.judge.title = title
    content = {
        "generator": reports[0].request.generator.name, "faces": faces, "steps": steps, "seed": seed,
        "targets": [report.told() for report in reports],
    }  # fmt: skip
    if out is not None:
        write_json(Path(out), content)
    return content


class Robustness:
    """One measurement for any number of models: of the same faces, people and renders, drawn and read once.

    Arguments are those of `robustness`; ``focus`` are attributes at either side of whose median renders are counted,
    too, and without ``corrupt`` none is corrupted.
    """

    def __init__(
        self, *, generator: str | Path | Generator, attributes: Sequence[str] | AttributeSpace | None, faces: int,
        radii: Sequence[float], steps: int, label: str | None, confirm: bool | str, seed: int, device: str,
        focus: Sequence[str] = (), corrupt: bool = True,
    ) -> None:  # fmt: skip
        face_seeds(seed, faces)
        for radius in radii:
            if not 0 < radius <= 1:
                raise RequestError(f"radius {radius!r} is outside 0…1, the range of a pixel; give 1/255, for example")
        self.attack = SemanticImageAttack(steps=steps, stop="never", batch=min(32, faces))
        self.generator, self.attributes, self.faces, self.label = generator, attributes, faces, label
        self.radii, self.steps, self.confirm, self.seed, self.device = radii, steps, confirm, seed, device
        self.focus, self.corrupt = focus, corrupt
        self.once = remembered()
        self.studio: DrawnOnce | None = None

    def asked(self, target: str | Path | Target, progress: Progress | None) -> Report:
        """A model that can be measured; raises `RequestError` for another."""
        drawn = self.studio is not None
        request = resolve(
            self.generator, target, self.attributes, faces=self.faces, seed=self.seed, attack=self.attack, towards=None,
            label=self.label, pairs=(), quick=False, confirm=False if drawn else self.confirm, verifier=VERIFIER,  # type: ignore[arg-type]
            device=self.device,
        )  # fmt: skip
        asked = request.witness.target
        if not asked.differentiable:
            raise RequestError(f"'{asked.name}' gives no gradients, which this report ascends; name one that does")
        if self.radii and isinstance(asked.task, Classification):
            require_library()
        if request.rendered is not None:
            self.studio = DrawnOnce(request.rendered.rendered.studio, request.device)
        if self.studio is not None:
            request = replace(request, rendered=Rendered(asked, self.studio))
        return Report(Judge(request, self.once), self, progress)

    @cached_property
    def renders(self) -> RenderSet | None:
        """The shipped renders that models are shown, where there are any."""
        folder = shipped_renders()
        return None if folder is None else read_renders(folder, CLEAN)


class Report:
    """What one model stands."""

    def __init__(self, judge: Judge, measure: Robustness, progress: Progress | None) -> None:
        self.judge, self.request, self.measure = judge, judge.request, measure
        self.target, self.progress = judge.target, progress
        self.plain = unfollowed(self.target)
        self.renders = None if measured(self.plain) is None else measure.renders

    def told(self) -> dict[str, Any]:
        """The entry of a target in `robustness`."""
        return {
            "target": self.judge.title, "correct": int(self.judge.correct.sum()), "measure": measured(self.plain),
            "clean": self.clean(), "pixels": [self.pixels(radius) for radius in self.measure.radii], **self.arms(),
            "extremes": self.ends(), "corruptions": self.corruptions(),
        }  # fmt: skip

    def say(self, done: int, total: int, what: str) -> None:
        if self.progress is not None:
            self.progress(done, total, f"{self.target.name}: {what}")

    def clean(self) -> dict[str, Any] | None:
        if self.renders is None:
            return None
        self.say(0, 1, "renders as they are")
        return figures(self.plain, self.renders, self.measure.focus, self.request.device)

    def pixels(self, radius: float) -> dict[str, Any]:
        """What an ensemble of attacks within ``radius`` does, each on the faces that still stand."""
        judge = self.judge
        of = judge.correct.cpu()
        fallen = torch.zeros_like(of)
        tried = ensemble(self.target) if self._classes else []
        for number, name in enumerate(tried):
            self.say(number, len(tried), f"{name} within {radius * 255:.3g}/255")
            rows = (of & ~fallen).nonzero().flatten().to(judge.original.device)
            if len(rows):
                made = judge.original.clone()
                made[rows] = pixel_attack(
                    name, self.target, made[rows], judge.reference[rows], epsilon=radius,
                    steps=self.measure.steps, seed=self.request.seed,
                )  # fmt: skip
                fallen |= judge.judged(made)[1]
        if not tried:
            fallen = self.judge.run(replace(self.request.attack, box=0.0, epsilon=radius)).success
        return {"epsilon": radius, "attacks": tried or ["ours, ω = 0"], **counted(of, fallen, fallen)}

    @property
    def _classes(self) -> bool:
        return isinstance(self.target.task, Classification)

    def arms(self) -> dict[str, Any]:
        """Each attribute alone, and from the worst of these all together, without a residual and with one."""
        attack = self.measure.attack
        space, correct = self.request.audited, self.judge.correct.cpu()
        singles = []
        for number, name in enumerate(space.names):
            self.say(number, len(space.names), f"{name} alone")
            singles.append(self.judge.run(attack.alone(), space.select([name])))
        start = worst_alone(singles)
        found: dict[str, Any] = {
            "alone": {name: counted(correct, one.success, None) for name, one in zip(space.names, singles, strict=True)}
        }
        for number, (arm, chosen) in enumerate((("semantic", replace(attack, epsilon=0.0)), ("joint", attack))):
            self.say(number, 2, arm)
            result = self.judge.run(chosen, start=start)
            _, success, valid = self.judge.judged(result)
            found[arm] = counted(correct, success, valid) | {"confirmed": self.judge.confirmed(result, success)}
        return found

    def ends(self) -> dict[str, Any] | None:
        """People rendered at both ends of each attribute that the studio has."""
        rendered, space, studio = self.judge.job.rendered, self.request.audited, self.measure.studio
        if rendered is None or studio is None:
            return None
        found: dict[str, Any] = {}
        seeds = list(self.request.seeds[:EXTREME])
        known = [index for index, name in enumerate(space.names) if name in NAMES]
        for number, index in enumerate(known):
            name = space.names[index]
            self.say(number, len(known), f"{name} rendered at its ends")
            found[name] = {}
            for side, end in (("low", space.low), ("high", space.high)):
                change = torch.full((len(seeds),), float(end.flatten()[index]))
                with studio.keeping():
                    right, failed = rendered.failures(seeds, {name: change})
                of, count = int(right.sum()), int((right & failed).sum())
                found[name][side] = {"of": of, "failed": count, "interval": wilson(count, of)}
        return found

    def corruptions(self) -> dict[str, list[float]] | None:
        if self.renders is None or not self.measure.corrupt:
            return None
        data, seed = self.renders[:CORRUPTED], self.measure.seed
        truths = Truths(self.plain, data)
        found: dict[str, list[float]] = {}
        for number, name in enumerate(CORRUPTIONS):
            self.say(number, len(CORRUPTIONS), name)
            found[name] = [
                truths.share(lambda part, name=name, strength=strength: corrupted(  # type: ignore[misc]
                    name, strength, from_bytes(data.images[part]).to(self.request.device), seed + part.start
                ))
                for strength in range(1, STRENGTHS + 1)
            ]  # fmt: skip
        return found
