"""What the command line shows beside a sheet of faces: a row for each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sia_gen.service.commands.terminal import show_table
from sia_gen.service.words import HOW_READ

SHOWN = 6  # changes of an attacked face


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
                _changes(row["changes"]),
            ]
            for row in summary["faces"]
        ],
    )


def _changes(changes: Mapping[str, float]) -> str:
    """The first of the changes, which are the largest, and how many more there are."""
    moved = [f"{name} {value:+.3g}" for name, value in changes.items() if value]
    return ", ".join(moved[:SHOWN]) + (f" … and {len(moved) - SHOWN} smaller" if len(moved) > SHOWN else "")


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
