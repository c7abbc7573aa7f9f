"""What an attack found, face by face.

Letters: N faces, K attributes, R resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class AttackResult:
    """CPU tensors over N faces. The reported point is the first success where the attack stops at it, else the
    evaluated point of highest loss; loss, prediction and success are those of the 8-bit images.

    original            uint8 ``[N, 3, R, R]``: the face as sampled
    adversarial         uint8 ``[N, 3, R, R]``: the reported point
    semantic            uint8 ``[N, 3, R, R]``: the same ω without the pixel residual
    omega, delta        float32 ``[N, K]`` in units, ``[N, 3, R, R]``: the reported point
    omega_needed        float32 ``[N, K]``: ω at the first success, NaN rows where there was none
    reference           ``[N, ...]``: what the target should say
    correct             bool ``[N]``: the target does not fail on the face as sampled; only these are attacked
    success             bool ``[N]``: correct, and failed at some point
    loss_*, output_*    float32 ``[N]``: the task's loss and output, before any edit and at the reported point
    prediction_*        ``[N, ...]``
    steps, queries      int64 ``[N]``: ascent steps taken and images shown to the target, over all restarts
    """

    original: Tensor
    adversarial: Tensor
    semantic: Tensor
    omega: Tensor
    delta: Tensor
    omega_needed: Tensor
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
