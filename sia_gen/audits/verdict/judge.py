"""What the parts of a run amount to: its results and the content of `histogram.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sia_gen.audits.evidence.checks import few
from sia_gen.audits.run.examples import Examples
from sia_gen.audits.run.pairs import pair_rows
from sia_gen.audits.run.plan import Plan
from sia_gen.audits.run.results import CONTROL, silence, write_results
from sia_gen.audits.verdict.histogram import histogram

PICTURED = 12  # attributes whose most telling faces are shown: those that the report has a bar of


@dataclass(frozen=True)
class Verdict:
    """``content`` is what `histogram.json` will hold of the plan's run."""

    plan: Plan
    content: dict[str, Any]


def judge(plan: Plan) -> Verdict:
    """From the parts of a finished run to `results.parquet`, the pictures of some faces and the content."""
    folder, witness, audited = plan.folder, plan.request.witness, plan.request.audited
    names, chunks = [arm.name for arm in plan.arms], len(plan.starts)
    columns = [*audited.names, CONTROL]
    write_results(folder, names, columns, chunks, witness.kept)
    factors = witness.verifier.factors if witness.verifier is not None else ()
    units = {factor.name: factor.unit for factor in factors if factor.name in witness.kept}
    measured = getattr(witness.target.task, "measured", "")  # a task from elsewhere may not say
    content = histogram(folder.path, audited.attributes, plan.request.settings, units, measured)
    content["checks"] = [*plan.said, *silence(folder.path), *few(content["correct"], content["faces"])]
    content["pairs"] = pair_rows(folder.path, plan.request.pairs)
    examples = Examples(folder, columns)
    content["examples"] = [] if plan.request.quick else examples.joint(names.index("joint"), chunks)
    for row in content["attributes"][:PICTURED]:
        content["examples"] += examples.single(names.index(row["name"]), row["name"], chunks)
    return Verdict(plan, content)
