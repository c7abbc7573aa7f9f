"""What the command line shows: progress on stderr, tables on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sia_gen.audits.evidence.reference import OWN
from sia_gen.audits.verdict import finding
from sia_gen.core import executors
from sia_gen.service.words import HOW_READ

BAR_WIDTH = 12
PIPE_WIDTH = 160  # a pipe has no width to fit into
EIGHTHS = " ▏▎▍▌▋▊▉"


@contextmanager
def progress_bar(quiet: bool) -> Iterator[executors.Progress | None]:
    """A progress callback that draws on stderr; None where nobody looks (``quiet``, or stderr is no terminal)."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=escape(what))

        yield show


def bar(share: float, width: int = BAR_WIDTH) -> str:
    """A bar of ``share`` (0 … 1) of ``width`` characters, to an eighth of one."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, part = divmod(eighths, 8)
    return "█" * full + (EIGHTHS[part] if part else "")


def show_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; headings that start with ">" are right-aligned, and the last column to the left is wrapped."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate(headings, 1):
        justify: Literal["left", "right"] = "right" if heading.startswith(">") else "left"
        wrapped = place == len(headings) and justify == "left"
        table.add_column(heading.removeprefix(">"), justify=justify, no_wrap=not wrapped)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    print(title)
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def _referee(histogram: Mapping[str, Any]) -> str:
    """Whose answer a target's is held against, and what follows for validity."""
    if histogram["reference"] != OWN:
        return "verifier, which reads it off the face"
    gate = histogram["gate"]
    judged = gate is not None and gate["label"] is not None
    return "model itself, of the unedited face" + ("" if judged else ": 'valid' does not judge the label")


def show_audit(histogram: Mapping[str, Any]) -> None:
    """Print an audit's finding, its histogram with bars, and its arms."""
    print(histogram["finding"])
    if histogram["confirmation"]:
        print(histogram["confirmation"])
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
            ">mean change (size)",
            ">q",
        ],
        [
            [
                ("▸ " if row["stands_out"] else "")
                + row["name"]
                + (f" ← {row['explained_by']}?" if row["explained_by"] else ""),
                bar((row["output_change"] or 0.0) / most if most else 0.0),
                _number(row["output_change"], ".3f"),
                _number(row["control"]["output_change"], ".3f"),
                f"{row['successes']}/{row['attempted']}",
                _interval(row["interval"]),
                _number(row["valid_successes"], "d"),
                _confirmed(row),
                f"{row['mean_change']:+.3g} ({row['mean_size']:.3g}) {row['unit']}" if row["mean_size"] else "–",
                _number(row["q"], ".3f"),
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
                    _number(row["output_change"], ".3f"),
                    _number(row["beyond"], "+.3f"),
                    _signed_interval(row["beyond_interval"], "+.3f"),
                    f"{row['successes']}/{row['attempted']}",
                    _interval(row["interval"]),
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
                _interval(arm["interval"]),
                *(str(arm[key]) for key in ("attempted", "successes")),
                _number(arm["valid_successes"], "d"),
                _confirmed(arm),
            ]
            for name, arm in [*histogram["arms"].items(), (histogram["control"]["name"], histogram["control"])]
        ],
    )


def _confirmed(row: Mapping[str, Any]) -> str:
    """Of the valid failures that could be rendered, how many fail there."""
    found = row["valid_confirmed"]
    return f"{found['confirmed']}/{found['of']}" if found["of"] else "–"


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
                f"{_number(row['change_first'], '.3f')} → {_number(row['change_second'], '.3f')}",
                _number(row["change_difference"], "+.3f"),
                _signed_interval(row["change_interval"], "+.3f"),
                f"{_number(row['success_first'], '.0%')} → {_number(row['success_second'], '.0%')}",
                _number(row["success_difference"], "+.0%"),
                _signed_interval(row["success_interval"], "+.0%"),
                _number(row["q"], ".3f"),
            ]
            for row in [*content["attributes"], *content["arms"]]
        ],
    )
    print(
        "q: Wilcoxon's signed-rank test on the change of output, face by face, over all attributes (Benjamini–Hochberg)"
    )


def _signed_interval(interval: Sequence[float] | None, form: str) -> str:
    return "–" if interval is None else f"{interval[0]:{form}} … {interval[1]:{form}}"


