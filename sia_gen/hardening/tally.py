"""What the cells of the hardening suite say together: means over seeds, with intervals.

All models are measured on the same faces and renders, so that intervals are of what the seed of a hardening changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sia_gen.audits.evidence.statistics import over_runs

UNTOUCHED, STANDARD = "untouched", "standard"
SECONDS, TIMES = "seconds", "times standard"
ARMS = ("semantic", "joint")


def measures_of(
    report: Mapping[str, Any], faces: int, seconds: Mapping[str, float] | None
) -> dict[str, float | None]:  # fmt: skip
    """The numbers of one model's `robustness` on so many ``faces``, shares but for the seconds; None where it has none.

    "… fail" are shares of the judged faces that it reads right unedited; "… stood" of all of them those that it also
    reads right attacked, which compares models that read differently many.
    """
    clean = report["clean"]
    found: dict[str, float | None] = {"clean": None, "worst group": None, "cause, worst side": None}
    if clean is not None:
        shares = [share for rows in clean["cells"].values() for row in rows for share in row if share is not None]
        found = {"clean": clean["balanced"], "worst group": clean["worst"]}
        found["cause, worst side"] = min(shares, default=None)
    for part in report["pixels"]:
        found |= _stands(f"pixels {part['epsilon'] * 255:.3g}/255", part, faces)
    for arm in ARMS:
        found |= _stands(arm, report[arm], faces)
        found[f"{arm} valid"] = report[arm]["valid"]
        told = report[arm]["confirmed"]
        found[f"{arm} confirmed"] = told["confirmed"] / told["of"] if told is not None and told["of"] else None
    found["alone fail, mean"] = _mean([each["success"] for each in report["alone"].values()])
    found["extremes fail, mean"] = _mean([_failed(ends.values()) for ends in (report["extremes"] or {}).values()])
    found["corrupted"] = _mean([share for shares in (report["corruptions"] or {}).values() for share in shares])
    found[SECONDS] = None if seconds is None else sum(seconds.values())
    return found


def tally(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each regimen: "runs", and per measure its "mean", 95 % "interval" and, where there is "standard", how much
    more it is than that of the same seed, "more" with the interval "more_interval"; no interval of a single run.

    "times standard" are the seconds, in those of "standard" of the same seed.
    """
    named = {(row["by"], row["seed"]): dict(row["measures"]) for row in rows}
    base = {seed: found for (by, seed), found in named.items() if by == STANDARD}
    for (_, seed), found in named.items():
        beside = base.get(seed, {}).get(SECONDS)
        found[TIMES] = found[SECONDS] / beside if beside and found[SECONDS] is not None else None
    table = []
    for by in dict.fromkeys(by for by, _ in named):
        here = {seed: found for (each, seed), found in named.items() if each == by}
        entry: dict[str, Any] = {"by": by, "runs": len(here), "measures": {}}
        for name in next(iter(here.values())):
            known = {seed: found[name] for seed, found in here.items() if found[name] is not None}
            more = []
            if by != STANDARD and name != TIMES:
                more = [
                    value - base[seed][name]
                    for seed, value in known.items()
                    if base.get(seed, {}).get(name) is not None
                ]
            entry["measures"][name] = {
                "mean": _mean(list(known.values())), "interval": _interval(name, list(known.values())),
                "more": _mean(more), "more_interval": over_runs(more),
            }  # fmt: skip
        table.append(entry)
    return table


def _interval(name: str, values: Sequence[float]) -> list[float] | None:
    ends = over_runs(values)
    return ends if ends is None or name in (SECONDS, TIMES) else [max(0.0, ends[0]), min(1.0, ends[1])]


def _stands(name: str, part: Mapping[str, Any], faces: int) -> dict[str, float | None]:
    of, failed = part["attempted"], part["successes"]
    return {f"{name} fail": failed / of if of else None, f"{name} stood": (of - failed) / faces}


def _failed(sides: Any) -> float | None:
    of, failed = (sum(side[key] for side in sides) for key in ("of", "failed"))
    return failed / of if of else None


def _mean(values: Sequence[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return float(np.mean(told)) if told else None
