"""What every generator offers. B faces; the other axes of codes and edits belong to the generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from sia_gen.core.images import Images

Codes: TypeAlias = Tensor


@runtime_checkable
class Generator(Protocol):
    """Codes (+ edits) → images, differentiable in both.

    ``name`` is what attribute spaces refer to; ``resolution`` is the side of its square images in pixels;
    ``edit_shapes`` names each edit space and the shape of one face's edit, ``{"w": (L, 512)}``.
    """

    name: str
    resolution: int
    edit_shapes: Mapping[str, torch.Size]

    def sample(self, seeds: Sequence[int]) -> Codes:
        """Codes ``[B, ...]`` of one face per seed, each from its own random stream."""
        ...

    def render(self, codes: Codes, edits: Tensor | None = None, space: str | None = None) -> Images:
        """Images ``[B, 3, R, R]`` in [0, 1]; ``edits`` ``[B, *edit_shapes[space]]`` are added in that space."""
        ...


@runtime_checkable
class StyleGenerator(Generator, Protocol):
    """A generator with an edit space "s" beside the "w" in which its codes live."""

    def carry(self, edits: Tensor) -> Tensor:
        """Edits in w ``[..., *edit_shapes["w"]]`` → the edits in s ``[..., *edit_shapes["s"]]`` that do the same."""
        ...
