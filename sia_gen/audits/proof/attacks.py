"""Attacks side by side on the same faces: pixel baselines, and this one's arms and what they are made of.

Letters: N faces, K attributes, R resolution.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sia_gen.attack.balls import Norm
from sia_gen.attack.result import AttackResult
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.audits.evidence.reference import VERIFIER
from sia_gen.audits.evidence.statistics import wilson
from sia_gen.audits.evidence.validity import Gate
from sia_gen.audits.evidence.witness import VALID, Witness
from sia_gen.audits.proof.baselines import every, pixel_attack, require_library
from sia_gen.audits.run.job import Chunk, Job, worst_alone
from sia_gen.audits.run.resolve import Request, resolve
from sia_gen.audits.run.results import CONFIRMED
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Batches, Progress
from sia_gen.core.files import write_json
from sia_gen.core.images import from_bytes, quantise, to_bytes
from sia_gen.core.seeds import face_seeds
from sia_gen.generators.generator import Generator
from sia_gen.targets.target import Target, ask
from sia_gen.targets.task import Classification, eligible

RESULT = "attacks.json"
WINDOW = 11  # pixels of the structural similarity's


def attack_table(
    targets: Sequence[str | Path | Target],
    *,
    generator: str | Path | Generator = "faces-stylegan2",
    faces: int = 32,
    epsilon: float = 1 / 255,
    norm: Norm = "linf",
    steps: int = 10,
    baselines: Sequence[str] | None = None,
    ablations: bool = False,
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
    verifier's features, in standard deviations) of all pictures from the unedited ones. With ``ablations`` what the
    joint attack is made of stands beside it. Written to ``out`` where that is given.

    Raises `RequestError` for targets that are no classifiers with gradients, and without the extra "baselines".
    """
    face_seeds(seed, faces)
    if baselines is None or baselines:
        require_library()
    rows: list[dict[str, Any]] = []
    for target in targets:
        attack = SemanticImageAttack(steps=steps, epsilon=epsilon, norm=norm, batch=min(32, faces))
        request = resolve(
            generator, target, None, faces=faces, seed=seed, attack=attack, towards=None, label=label, pairs=(),
            quick=False, confirm=confirm, verifier=VERIFIER, device=device,  # type: ignore[arg-type]
        )  # fmt: skip
        witness = request.witness
        if not isinstance(witness.target.task, Classification) or not witness.target.differentiable:
            raise RequestError(f"'{witness.target.name}' is no classifier with gradients; name one that is")
        rows += _of_target(request, every(baselines, witness.target), epsilon, norm, steps, ablations, progress)
    content = {
        "faces": faces, "epsilon": epsilon, "norm": norm, "steps": steps, "seed": seed, "rows": rows,
    }  # fmt: skip
    if out is not None:
        write_json(Path(out), content)
    return content


