"""Models that visitors bring: a zip of a transformers folder, checked before any of it is unpacked, or a hub id.

Only safetensors and JSON get in, so that nothing of it can run.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from threading import get_ident
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from torch.nn.modules import module as hooks

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import is_file, read_config, slug, writable_folder, write_json
from sia_gen.core.foreign import first_line, one_line, quiet_transformers
from sia_gen.core.hub import fetch_public
from sia_gen.service.runs import KEPT_SECONDS
from sia_gen.service.trial import try_out
from sia_gen.targets.formats.pretrained import (
    NEW_PROCESSOR,
    PROCESSOR,
    TIMM,
    checked_config,
    numbers,
    require_classifier,
)
from sia_gen.targets.outputs import task_of
from sia_gen.targets.target import label_of

MB = 1_000_000
LARGEST = 500 * MB  # of a zip, and of what is in it
LARGEST_JSON = 2 * MB  # of one file
MANY = 64  # files in it
DENSEST = 100  # bytes that one byte of it may become
PLAIN = (".json", ".safetensors")
SPARSEST = 2  # numbers that a network may have for each that its weights hold
LARGEST_SIDE = 512  # pixels of what it is shown
MODULES = 20_000  # parts that it may have
CONFIG, WEIGHTS = "config.json", "model.safetensors"
FOLDER = ".brought"  # in that of the runs, so that a run that was broken off finds its model again
KEPT_BYTES = 4000 * MB  # of all models that were brought
NEW, NEW_SECONDS = ".new-", 3600  # a model that is being checked, and how long that takes at most
CHUNK = 1 << 20


@dataclass(frozen=True)
class Uploads:
    """The models that were brought, a folder each, kept as long as runs are; the longest unused go first."""

    folder: Path

    def place(self, name: str) -> Path | None:
        """The folder of a model by the name that `add` gave; None for any other name."""
        there = self.folder / name
        if not name or slug(name) != name or not is_file(there / CONFIG):
            return None
        with suppress(OSError):
            os.utime(there)
        return there

    def add(self, archive: Path | None, hub: str, label: str | None = None) -> str:
        """The name of a model in a zip, or behind a hub id ``owner/name``, once it was checked and loaded.

        ``label`` says what it predicts, as "smile:0.5", see `label_of`. Raises `RequestError` or `WorkError`.
        """
        self._tidy()
        if (archive is None) == (not hub.strip()):
            raise RequestError("give a zip or a hub id, one of the two")
        with self._new() as new:
            if archive is not None:
                unpack(archive, new)
                called, told = archive.stem, archive.read_bytes()
            else:
                source = fetch_public(_hub_id(hub), require_small)
                for path in source.iterdir():
                    if path.suffix in PLAIN and path.is_file():
                        shutil.copyfile(path, new / path.name)
                called, told = hub.rpartition("/")[2], f"{hub} {source}".encode()
            digest = hashlib.sha256(told + (label or "").encode()).hexdigest()[:8]
            name = f"{slug(called)[:40] or 'model'}-{digest}"
            if self.place(name) is None:
                _check(new, label)
                new.rename(self.folder / name)
        return name

    @contextmanager
    def _new(self) -> Iterator[Path]:
        new = Path(tempfile.mkdtemp(prefix=NEW, dir=writable_folder(self.folder)))
        try:
            yield new
        except (RequestError, WorkError) as error:  # whose place is nobody's business
            raise type(error)(str(error).replace(str(new), "the model").replace(new.name, "the model")) from None
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _tidy(self) -> None:
        """Remove what is too old, and the oldest of what is too much."""
        kept = 0
        for there in sorted(self.folder.glob("*"), key=lambda path: -path.stat().st_mtime):
            kept += sum(path.stat().st_size for path in there.glob("*"))
            longest = NEW_SECONDS if there.name.startswith(NEW) else KEPT_SECONDS
            if time.time() - there.stat().st_mtime > longest or kept > KEPT_BYTES:
                shutil.rmtree(there, ignore_errors=True)


def _check(folder: Path, label: str | None) -> None:
    """Raise `RequestError` or `WorkError` unless a model can be used; what it predicts is written into its config."""
    described = require_filled(folder)
    require_small_pictures(folder)
    if label:
        config = read_config(folder / CONFIG)
        task, _ = task_of({**described, "sia_gen": config["sia_gen"]}, folder.name)
        told = label_of(task, folder.name, label)
        config["sia_gen"] |= {"label": {"attribute": told.attribute, "thresholds": list(told.thresholds)}}
        write_json(folder / CONFIG, config)
    try_out(folder)


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of a zip that holds one model's folder; raises `RequestError` before that for anything else."""
    try:
        with zipfile.ZipFile(archive) as opened:
            for entry, name in checked(opened.infolist()).items():
                with opened.open(entry) as source, (folder / name).open("wb") as written:
                    left = entry.file_size  # a header that lies is cut off, and fails its checksum
                    while left > 0 and (data := source.read(min(CHUNK, left))):
                        written.write(data)
                        left -= len(data)
    except RequestError:
        raise
    except FileNotFoundError:
        raise RequestError("the zip is no longer there; send it again") from None
    except Exception as error:  # zipfile's own, and those of every way to pack
        raise RequestError(f"the zip is damaged ({first_line(error)}); pack the model's folder again") from None


