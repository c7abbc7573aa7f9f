"""Two audits of the same faces side by side: two models, or one before and after a repair.

Letters: N faces that both targets got right before any edit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen.audits.evidence.statistics import Floats, Groups, benjamini_hochberg, mean_interval, rate_difference
from sia_gen.audits.finished.audit_report import AuditReport, finished_settings
from sia_gen.audits.run.results import CONTROL, Outcomes, outcomes, together
from sia_gen.audits.verdict.chance import typical
from sia_gen.audits.verdict.finding import LARGEST_Q
from sia_gen.core.errors import RequestError

NAMED = 3  # attributes beside the first that a sentence names
SAME = (
    "format", "generator", "seed", "attributes", "edits", "attack", "single", "towards", "task", "reference",
    "thresholds", "verifier", "gate",
)  # fmt: skip
"""Settings in which two runs must not differ, or their faces were not attacked alike."""


def compare(first: str | Path, second: str | Path) -> dict[str, Any]:
    """What the second of two finished audits found more or less often than the first, attribute by attribute.

    Faces are paired: those of both runs that both targets got right, "faces" of them. Each row holds, of "first" and
    "second", the share that failed, the share that failed validly (None where nothing judged that), and the mean
    |change of output| of the faces that kept their label, their differences (second less first) with 95 % intervals
    over faces, and a Benjamini–Hochberg "q" of Wilcoxon's signed-rank test on the change of output. Rows of
    attributes come by the size of that difference, then those of the arms.

    Raises `RequestError` for runs that cannot be compared, and for folders without one.
    """
    runs = [AuditReport.load(folder) for folder in (first, second)]
    settings = [finished_settings(run) for run in runs]
    for name in SAME:
        if settings[0].get(name) != settings[1].get(name):
            raise RequestError(
                f"'{first}' and '{second}' cannot be compared: {name} is {settings[0].get(name)} in one and "
                f"{settings[1].get(name)} in the other; audit both with the same settings"
            )
    names = settings[0]["attributes"]
    arms = [arm for arm in together(settings[0]) if arm in together(settings[1])]  # a quick look has none of them
    found = [(name, [outcomes(run.folder, name, ["valid"]) for run in runs]) for name in (*names, *arms)]
    found.append((CONTROL, [typical(run.folder, names) for run in runs]))
    rows = [_row(name, *_paired(pair)) for name, pair in found]
    bars, others = rows[: len(names)], rows[len(names) :]
    for row, q in zip(bars, benjamini_hochberg([row.pop("p") for row in bars]), strict=True):
        row["q"] = q
    for row in others:
        row["q"] = None
        del row["p"]
    bars.sort(key=lambda row: -abs(row["change_difference"] or 0.0))
    content = {
        "first": {"run": str(first), "target": settings[0]["target"], "correct": runs[0].histogram["correct"]},
        "second": {"run": str(second), "target": settings[1]["target"], "correct": runs[1].histogram["correct"]},
        "faces": rows[0]["faces"],
        "attributes": bars,
        "arms": others,
    }
    return {"finding": finding(content), **content}


def _paired(found: Sequence[Outcomes]) -> tuple[list[dict[str, Floats]], Groups, int]:
    """Of each run: "success", "valid" where judged, and "change" of output in an arm, where both targets were right.

    ``[N]`` each, face by face (of the control direction by direction as well); of "change" those that kept their label
    in both, and with it numbers: faces that share one were moved along the same random directions, and are drawn
    together. Last how many of these numbers there are.
    """
    times = [len(run.face) // max(1, len(np.unique(run.face))) for run in found]
    first = [run.face[: len(run.face) // max(1, count)] for run, count in zip(found, times, strict=True)]
    _, *same = np.intersect1d(*first, return_indices=True)
    places = [
        np.concatenate([rows + number * len(faces) for number in range(count)] or [rows])
        for rows, faces, count in zip(same, first, times, strict=True)
    ]
    drawn = found[0].direction[places[0]]
    kept = np.logical_and(*(run.kept[rows] for run, rows in zip(found, places, strict=True)))
    pair = []
    for run, rows in zip(found, places, strict=True):
        part = {"success": run.success[rows].astype(float), "change": run.change[rows][kept]}
        if not run.rows["valid"].null_count:
            part["valid"] = run.rows["valid"].to_numpy(zero_copy_only=False)[rows].astype(float)
        pair.append(part)
    return pair, drawn[kept], len(np.unique(drawn))


def _row(arm: str, pair: Sequence[dict[str, Floats]], drawn: Groups, draws: int) -> dict[str, Any]:
    row: dict[str, Any] = {"name": arm, "faces": len(pair[0]["success"]), "counted": len(drawn)}
    for kind in ("success", "valid", "change"):
        a, b = (part.get(kind, np.empty(0)) for part in pair)
        row[f"{kind}_first"], row[f"{kind}_second"] = _mean(a), _mean(b)
        row[f"{kind}_difference"] = _mean(b - a)
        row[f"{kind}_interval"] = mean_interval(b - a, drawn) if kind == "change" else rate_difference(a, b, draws)
    row["p"] = _signed_rank(pair[1]["change"] - pair[0]["change"])
    return row


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _signed_rank(difference: Floats) -> float:
    from scipy.stats import wilcoxon

    return float(wilcoxon(difference).pvalue) if np.any(difference) else 1.0


def finding(content: dict[str, Any]) -> str:
    """The comparison in one plain sentence."""
    first, second = (content[which]["target"] for which in ("first", "second"))
    if first == second:
        first, second = (f"{content[which]['run']}" for which in ("first", "second"))
    if not content["faces"]:
        return f"No face is read right by both {first} and {second}, so there is nothing to compare."
    sure = [row for row in content["attributes"] if row["q"] <= LARGEST_Q and _away(row["change_interval"])]
    if not sure:
        counted = max(row["counted"] for row in content["attributes"])
        # The test's least p is 2**(1 - counted).
        if counted < 1 + math.ceil(math.log2(len(content["attributes"]) / LARGEST_Q)):
            both = "that both read right"
            faces = f"1 face {both} is" if counted == 1 else f"{counted} faces {both} are"
            return f"{faces} too few to say what differs between {first} and {second}; audit both on more."
        return f"Between {first} and {second} no attribute differs for sure on {content['faces']} faces."
    row = sure[0]
    way = "more" if row["change_difference"] > 0 else "less"
    more = [other["name"] for other in sure[1:]]
    if len(more) > NAMED + 1:
        more = [*more[: NAMED - 1], f"{more[NAMED - 1]} and {len(more) - NAMED} others"]
    rest = f"; they differ in {', '.join(more)} too" if more else ""
    return (
        f"{second} follows {row['name']} {way} than {first}: moved alone, it changes the output by "
        f"{row['change_second']:.2g} instead of {row['change_first']:.2g} on average, and "
        f"{row['success_second']:.0%} of faces fail instead of {row['success_first']:.0%}{rest}."
    )


def _away(interval: Sequence[float] | None) -> bool:
    return interval is not None and (interval[0] > 0 or interval[1] < 0)
