"""What the command line shows of the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sia_gen.service.commands.terminal import interval, number, show_table, signed_interval


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
        f"Mean |change of output| and failures: of all faces of the audit, and of {content['faces']} of them rendered",
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
            [
                "attack",
                "moves",
                ">fails",
                ">95 %",
                ">validly",
                ">95 %",
                ">confirmed",
                ">s a face",
                ">asked a face",
                ">SSIM",
                ">distance",
            ],
            [
                [
                    row["attack"],
                    row["kind"],
                    f"{row['success']:.0%}",
                    interval(row["interval"]),
                    number(row["valid"], ".0%"),
                    "–" if row["valid_interval"] is None else interval(row["valid_interval"]),
                    "–" if row["confirmed"] is None else f"{row['confirmed']['confirmed']}/{row['confirmed']['of']}",
                    f"{row['seconds']:.2g}",
                    f"{row['queries']:.0f}",
                    number(row["similarity"], ".3f"),
                    number(row["distance"], ".2f"),
                ]
                for row in rows
            ],
        )
        print()
    print("distance: root mean square change in the verifier's features, in their standard deviations over faces")
    if "transfer" in content["rows"][0]:
        _show_transfer(content["rows"])


def _show_transfer(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print what pictures made against one target do to the others."""
    print()
    names = list(dict.fromkeys(row["target"] for row in rows))
    show_table(
        "Pictures made against one target, shown to the others: the share that fails (validly)",
        ["attack", "made against", *(f">{name}" for name in names)],
        [
            [row["attack"], row["target"], *(_passed_on(row["transfer"].get(name)) for name in names)]
            for row in sorted(rows, key=lambda row: row["attack"])
        ],
    )


