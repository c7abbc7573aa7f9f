"""What an audit costs beyond its models: ``python benchmarks/audit.py [--device cuda] [--faces 32]``.

The floor is the passes of the same generator and target alone, at the size of the audit's chunks and as often as its
table says that faces took a step: forward and backward where the arm ascends, forward where it sweeps one attribute.
Both run in one process, the floor before and after the audit, so that a busy machine slows both alike. The rest is the
unedited faces, the control, the table, the pictures and the report.

Two more figures on request. ``--zoom``: faces per second of the semantic arm against a loop in the manner of ZOOM
(Luo et al., arXiv 2303.15441), one face at a time for a fixed number of steps of Adam, on the same models, and how many
faces each made fail. ``--growth``: seconds a face and peak memory of audits of one attribute, from 32 faces to
``--faces``.
"""

from __future__ import annotations

import argparse
import resource
import statistics
from collections import Counter

import torch
from attack import floor, models, seconds
from torch import Tensor, nn

from sia_gen.attack.edit import edit
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.load import load_attributes
from sia_gen.audits.audit_report import AuditReport
from sia_gen.audits.diagnose import audit
from sia_gen.core.files import shipped
from sia_gen.core.images import quantise
from sia_gen.core.modules import eval_mode
from sia_gen.generators.generator import Generator
from sia_gen.targets.target import Target

STEPS = 10
ITERATIONS = 50  # of the loop in ZOOM's manner, for each face
KINDS = ("joint", "semantic", "pixel", "sweep")


def with_attributes(device: str) -> tuple[Generator, AttributeSpace, Target]:
    """The models, with the generator's own attributes where it has any: how far they go is what a control costs."""
    generator, space, target = models(device)
    if generator.name in shipped("generator"):
        space = load_attributes(generator.name, device)
    return generator, space, target


def measure(device: str, faces: int, batch: int) -> tuple[float, float, int]:
    """(seconds of the audit, seconds of the floor, steps that faces took)."""
    generator, space, target = with_attributes(device)
    codes = generator.sample(range(min(batch, faces)))
    reports: list[AuditReport] = []

    def run() -> None:
        attack = SemanticImageAttack(batch=batch)
        reports.append(audit(generator, target, space, faces=faces, attack=attack, device=device))

    def step(kind: str) -> float:
        """Seconds of one step of one face."""
        work = seconds(lambda: floor(generator, space, target, codes, STEPS, kind), device)
        return work / (STEPS * len(codes))

    step("joint")  # warms up
    before = {kind: [step(kind) for _ in range(3)] for kind in KINDS}
    whole = seconds(run, device)
    cost = {kind: statistics.median([*before[kind], *(step(kind) for _ in range(3))]) for kind in KINDS}
    table = reports[0].table()
    taken: Counter[str] = Counter()
    for arm, steps in zip(table["arm"].to_pylist(), table["steps"].to_pylist(), strict=True):
        taken[arm if arm in KINDS else "sweep"] += steps
    return whole, sum(cost[kind] * taken[kind] for kind in KINDS), taken.total()


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
    parser.add_argument("--zoom", action="store_true", help="only the comparison with a loop over faces")
    parser.add_argument("--growth", action="store_true", help="only time and memory from 32 faces to --faces")
    options = parser.parse_args()
    if options.zoom or options.growth:
        (zoom if options.zoom else growth)(options.device, options.faces, options.batch)
        return
    whole, models_alone, steps = measure(options.device, options.faces, options.batch)
    print(f"audit {whole:.1f} s, models alone {models_alone:.1f} s, ratio {whole / models_alone:.2f}")
    print(f"{options.faces / whole:.2f} faces/s, {steps} steps of a face, {steps / whole:.0f} steps/s")


if __name__ == "__main__":
    main()