def checked(entries: list[zipfile.ZipInfo]) -> dict[zipfile.ZipInfo, str]:
    """The files of a zip, each with the name under which it is written; raises `RequestError` for what is refused."""
    files = [entry for entry in entries if not entry.is_dir()]
    if len(files) > MANY:
        raise RequestError(f"the zip holds {len(files)} files, more than {MANY}; pack the model's folder alone")
    found: dict[zipfile.ZipInfo, str] = {}
    for entry in files:
        path, shown = PurePosixPath(entry.filename), repr(entry.filename[:60])
        if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in entry.filename:
            raise RequestError(f"the zip has {shown}, which lies outside of it; pack the model's folder again")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise RequestError(f"the zip has {shown}, a link and no file; pack the files themselves")
        if entry.flag_bits & 1:
            raise RequestError(f"the zip has {shown} behind a password; pack it without one")
        if path.suffix not in PLAIN:
            raise RequestError(f"the zip has {shown}, neither safetensors nor JSON; leave it out")
        if entry.file_size > DENSEST * max(1, entry.compress_size):
            raise RequestError(f"the zip has {shown}, which grows more than {DENSEST} times; it is refused")
        found[entry] = path.name
    require_small({name: entry.file_size for entry, name in found.items()}, "the zip")
    if len({PurePosixPath(entry.filename).parent for entry in files}) > 1 or len(set(found.values())) < len(files):
        raise RequestError("the zip holds more than one folder of files; pack the model's folder alone")
    for needed in (CONFIG, WEIGHTS):
        if needed not in found.values():
            raise RequestError(f"the zip has no {needed}; pack what save_pretrained wrote")
    return found


def require_small(sizes: Mapping[str, int], where: str = "the repository") -> None:
    """Raise `RequestError` where the files of a model, each with its bytes, are too many or too large."""
    size = sum(sizes.values())
    if len(sizes) > MANY:
        raise RequestError(f"{where} holds {len(sizes)} files, more than {MANY}; bring the model's folder alone")
    if size > LARGEST:
        raise RequestError(f"{where} holds {size / MB:.0f} MB, more than {LARGEST / MB:.0f}; bring a smaller model")
    for name, size in sizes.items():
        if name.endswith(".json") and size > LARGEST_JSON:
            raise RequestError(
                f"{where} has '{name[:60]}' of {size / MB:.0f} MB, more than {LARGEST_JSON / MB:.0f}; leave it out"
            )


def require_filled(folder: Path) -> dict[str, Any]:
    """Raise `RequestError` where a config describes a far larger network than its weights fill: it would take memory.

    It is laid out without any for that. Raises `RequestError` before for what is no image classifier of transformers,
    `WorkError` for damaged files. Gives the config, with what transformers fills in.
    """
    from transformers import AutoConfig, AutoModelForImageClassification

    config = checked_config(folder)
    require_classifier(folder, config)
    if config["model_type"] == TIMM:
        raise RequestError("it is a model of timm's, which is not taken; bring one of transformers' own")
    stored = 0
    with one_line(f"'{folder}'"), quiet_transformers():
        for path in folder.glob("*.safetensors"):
            with safe_open(str(path), framework="pt") as file:
                stored += sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
        described = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"), _within(SPARSEST * stored, stored):
            AutoModelForImageClassification.from_config(described, trust_remote_code=False)
        return described.to_dict()


def require_small_pictures(folder: Path) -> None:
    """Raise `RequestError` where a model is shown larger pictures than others can wait for."""
    for path in (folder / PROCESSOR, folder / NEW_PROCESSOR):
        for name, value in numbers(read_config(path)) if is_file(path) else ():
            if value > LARGEST_SIDE and re.search("size|edge|height|width", name):
                raise RequestError(
                    f"its {path.name} has {name}={value!r:.20}, more than {LARGEST_SIDE} pixels; bring a smaller model"
                )


@contextmanager
def _within(most: int, stored: int) -> Iterator[None]:
    """Raise `RequestError` as soon as a network that is laid out here has more parts or numbers than it may."""
    thread, wanted, parts = get_ident(), 0, 0

    def count(module: nn.Module, name: str, part: nn.Module | nn.Parameter | None) -> None:
        nonlocal wanted, parts
        if get_ident() != thread or part is None:  # others' networks are laid out meanwhile
            return
        if isinstance(part, nn.Parameter):
            wanted += part.numel()
        parts += 1
        if wanted > most:
            raise RequestError(
                f"its {CONFIG} describes more than {wanted / 1e6:.1f} million numbers, its weights hold "
                f"{stored / 1e6:.1f}; save both"
            )
        if parts > MODULES:
            raise RequestError(f"its {CONFIG} describes more than {MODULES} parts; bring a smaller model")

    with ExitStack() as stack:
        stack.callback(hooks.register_module_parameter_registration_hook(count).remove)
        stack.callback(hooks.register_module_module_registration_hook(count).remove)
        yield


def _hub_id(text: str) -> str:
    name = text.strip().removeprefix("hf:")
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*(@\w[\w.-]*)?", name):
        raise RequestError(f"'{text.strip()[:80]}' is not a hub id; write owner/name")
    return name
