"""What the target says of a face at ω and δ.

Letters: B faces in the batch, R resolution.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sia_gen.attack.active_set import Rows
from sia_gen.attack.balls import per_face
from sia_gen.attack.edit import edit
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.core.executors import Precision, autocast
from sia_gen.core.images import Images, quantise
from sia_gen.generators.generator import Codes, Generator
from sia_gen.targets.target import Target, ask, without_answer


class Observer:
    """Renders faces of a generator and asks a target of them, both in mixed ``precision`` where asked."""

    def __init__(
        self, generator: Generator, space: AttributeSpace, target: Target, device: torch.device, precision: Precision
    ) -> None:
        self.generator, self.space, self.target = generator, space, target
        self.device, self.precision = device, precision

    @torch.no_grad()
    def sampled(self, codes: Codes) -> Images:
        """The faces as sampled ``[B, 3, R, R]``."""
        with autocast(self.device, self.precision):
            return edit(self.generator, self.space, codes)

    def show(self, variables: Rows, rows: Rows, moved: bool) -> tuple[Images, Images, Tensor]:
        """The faces at ω and at ω and δ, ``[B, 3, R, R]``, the latter in 8 bit, and what the target says of these.

        Faces that are not ``moved`` have been rendered.
        """
        with autocast(self.device, self.precision):
            if moved:
                semantic = edit(self.generator, self.space, rows["codes"], variables["omega"])
            else:
                semantic = rows["rendered"]
            images = semantic
            if "delta" in variables:  # `semantic` is within [0, 1], so that being clipped before δ too changes nothing
                images = edit(None, self.space, semantic, delta=variables["delta"])
            images = quantise(images)
            prediction = ask(self.target, images)
        return semantic, images, prediction.to(torch.promote_types(prediction.dtype, torch.float32))

    def answered(self, prediction: Tensor, rows: Rows) -> Tensor:
        """What the target says, where a black box says nothing of an edited face what it said of the unedited one.

        So such a point counts as no change. A face that it says nothing of unedited is not attacked.
        """
        if self.target.differentiable:
            return prediction
        return torch.where(per_face(without_answer(prediction), prediction), rows["own"], prediction)

    def loss(self, variables: Rows, rows: Rows) -> Tensor:
        """The loss ``[B]`` at a point, of faces whose reference is known."""
        said = self.answered(self.show(variables, rows, "omega" in variables)[2], rows)
        return self.target.task.loss(said, rows["reference"])