def _of_target(
    request: Request, baselines: Sequence[str], epsilon: float, norm: Norm, steps: int, ablations: bool,
    progress: Progress | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of one target."""
    witness = request.witness
    gate = witness.gate(_once, request.generator, request.seed, request.device)
    job = Job(request.generator, witness, request.audited, gate, request.rendered)
    chunk = job.chunk(0, request.seeds)
    judge = _Judge(job, chunk, witness, gate)
    ours = _ours(request, chunk, ablations)
    todo: list[tuple[str, str, Callable[[], AttackResult | Tensor]]] = [
        *((name, "pixels", _baseline(name, judge, epsilon, norm, steps, request.seed)) for name in baselines),
        *ours,
    ]
    rows = []
    for number, (name, kind, work) in enumerate(todo):
        if progress:
            progress(number, len(todo), f"{witness.target.name}: {name}")
        start = time.perf_counter()
        found = work()
        seconds = (time.perf_counter() - start) / len(request.seeds)
        rows.append({"target": witness.target.name, "attack": name, "kind": kind, "seconds": seconds, **judge(found)})
    return rows


def _once(name: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """What is looked at once in a run, and here not kept."""
    return dict(make())


def _baseline(
    name: str, judge: _Judge, epsilon: float, norm: Norm, steps: int, seed: int
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


def _ours(
    request: Request, chunk: Chunk, ablations: bool
) -> list[tuple[str, str, Callable[[], AttackResult | Tensor]]]:
    """This attack's rows: each starts, as in an audit, at the worst point of one attribute alone."""
    attack, space, target = request.attack, request.audited, request.witness.target
    known: dict[str, Tensor] = {}

    def start() -> Tensor:
        if not known:
            alone = attack.alone()
            known["omega"] = worst_alone([_run(request, chunk, alone, space.select([name])) for name in space.names])
        return known["omega"]

    def of(chosen: SemanticImageAttack) -> Callable[[], AttackResult]:
        return lambda: _run(request, chunk, chosen, space, start())

    def sequential() -> AttackResult:
        """Attributes first, then pixels on what they gave."""
        first = _run(request, chunk, replace(attack, epsilon=0.0), space, start())
        second = attack_pixels(from_bytes(first.semantic).to(request.device))
        return replace(
            first, adversarial=second.adversarial, success=first.success | (second.success & first.correct),
            delta=second.delta,
        )  # fmt: skip

    def attack_pixels(images: Tensor) -> AttackResult:
        return replace(attack, box=0.0)(
            request.generator, space, target, chunk.codes, chunk.reference, seeds=chunk.seeds, rendered=images.cpu()
        )

    rows: list[tuple[str, str, Callable[[], AttackResult | Tensor]]] = [
        ("pixels (ours, box 0)", "pixels", lambda: _run(request, chunk, replace(attack, box=0.0), space)),
        ("semantic", "attributes", of(replace(attack, epsilon=0.0))),
        ("joint", "both", of(attack)),
    ]
    if ablations:
        rows += [
            ("sequential", "both", sequential),
            ("joint, from the face", "both", lambda: _run(request, chunk, attack, space)),
            ("joint, normalised steps", "both", of(replace(attack, step="normalised"))),
            ("joint, momentum 0.9", "both", of(replace(attack, momentum=0.9))),
            *((f"joint, budget {rho:g}", "both", of(replace(attack, budget=rho))) for rho in (0.5, 2.0)),
            *(
                (f"joint, epsilon {levels:g}/255", "both", of(replace(attack, epsilon=levels / 255)))
                for levels in (0.5, 2.0, 4.0)
            ),
        ]
    return rows


def _run(
    request: Request, chunk: Chunk, attack: SemanticImageAttack, space: Any, start: Tensor | None = None
) -> AttackResult:
    return attack(
        request.generator, space, request.witness.target, chunk.codes, chunk.reference, seeds=chunk.seeds,
        rendered=chunk.rendered, start=start,
    )  # fmt: skip


class _Judge:
    """Judges what any attack gives on one target's faces, in the same way."""

    def __init__(self, job: Job, chunk: Chunk, witness: Witness, gate: Gate | None) -> None:
        self.job, self.chunk, self.witness, self.gate = job, chunk, witness, gate
        self.target, device = witness.target, chunk.codes.device
        self.original = quantise(chunk.rendered.to(device))
        task = self.target.task
        prediction = self._predict(self.original)
        reference = task.decide(prediction) if chunk.reference is None else chunk.reference.to(device)
        self.reference, self.correct = reference, eligible(task, prediction, reference)

    def __call__(self, found: AttackResult | Tensor) -> dict[str, Any]:
        if isinstance(found, AttackResult):
            adversarial, success = from_bytes(found.adversarial), found.success
            part = self.witness.statement(found, self.gate, self.chunk.codes.device, self.chunk.known)
            valid = part.get(VALID, torch.zeros_like(success)) if found.omega.any() else success
        else:
            adversarial = quantise(found).cpu()
            failed = self.target.task.failed(self._predict(adversarial.to(found.device)), self.reference)
            success = valid = (failed & self.correct).cpu()
        attempted, successes = int(self.correct.sum()), int(success.sum())
        row = {
            "attempted": attempted,
            "successes": successes,
            "success": successes / attempted if attempted else 0.0,
            "interval": wilson(successes, attempted),
            "valid": int(valid.sum()) / attempted if attempted else 0.0,
            "confirmed": None,
        }
        if isinstance(found, AttackResult) and found.omega.any() and self.job.rendered is not None and successes:
            rows = success.nonzero().flatten()
            names = self.job.space.names
            changes = {name: found.omega[rows, index] for index, name in enumerate(names)}
            right, failed = self.job.rendered.failures([self.chunk.seeds[row] for row in rows.tolist()], changes)
            row[CONFIRMED] = {"of": int(right.sum()), "confirmed": int((right & failed).sum())}
        return row | self._apart(adversarial)

    def _apart(self, adversarial: Tensor) -> dict[str, float | None]:
        """How like the pictures are to the unedited ones, of faces that were attacked."""
        from kornia.metrics import ssim

        rows = self.correct.cpu()
        before, after = self.original.cpu()[rows], adversarial[rows]
        if not len(before):
            return {"similarity": None, "distance": None}
        distance = None
        if self.witness.verifier is not None and self.gate is not None:
            looks = [self._features(images) for images in (before, after)]
            spread = self._features(self.original.cpu()).std(dim=0).clamp(min=1e-6)
            distance = float(((looks[1] - looks[0]) / spread).square().mean(dim=1).sqrt().mean())
        return {"similarity": float(ssim(before, after, WINDOW).mean()), "distance": distance}

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        verifier, device = self.witness.verifier, self.chunk.codes.device
        assert verifier is not None
        return torch.cat([verifier.look(part.to(device))[1].float().cpu() for part in _as_shown(images)])

    @torch.no_grad()
    def _predict(self, images: Tensor) -> Tensor:
        return torch.cat(list(Batches(32)(len(images), lambda part: ask(self.target, images[part]))))


def _as_shown(images: Tensor) -> Sequence[Tensor]:
    """Images ``[N, 3, R, R]`` as 8 bits hold them, in batches."""
    return from_bytes(to_bytes(images)).split(32)