def _passed_on(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else f"{found['success']:.0%} ({number(found['valid'], '.0%')})"


def show_robustness(content: Mapping[str, Any]) -> None:
    """Print a report of robustness, a column a target; every share but the clean ones is one of failures."""
    targets = content["targets"]
    rows: list[list[str]] = []

    def add(what: str, of: Callable[[Mapping[str, Any]], str]) -> None:
        rows.append([what, *(of(each) for each in targets)])

    def failed(found: Mapping[str, Any]) -> str:
        return f"{found['success']:.0%} ({interval(found['interval'])})"

    def clean(key: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda each: "–" if each["clean"] is None else f"{each['clean'][key]:.1%}"

    add("clean renders, read right", clean("balanced"))
    add("of their worst group", clean("worst"))
    for index, found in enumerate(targets[0]["pixels"]):
        add(f"pixels within {found['epsilon'] * 255:.3g}/255", lambda each, index=index: failed(each["pixels"][index]))  # type: ignore[misc]
    for arm in ("semantic", "joint"):
        add(arm, lambda each, arm=arm: f"{failed(each[arm])}, valid {number(each[arm]['valid'], '.0%')}")  # type: ignore[misc]
    for name in dict.fromkeys(name for each in targets for name in each["alone"]):
        add(f"{name} alone", lambda each, name=name: failed(each["alone"][name]) if name in each["alone"] else "–")  # type: ignore[misc]
    if all(each["extremes"] is not None for each in targets):
        add("rendered at the ends of attributes", _ends)
    if all(each["corruptions"] is not None for each in targets):
        for name in targets[0]["corruptions"]:
            add(f"{name}, read right in strengths 1 to 5", lambda each, name=name: _shares(each["corruptions"][name]))  # type: ignore[misc]
    show_table(
        f"Failures on {content['faces']} faces of '{content['generator']}' and on renders, {content['steps']} steps",
        ["", *(f">{each['target']}" for each in targets)],
        rows,
    )


def _ends(each: Mapping[str, Any]) -> str:
    sides = [side for ends in each["extremes"].values() for side in ends.values()]
    of, failed = sum(side["of"] for side in sides), sum(side["failed"] for side in sides)
    return f"{failed} of {of}" + (f", {failed / of:.0%}" if of else "")


def _shares(shares: Sequence[float]) -> str:
    return " ".join(f"{share:.0%}" for share in shares)


def show_imbalance(content: Mapping[str, Any]) -> None:
    """Print what every remedy reached, best first, a table for each label and ratio."""
    for label, ratio in dict.fromkeys((row["label"], row["ratio"]) for row in content["table"]):
        rows = [row for row in content["table"] if (row["label"], row["ratio"]) == (label, ratio)]
        each = [*rows[0]["each"]] if len(rows[0]["each"]) > 1 else []  # of several labels
        show_table(
            f"{label}, 1 : {ratio}, {rows[0]['runs']} runs; measures on balanced held-out renders"
            + ("; each row at the best of three learning rates" if content["settings"].get("rates") else ""),
            [
                "remedy",
                ">balanced",
                ">95 %",
                *(f">{name}" for name in each),
                ">worst",
                ">F1",
                ">ECE",
                ">AUROC",
                ">of oracle",
                ">s",
            ],
            [
                [
                    row["remedy"],
                    f"{row['balanced']:.1%}",
                    "{:.1%}–{:.1%}".format(*row["interval"]),
                    *(f"{row['each'][name]:.1%}" for name in each),
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
            f"{row['a_minute'] or 0:.0f} a minute; {row['twice']:.1%} "
            f"{'refused as one person twice' if row['filtered'] else 'look like one before'}; "
            f"{row['above_threshold']:.0%} of the first {row['compared']} by the identity model's own threshold "
            f"(as many renders of different people: {row['renders']['twice']:.1%} look like one before, "
            f"{row['renders']['above_threshold']:.0%} by that threshold)"
            + (f"; the verifier reads {row['read']:.0%} as told" if "read" in row else "")
        )


LEGEND = (
    "clean: share right on renders; worst group: the least of groups by age, sex, skin tone and the planted cause",
    "cause, worst side: share right on renders of a class on the worse side of the planted cause",
    "fail: of the faces read right unedited; stood: of all faces those read right unedited and attacked",
    "semantic, joint: attributes moved, without and with pixels; valid: likely faces of the same person and label",
    "confirmed: of the failures those that show on renders with the same changes, too",
    "alone fail: faces on which one attribute moved from end to end suffices, mean over attributes",
    "extremes fail: people rendered at an attribute's ends that are then read wrong, mean over attributes",
    "corrupted: share right on corrupted renders, mean over corruptions and strengths",
    "intervals: of the seed alone, not of the faces",
)


def show_hardening(content: Mapping[str, Any]) -> None:
    """Print what every regimen's models stand, a column each, and how much more or less than the standard one's."""
    table, settings = content["table"], content["settings"]
    shares = [name for name in table[0]["measures"] if name not in ("seconds", "times standard")]
    names = [name for name in shares if any(each["measures"][name]["mean"] is not None for each in table)]
    runs, tried = max(each["runs"] for each in table), settings["pixel_attacks"]
    show_table(
        f"'{settings['target']}' hardened over {runs} seeds, % (95 % interval of the mean over seeds); attacked on "
        f"{settings['judged']} faces" + (f", in pixels by {', '.join(tried)}" if tried else ""),
        ["", *(f">{each['by']}" for each in table)],
        [
            *([name, *(_over_seeds(each["measures"][name], 100) for each in table)] for name in names),
            ["drawing and learning, seconds", *(_over_seeds(each["measures"]["seconds"], 1) for each in table)],
            ["seconds, times standard", *(number(each["measures"]["times standard"]["mean"], ".1f") for each in table)],
        ],
    )
    print()
    for words in LEGEND:
        print(words)
    for each in table:
        told = [_more(each["measures"][name], name) for name in ("clean", "semantic stood", "joint stood")]
        if any(told):
            print(f"{each['by']} over standard, points: {', '.join(filter(None, told))}")


def _over_seeds(found: Mapping[str, Any], times: float) -> str:
    if found["mean"] is None:
        return "–"
    reach = "" if found["interval"] is None else " ({:.0f}–{:.0f})".format(*(times * end for end in found["interval"]))
    return f"{times * found['mean']:.0f}{reach}"


def _more(found: Mapping[str, Any], name: str) -> str:
    if found["more"] is None:
        return ""
    ends = None if found["more_interval"] is None else [100 * end for end in found["more_interval"]]
    return f"{name} {100 * found['more']:+.1f}" + ("" if ends is None else f" ({signed_interval(ends, '+.1f')})")
