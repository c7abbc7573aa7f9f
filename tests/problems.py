"""Problems whose strongest attack is known in closed form, made of a linear generator and a linear target.

Letters: B faces, K attributes, P = 3·R·R numbers of an image, L numbers of a code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sia_gen.attack.edit import edit
from sia_gen.attributes.attribute_space import Attribute, AttributeSpace
from sia_gen.core.seeds import normals, uniforms
from sia_gen.targets.target import Label
from sia_gen.targets.task import Classification, Regression, Task


def weights(resolution: int) -> Tensor:
    """What the linear target looks for, ``[P]``, every |w| in 0.5 … 1.5."""
    size, sign = uniforms([0, 1], (3 * resolution**2,), "linear target")
    return (0.5 + size) * torch.where(sign < 0.5, -1.0, 1.0)


class LinearGenerator(nn.Module):
    """G(c) = offset + M·c, codes being the edit space "w"; M's columns partly align with the target's weights.

    They do so that what an edit gains is far above what rounding to 8 bits changes.
    """

    def __init__(self, resolution: int = 32, codes: int = 6, offset: float = 0.5) -> None:
        super().__init__()
        self.name, self.resolution, self.offset = "linear-generator", resolution, offset
        self.edit_shapes = {"w": torch.Size([codes])}
        w = weights(resolution)[:, None]  # [P, 1]
        self.matrix = nn.Parameter(0.01 * (normals([0], (len(w), codes), "linear generator")[0] + w))  # [P, L]

    def sample(self, seeds: Sequence[int]) -> Tensor:
        return 0.3 * normals(seeds, self.edit_shapes["w"], "codes").to(self.matrix.device)

    def render(self, codes: Tensor, edits: Tensor | None = None, space: str | None = None) -> Tensor:
        codes = codes if edits is None else codes + edits
        return (self.offset + codes @ self.matrix.T).view(-1, 3, self.resolution, self.resolution)


class LinearTarget(nn.Module):
    """Two logits ±w·x / 2 for classification, the value w·x for regression."""

    differentiable = True
    label: Label | None = None

    def __init__(self, resolution: int = 32, *, regression: bool = False) -> None:
        super().__init__()
        self.name = "linear-regressor" if regression else "linear-classifier"
        self.task: Task = Regression(("value",), tolerance=50.0) if regression else Classification(("no", "yes"))
        self.regression = regression
        self.weight = nn.Parameter(weights(resolution))  # [P]

    def predict(self, images: Tensor) -> Tensor:
        value = (images.flatten(1) - 0.5) @ self.weight  # [B]
        return value[:, None] if self.regression else torch.stack([-value / 2, value / 2], dim=1)


def linear_space(generator: LinearGenerator, attributes: int = 4, *, symmetric: bool = False) -> AttributeSpace:
    """Directions that each move w·x, up or down, with ranges of different sizes, lopsided unless asked otherwise."""
    codes = generator.edit_shapes["w"][0]
    rows = tuple(
        Attribute(f"a{k}", "units", -(1.0 + k) / (1 if symmetric else 2), 1.0 + k, sd=1.0, slope=1.0, leakage=0.0)
        for k in range(attributes)
    )
    sign = torch.tensor([1.0, -1.0]).repeat(attributes)[:attributes, None]
    directions = 0.1 * sign * (1 + 0.3 * normals([1], (attributes, codes), "directions")[0])
    return AttributeSpace(generator.name, "w", rows, directions)


@dataclass(frozen=True)
class LinearProblem:
    """Largest loss in box × ball, the images staying inside [0, 1]."""

    generator: LinearGenerator
    space: AttributeSpace
    target: LinearTarget

    def optimum(self, codes: Tensor, box: float, epsilon: float, norm: str, budget: float = 10.0) -> Tensor:
        """``[B]``: the most that Σₖ ωₖ·gₖ can be, plus ε times the dual norm of w; squared for regression.

        In half ranges the best ω is g / μ cut off at the ends, μ ≥ 0 being the least that keeps the budget.
        For regression the ranges must be symmetric: else the loss has a second maximum, on the shorter side.
        """
        weight = self.target.weight.detach()
        slope = self.space.directions @ (self.generator.matrix.detach().T @ weight)  # [K]
        value = (edit(self.generator, self.space, codes).detach().flatten(1) - 0.5) @ weight  # [B]
        up = torch.where(value > 0, -1.0, 1.0)  # [B] which way the margin of the other class grows
        half = (self.space.high - self.space.low) / 2
        ends = (box * self.space.low / half, box * self.space.high / half)
        gains = up[:, None] * slope * half  # [B, K]
        moves = torch.stack([gain @ _furthest(gain, *ends, budget) for gain in gains])  # [B]
        pixels = epsilon * (weight.abs().sum() if norm == "linf" else weight.norm())
        return (moves + pixels) ** 2 if self.target.regression else up * value + moves + pixels

    def clipped_optimum(self, codes: Tensor, epsilon: float) -> Tensor:
        """``[B]``: of the linf pixel-only arm where the images do leave [0, 1]; each pixel is its own problem."""
        weight = self.target.weight.detach()
        images = edit(self.generator, self.space, codes).detach().flatten(1)  # [B, P]
        up = torch.where((images - 0.5) @ weight > 0, -1.0, 1.0)[:, None]  # [B, 1]
        return up.squeeze(1) * (((images + epsilon * up * weight.sign()).clamp(0, 1) - 0.5) @ weight)

    def loss(self, codes: Tensor, omega: Tensor, delta: Tensor, reference: Tensor) -> Tensor:
        """``[B]`` of the float image, as 8-bit rounding is not part of the closed form."""
        images = edit(self.generator, self.space, codes, omega, delta)
        return self.target.task.loss(self.target.predict(images), reference).detach()


def _furthest(gain: Tensor, low: Tensor, high: Tensor, budget: float) -> Tensor:
    """Where ``gain`` ``[K]`` · u is largest in the box and the ball, by bisection on the multiplier of the ball."""
    few, many = torch.tensor(1e-9), gain.abs().max() / budget * len(gain)
    if (gain / few).clamp(low, high).norm() <= budget:
        return (gain / few).clamp(low, high)
    for _ in range(200):
        middle = (few + many) / 2
        beyond = (gain / middle).clamp(low, high).norm() > budget
        few, many = (middle, many) if beyond else (few, middle)
    return (gain / many).clamp(low, high)


def linear_problem(*, regression: bool = False, offset: float = 0.5) -> LinearProblem:
    generator = LinearGenerator(offset=offset)
    return LinearProblem(generator, linear_space(generator, symmetric=regression), LinearTarget(regression=regression))


class TwoHills(LinearTarget):
    """Fails only on the hill at w·x = −140; from the faces, within ±60, the way up leads to a lower one at +120."""

    def predict(self, images: Tensor) -> Tensor:
        value = (images.flatten(1) - 0.5) @ self.weight  # [B]
        near = 0.5 * torch.exp(-(((value - 120) / 120) ** 2))
        far = 2.0 * torch.exp(-(((value + 140) / 30) ** 2))
        return torch.stack([torch.ones_like(value), near + far], dim=1)


def two_hills() -> LinearProblem:
    generator = LinearGenerator()
    return LinearProblem(generator, linear_space(generator, symmetric=True), TwoHills())
