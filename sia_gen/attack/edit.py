"""The one equation: an image from codes, a change of attributes and a pixel residual.

Letters: B faces, K attributes, R resolution.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.core.foreign import foreign
from sia_gen.core.images import Images
from sia_gen.generators.generator import Codes, Generator


def edit(
    generator: Generator | None,
    space: AttributeSpace,
    codes: Codes,
    omega: Tensor | None = None,
    delta: Tensor | None = None,
) -> Images:
    """x(ω, δ) = clip₀¹( G(c, Σₖ ωₖ · dₖ) + δ ): images ``[B, 3, R, R]``, at least float32, differentiable in ω and δ.

    ``omega`` ``[B, K]`` is in the attributes' units, ``delta`` ``[B, 3, R, R]`` in that of images; None leaves either
    out. Without a generator, ``codes`` are images that it rendered before.
    """
    if generator is None:
        image = codes  # [B, 3, R, R]
    else:
        with foreign(f"generator '{generator.name}'"):
            edits = () if omega is None else (space.edits(omega), space.space)
            image = generator.render(codes, *edits)  # [B, 3, R, R]
    image = image.to(torch.promote_types(image.dtype, torch.float32))  # a half cannot hold the 8-bit grid
    if delta is not None:
        image = image + delta
    return image.clamp(0, 1)
