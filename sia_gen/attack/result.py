"""What an attack found, face by face.

Letters: N faces, K attributes, R resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sia_gen.attack.active_set import ActiveSet
from sia_gen.attack.trace import Trace
from sia_gen.core.images import to_bytes
from sia_gen.targets.task import Task


@dataclass(frozen=True)
class AttackResult:
    """CPU tensors over N faces, at two points: the worst, and the least change that makes the face fail.

    The worst is the evaluated point of highest loss, of those that fail where any does; an attack that stops at the
    first success knows no other. Loss, prediction and success are those of the 8-bit images.

    original            uint8 ``[N, 3, R, R]``: the face as sampled
    adversarial         uint8 ``[N, 3, R, R]``: the worst point
    semantic            uint8 ``[N, 3, R, R]``: the same ω without the pixel residual
    omega, delta        float32 ``[N, K]`` in units, ``[N, 3, R, R]``: the worst point
    omega_needed        float32 ``[N, K]``: ω at the least change that fails; else NaN rows
    least               float32 ``[N]``: the size of that change, ‖ω / half range‖ or without attributes ‖δ‖ / ε; or NaN
    output_needed       float32 ``[N]``: the task's output there; or NaN
    reference           ``[N, ...]``: what the target should say
    correct             bool ``[N]``: the target does not fail on the face as sampled; only these are attacked
    success             bool ``[N]``: correct, and failed at some point
    loss_*, output_*    float32 ``[N]``: the task's loss and output, before any edit and at the worst point
    prediction_*        ``[N, ...]``
    outputs, failures   float32 and bool ``[N, P]`` at every point of a sweep, as `swept` counts them; else None
    changes             float32 ``[N, P]``: the picture's, root mean square, at these points; else None
    steps, queries      int64 ``[N]``: ascent steps taken and images shown to the target, over all restarts
    unanswered          int64 ``[N]``: points of which a black box said nothing (NaN), which count as no change
    """

    original: Tensor
    adversarial: Tensor
    semantic: Tensor
    omega: Tensor
    delta: Tensor
    omega_needed: Tensor
    least: Tensor
    output_needed: Tensor
    reference: Tensor
    correct: Tensor
    success: Tensor
    loss_before: Tensor
    loss_after: Tensor
    output_before: Tensor
    output_after: Tensor
    prediction_before: Tensor
    prediction_after: Tensor
    steps: Tensor
    queries: Tensor
    unanswered: Tensor
    outputs: Tensor | None = None
    failures: Tensor | None = None
    changes: Tensor | None = None

    @classmethod
    def of(cls, faces: ActiveSet, task: Task, attributes: int, trace: Trace | None = None) -> AttackResult:
        """What is left of an active set when everyone has gone."""
        found, success = faces.results, torch.from_numpy(faces.success)
        original, adversarial = to_bytes(found["images_before"]), to_bytes(found["images_after"])
        unmoved = torch.zeros(len(original), attributes)
        if trace is None:
            needed = found.get("omega_needed", unmoved)
            output = task.output(found.get("prediction_needed", found["prediction_before"]), found["reference"])
        else:
            needed, output = (values.cpu() for values in trace.needed())
        nowhere = torch.full(success.shape, torch.nan)
        if "semantic_after" in found:
            semantic = to_bytes(found["semantic_after"])
        else:
            semantic = adversarial if "omega_after" in found else original
        return cls(
            original=original,
            adversarial=adversarial,
            semantic=semantic,
            omega=found.get("omega_after", unmoved),
            delta=found.get("delta_after", torch.zeros(original.shape)),
            omega_needed=torch.where(success[:, None], needed, torch.nan),
            least=torch.where(success, found.get("least", nowhere), torch.nan),
            output_needed=torch.where(success, output, torch.nan),
            reference=found["reference"],
            correct=torch.from_numpy(faces.correct),
            success=success,
            loss_before=found["loss_before"],
            loss_after=found["loss_after"],
            output_before=task.output(found["prediction_before"], found["reference"]),
            output_after=task.output(found["prediction_after"], found["reference"]),
            prediction_before=found["prediction_before"],
            prediction_after=found["prediction_after"],
            steps=torch.from_numpy(faces.taken),
            queries=torch.from_numpy(faces.queries),
            unanswered=found["unanswered"],
            outputs=None if trace is None else trace.outputs.cpu(),
            failures=None if trace is None else trace.failures.cpu(),
            changes=None if trace is None else trace.changes.cpu(),
        )
