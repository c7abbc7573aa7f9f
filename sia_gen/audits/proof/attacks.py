"""Attacks side by side on the same faces: pixel baselines, and this one's arms and what they are made of.

Letters: N faces, K attributes, R resolution.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sia_gen.attack.balls import Norm
from sia_gen.attack.result import AttackResult
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.evidence.reference import VERIFIER
from sia_gen.audits.proof.baselines import every, pixel_attack, require_library
from sia_gen.audits.proof.judge import Judge, counted, remembered
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
    verifier reads. Per row: "attempted", "successes", "success" with its "interval"; "valid", of attacks that move
    attributes as the gate says, of those in pixels alone every success, since the face below is as it was;
    "confirmed" by renders where a studio is at hand; "seconds" a face; "similarity" (SSIM) and "distance" (in the
    verifier's features, in standard deviations) of all pictures from the unedited ones. Our attacks go to the worst
    point, or gently to the first failure. With ``ablations`` what the joint attack is made of stands beside it, with
    ``transfer`` what the same pictures do to the other targets, see `transferred`. Written to ``out`` where that is
    given.

    Raises `RequestError` for targets that are no classifiers with gradients, for ``transfer`` among fewer than two or
    of several labels, and without the extra "baselines".
    """
    face_seeds(seed, faces)
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
    judges = [Judge(request, once) for request in requests]
    rows = [
        row
        for judge in judges
        for row in _of_target(
            judge, every(baselines, judge.target, norm), epsilon, norm, steps, ablations,
            [other for other in judges if transfer and other is not judge], progress,
        )
    ]  # fmt: skip
    content = {
        "faces": faces, "epsilon": epsilon, "norm": norm, "steps": steps, "seed": seed, "rows": rows,
    }  # fmt: skip
    if out is not None:
        write_json(Path(out), content)
    return content


def _of_target(
    judge: Judge, baselines: Sequence[str], epsilon: float, norm: Norm, steps: int, ablations: bool,
    onto: Sequence[Judge], progress: Progress | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of one target; its pictures are shown to the targets ``onto``, too."""
    request = judge.request
    todo: list[tuple[str, str, Callable[[], AttackResult | Tensor]]] = [
        *((name, "pixels", _baseline(name, judge, epsilon, norm, steps, request.seed)) for name in baselines),
        *_ours(judge, ablations),
    ]
    rows = []
    for number, (name, kind, work) in enumerate(todo):
        if progress:
            progress(number, len(todo), f"{judge.target.name}: {name}")
        start = time.perf_counter()
        found = work()
        seconds = (time.perf_counter() - start) / len(request.seeds)
        judged = judge.judged(found)
        row = {"target": judge.target.name, "attack": name, "kind": kind, "seconds": seconds}
        row |= judge.row(found, judged)
        if onto:
            row["transfer"] = {other.target.name: transferred(judge, judged, other) for other in onto}
        rows.append(row)
    return rows


def transferred(judge: Judge, judged: tuple[Tensor, Tensor, Tensor], other: Judge) -> dict[str, Any]:
    """What pictures ``judged`` against one target do to another, of faces that both read right unedited.

    "valid" are those that are so for the first, where it fails, too.
    """
    adversarial, _, valid = judged
    both = judge.correct.cpu() & other.correct.cpu()
    failed = other.fails(adversarial) & both
    return counted(both, failed, failed & valid)


def _baseline(
    name: str, judge: Judge, epsilon: float, norm: Norm, steps: int, seed: int
) -> Callable[[], AttackResult | Tensor]:
    def work() -> Tensor:
        adversarial = judge.original.clone()
        rows = judge.correct.nonzero().flatten()
        if len(rows):
            given = {"epsilon": epsilon, "norm": norm, "steps": steps, "seed": seed}
            images, labels = judge.original[rows], judge.reference[rows]
            adversarial[rows] = pixel_attack(name, judge.target, images, labels, **given)  # type: ignore[arg-type]
        return adversarial

    return work


def _ours(judge: Judge, ablations: bool) -> list[tuple[str, str, Callable[[], AttackResult | Tensor]]]:
    """This attack's rows: each starts, as in an audit, at the worst point of one attribute alone.

    The gentle ones start at the face, see `SemanticImageAttack.gentle`.
    """
    attack, space = judge.request.attack, judge.request.audited
    known: dict[str, Tensor] = {}

    def start() -> Tensor:
        if not known:
            alone = attack.alone()
            known["omega"] = worst_alone([judge.run(alone, space.select([name])) for name in space.names])
        return known["omega"]

    def of(chosen: SemanticImageAttack) -> Callable[[], AttackResult]:
        return lambda: judge.run(chosen, start=start())

    def sequential() -> AttackResult:
        """Attributes first, then pixels on what they gave."""
        first = judge.run(replace(attack, epsilon=0.0), start=start())
        second = judge.run(replace(attack, box=0.0), rendered=from_bytes(first.semantic))
        return replace(
            first, adversarial=second.adversarial, success=first.success | (second.success & first.correct),
            delta=second.delta,
        )  # fmt: skip

    rows: list[tuple[str, str, Callable[[], AttackResult | Tensor]]] = [
        ("pixels (ours, box 0)", "pixels", lambda: judge.run(replace(attack, box=0.0))),
        ("semantic", "attributes", of(replace(attack, epsilon=0.0))),
        ("joint", "both", of(attack)),
        ("semantic, gentle", "attributes", lambda: judge.run(replace(attack, epsilon=0.0).gentle())),
        ("joint, gentle", "both", lambda: judge.run(attack.gentle())),
    ]
    if ablations:
        rows += [
            ("sequential", "both", sequential),
            ("joint, from the face", "both", lambda: judge.run(attack)),
            ("joint, normalised steps", "both", of(replace(attack, step="normalised"))),
            ("joint, momentum 0.9", "both", of(replace(attack, momentum=0.9))),
            *((f"joint, budget {rho:g}", "both", of(replace(attack, budget=rho))) for rho in (0.5, 2.0)),
            *(
                (f"joint, epsilon {levels:g}/255", "both", of(replace(attack, epsilon=levels / 255)))
                for levels in (0.5, 2.0, 4.0)
            ),
        ]
    return rows


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
