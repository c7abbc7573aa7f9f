"""Renders as one small file: a Hugging Face data set with the pictures inside, to be shipped and read anywhere."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Progress
from sia_gen.core.files import atomic, read_json, writable_folder, write_json
from sia_gen.core.images import from_bytes
from sia_gen.studio.factors import NAMES
from sia_gen.studio.renders import METADATA, PACKED, SETTINGS, read_renders
from sia_gen.training.card import SHEET, draw_sheet, write_card

QUALITY = 75  # of lossy WebP
FEATURE = {"info": {"features": {"image": {"_type": "Image"}}}}  # tells the datasets library to decode
SIZES = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_001, "10K<n<100K"))  # as the hub names them
ROWS, COLUMNS = 6, 8  # of the sheet


def pack_renders(renders: str | Path, out: str | Path, faces: int, progress: Progress | None = None) -> Path:
    """Write the first ``faces`` faces of the folder ``renders``, and a card, to the data set ``out``.

    Pictures are stored lossy and landmarks in half precision. Raises `RequestError` for a folder that holds fewer
    faces, or no renders.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    renders = Path(renders)
    if not (renders / METADATA).is_file():
        raise RequestError(f"'{renders}' holds no renders; name a folder that 'sia-gen studio render' wrote")
    table = pq.read_table(renders / METADATA)
    if not 1 <= faces <= len(table):
        raise RequestError(f"faces={faces} is outside 1…{len(table)}, what '{renders}' holds; choose fewer")
    if Path(out).resolve() == renders.resolve():
        raise RequestError(f"'{out}' holds the renders themselves; choose another --out")
    table, out = table.slice(0, faces), writable_folder(out)

    def encode(name: str) -> dict[str, Any]:
        buffer = BytesIO()
        with Image.open(renders / name) as image:
            image.save(buffer, "WEBP", quality=QUALITY, method=6)
        return {"bytes": buffer.getvalue(), "path": f"{Path(name).stem}.webp"}

    encoded = []
    with ThreadPoolExecutor() as pool:  # pillow encodes without holding the interpreter
        for entry in pool.map(encode, table["file_name"].to_pylist()):
            encoded.append(entry)
            if progress and (len(encoded) % 50 == 0 or len(encoded) == faces):
                progress(len(encoded), faces, "packing")
    landmarks = [np.asarray(row, np.float16) for row in table["landmarks"].to_pylist()]
    columns = {"image": pa.array(encoded, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}
    columns |= {name: table[name] for name in table.column_names if name not in ("file_name", "landmarks")}
    columns["landmarks"] = pa.array(landmarks, pa.list_(pa.float16()))
    packed = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(FEATURE)})
    writable_folder((out / PACKED).parent)
    with atomic(out / PACKED) as partial:
        pq.write_table(packed, partial, compression="zstd")
    write_json(out / SETTINGS, read_json(renders / SETTINGS))
    _describe(out)
    return out


def _describe(out: Path) -> None:
    """Write a sheet of the first faces, and the card."""
    data = read_renders(out)
    rows = [from_bytes(part) for part in data.images[: ROWS * COLUMNS].split(COLUMNS)]
    draw_sheet(out / SHEET, rows)
    size = next((words for most, words in SIZES if len(data) < most), SIZES[-1][1])
    shown = {"faces": len(data), "resolution": data.settings["resolution"], "size": size}
    write_card(out, "renders", data.settings, 0, factors=len(NAMES), quality=QUALITY, **shown)
