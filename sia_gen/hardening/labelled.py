"""Labelled images from outside: a folder of images a class, or a Hugging Face folder with a column of labels.

A Hugging Face folder is an image folder with ``metadata.csv``, ``.jsonl`` or ``.parquet``, or Parquet files that hold
the pictures themselves, as `datasets` writes them. Of splits, "train" is taken.

Letters: N images, S side of the picture.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sia_gen.core.errors import RequestError, WorkError, unknown
from sia_gen.core.executors import Progress
from sia_gen.core.files import is_file, is_folder
from sia_gen.core.foreign import first_line
from sia_gen.core.images import from_pil, to_bytes
from sia_gen.hardening.classed import classed
from sia_gen.studio.renders import SHIPPED, shipped_renders

METADATA = ("metadata.parquet", "metadata.csv", "metadata.jsonl")
TRAIN, LABEL, FILE, IMAGE = "train", "label", "file_name", "image"
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
UNLABELLED, UNREADABLE = "without a label", "unreadable"
REPORT_EVERY = 100

Opened = Callable[[], Image.Image]
Row = tuple[Any, Opened]
Rows = tuple[list[Row], tuple[str, ...] | None, str]


@dataclass(frozen=True)
class LabelledImages:
    """``images`` uint8 ``[N, 3, S, S]``, ``labels`` int64 ``[N]`` counted through ``classes``; ``left_out``: why, how
    many rows."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    left_out: dict[str, int]

    @property
    def counts(self) -> list[int]:
        """How many images each class has."""
        return torch.bincount(self.labels, minlength=len(self.classes)).tolist()

    @property
    def digest(self) -> str:
        """Tells these pictures and labels from others."""
        found = hashlib.sha256(self.images.numpy().tobytes())
        found.update(self.labels.numpy().tobytes())
        return found.hexdigest()[:16]


def read_labelled(
    folder: str | Path,
    side: int,
    *,
    columns: Sequence[str] = (LABEL,),
    classes: Sequence[str] | None = None,
    cuts: Sequence[float] = (),
    attribute: str | None = None,
    progress: Progress | None = None,
) -> LabelledImages:
    """Read a labelled data set, each picture upright, in RGB on white, its middle square at ``side`` pixels.

    It is a folder, or "faces-renders", which is shipped. The first of the ``columns`` that is there holds the labels.
    ``classes`` names them in their order, also such as have no picture; unless told these are the data set's own names,
    or those found in sorted order. Numbers that are no classes yet are cut at ``cuts``: those in the column of the
    ``attribute``, the first but "label" unless told, and fractions and numbers above the classes in any. -1 and 1 alone
    are no and yes. Rows without a label, and pictures that cannot be read, are left out and counted.

    Raises `RequestError` for a folder that holds no such data set, and for a column or class that is not there.
    """
    folder = data_folder(folder)
    if isinstance(classes, str):
        raise one_text(classes)
    if not is_folder(folder):
        raise RequestError(f"data '{folder}' is no folder; name one of images a class, or of a Hugging Face data set")
    own = attribute or next((name for name in columns if name != LABEL), None)
    rows, names, column = _rows(folder, columns)
    found, named = classed([label for label, _ in rows], names, classes, cuts, column == own, folder)
    kept = [index for index, label in enumerate(found) if label is not None]
    left_out: Counter[str] = Counter({UNLABELLED: len(rows) - len(kept)})
    images = torch.empty(len(kept), 3, side, side, dtype=torch.uint8)  # filled in place: a list would double it
    labels, count = torch.empty(len(kept), dtype=torch.int64), 0
    for number, index in enumerate(kept):
        if progress and number % REPORT_EVERY == 0:
            progress(number, len(kept), "reading pictures")
        try:
            with rows[index][1]() as picture:
                images[count] = to_bytes(from_pil(upright(picture, side)))
        except Exception:  # what a damaged picture raises is not to be foreseen
            left_out[UNREADABLE] += 1
            continue
        labels[count] = found[index]  # type: ignore[assignment]
        count += 1
    if not count:
        told = ", ".join(f"{many} {why}" for why, many in left_out.items() if many)
        raise RequestError(f"'{folder}' has no labelled picture that can be read ({told or 'it is empty'}); see --data")
    left = {why: many for why, many in left_out.items() if many}
    return LabelledImages(images[:count], labels[:count], named, left)


def one_text(classes: str) -> RequestError:
    """For names of classes that are no list."""
    return RequestError(f"classes='{classes}' is one text; give a list of names, as ['no glasses', 'glasses']")


def data_folder(folder: str | Path) -> Path:
    """The folder, or that of the shipped renders where it is their name."""
    shipped = shipped_renders()
    return shipped if str(folder) == SHIPPED and shipped is not None and not is_folder(Path(folder)) else Path(folder)


def is_shipped(folder: str | Path) -> bool:
    """Whether these are the renders that models are measured on."""
    shipped = shipped_renders()
    return shipped is not None and data_folder(folder).resolve() == shipped.resolve()


