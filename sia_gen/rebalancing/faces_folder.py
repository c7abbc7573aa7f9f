"""Generated faces as a Hugging Face data set, written batch by batch: ``images/*.png``, ``metadata.parquet``, a card.

Letters: M faces, R resolution.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import torch
from torch import Tensor

from sia_gen.core.errors import WorkError
from sia_gen.core.executors import Progress
from sia_gen.core.files import atomic, writable_folder
from sia_gen.core.images import read_image, to_bytes, to_pil
from sia_gen.core.seeds import seeds_apart
from sia_gen.rebalancing.rare_faces import BATCH, RareFaces
from sia_gen.rebalancing.remedies import Added
from sia_gen.targets.target import Target
from sia_gen.training.card import CARD, table

PICTURES, PARTS, TABLE = "images", "parts", "metadata.parquet"
TRIED, LEAST = 20, 0.01  # batches after which a share of faces that pass as small as this ends the work
TEMPLATE = Path(__file__).parent / "card.md"
AS_THEY_COME = "- `round`: when it was made; `hard`, `hard_for`: no face was made hard for a model;"
MADE_HARD = """\
- `hard`: the attributes other than `$attribute` were moved towards where '$target' errs ($hard faces); `hard_for`: the
  model that this was, and `round`: when; `right_before`, `fails`, `output_before`, `output_after`: what that model said
  of the face without those changes and with them;"""


def clock(place: torch.device) -> float:
    """Seconds: on a CPU those that this process computed, as others may share it; on a GPU those that went by."""
    return time.process_time() if place.type == "cpu" else time.monotonic()


@dataclass
class Faces:
    """What has been made: ``pictures`` uint8 ``[M, 3, R, R]``, ``labels`` int64 ``[M]``, a row of provenance each,
    how many others were ``refused`` and why, and the ``seconds`` that it took."""

    pictures: Tensor
    labels: Tensor
    rows: list[dict[str, Any]]
    refused: Counter[str]
    seconds: float

    @property
    def a_minute(self) -> float | None:
        """Faces that passed, in a minute of the ``seconds``."""
        return round(60 * len(self.rows) / self.seconds, 1) if self.seconds else None

    def taken(self, wanted: Mapping[int, int]) -> tuple[Tensor, Tensor]:
        """So many pictures of each class, the first ones, and their labels."""
        index = torch.cat([(self.labels == number).nonzero().flatten()[:count] for number, count in wanted.items()])
        return self.pictures[index], self.labels[index]

    @classmethod
    def together(cls, every: Sequence[Faces]) -> Faces:
        """What several calls made."""
        some = [made.pictures for made in every if len(made.rows)]
        refused: Counter[str] = Counter()
        for made in every:
            refused.update(made.refused)
        return cls(
            torch.cat(some) if some else torch.empty(0),
            torch.cat([made.labels for made in every]),
            [row for made in every for row in made.rows],
            refused,
            sum(made.seconds for made in every),
        )


def fill(
    folder: Path, source: RareFaces, plan: Mapping[int, int], hard: Added, target: Target | None, told: str, *,
    round_number: int = 0, seed: int = 0, before: Tensor | None = None, progress: Progress | None = None,
) -> tuple[Faces, Tensor]:  # fmt: skip
    """Make ``plan`` faces, how many of which class, into ``folder``; gives them, and how all people so far look.

    ``told`` is what the target is called. What is written stays, whatever ends the work, and the same call goes on from
    there. Raises `WorkError` where hardly a face passes.
    """
    (writable_folder(folder) / PICTURES).mkdir(exist_ok=True)
    (folder / PARTS).mkdir(exist_ok=True)
    people = torch.empty(0, 64) if before is None else before
    made = Faces(torch.empty(0), torch.empty(0, dtype=torch.int64), [], Counter(), 0.0)
    pictures: list[Tensor] = []
    for number, wanted in plan.items():
        count = chunk = 0
        while count < wanted:
            part = folder / PARTS / f"{round_number:02d}-{number:02d}-{chunk:05d}.parquet"
            if not part.exists():
                purpose = f"rebalance {round_number} {number} {chunk}"
                _draw(part, source, purpose, number, wanted - count, hard, target, told, round_number, seed, people)
            rows, embedded, notes = _read(part)
            pictures += [to_bytes(read_image(folder / row["file_name"])) for row in rows]
            made.rows += rows
            made.refused.update(notes["refused"])
            made.seconds += notes["seconds"]
            some = [vectors for vectors in (people, embedded) if len(vectors)]
            people = torch.cat(some) if some else people
            count, chunk = count + len(rows), chunk + 1
            if chunk >= TRIED and count < LEAST * chunk * BATCH:
                reason = made.refused.most_common(1)[0][0]
                raise WorkError(
                    f"{count} of {chunk * BATCH} faces of class {number} pass, most are refused: {reason}; choose "
                    "another generator or other --class thresholds"
                )
            if progress:
                progress(len(made.rows), sum(plan.values()), "generating faces")
    if pictures:
        made.pictures = torch.stack(pictures)
    made.labels = torch.tensor([row["label"] for row in made.rows], dtype=torch.int64)
    return made, people


def _draw(
    part: Path, source: RareFaces, purpose: str, number: int, room: int, hard: Added, target: Target | None,
    told: str, round_number: int, seed: int, people: Tensor,
) -> None:  # fmt: skip
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = source.space.directions.device
    begun = clock(place)
    drawn = source.draw(seeds_apart(seed, purpose, BATCH), number, hard, target, people)
    rows = []
    for index, row in enumerate(drawn.rows[:room]):
        name = f"{PICTURES}/{part.stem}-{index:02d}.png"
        with atomic(part.parent.parent / name) as partial:
            to_pil(drawn.pictures[index]).save(partial)
        rows.append({"file_name": name, "label": number, "round": round_number, "hard_for": told * row["hard"], **row})
    notes = {"refused": drawn.refused, "seconds": clock(place) - begun}
    content = pa.Table.from_pylist([row | {"embedding": drawn.embeddings[k].tolist()} for k, row in enumerate(rows)])
    with atomic(part) as partial:
        pq.write_table(content.replace_schema_metadata({"notes": json.dumps(notes)}), partial)


def _read(part: Path) -> tuple[list[dict[str, Any]], Tensor, dict[str, Any]]:
    import pyarrow.parquet as pq

    try:
        content = pq.read_table(part)
        rows = content.to_pylist()
        notes = json.loads(content.schema.metadata[b"notes"])
    except Exception as error:
        raise WorkError(f"'{part}' is damaged ({type(error).__name__}); delete it and run the same again") from None
    return rows, torch.tensor([row.pop("embedding") for row in rows]), notes


def finish(folder: Path, classes: tuple[str, ...], made: Faces, card: Mapping[str, Any]) -> None:
    """Write the table and the card of a data set whose faces are all there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = {"info": {"features": {"label": {"names": list(classes), "_type": "ClassLabel"}}}}
    content = pa.Table.from_pylist(made.rows).replace_schema_metadata({"huggingface": json.dumps(names)})
    with atomic(folder / TABLE) as partial:
        pq.write_table(content, partial)
    counts = torch.bincount(made.labels, minlength=len(classes)).tolist()
    numbered = zip(range(len(classes)), classes, counts, strict=True)
    values = {
        **card,
        "faces": len(made.rows),
        "hard": sum(row["hard"] for row in made.rows),
        "counts": table(["label", "class", "faces"], list(numbered)),
        "refused": table(["refused", "faces"], made.refused.most_common()),
    }  # fmt: skip
    attacked = any("fails" in row for row in made.rows)
    values["hardness"] = Template(MADE_HARD if attacked else AS_THEY_COME).substitute(values)
    text = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(values)
    with atomic(folder / CARD) as partial:
        partial.write_text(text, encoding="utf-8")


def card_values(told: Mapping[str, Any], source: RareFaces, hard: Added, ours: bool) -> dict[str, Any]:
    """What the card says of how faces were made, by the settings ``told``; ``ours``: by a shipped generator."""
    (label,) = source.meant.labels
    attribute = label.attribute
    how = "nothing else was changed"
    if hard != "generated":
        what = "the other attributes" + (" and the pixels" if hard == "joint" else "")
        how = f"{what} were moved by gradient ascent on the error of '{told['target']}'"
        how += f", up to {told['attack']} steps and no further than where it errs"
    return {
        "licence": "license: apache-2.0\n" if ours else "",
        "data": Path(told["data"]).name,
        "attribute": attribute,
        "unit": source.space.attributes[source.space.names.index(attribute)].unit,
        "cuts": ", ".join(f"{cut:g}" for cut in label.thresholds),
        "target": told["target"] or "no model",
        "generator": told["generator"],
        "seed": told["seed"],
        "alike": f"{source.alike:.2f}",
        "how": how,
        "origin": "No photograph and no real person." if ours else "The generator's terms of use apply.",
        "look": "The faces look like renders." if ours else "The faces are as good as their generator.",
    }
