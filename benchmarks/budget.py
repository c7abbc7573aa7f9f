"""What a joint budget ρ does to an attack in several attributes: ``python benchmarks/budget.py [--seed 1000]``.

For each ρ in half ranges, the semantic arm of an audit on the same people: the share of faces that fail, that fail
validly, and that fail validly and are confirmed by rendering. Of a model with a planted flaw all of them should be
high, of one without a flaw low, and for both the last two should lie together: a valid failure is then a true one. The
last ρ reaches the corners of all ranges, so that it limits nothing. Needs the head mesh. Draws `budget.png`.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.audits.evidence.statistics import wilson
from sia_gen.audits.run.plan import plan
from sia_gen.audits.run.resolve import resolve
from sia_gen.core.modules import eval_mode

RHOS = (0.5, 0.75, 1.0, 1.5, 2.0, 5.0)
TARGETS = ("smile-classifier-planted", "smile-classifier")
SHOWN = ("failed", "valid", "valid and confirmed")


def shares(target, faces, seed):
    """For each ρ: how many faces were attacked, failed, validly, validly and could be rendered, and were confirmed."""
    request = resolve(
        "faces-stylegan2", target, None, faces=faces, seed=seed, attack=SemanticImageAttack(batch=faces), towards=None,
        label=None, pairs=(), quick=False, confirm=True, verifier="verifier", device="cpu",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, eval_mode(*request.modules):
        made = plan(request, Path(folder))
        semantic = next(arm for arm in made.arms if arm.name == "semantic")
        alone = [arm for arm in made.arms if len(arm.columns) == 1 and arm.name in request.audited.names]
        chunk = made.job.chunk(0, request.seeds)
        started = [made.job.run(arm, chunk, lambda *steps: None) for arm in alone]
        found = []
        for rho in RHOS:
            arm = replace(semantic, attack=replace(semantic.attack, budget=rho))
            part = made.job.run(arm, chunk, lambda *steps: None, started)
            valid = part["valid"]
            counted = (part["correct"], part["success"], valid, valid & part["confirmable"], valid & part["confirmed"])
            found.append([int(mask.sum()) for mask in counted])
    return found


def draw(results, out):
    """A panel for each target: shares over ρ with their 95 % intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, (target, rows) in zip(figure.subplots(1, len(results), sharey=True), results.items(), strict=True):
        for place, name in enumerate(SHOWN):
            counts = [row[(1, 2, 4)[place]] for row in rows]
            spans = [wilson(count, row[0]) for count, row in zip(counts, rows, strict=True)]
            middle = [count / row[0] for count, row in zip(counts, rows, strict=True)]
            off = [
                [m - s[0] for m, s in zip(middle, spans, strict=True)],
                [s[1] - m for m, s in zip(middle, spans, strict=True)],
            ]
            where = [index + (place - 1) * 0.08 for index in range(len(RHOS))]
            axes.errorbar(
                where, middle, yerr=[[max(0, v) for v in side] for side in off], marker="o", capsize=2, label=name
            )
        axes.set_xticks(range(len(RHOS)), [f"{rho:g}" for rho in RHOS[:-1]] + ["no limit"])
        axes.set(title=target, xlabel="budget ρ (half ranges)", ylim=(-0.03, 1.03))
    figure.axes[0].set_ylabel("share of attacked faces")
    figure.axes[-1].legend(frameon=False, loc="center right")
    figure.savefig(out, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--out", default="benchmarks/budget.png")
    asked = parser.parse_args()
    results = {target: shares(target, asked.faces, asked.seed) for target in TARGETS}
    print("| target | ρ | attacked | failed | valid | of which right as renders | confirmed |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for target, rows in results.items():
        for rho, row in zip(RHOS, rows, strict=True):
            print(f"| `{target}` | {rho:g} | " + " | ".join(map(str, row)) + " |")
    draw(results, asked.out)


if __name__ == "__main__":
    main()