def show_suite(content: Mapping[str, Any]) -> None:
    """Print what the planted suite counted, and a row per model."""
    show_table(
        "Planted and balanced targets: score on renders, effect there of what was planted, and what the audit said",
        ["model", ">score", ">effect", ">correct", "cause", ">rank", ">|Δ output|", ">control", "stands out"],
        [
            [
                row["model"],
                f"{row['score']:.0%}",
                _number(row["effect"], "+.2f"),
                str(row["correct"]),
                row["cause"] or "none",
                _number(row["rank"], "d"),
                _number(row["change"], ".3f"),
                _number(row["control"], ".3f"),
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
            print(f"{what}: {found['count']} of {found['of']} ({_interval(found['interval'])})")
    for key, what in (("rates", "rate of failure"), ("means", "mean change of output")):
        found = content[key]
        if found["of"]:
            print(
                f"intervals of an attribute's {what} that hold that of a second audit: {found['share']:.0%} of "
                f"{found['of']} ({_interval(found['interval'])}), {found['expected']:.0%} expected"
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
                _interval(row["interval"]),
            ]
            for row in content["attributes"]
        ],
    )
    print(f"\nSpearman's correlation of the two orders: {_number(content['spearman'], '.2f')}")
    for arm, what in (("semantic", "the semantic arm"), ("alone", "attributes alone")):
        found = content["confirmed"][arm]
        share = f"{found['share']:.0%} ({_interval(found['interval'])})" if found["of"] else "none to confirm"
        print(f"confirmed failures of {what}: {found['confirmed']} of {found['of']}, {share}")


def show_attack(summary: Mapping[str, Any]) -> None:
    """Print what `attack_sheet` found, a row per face."""
    show_table(
        f"'{summary['target']}' on faces of '{summary['generator']}', held against the {summary['reference']}",
        [">face", "before", "after", ">output", "changes"],
        [
            [
                str(row["face"]),
                _text(row["before"]) + ("" if row["correct"] else " (wrong as it is)"),
                _text(row["after"]) + (" (fails)" if row["success"] else ""),
                f"{row['output_before']:.3f} → {row['output_after']:.3f}",
                ", ".join(f"{name} {value:+.3g}" for name, value in row["changes"].items() if value),
            ]
            for row in summary["faces"]
        ],
    )


def _text(said: Any) -> str:
    return "" if said is None else str(said)


def show_changes(summary: Mapping[str, Any]) -> None:
    """Print what the verifier read before and after one edit, a row per face and factor."""
    if not any(face["readings"] for face in summary["faces"]):
        print("No verifier is shipped that could read the edit back.")
        return
    show_table(
        f"As the verifier reads it: {HOW_READ}",
        [">face", "factor", ">before", ">after", ">change", "unit", ">asked"],
        [
            [
                str(face["face"]),
                reading["name"],
                f"{reading['before']:.3g}",
                f"{reading['after']:.3g}",
                f"{reading['change']:+.3g}",
                reading["unit"],
                f"{summary['changes'][reading['name']]:+.3g}" if reading["name"] in summary["changes"] else "",
            ]
            for face in summary["faces"]
            for reading in face["readings"]
        ],
    )


def show_sweeps(summary: Mapping[str, Any]) -> None:
    """Print what the verifier read along each attribute, a row per face and attribute."""
    show_table(
        "Change asked for → value that the verifier reads",
        [">face", "attribute", "unit", "lowest", "", "as sampled", "", "highest"],
        [
            [str(face["face"]), entry["name"], entry["unit"], *_columns(entry)]
            for face in summary["faces"]
            for entry in face["attributes"]
        ],
    )


def _columns(entry: Mapping[str, Any]) -> list[str]:
    if not entry["read"]:
        return [f"{asked:+.3g}" for asked in entry["asked"]]
    return [f"{asked:+.3g} → {read:.3g}" for asked, read in zip(entry["asked"], entry["read"], strict=True)]


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
                    _number(row["similarity"], ".3f"),
                    _number(row["distance"], ".2f"),
                ]
                for row in rows
            ],
        )
        print()
    print("distance: root mean square change in the verifier's features, in their standard deviations over faces")


def show_entries(title: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """Print plain entries, a column per key."""
    if not entries:
        print(f"no {title} are shipped")
        return
    show_table(title, [key.replace("_", " ") for key in entries[0]], [list(map(_cell, e.values())) for e in entries])


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.3g}"
    return {None: "–", True: "yes", False: "no"}.get(value, str(value))


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _interval(interval: Sequence[float]) -> str:
    return f"{100 * interval[0]:.0f}–{interval[1]:.0%}"
