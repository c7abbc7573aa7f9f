"""What an audit costs beyond its models: ``python benchmarks/audit.py [--device cuda] [--faces 32]``.

The floor is the passes of the same generator and target alone, at the size of the audit's chunks and as often as its
table says that faces took a step: forward and backward where the arm ascends, forward where it sweeps one attribute.
Both run in one process, the floor before and after the audit, so that a busy machine slows both alike. The rest is the
unedited faces, the control, the table, the pictures and the report.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter

from attack import floor, models, seconds

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.audits.audit_report import AuditReport
from sia_gen.audits.diagnose import audit

STEPS = 10
KINDS = ("joint", "semantic", "pixel", "sweep")


def measure(device: str, faces: int, batch: int) -> tuple[float, float, int]:
    """(seconds of the audit, seconds of the floor, steps that faces took)."""
    generator, space, target = models(device)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--faces", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    whole, models_alone, steps = measure(options.device, options.faces, options.batch)
    print(f"audit {whole:.1f} s, models alone {models_alone:.1f} s, ratio {whole / models_alone:.2f}")
    print(f"{options.faces / whole:.2f} faces/s, {steps} steps of a face, {steps / whole:.0f} steps/s")


if __name__ == "__main__":
    main()
