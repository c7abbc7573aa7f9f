"""`README.md` beside a model that was trained on a data set and on generated faces: how, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from sia_gen.core.files import atomic
from sia_gen.rebalancing.measures import compared
from sia_gen.rebalancing.remedies import REMEDIES
from sia_gen.training.card import CARD, table

TEXT = Template("""\
# $name

'$target', trained further by `sia-gen rebalance` on '$data' and generated faces, by `$by` ($words).

$pictures

A fifth of the data set's pictures was not trained on. $rounds × $steps steps of $batch pictures, learning rate $rate,
seed $seed; faces of '$generator'. Terms of use are those of '$target', of the data set and of the generator.

## Figures

$figures
What it knows of the rare classes is what the generator shows of them: hold it against pictures of your own before you
use it.
""")


def write_model_card(
    folder: Path, told: Mapping[str, Any], added: Sequence[int], figures: Mapping[str, Mapping[str, Any]]
) -> None:
    """``told`` are the settings, ``added`` how many faces each class got, ``figures`` before and after by set."""
    found = ""
    for name, both in figures.items():
        before, after = both["before"], both["after"]
        rows = compared(told["classes"], before, after)
        found += table([f"{before['pictures']} pictures, {name}", "before", "after"], rows) + "\n\n"
    pictures = zip(told["classes"], told["counts"], added, strict=True)
    text = TEXT.substitute(
        told,
        name=folder.resolve().parent.name,
        data=Path(told["data"]).name,
        words=REMEDIES[told["by"]].words,
        pictures=table(["class", "pictures", "generated faces"], list(pictures)),
        figures=found,
    )
    with atomic(folder / CARD) as partial:
        partial.write_text(text, encoding="utf-8")
