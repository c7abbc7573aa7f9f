"""What an audit costs beyond its models: ``python benchmarks/audit.py [--device cuda] [--faces 32]``.

The floor is the passes of the same generator and target alone: as many, forward and backward, of as many faces at a
time as the audit made, which are noted while it runs. Audit and floor take turns in one process and the median of their
ratios is reported, so that a busy machine slows both alike. The rest is codes and directions, the steps' arithmetic,
the verifier and the identity model, the table, the statistics, the pictures and the report. A pass that an audit could
do without is in both: the line after the ratio says how many pictures it drew for how many steps.

Two more figures on request. ``--zoom``: faces per second of the semantic arm against a loop in the manner of ZOOM
(Luo et al., arXiv 2303.15441), one face at a time for a fixed number of steps of Adam, on the same models, and how many
faces each made fail. ``--growth``: seconds a face and peak memory of audits of one attribute, from 32 faces to
``--faces``.
"""

from __future__ import annotations

import argparse
import resource
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import torch
from attack import models, seconds
from torch import Tensor, nn

from sia_gen.attack.edit import edit
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.load import load_attributes
from sia_gen.audits.diagnose import audit
from sia_gen.core.files import shipped
from sia_gen.core.images import quantise
from sia_gen.core.memory import hold_memory
from sia_gen.core.modules import eval_mode
from sia_gen.generators.generator import Generator
from sia_gen.targets.target import Target

ITERATIONS = 50  # of the loop in ZOOM's manner, for each face


def with_attributes(device: str) -> tuple[Generator, AttributeSpace, Target]:
    """The models, with the generator's own attributes where it has any: how far they go is what a control costs."""
    generator, space, target = models(device)
    if generator.name in shipped("generator"):
        space = load_attributes(generator.name, device)
    return generator, space, target


Pass = tuple[str, int, bool]
"""What passed ("render", "edit", "predict" or "backward"), how many faces, and whether a gradient was wanted."""


@contextmanager
def noted(generator: Generator, target: Target) -> Iterator[list[Pass]]:
    """The passes of both models in the block, in order."""
    passes: list[Pass] = []

    def render(self, codes, edits=None, space=None):
        passes.append(("render" if edits is None else "edit", len(codes), torch.is_grad_enabled()))
        return rendering(self, codes, edits, space)

    def predict(self, images):
        passes.append(("predict", len(images), torch.is_grad_enabled()))
        return predicting(self, images)

    def grad(outputs, inputs, **options):
        passes.append(("backward", len(inputs[0]), True))
        return gradient(outputs, inputs, **options)

    rendering, predicting, gradient = type(generator).render, type(target).predict, torch.autograd.grad
    with (
        patch.object(type(generator), "render", render),
        patch.object(type(target), "predict", predict),
        patch.object(torch.autograd, "grad", grad),
    ):
        yield passes


def repeat(passes: Sequence[Pass], generator: Generator, space: AttributeSpace, target: Target, codes: Tensor) -> None:
    """The models alone: the same passes of ``codes`` ``[B, ...]``, B being at least the most faces of one."""
    edits = space.edits(torch.zeros(len(codes), len(space.attributes), device=codes.device))
    images = torch.zeros(len(codes), 3, generator.resolution, generator.resolution, device=codes.device)
    shown, leaf, said = images, images, images
    with eval_mode(*(part for part in (generator, target) if isinstance(part, nn.Module))):
        for what, faces, wanted in passes:
            with torch.set_grad_enabled(wanted):
                if what == "render":
                    shown = generator.render(codes[:faces])
                elif what == "edit":
                    leaf = edits[:faces].clone().requires_grad_(wanted)
                    shown = generator.render(codes[:faces], leaf, space.space)
                elif what == "predict":
                    if wanted and not (shown.requires_grad and len(shown) == faces):
                        shown = leaf = images[:faces].clone().requires_grad_()
                    said = target.predict(shown if len(shown) == faces else images[:faces])
                    shown = images
                else:
                    torch.autograd.grad(said[..., 0].sum(), leaf)


