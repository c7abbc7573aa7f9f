"""The faces of an audit, before and after, as a Hugging Face data set: ``images/*.png`` and ``metadata.parquet``.

Letters: B faces.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch

from sia_gen.attack.edit import edit
from sia_gen.audits.finished.audit_report import AuditReport
from sia_gen.audits.finished.inputs import FinishedAudit
from sia_gen.audits.run.results import UNEDITED, as_sampled_in, read_results, together
from sia_gen.audits.run.run_folder import MADE_OF
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Progress, autocast
from sia_gen.core.files import HALF_WRITTEN, atomic, require_place, shipped, slug, writable_folder
from sia_gen.core.images import to_bytes, to_pil

BATCH = 32
PICTURES, UNFINISHED = "images", "images.part"
CARD, TABLE = "README.md", "metadata.parquet"
TEXT = Template("""\
---
${licence}task_categories: [image-classification]
tags: [synthetic, faces, adversarial]
---

# Faces that an audit of $target moved

$images images of $faces generated faces: each as it was ("$unedited"), and moved along attributes where that made
'$target' fail ("$arms"). $origin `metadata.parquet` has a row for each image:

- `file_name`, `face` (the seed of the face), `arm`;
- `reference`: $reference;
- `success`: the target fails on this image; `valid`: and the face still is what it was (null where nothing judged it);
- `output_before`, `output_after`: the target's output on the unedited face and on this one;
- `omega_…`: how far each attribute was moved, in its unit: $units. Images show the worst point that the attack found.
- `confirmed`: the target fails, too, where the studio renders the same person with the same changes (null where nothing
  was rendered, or the target is wrong on the unedited render).

## How it was made

$finding

Generator '$generator', $faces faces from seed $seed, attributes only: pixel residuals are not in these images.

## Limits

Labels are those of the unedited face; an edit can change the truth, which `valid` tells as far as a verifier can.
$look Not for training systems that decide about people.
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
    attribute moved alone are added, as they are of a quick look, which has no others; with ``valid``, only valid
    failures are taken. Images are made anew from the generator and ω, without the pixel residual. Returns how many were
    written.

    Raises `RequestError` for a run whose generator or attributes have changed since, or that has none by name, and for
    a folder that holds something else.
    """
    require_place(out)
    finished = FinishedAudit.load(run, generator, device)
    report, settings, source, space = finished.report, finished.settings, finished.generator, finished.audited
    out = writable_folder(out)
    pictures = out / UNFINISHED
    left = {UNFINISHED, TABLE, CARD} if pictures.is_dir() else set()  # by a killed export
    if any(path.name not in left and not (left and path.match(HALF_WRITTEN)) for path in out.iterdir()):
        raise RequestError(f"'{out}' is not empty; choose another --out")
    if left:
        shutil.rmtree(pictures)
        for path in out.glob(HALF_WRITTEN):
            path.unlink()
    pictures.mkdir()
    whole = [arm for arm in together(settings) if arm == "semantic"]
    arms = [*whole, *(space.names if alone or not whole else [])]
    rows = _rows(report, arms, space.names, valid, as_sampled_in(settings))
    done, precision = 0, settings["attack"]["precision"]
    for part in np.array_split(np.arange(len(rows)), max(1, -(-len(rows) // BATCH))):
        chosen = [rows[index] for index in part]
        if not chosen:
            break
        omega = torch.tensor([[row[f"omega_{name}"] for name in space.names] for row in chosen])
        with torch.inference_mode():
            codes = source.sample([row["face"] for row in chosen])
            with autocast(codes.device, precision):
                images = edit(source, space, codes, omega.to(codes.device))
            faces = to_bytes(images.float()).cpu()
        for row, face in zip(chosen, faces, strict=True):
            to_pil(face).save(pictures / Path(row["file_name"]).name)
        done += len(chosen)
        if progress:
            progress(done, len(rows), "writing")
    _write_table(rows, settings["classes"], out / TABLE)
    ours = str(generator or settings[MADE_OF]["generator"] or settings["generator"]) in shipped("generator")
    units = ", ".join(f"{a.name} {a.unit}" for a in space.attributes)
    card = TEXT.substitute(
        target=settings["target"],
        images=len(rows),
        faces=len({row["face"] for row in rows}),
        unedited=UNEDITED,
        arms='", "'.join(arms),
        reference=f"what the target should say, the {settings['reference']}{_counted(settings['classes'])}",
        licence="license: apache-2.0\n" if ours else "",
        origin="No photograph and no real person." if ours else "The generator's terms of use apply.",
        look="The faces look like renders." if ours else "The faces are as good as their generator.",
        units=units,
        finding=report.finding,
        generator=settings["generator"],
        seed=settings["seed"],
    )
    with atomic(out / CARD) as partial:
        partial.write_text(card, encoding="utf-8")
    pictures.rename(out / PICTURES)  # last: until then the same call starts over
    return len(rows)


def _counted(classes: Sequence[str]) -> str:
    return f" ({', '.join(f'{index} {name}' for index, name in enumerate(classes))})" if classes else ""


def _rows(
    report: AuditReport, arms: Sequence[str], names: Sequence[str], valid: bool, as_it_was: str
) -> list[dict[str, Any]]:
    """A row for each image: every attacked face as it was, then the failures of each of ``arms``.

    ``names`` are the audit's attributes, ``as_it_was`` is the arm that tells which faces were attacked.
    """
    plain = ["face", "reference", "correct", "success", "valid", "confirmed", "output_before", "output_after"]
    moved = [f"omega_{name}" for name in names]
    found = []
    for arm in (as_it_was, *arms):
        for row in read_results(report.folder, [*plain, *moved], arm).to_pylist():
            unedited = arm == as_it_was
            wanted = unedited or (row["success"] and (row["valid"] or not valid))
            if not row.pop("correct") or not wanted:
                continue
            if unedited:
                row |= {"success": False, "output_after": row["output_before"], **dict.fromkeys(moved, 0.0)}
                row |= {"valid": None, "confirmed": None}
            row |= {name: 0.0 for name in moved if row[name] is None or np.isnan(row[name])}
            kind = UNEDITED if unedited else arm
            # Numbered besides, for an attribute may have any name.
            place = 0 if unedited or kind not in names else 1 + list(names).index(kind)
            file = f"{row['face']:08d}-{place:02d}-{slug(kind)}.png"
            found.append({"file_name": f"{PICTURES}/{file}", "arm": kind, **row})
    return found


def _write_table(rows: list[dict[str, Any]], classes: Sequence[str], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(rows)
    if classes:
        names = {"info": {"features": {"reference": {"names": list(classes), "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(names)})
    with atomic(path) as partial:
        pq.write_table(table, partial)