def upright(picture: Image.Image, side: int) -> Image.Image:
    """The middle square of a picture at ``side`` pixels: turned as its EXIF says, in RGB, what is clear on white."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):  # 16 or more bits a pixel, which `convert` would cut off
        values = np.asarray(picture, dtype=np.float64)
        top = values.max() if values.max() > 255 and picture.mode != "I;16" else 65535 if values.max() > 255 else 255
        picture = Image.fromarray((values * (255 / top)).clip(0, 255).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        clear = picture.convert("RGBA")
        picture = Image.new("RGB", clear.size, "white")
        picture.paste(clear, mask=clear.getchannel("A"))
    return ImageOps.fit(picture.convert("RGB"), (side, side), Image.Resampling.BICUBIC)


def _rows(folder: Path, wanted: Sequence[str]) -> Rows:
    """Each row's label and how its picture is opened; the classes' names, where the data set has them; the column."""
    place = folder / TRAIN if is_folder(folder / TRAIN) else folder
    for name in METADATA:
        if is_file(place / name):
            return _with_metadata(place, name, wanted)
    packed = _packed(place)
    if packed:
        return _from_parquet(packed, wanted)
    classes = sorted((path for path in place.iterdir() if path.is_dir() and not path.name.startswith(".")), key=_order)
    if classes and LABEL not in wanted:
        raise RequestError(
            f"'{folder}' has a folder for each class, and no column '{wanted[0]}'; leave --column out, or add the "
            "metadata"
        )
    rows: list[Row] = []
    for number, path in enumerate(classes):
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
        rows += [(number, _opener(file)) for file in files]
    if not rows:
        raise RequestError(
            f"'{folder}' holds neither images in a folder for each class nor a Hugging Face data set "
            f"({', '.join(METADATA)} or Parquet files); name one that does"
        )
    return rows, tuple(path.name for path in classes), LABEL


def _order(path: Path) -> tuple[bool, float, str]:
    """Names in order, before them numbers by what they are."""
    number = re.fullmatch(r"-?\d+(\.\d+)?", path.name)
    return number is None, float(path.name) if number else 0.0, path.name


def _packed(place: Path) -> list[Path]:
    """The Parquet files of a data set; of several splits those of "train"."""
    files = sorted([*place.glob("*.parquet"), *place.glob("data/*.parquet")])
    return [file for file in files if file.name.startswith(TRAIN)] or files


def _with_metadata(place: Path, name: str, wanted: Sequence[str]) -> Rows:
    path, names = place / name, None
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            table = pq.read_table(path)
            columns = table.column_names
            label = _chosen(wanted, columns)
            names = _class_names(table.schema, label)
            entries = [dict(zip(columns, row.values(), strict=True)) for row in table.to_pylist()]
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                lines = csv.DictReader(file) if path.suffix == ".csv" else map(json.loads, filter(str.strip, file))
                entries = [dict(line) for line in lines]
            columns = list(dict.fromkeys(key for entry in entries for key in entry))
            label = _chosen(wanted, columns)
    except RequestError:
        raise
    except Exception as error:  # of every reader beneath
        raise WorkError(f"cannot read '{path}' ({first_line(error)}); write the file again") from None
    if FILE not in columns:
        raise RequestError(f"'{path}' has no column {FILE}, which says where pictures lie; add it")
    return [(entry.get(label), _opener(_inside(place, entry.get(FILE)))) for entry in entries], names, label


def _inside(place: Path, name: Any) -> Path | None:
    """A picture's path, if it lies in the data set's folder."""
    path = (place / str(name)).resolve()
    return path if name and path.is_relative_to(place.resolve()) else None


def _opener(path: Path | None) -> Opened:
    def opened() -> Image.Image:
        if path is None:
            raise OSError("the picture lies outside of the data set")
        return Image.open(path)

    return opened


def _from_parquet(files: Sequence[Path], wanted: Sequence[str]) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pa.concat_tables([pq.read_table(file) for file in files])
    except Exception as error:
        raise WorkError(f"cannot read '{files[0]}' ({first_line(error)}); fetch the file again") from None
    columns, pictures = table.column_names, None
    for name in (IMAGE, *columns):
        kind = table.schema.field(name).type if name in columns else None
        if kind is not None and (pa.types.is_binary(kind) or (pa.types.is_struct(kind) and "bytes" in _fields(kind))):
            pictures = name
            break
    if pictures is None:
        raise RequestError(f"'{files[0]}' has no column of pictures, as '{IMAGE}'; it has {', '.join(columns)}")
    label = _chosen(wanted, [name for name in columns if name != pictures])

    def opener(index: int) -> Opened:
        def opened() -> Image.Image:
            entry = table[pictures][index].as_py()
            data = entry if isinstance(entry, bytes) else entry["bytes"]
            # `datasets` keeps the place of a picture on disk instead, unless it was told to embed it.
            if data is None:
                return _opener(_inside(files[0].parent, entry["path"]))()
            return Image.open(BytesIO(data))

        return opened

    labels = table[label].to_pylist()
    return [(value, opener(index)) for index, value in enumerate(labels)], _class_names(table.schema, label), label


def _fields(kind: Any) -> Iterator[str]:
    return (kind.field(index).name for index in range(kind.num_fields))


def _chosen(wanted: Sequence[str], columns: Sequence[str]) -> str:
    for name in wanted:
        if name in columns:
            return name
    raise unknown(
        "column", wanted[0], list(columns), f"name that of the labels with --column, or call it '{wanted[0]}'"
    )


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """What `datasets` says that the numbers in a column of labels mean."""
    try:
        feature = json.loads(schema.metadata[b"huggingface"])["info"]["features"][label]
        names = tuple(map(str, feature["names"]))
    except (KeyError, TypeError, ValueError):
        return None
    return names
