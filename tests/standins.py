"""A generator and a target so small that every number can be worked out by hand."""

import time

import torch

from sia_gen.attributes.attribute_space import Attribute, AttributeSpace
from sia_gen.core.seeds import uniforms
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.target import Label
from sia_gen.targets.task import Classification

SIDE = 16


class Colours:
    """One flat colour a face; its edits are added to red, green and blue."""

    name = "colours"
    resolution = SIDE
    edit_shapes = {"w": torch.Size([3])}  # noqa: RUF012

    def __init__(self, device):
        self.device = device
        self.attributes = AttributeSpace(
            "colours",
            "w",
            (
                Attribute("redness", "points", -30.0, 20.0, sd=10.0, slope=1.0, leakage=0.0, positive="redder"),
                Attribute("blueness", "points", 0.0, 40.0, sd=10.0, slope=1.0, leakage=0.0, positive="bluer"),
            ),
            torch.tensor([[0.01, 0.0, 0.0], [0.0, 0.0, 0.01]], device=device),
        )

    def sample(self, seeds):
        return (0.4 + 0.2 * uniforms(seeds, (3,), "colours")).to(self.device)

    def render(self, codes, edits=None, space=None):
        if edits is not None:
            codes = codes + edits
        return codes[:, :, None, None].expand(-1, -1, SIDE, SIDE)


def colours(device="cpu"):
    return Colours(device)


def is_red():
    """Logits of "red" and "not red", blind to blue; every face starts out as not red."""

    def logits(images):
        red = images.mean(dim=(2, 3))[:, 0] - 0.7
        return torch.stack([red, -red], dim=1)

    return ModuleTarget(logits, Classification(("red", "not red")), name="is-red")


def is_blue():
    """As `is_red`, and it says that it predicts blueness."""
    made = is_red()
    return ModuleTarget(made.module, made.task, name="is-blue", label=Label("blueness", (0.7,)))


def is_redder():
    """As `is_red`, and it takes twice the red for as sure a sign."""
    made = is_red()
    return ModuleTarget(lambda images: 2 * made.module(images), made.task, name="is-redder")


def is_slowly_red():
    """As `is_red`, but each answer takes long enough that an audit of it can be stopped on its way."""
    made = is_red()

    def logits(images):
        time.sleep(0.02)
        return made.module(images)

    return ModuleTarget(logits, made.task, name="is-slowly-red")