def measure(device: str, faces: int, batch: int, repeats: int) -> tuple[list[float], list[float], list[Pass], int]:
    """(seconds of audits, of the floor after each, the passes of one, steps that faces took)."""
    generator, space, target = with_attributes(device)
    attack, reports = SemanticImageAttack(batch=batch), []

    def run() -> None:
        reports.append(audit(generator, target, space, faces=faces, attack=attack, device=device))

    with noted(generator, target) as passes:
        run()  # warms up
    codes = generator.sample(range(max(faces for _, faces, _ in passes)))
    pairs = [
        (seconds(run, device), seconds(lambda: repeat(passes, generator, space, target, codes), device))
        for _ in range(repeats)
    ]
    whole, floor = (list(column) for column in zip(*pairs, strict=True))
    return whole, floor, passes, sum(reports[0].table()["steps"].to_pylist())


def one_by_one(generator, space, target, codes: Tensor) -> Tensor:
    """Which faces ``[B]`` fail after a fixed number of steps of Adam on ω, each face by itself."""
    failed = []
    with eval_mode(*(part for part in (generator, target) if isinstance(part, nn.Module))):
        for code in codes.split(1):
            with torch.no_grad():
                reference = target.task.decide(target.predict(quantise(generator.render(code).float())))
            share = torch.zeros(1, len(space.attributes), device=code.device, requires_grad=True)  # of the range
            optimiser = torch.optim.Adam([share], lr=0.1)
            for _ in range(ITERATIONS):
                omega = torch.where(share > 0, share * space.high, -share * space.low)
                loss = -target.task.loss(target.predict(edit(generator, space, code, omega)), reference).sum()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                with torch.no_grad():
                    share.clamp_(-1, 1)
            with torch.no_grad():
                omega = torch.where(share > 0, share * space.high, -share * space.low)
                image = quantise(edit(generator, space, code, omega).float())
                failed.append(target.task.failed(target.predict(image), reference))
    return torch.cat(failed)


def zoom(device: str, faces: int, batch: int) -> None:
    generator, space, target = with_attributes(device)
    codes = generator.sample(range(faces))
    attack = SemanticImageAttack(epsilon=0.0, steps=ITERATIONS, batch=batch)
    attack(generator, space, target, codes[:2])  # warms up
    found = []
    ours = seconds(lambda: found.append(attack(generator, space, target, codes).success), device)
    theirs = seconds(lambda: found.append(one_by_one(generator, space, target, codes)), device)
    for name, spent, failed in (("batched, dropping the finished", ours, found[0]), ("one by one", theirs, found[1])):
        print(f"{name}: {faces / spent:.2f} faces/s, {int(failed.sum())} of {faces} fail")
    print(f"ratio {theirs / ours:.1f}")


def growth(device: str, faces: int, batch: int) -> None:
    generator, space, target = with_attributes(device)
    space, attack, count = space.select(space.names[:1]), SemanticImageAttack(steps=1, batch=batch), 32
    audit(generator, target, space, faces=count, attack=attack, device=device)  # warms up
    while count <= faces:
        spent = seconds(
            lambda count=count: audit(generator, target, space, faces=count, attack=attack, device=device), device
        )
        if device.startswith("cuda"):
            peak = torch.cuda.max_memory_allocated() / 2**20
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(f"{count} faces: {1000 * spent / count:.1f} ms a face, peak {peak:.0f} MiB")
        count *= 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--faces", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--zoom", action="store_true", help="only the comparison with a loop over faces")
    parser.add_argument("--growth", action="store_true", help="only time and memory from 32 faces to --faces")
    options = parser.parse_args()
    hold_memory()  # as the command line does
    if options.zoom or options.growth:
        (zoom if options.zoom else growth)(options.device, options.faces, options.batch)
        return
    whole, models_alone, passes, steps = measure(options.device, options.faces, options.batch, options.repeats)
    ratios = [audited / alone for audited, alone in zip(whole, models_alone, strict=True)]
    print(
        f"audit {statistics.median(whole):.1f} s, models alone {statistics.median(models_alone):.1f} s, ratio "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    asked = sum(faces for what, faces, _ in passes if what == "predict")
    drawn = sum(faces for what, faces, _ in passes if what in ("render", "edit"))
    print(f"{options.faces} faces: {drawn} pictures drawn, {asked} shown to the target, {steps} steps")


if __name__ == "__main__":
    main()
