"""What an attack costs beyond its models: ``python benchmarks/attack.py [--device cuda] [--batch 16]``.

The floor is the forward and backward of the same generator and target at the same batch, nothing else. Attack and floor
take turns in one process and the median of their ratios is reported, so that a busy machine slows both alike.

Letters: B faces, K attributes, R resolution.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import Attribute, AttributeSpace
from sia_gen.core.files import shipped
from sia_gen.core.memory import hold_memory
from sia_gen.core.modules import eval_mode
from sia_gen.core.seeds import normals
from sia_gen.generators.generator import Generator
from sia_gen.generators.load import load_generator
from sia_gen.targets.load import load_target
from sia_gen.targets.target import Target
from sia_gen.targets.task import Classification

LIMIT = 1.10


class StandInGenerator(nn.Module):
    """A convolutional generator about as costly as the shipped one, for a checkout without weights."""

    def __init__(self, resolution: int = 64, channels: int = 64) -> None:
        super().__init__()
        self.name, self.resolution, self.edit_shapes = "stand-in", resolution, {"w": torch.Size([64])}
        self.start = nn.Linear(64, channels * 16)
        levels = range(resolution.bit_length() - 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear"),
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.LeakyReLU(0.2),
            )
            for _ in levels
        )
        self.rgb = nn.Conv2d(channels, 3, 1)

    def sample(self, seeds: Sequence[int]) -> Tensor:
        return normals(seeds, (64,), "stand-in").to(self.rgb.weight.device)

    def render(self, codes: Tensor, edits: Tensor | None = None, space: str | None = None) -> Tensor:
        x = self.start(codes if edits is None else codes + edits).view(len(codes), -1, 4, 4)
        for block in self.blocks:
            x = block(x)
        return self.rgb(x).sigmoid()  # [B, 3, R, R]


class StandInTarget(nn.Module):
    name, differentiable, label = "stand-in", True, None

    def __init__(self) -> None:
        super().__init__()
        self.task = Classification(("no", "yes"))
        widths = (3, 32, 64, 128, 256)
        self.layers = nn.ModuleList(nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in pairwise(widths))
        self.head = nn.Linear(widths[-1], 2)

    def predict(self, images: Tensor) -> Tensor:
        for layer in self.layers:
            images = F.relu(layer(images))
        return self.head(images.mean(dim=(2, 3)))  # [B, 2]


def models(device: str) -> tuple[Generator, AttributeSpace, Target]:
    """The shipped ones where they are, else stand-ins; what the attributes mean does not matter here."""
    torch.manual_seed(0)
    if "faces-stylegan2" in shipped("generator"):
        generator: Generator = load_generator("faces-stylegan2", device=device)
    else:
        generator = StandInGenerator().to(device).eval()
    if "smile-classifier" in shipped("target"):
        target: Target = load_target("smile-classifier", device=device)
    else:
        target = StandInTarget().to(device).eval()
    edit_space, shape = next(iter(generator.edit_shapes.items()))
    attributes = tuple(Attribute(f"a{k}", "units", -1.0, 1.0, 1.0, 1.0, 0.0) for k in range(8))
    directions = 0.1 * normals(range(8), shape, "directions")
    return generator, AttributeSpace(generator.name, edit_space, attributes, directions).to(device), target


def seconds(work: Callable[[], object], device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def floor(generator: Generator, space: AttributeSpace, target: Target, codes: Tensor, steps: int, arm: str) -> None:
    """The models alone: ``steps`` forward and backward passes and the forward pass of the last point.

    The arm "sweep" goes forward only.
    """
    parts = [part for part in (generator, target) if isinstance(part, nn.Module)]
    with eval_mode(*parts):
        size = (len(codes), 3, generator.resolution, generator.resolution)
        with torch.no_grad():
            rendered = generator.render(codes) if arm == "pixel" else None  # [B, 3, R, R]
            edits = space.edits(torch.zeros(len(codes), len(space.attributes), device=codes.device))
        for step in range(steps + 1):
            leaves = []
            ascends = step < steps and arm != "sweep"
            with torch.set_grad_enabled(ascends):
                if rendered is None:
                    leaves.append(edits.clone().requires_grad_())
                    image = generator.render(codes, leaves[0], space.space)
                else:
                    image = rendered
                if arm not in ("semantic", "sweep"):
                    leaves.append(torch.zeros(size, device=codes.device, requires_grad=True))
                    image = image + leaves[-1]
                prediction = target.predict(image)
                if ascends:
                    torch.autograd.grad(prediction[..., 0].sum(), leaves)


def measure(device: str, batch: int, steps: int, repeats: int) -> list[tuple[str, float, float, float]]:
    """(arm, seconds of the floor, seconds of the attack, median ratio) for each arm."""
    generator, space, target = models(device)
    codes = generator.sample(range(batch))
    rows = []
    semantic = {"epsilon": 0.0}
    arms = {"joint": {}, "semantic": semantic, "pixel": {"box": 0.0}, "sweep": semantic | {"step": "sweep"}}
    for arm, options in arms.items():
        attack = SemanticImageAttack(steps=steps, stop="never", batch=batch, **options)

        def bare(arm: str = arm) -> None:
            floor(generator, space, target, codes, steps, arm)

        def full(attack: SemanticImageAttack = attack) -> None:
            attack(generator, space, target, codes)

        bare(), full()
        pairs = [(seconds(bare, device), seconds(full, device)) for _ in range(repeats)]
        ratio = statistics.median(whole / models_alone for models_alone, whole in pairs)
        rows.append((arm, *(statistics.median(column) for column in zip(*pairs, strict=True)), ratio))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="an even number")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    hold_memory()  # as the command line does
    generator, _, target = models(options.device)
    print(f"{generator.name} ({generator.resolution} px) × {target.name}, batch {options.batch}, {options.device}")
    rows = measure(options.device, options.batch, options.steps, options.repeats)
    print(f"{'arm':10}{'models, s':>12}{'attack, s':>12}{'ratio':>8}   (limit {LIMIT:.2f})")
    for arm, models_alone, whole, ratio in rows:
        print(f"{arm:10}{models_alone:12.3f}{whole:12.3f}{ratio:8.3f}")


if __name__ == "__main__":
    main()
