"""How far one call of an attack may go: a box of ω for each face, what they may move in all, and the ball of δ.

Letters: N faces, B faces in the batch, K attributes, R resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sia_gen.attack.active_set import Rows
from sia_gen.attack.balls import (
    Step,
    ascent,
    half_range,
    largest,
    length,
    project_ball,
    project_box,
    project_budget,
)
from sia_gen.attack.settings import AttackSettings
from sia_gen.attack.starts import random_delta, random_omega
from sia_gen.attributes.attribute_space import AttributeSpace


class Limits:
    """``low`` and ``high`` ``[N, K]`` of each face, the ``shapes`` of one face's variables, and the ways among them.

    ``allowed`` bool ``[N, K]`` says which attributes each face may move. ``rows`` of the methods are a batch's, with
    its "low" and "high" ``[B, K]``.
    """

    def __init__(self, attack: AttackSettings, space: AttributeSpace, allowed: Tensor, resolution: int) -> None:
        self.attack = attack
        self.low = attack.box * space.low * allowed  # [N, K]
        self.high = attack.box * space.high * allowed  # [N, K]
        self.shapes: dict[str, tuple[int, ...]] = {}
        if attack.box > 0 and allowed.shape[1] > 0:
            self.shapes["omega"] = (allowed.shape[1],)
        if attack.epsilon > 0:
            self.shapes["delta"] = (3, resolution, resolution)
        self.budget = attack.budget / max(attack.box, torch.finfo(torch.float32).tiny)  # in half ranges of the box
        # How far off the furthest corner of the box lies: a budget that reaches there limits nothing.
        corner = torch.maximum(space.low.abs(), space.high)[None]
        self.limited = bool(self.budget < length(corner, space.low[None], space.high[None]))
        self.way: Step = "sign" if attack.step == "sign" else "normalised"

    def project(self, name: str, values: Tensor, rows: Rows) -> Tensor:
        """The nearest ω or δ ``[B, ...]`` within."""
        if name == "omega":
            low, high = rows["low"], rows["high"]
            return project_budget(values, low, high, self.budget) if self.limited else project_box(values, low, high)
        return project_ball(values, self.attack.epsilon, self.attack.norm)

    def uphill(self, name: str, values: Tensor, gradient: Tensor, rows: Rows) -> Tensor:
        """One step from ω or δ ``[B, ...]``, not yet projected."""
        attack = self.attack
        if name == "omega":
            way = ascent(gradient, "l2" if self.limited else "linf", self.way)
            return values + attack.semantic_step * way * self._step(rows)
        return torch.add(values, ascent(gradient, attack.norm, self.way), alpha=attack.pixel_step * attack.epsilon)

    def reach(self, rows: Rows) -> dict[str, Tensor | float]:
        """What a way of random numbers about one in size stands for, in ω ``[B, K]`` and in δ."""
        omega = self._step(rows) / (rows["low"].shape[1] ** 0.5 if self.limited else 1.0)
        blocks = 1.0 if self.attack.norm == "linf" else math.prod(self.shapes.get("delta", ())) ** 0.5
        return {"omega": omega, "delta": self.attack.epsilon / blocks}

    def _step(self, rows: Rows) -> Tensor:
        """What a way of size one stands for in ω ``[B, K]``: half ranges, or where it limits anything the budget."""
        return half_range(rows["low"], rows["high"]) * (self.budget if self.limited else 1.0)

    def size(self, point: Rows, rows: Rows) -> Tensor:
        """How far a point lies from the face ``[B]``: ω in half ranges, without attributes δ in ε."""
        if "omega" in point:
            return length(point["omega"], rows["low"], rows["high"]) * self.attack.box
        if "delta" in point:
            delta = point["delta"].flatten(1)
            return (largest(delta) if self.attack.norm == "linf" else delta.norm(dim=1)) / self.attack.epsilon
        return torch.zeros_like(point["loss"])

    def anywhere(self, seeds: Sequence[int], rows: Rows, restart: int) -> Rows:
        """Where a restart begins: a random ω and δ for each seed, of whom ``rows`` are."""
        start = {}
        if "omega" in self.shapes:
            drawn = random_omega(seeds, rows["low"], rows["high"], restart)
            start["omega"] = self.project("omega", drawn, rows)
        if "delta" in self.shapes:
            delta = random_delta(seeds, self.shapes["delta"], self.attack.epsilon, self.attack.norm, restart)
            start["delta"] = delta.to(rows["low"].device)
        return start
