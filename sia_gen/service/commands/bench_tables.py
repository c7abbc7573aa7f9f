"""What the command line shows of the benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sia_gen.service.commands.terminal import interval, number, show_table


def show_suite(content: Mapping[str, Any]) -> None:
    """Print what the planted suite counted, and a row per model."""
    show_table(
        "Planted and balanced targets: score on renders, effect there of what was planted, and what the audit said",
        ["model", ">score", ">effect", ">correct", "cause", ">rank", ">|Δ output|", ">control", "stands out"],
        [
            [
                row["model"],
                f"{row['score']:.0%}",
                number(row["effect"], "+.2f"),
                str(row["correct"]),
                row["cause"] or "none",
                number(row["rank"], "d"),
                number(row["change"], ".3f"),
                number(row["control"], ".3f"),
                ", ".join(row["stands_out"]) or "nothing",
            ]
            for row in content["models"]
        ],
    )
    words = {
        "rank_1": "the cause comes first",
        "top_3": "the cause is among the first three",
        "named": "the finding names the cause",
        "false_alarms": "balanced models in which something stands out",
    }
    print()
    for key, what in words.items():
        found = content[key]
        if found["of"]:
            print(f"{what}: {found['count']} of {found['of']} ({interval(found['interval'])})")
    for key, what in (("rates", "rate of failure"), ("means", "mean change of output")):
        found = content[key]
        if found["of"]:
            print(
                f"intervals of an attribute's {what} that hold that of a second audit: {found['share']:.0%} of "
                f"{found['of']} ({interval(found['interval'])}), {found['expected']:.0%} expected"
            )


def show_agreement(content: Mapping[str, Any]) -> None:
    """Print an audit's bars beside those of rendered faces, and what share of its failures rendering confirms."""
    show_table(
        f"Mean |change of output| and failures on {content['faces']} faces, generated and rendered",
        ["attribute", ">audit", ">rendered", ">audit fails", ">rendered fails", ">95 %"],
        [
            [
                row["name"],
                f"{row['audit']:.3f}",
                f"{row['rendered']:.3f}",
                f"{row['audit_success']:.0%}",
                f"{row['rendered_success']:.0%}",
                interval(row["interval"]),
            ]
            for row in content["attributes"]
        ],
    )
    print(f"\nSpearman's correlation of the two orders: {number(content['spearman'], '.2f')}")
    for arm, what in (("semantic", "the semantic arm"), ("alone", "attributes alone")):
        found = content["confirmed"][arm]
        share = f"{found['share']:.0%} ({interval(found['interval'])})" if found["of"] else "none to confirm"
        print(f"confirmed failures of {what}: {found['confirmed']} of {found['of']}, {share}")


def show_attacks(content: Mapping[str, Any]) -> None:
    """Print attacks side by side, target by target."""
    for target in dict.fromkeys(row["target"] for row in content["rows"]):
        rows = [row for row in content["rows"] if row["target"] == target]
        show_table(
            f"'{target}', {rows[0]['attempted']} of {content['faces']} faces right before; pixels within "
            f"{content['epsilon'] * 255:.3g}/255 ({content['norm']}), {content['steps']} steps",
            ["attack", "moves", ">fails", ">95 %", ">validly", ">confirmed", ">s a face", ">SSIM", ">distance"],
            [
                [
                    row["attack"],
                    row["kind"],
                    f"{row['success']:.0%}",
                    f"{row['interval'][0]:.0%}–{row['interval'][1]:.0%}",
                    f"{row['valid']:.0%}",
                    "–" if row["confirmed"] is None else f"{row['confirmed']['confirmed']}/{row['confirmed']['of']}",
                    f"{row['seconds']:.2g}",
                    number(row["similarity"], ".3f"),
                    number(row["distance"], ".2f"),
                ]
                for row in rows
            ],
        )
        print()
    print("distance: root mean square change in the verifier's features, in their standard deviations over faces")


def show_imbalance(content: Mapping[str, Any]) -> None:
    """Print what every remedy reached, best first, a table for each label and ratio."""
    for label, ratio in dict.fromkeys((row["label"], row["ratio"]) for row in content["table"]):
        rows = [row for row in content["table"] if (row["label"], row["ratio"]) == (label, ratio)]
        show_table(
            f"{label}, 1 : {ratio}, {rows[0]['runs']} runs; measures on balanced held-out renders",
            ["remedy", ">balanced", ">95 %", ">worst", ">F1", ">ECE", ">AUROC", ">of oracle", ">s"],
            [
                [
                    row["remedy"],
                    f"{row['balanced']:.1%}",
                    "{:.1%}–{:.1%}".format(*row["interval"]),
                    f"{row['worst']:.0%}",
                    f"{row['f1']:.3f}",
                    f"{row['ece']:.3f}",
                    f"{row['auroc']:.3f}",
                    "–" if row["gain"] is None else f"{row['gain']:.0%}",
                    f"{row['seconds']:.0f}",
                ]
                for row in sorted(rows, key=lambda row: -row["balanced"])
            ],
        )
        for row in rows:
            for key, what in (("above_without", f"over {row['rival']}"), ("above_generated", "over plain faces")):
                if row[key] is not None:
                    low, high = row[key]["interval"]
                    print(
                        f"{row['remedy']} {what}: balanced {100 * row[key]['balanced']:+.1f} points "
                        f"({100 * low:+.1f} … {100 * high:+.1f}), worst class {100 * row[key]['worst']:+.1f}"
                    )
        print()
    for row in content["faces"]:
        print(
            f"{row['case']}, {row['faces']}: {row['made']} faces, {row['hard']} of them hard, "
            f"{row['a_minute'] or 0:.0f} a minute; {row['twice']:.1%} look like one before"
        )
