"""What the command line shows of an audit, and of two beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sia_gen.audits.evidence.reference import OWN
from sia_gen.audits.verdict import finding
from sia_gen.service.commands.terminal import bar, interval, number, show_table, signed_interval


def show_audit(histogram: Mapping[str, Any]) -> None:
    """Print an audit's finding, its histogram with bars, and its arms."""
    print(histogram["finding"])
    if histogram["confirmation"]:
        print(histogram["confirmation"])
    if histogram.get("entangled"):  # which older runs do not say
        print(histogram["entangled"])
    if histogram["settings"].get("quick"):
        print(finding.QUICK)
    towards = histogram["settings"].get("towards")
    right = "correct" if towards is None else f"correct and not '{towards}'"
    print(f"{histogram['correct']} of {histogram['faces']} faces {right} before any edit; only these are attacked.")
    print(f"What is right is said by the {_referee(histogram)}.")
    if histogram["left_out"]:
        print(f"Left out: {', '.join(histogram['left_out'])}, which is what the target predicts.")
    for said in histogram["checks"]:
        print(f"Before you trust this: {said}.")
    print()
    rows = histogram["attributes"]
    most = max((row["output_change"] or 0.0 for row in rows), default=0.0)
    show_table(
        f"Sensitivity of '{histogram['target']}': mean |change of output|, each attribute moved alone",
        [
            "attribute",
            "",
            ">|Δ output|",
            ">control",
            ">fail",
            ">95 %",
            ">valid",
            ">confirmed",
            ">change at failure (size)",
            ">q",
        ],
        [
            [
                ("▸ " if row["stands_out"] else "")
                + row["name"]
                + (f" ← {row['explained_by']}?" if row["explained_by"] else ""),
                bar((row["output_change"] or 0.0) / most if most else 0.0),
                number(row["output_change"], ".3f"),
                number(row["control"]["output_change"], ".3f"),
                f"{row['successes']}/{row['attempted']}",
                interval(row["interval"]),
                number(row["valid_successes"], "d"),
                _confirmed(row),
                f"{row['mean_change']:+.3g} ({row['mean_size']:.3g}) {row['unit']}" if row["mean_size"] else "–",
                number(row["q"], ".3f"),
            ]
            for row in rows
        ],
    )
    if any(row["counted"] < row["attempted"] for row in rows):
        print("|Δ output| is of the faces whose label, as the verifier reads it, survived the change")
    if any(row["stands_out"] for row in rows):
        print(
            f"▸ stands out: q ≤ {finding.LARGEST_Q:g}, {finding.CONTROL_RATIO:g} × the control, "
            f"{finding.OTHERS_RATIO:g} × the median of the strongest others, and more that the report says"
        )
    if histogram["pairs"]:
        print()
        show_table(
            "Pairs moved together, and how far beyond the stronger of the two alone, on faces that kept their label",
            ["pair", ">|Δ output|", ">beyond", ">95 %", ">fail", ">95 %"],
            [
                [
                    row["name"],
                    number(row["output_change"], ".3f"),
                    number(row["beyond"], "+.3f"),
                    signed_interval(row["beyond_interval"], "+.3f"),
                    f"{row['successes']}/{row['attempted']}",
                    interval(row["interval"]),
                ]
                for row in histogram["pairs"]
            ],
        )
    print()
    show_table(
        "Arms: how often the target fails",
        ["arm", "", ">fail", ">95 %", ">attempted", ">failed", ">valid", ">confirmed"],
        [
            [
                name,
                bar(arm["success"]),
                f"{arm['success']:.0%}",
                interval(arm["interval"]),
                *(str(arm[key]) for key in ("attempted", "successes")),
                number(arm["valid_successes"], "d"),
                _confirmed(arm),
            ]
            for name, arm in [*histogram["arms"].items(), (histogram["control"]["name"], histogram["control"])]
        ],
    )


def _confirmed(row: Mapping[str, Any]) -> str:
    """Of the valid failures that could be rendered, how many fail there."""
    found = row["valid_confirmed"]
    return f"{found['confirmed']}/{found['of']}" if found["of"] else "–"


def _referee(histogram: Mapping[str, Any]) -> str:
    """Whose answer a target's is held against, and what follows for validity."""
    if histogram["reference"] != OWN:
        return "verifier, which reads it off the face"
    gate = histogram["gate"]
    judged = gate is None or gate["label"] is not None  # without a gate nothing is called valid at all
    return "model itself, of the unedited face" + ("" if judged else ": 'valid' does not judge the label")


def show_comparison(content: Mapping[str, Any]) -> None:
    """Print what differs between two audits, attribute by attribute and arm by arm."""
    first, second = content["first"], content["second"]
    print(content["finding"])
    print(f"first: '{first['target']}' in {first['run']}; second: '{second['target']}' in {second['run']}\n")
    show_table(
        f"On {content['faces']} faces that both got right: first → second, and the difference with its 95 % interval",
        ["", ">|Δ output|", ">difference", ">95 %", ">fail", ">difference", ">95 %", ">q"],
        [
            [
                row["name"],
                f"{number(row['change_first'], '.3f')} → {number(row['change_second'], '.3f')}",
                number(row["change_difference"], "+.3f"),
                signed_interval(row["change_interval"], "+.3f"),
                f"{number(row['success_first'], '.0%')} → {number(row['success_second'], '.0%')}",
                number(row["success_difference"], "+.0%"),
                signed_interval(row["success_interval"], "+.0%"),
                number(row["q"], ".3f"),
            ]
            for row in [*content["attributes"], *content["arms"]]
        ],
    )
    print(
        "q: Wilcoxon's signed-rank test on the change of output, face by face, over all attributes (Benjamini–Hochberg)"
    )
