"""Attacks side by side on the same faces: pixel baselines, and this one's arms and what they are made of.

Letters: N faces, K attributes, R resolution.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sia_gen.attack.balls import Norm
from sia_gen.attack.result import AttackResult
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.evidence.control import control_space, random_directions, reaches
from sia_gen.audits.evidence.reference import VERIFIER
from sia_gen.audits.proof.baselines import ensemble, every, pixel_attack, require_library, warm_up
from sia_gen.audits.proof.judge import Counting, Judge, Judged, counted, remembered, titles
from sia_gen.audits.run.job import worst_alone
from sia_gen.audits.run.resolve import resolve
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Progress
from sia_gen.core.files import require_file_place, write_json
from sia_gen.core.images import from_bytes
from sia_gen.core.seeds import face_seeds
from sia_gen.generators.generator import Generator
from sia_gen.targets.target import Target
from sia_gen.targets.task import Classification


def attack_table(
    targets: Sequence[str | Path | Target],
    *,
    generator: str | Path | Generator = "faces-stylegan2",
    attributes: Sequence[str] | AttributeSpace | None = None,
    faces: int = 32,
    epsilon: float = 1 / 255,
    norm: Norm = "linf",
    steps: int = 10,
    baselines: Sequence[str] | None = None,
    ablations: bool = False,
    transfer: bool = False,
    label: str | None = None,
    confirm: bool | str = "auto",
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """How often each attack makes each classifier fail on the same ``faces``; the content of `attacks.json`.

    Success is judged as everywhere: of faces that are read right unedited, on the 8-bit image, by the label that the
    verifier reads. Per row: "attempted", "successes", "success" with its "interval"; "valid" likewise, of attacks that
    move attributes as the gate says, of those in pixels alone every success, since the face below is as it was, None
    where nothing tells; "confirmed" by renders where a studio is at hand; "seconds" and "queries" (pictures that the
    target was asked about) a face, with the search for the starts of attacks that have them; "similarity" (SSIM) and
    "distance" (in the verifier's features, in standard deviations) of all pictures from the unedited ones. Our attacks
    go to the worst point, or gently to the first failure. Where AutoAttack's standard ensemble is among the baselines,
    as far as it is at hand, a row tells what it does together. With ``ablations`` what the joint attack is made of
    stands beside it, with ``transfer`` what the same pictures do to the other targets, see `transferred`. Written to
    ``out`` where that is given.

    Raises `RequestError` for targets that are no classifiers with gradients, for ``transfer`` among fewer than two or
    of several labels, and without the extra "baselines".
    """
    face_seeds(seed, faces)
    if not targets:
        raise RequestError("there is no target; name one or more")
    if out is not None:
        require_file_place(out)
    if baselines is None or baselines:
        require_library()
    requests = []
    for target in targets:
        attack = SemanticImageAttack(steps=steps, epsilon=epsilon, norm=norm, batch=min(32, faces))
        request = resolve(
            generator, target, attributes, faces=faces, seed=seed, attack=attack, towards=None, label=label, pairs=(),
            quick=False, confirm=confirm, verifier=VERIFIER, device=device,  # type: ignore[arg-type]
        )  # fmt: skip
        asked = request.witness.target
        if not isinstance(asked.task, Classification) or not asked.differentiable:
            raise RequestError(f"'{asked.name}' is no classifier with gradients; name one that is")
        requests.append(request)
    if transfer:
        _require_same_label([request.witness.target for request in requests])
    once = remembered()
    named = titles(targets, requests)
    judges = [Judge(request, once, title) for request, title in zip(requests, named, strict=True)]
    rows = [
        row
        for judge in judges
        for row in _of_target(
            judge, every(baselines, judge.target, norm), epsilon, norm, steps, ablations,
            [other for other in judges if transfer and other is not judge], progress,
        )
    ]  # fmt: skip
    content = {"faces": faces, "epsilon": epsilon, "norm": norm, "steps": steps, "seed": seed, "rows": rows}
    if out is not None:
        write_json(Path(out), content)
    return content


def _of_target(
    judge: Judge, baselines: Sequence[str], epsilon: float, norm: Norm, steps: int, ablations: bool,
    onto: Sequence[Judge], progress: Progress | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of one target; its pictures are shown to the targets ``onto``, too."""
    request = judge.request
    todo = [
        *(Line(name, "pixels", _baseline(name, judge, epsilon, norm, steps, request.seed)) for name in baselines),
        *_ours(judge, ablations),
    ]
    rows: list[dict[str, Any]] = []
    faces, attacked = len(request.seeds), max(1, int(judge.correct.sum()))
    several = ensemble(judge.target) if norm == "linf" else []
    kept: dict[str, tuple[Judged, float, int]] = {}
    if baselines:
        warm_up(judge.target, judge.original[:1], judge.reference[:1])

    def told(line: Line, found: AttackResult | Tensor, judged: Judged, seconds: float, queries: int) -> dict[str, Any]:
        row: dict[str, Any] = {"target": judge.title, "attack": line.name, "kind": line.kind}
        row |= {"seconds": seconds / faces, "queries": queries / attacked}
        row |= judge.row(found, judged, rendered=line.rendered)
        return row | ({"transfer": {each.title: transferred(judge, judged, each) for each in onto}} if onto else {})

    for number, line in enumerate(todo):
        if progress:
            progress(number, len(todo), f"{judge.title}: {line.name}")
        if line.start is not None:
            line.start()
        begun = time.perf_counter()
        found, queries = line.work()
        seconds = time.perf_counter() - begun
        if line.start is not None:
            seconds, queries = seconds + line.start.seconds, queries + line.start.queries
        judged = judge.judged(found)
        rows.append(told(line, found, judged, seconds, queries))
        if line.name in several:
            kept[line.name] = judged, seconds, queries
        if several and len(kept) == len(several) and number == len(baselines) - 1:
            judged = _first_failures(judge, [each for each, _, _ in kept.values()])
            spent = sum(each[1] for each in kept.values()), sum(each[2] for each in kept.values())
            together = replace(line, name=f"together: {', '.join(several)}")
            rows.append(told(together, judged[0], judged, *spent))
    return rows


def _first_failures(judge: Judge, several: Sequence[Judged]) -> Judged:
    """What attacks in pixels do together: of each face the picture of the first that made the target fail."""
    pictures, fallen = judge.original.cpu().clone(), torch.zeros_like(judge.correct).cpu()
    for made, success, _ in several:
        pictures[success & ~fallen] = made[success & ~fallen]
        fallen |= success
    return pictures, fallen, fallen


def transferred(judge: Judge, judged: Judged, other: Judge) -> dict[str, Any]:
    """What pictures ``judged`` against one target do to another, of faces that both read right unedited.

    "valid" are those that are so for the first, where it fails, too.
    """
    adversarial, _, valid = judged
    both = judge.correct.cpu() & other.correct.cpu()
    failed = other.fails(adversarial) & both
    return counted(both, failed, None if valid is None else failed & valid)


Work = Callable[[], tuple[AttackResult | Tensor, int]]
"""Gives what an attack made, and about how many pictures the target was asked."""


class Start:
    """The worst point of one attribute alone, at which attacks along a space start; searched once."""

    def __init__(self, judge: Judge, space: AttributeSpace) -> None:
        self.judge, self.space = judge, space
        self.seconds, self.queries = 0.0, 0
        self._omega: Tensor | None = None

    def __call__(self) -> Tensor:
        if self._omega is None:
            begun, alone = time.perf_counter(), self.judge.request.attack.alone()
            results = [self.judge.run(alone, self.space.select([name])) for name in self.space.names]
            self._omega = worst_alone(results)
            self.seconds, self.queries = time.perf_counter() - begun, sum(map(_asked, results))
        return self._omega


@dataclass(frozen=True)
class Line:
    """An attack of the table: what it is called, what it moves, where it starts, unless at the face, and whether the
    studio can render what it did."""

    name: str
    kind: str
    work: Work
    start: Start | None = None
    rendered: bool = True


def _asked(result: AttackResult) -> int:
    """About how many pictures the target was asked, of faces that it read right."""
    return int(result.queries[result.correct].sum())


def _baseline(name: str, judge: Judge, epsilon: float, norm: Norm, steps: int, seed: int) -> Work:
    def work() -> tuple[Tensor, int]:
        adversarial, target = judge.original.clone(), Counting(judge.target)
        rows = judge.correct.nonzero().flatten()
        if len(rows):
            given = {"epsilon": epsilon, "norm": norm, "steps": steps, "seed": seed}
            images, labels = judge.original[rows], judge.reference[rows]
            adversarial[rows] = pixel_attack(name, target, images, labels, **given)  # type: ignore[arg-type]
        return adversarial, target.asked

    return work


def _ours(judge: Judge, ablations: bool) -> list[Line]:
    """This attack's rows: each starts, as in an audit, at the worst point of one attribute alone.

    The gentle ones start at the face, see `SemanticImageAttack.gentle`.
    """
    attack, space = judge.request.attack, judge.request.audited
    start = Start(judge, space)

    def run(chosen: SemanticImageAttack, begin: Start | None = None) -> Work:
        def work() -> tuple[AttackResult, int]:
            along = space if begin is None else begin.space
            found = judge.run(chosen, along, start=None if begin is None else begin())
            return found, _asked(found)

        return work

    def sequential() -> tuple[AttackResult, int]:
        """Attributes first, then pixels on what they gave."""
        first = judge.run(replace(attack, epsilon=0.0), start=start())
        second = judge.run(replace(attack, box=0.0), rendered=from_bytes(first.semantic))
        found = replace(
            first, adversarial=second.adversarial, success=first.success | (second.success & first.correct),
            delta=second.delta,
        )  # fmt: skip
        return found, _asked(first) + _asked(second)

    def started(name: str, chosen: SemanticImageAttack, kind: str = "both") -> Line:
        return Line(name, kind, run(chosen, start), start)

    lines = [
        Line("pixels (ours, box 0)", "pixels", run(replace(attack, box=0.0))),
        started("semantic", replace(attack, epsilon=0.0), "attributes"),
        started("joint", attack),
        Line("semantic, gentle", "attributes", run(replace(attack, epsilon=0.0).gentle())),
        Line("joint, gentle", "both", run(attack.gentle())),
    ]
    if not ablations:
        return lines
    other = Start(judge, _at_random(judge))
    levels = {f"{level:g}/255": level / 255 for level in (0.5, 1.0, 2.0, 4.0)} if attack.norm == "linf" else {}
    return [
        *lines,
        Line("sequential", "both", sequential, start),
        Line("joint, from the face", "both", run(attack)),
        Line("joint, random directions", "both", run(attack, other), other, rendered=False),
        started("joint, normalised steps", replace(attack, step="normalised")),
        started("joint, momentum 0.9", replace(attack, momentum=0.9)),
        *(started(f"joint, budget {rho:g}", replace(attack, budget=rho)) for rho in (0.5, 2.0)),
        *(
            started(f"joint, epsilon {level}", replace(attack, epsilon=radius))
            for level, radius in levels.items()
            if abs(radius - attack.epsilon) > 1e-6
        ),
    ]


def _at_random(judge: Judge) -> AttributeSpace:
    """As many random directions as there are attributes, which change the picture as much; see `control_space`."""
    request = judge.request
    drawn = random_directions(request.generator, request.known, request.seed)[: len(request.audited.names)]
    reach = reaches(request.generator, request.known, request.audited, drawn, request.seed)
    return control_space(request.known, drawn, reach)


def _require_same_label(targets: Sequence[Target]) -> None:
    first = targets[0]
    if len(targets) < 2:
        raise RequestError(f"'{first.name}' is the only target; name others to which its pictures are shown")
    for number, other in enumerate(targets[1:], start=1):
        known = [target.name for target in targets[:number]]
        if other.name in known or other.task.classes != first.task.classes or other.label != first.label:  # type: ignore[attr-defined]
            raise RequestError(
                f"'{other.name}' does not tell what '{first.name}' tells, or has its name; compare transfer among "
                "targets of one label"
            )
