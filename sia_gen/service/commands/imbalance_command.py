"""The command that compares what helps where classes are rare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sia_gen.service.commands.options import AsJson, Device, Generator, Seed, names_of, print_json, resolve


def imbalance(
    out: Annotated[Path, typer.Option(help="Folder of the suite; the same command goes on in it.")] = Path(
        "runs/imbalance"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="One label, ratio, network and seed; some minutes.")] = False,
    labels: Annotated[str | None, typer.Option(help="Comma-separated: glasses, smile, age.")] = None,
    ratios: Annotated[str | None, typer.Option(help="Comma-separated, most frequent : rarest class, as 10,50.")] = None,
    networks: Annotated[str | None, typer.Option(help="Comma-separated: resnet, vit.")] = None,
    seeds: Annotated[int | None, typer.Option(help="How many of each.")] = None,
    faces: Annotated[int | None, typer.Option(help="Generated faces of a class, at most.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps of each row.")] = None,
    renders: Annotated[Path | None, typer.Option(help="Renders to use; the shipped faces-renders by default.")] = None,
    generator: Generator = "faces-stylegan2",
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Teach networks on long tails of renders by every remedy, and see which helps the rare classes most."""
    from sia_gen.rebalancing.bench import imbalance_suite, scale_of
    from sia_gen.service.commands.terminal import progress_bar

    scale = scale_of(
        quick, labels=names_of(labels), ratios=names_of(ratios), architectures=names_of(networks), seeds=seeds,
        faces=faces, steps=steps,
    )  # fmt: skip
    with progress_bar(quiet=as_json) as progress:
        content = imbalance_suite(
            out, scale=scale, renders=renders, generator=generator, seed=seed, device=resolve(device),
            progress=progress,
        )  # fmt: skip
    if as_json:
        print_json({**content, "out": str(out)})
        return
    _show(content)
    print(f"\nWritten to {out}")


def _show(content: Mapping[str, Any]) -> None:
    """Print what every remedy reached, best first, a table for each label and ratio."""
    from sia_gen.service.commands.terminal import show_table

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
