"""What a sweep saw: the target's answer at every value that was tried, from which the least change that fails follows.

Letters: N faces, B faces in the batch, K attributes, P points of a sweep, the face as sampled first.
"""

from __future__ import annotations

import torch
from numpy.typing import NDArray
from torch import Tensor

WAYS = (slice(1, None, 2), slice(2, None, 2))  # points of a sweep upwards and downwards, from 0 on
SAME = 1e-4  # of a half-range: sizes of change that differ by less are one


def swept(number: Tensor, steps: int, low: Tensor, high: Tensor) -> Tensor:
    """ω ``[B, K]`` at the points ``number`` ``[B]`` of a sweep of ``steps``: from 0 outwards, up and down in turn."""
    share = ((number + 1) // 2 / (steps / 2)).to(low.dtype)[:, None]
    return share * torch.where((number % 2 == 1)[:, None], high, low)


class Trace:
    """Outputs, failures and changes of the picture ``[N, P]`` of a sweep between ``low`` and ``high`` ``[N, K]``.

    The picture's change is the root mean square over its pixels, from the face as sampled.
    """

    def __init__(self, low: Tensor, high: Tensor, steps: int) -> None:
        self.low, self.high, self.steps = low, high, steps
        self.outputs = torch.zeros(len(low), steps + 1, device=low.device)
        self.failures = torch.zeros(len(low), steps + 1, dtype=torch.bool, device=low.device)
        self.changes = torch.zeros(len(low), steps + 1, device=low.device)

    def keep(self, faces: NDArray, points: NDArray, outputs: Tensor, failed: NDArray, changes: Tensor) -> None:
        """Note what was seen at one point each of these faces ``[B]``."""
        device = self.outputs.device
        where = (torch.from_numpy(faces).to(device), torch.from_numpy(points).to(device))
        self.outputs.index_put_(where, outputs.float())
        self.failures.index_put_(where, torch.from_numpy(failed).to(device))
        self.changes.index_put_(where, changes.float())

    def needed(self) -> tuple[Tensor, Tensor]:
        """The least change ``[N, K]`` that fails, and the output there ``[N]``.

        Where one up and one down are as small, it is that with more effect.
        """
        if not self.steps:
            return torch.zeros_like(self.low), self.outputs[:, 0]
        numbers = torch.arange(1, self.steps + 1, device=self.low.device)
        omega = torch.stack([swept(n.expand(len(self.low)), self.steps, self.low, self.high) for n in numbers], dim=1)
        half = ((self.high - self.low) / 2).clamp(min=torch.finfo(self.low.dtype).tiny)
        size = (omega.abs() / half[:, None]).amax(dim=2)  # [N, P - 1]
        effect = (self.outputs[:, 1:] - self.outputs[:, :1]).abs()
        cost = (size / SAME).round().double() - 0.5 * effect / (1 + effect)
        best = torch.where(self.failures[:, 1:], cost, torch.inf).argmin(dim=1)
        face = torch.arange(len(omega), device=omega.device)
        return omega[face, best], self.outputs[face, best + 1]
