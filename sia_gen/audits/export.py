"""The faces of an audit, before and after, as a Hugging Face data set: ``images/*.png`` and ``metadata.parquet``.

Letters: B faces.
"""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch

from sia_gen.attack.edit import edit
from sia_gen.audits.audit_report import AuditReport
from sia_gen.audits.finished import FinishedAudit
from sia_gen.audits.results import read_results
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Progress
from sia_gen.core.files import atomic, writable_folder
from sia_gen.core.images import to_bytes, to_pil

BATCH = 32
UNEDITED = "unedited"
CARD = Template("""\
---
license: apache-2.0
task_categories: [image-classification]
tags: [synthetic, faces, adversarial]
---

# Faces that an audit of $target moved

$images images of $faces generated faces: each as it was ("$unedited"), and moved along attributes where that made
'$target' fail ("$arms"). No photograph and no real person. `metadata.parquet` has a row for each image:

- `file_name`, `face` (the seed of the face), `arm`;
- `reference`: $reference;
- `success`: the target fails on this image; `valid`: and the face still is what it was (null where nothing judged it);
- `output_before`, `output_after`: the target's output on the unedited face and on this one;
- `omega_…`: how far each attribute was moved, in its unit: $units.

## How it was made

$finding

Generator '$generator', $faces faces from seed $seed, attributes only: pixel residuals are not in these images.

## Limits

Labels are those of the unedited face; an edit can change the truth, which `valid` tells as far as a verifier can. The
faces are renders' kin and look it. Not for training systems that decide about people.
""")


def export(
    run: str | Path,
    out: str | Path,
    *,
    generator: str | Path | None = None,
    alone: bool = False,
    valid: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> int:
    """Write the attacked faces of a finished audit, and those that failed in its semantic arm, to the folder ``out``.

    ``generator`` is named where the run's name does not find it again. With ``alone``, those that failed with one
    attribute moved alone are added; with ``valid``, only valid failures are taken. Images are made anew from the
    generator and ω, without the pixel residual. Returns how many were written.

    Raises `RequestError` for a run whose generator or attributes have changed since, or that has none by name, and for
    a folder that holds something else.
    """
    finished = FinishedAudit.load(run, generator, device)
    report, settings, source, space = finished.report, finished.settings, finished.generator, finished.audited
    out = writable_folder(out)
    if any(path.name != "images" for path in out.iterdir()):  # alone, they are what a killed export left
        raise RequestError(f"'{out}' is not empty; choose another --out")
    (out / "images").mkdir(exist_ok=True)
    arms = ["semantic", *(space.names if alone else [])]
    rows = _rows(report, arms, space.names, valid)
    done = 0
    for part in np.array_split(np.arange(len(rows)), max(1, -(-len(rows) // BATCH))):
        chosen = [rows[index] for index in part]
        if not chosen:
            break
        omega = torch.tensor([[row[f"omega_{name}"] or 0.0 for name in space.names] for row in chosen])
        with torch.inference_mode():
            codes = source.sample([row["face"] for row in chosen])
            pictures = to_bytes(edit(source, space, codes, omega.to(codes.device)).float()).cpu()
        for row, picture in zip(chosen, pictures, strict=True):
            to_pil(picture).save(out / row["file_name"])
        done += len(chosen)
        if progress:
            progress(done, len(rows), "writing")
    _write_table(rows, out)
    units = ", ".join(f"{a.name} {a.unit}" for a in space.attributes)
    card = CARD.substitute(
        target=settings["target"],
        images=len(rows),
        faces=len({row["face"] for row in rows}),
        unedited=UNEDITED,
        arms='", "'.join(arms),
        reference=f"what the target should say, the {settings['reference']}",
        units=units,
        finding=report.finding,
        generator=settings["generator"],
        seed=settings["seed"],
    )
    with atomic(out / "README.md") as partial:
        partial.write_text(card, encoding="utf-8")
    return len(rows)


def _rows(report: AuditReport, arms: list[str], names: list[str], valid: bool) -> list[dict[str, Any]]:
    """A row for each image: every attacked face as it was, then the failures of each arm."""
    plain = ["face", "reference", "correct", "success", "valid", "output_before", "output_after"]
    moved = [f"omega_{name}" for name in names]
    found = []
    for arm in ("pixel", *arms):
        for row in read_results(report.folder, [*plain, *moved], arm).to_pylist():
            unedited = arm == "pixel"
            wanted = unedited or (row["success"] and (row["valid"] or not valid))
            if not row.pop("correct") or not wanted:
                continue
            if unedited:
                row |= {"success": False, "output_after": row["output_before"], **dict.fromkeys(moved, 0.0)}
                row["valid"] = None
            row |= {name: 0.0 for name in moved if row[name] is None or np.isnan(row[name])}
            kind = UNEDITED if unedited else arm
            found.append({"file_name": f"images/{row['face']:08d}-{kind}.png", "arm": kind, **row})
    return found


def _write_table(rows: list[dict[str, Any]], out: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic(out / "metadata.parquet") as partial:
        pq.write_table(pa.Table.from_pylist(rows), partial)
