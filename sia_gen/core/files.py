"""Files that are whole or absent, weights that cannot run code, and the folder of shipped models."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sia_gen.core.errors import RequestError, WorkError

PACKAGE = Path(__file__).resolve().parents[1]
HALF_WRITTEN = ".*.partial*"  # what `atomic` leaves where the process is killed


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; it replaces ``path`` only if the block ends well.

    Raises `RequestError` where ``path`` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise RequestError(f"cannot write to '{path}' (it is a folder); remove it or choose another name")
    partial = path.with_name(f".{path.name}.{uuid4().hex[:12]}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def writable_folder(path: str | Path) -> Path:
    """Make a folder and prove that it can be written to; raises `RequestError` if not."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe.{os.getpid()}.partial"  # as `HALF_WRITTEN`, should the process be killed here
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        reason = "it is no folder" if isinstance(error, FileExistsError) else error.strerror
        raise RequestError(f"cannot write to '{path}' ({reason}); choose another --out") from None
    return path


def require_own(folder: Path, mark: str | None = None, besides: Sequence[str] = ()) -> None:
    """Raise `RequestError` for a folder that holds something, but no file ``mark``.

    Hidden files do not count, nor what is called ``besides``.
    """
    if not is_folder(folder) or (mark is not None and is_file(folder / mark)):
        return
    if found := sorted(path.name for path in folder.iterdir() if path.name[0] != "." and path.name not in besides):
        raise RequestError(f"'{folder}' holds something else, '{found[0]}' for one; choose another --out")


def require_place(path: str | Path) -> Path:
    """The path, if a folder there can be made or written to; raises `RequestError` if not. Nothing is made."""
    path = Path(path)
    there = path.absolute()
    while not os.path.lexists(there):
        there = there.parent
    if not is_folder(there):
        raise RequestError(f"cannot write to '{path}' ('{there}' is no folder); choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RequestError(f"cannot write to '{path}' ('{there}' may not be written to); choose another --out")
    return path


def require_file_place(path: str | Path) -> Path:
    """The path, if a file can be written there, whose folder is made; raises `RequestError` if not."""
    path = Path(path)
    if is_folder(path):
        raise RequestError(f"'{path}' is a folder; give --out another name")
    writable_folder(path.parent)
    return path


def is_file(path: Path) -> bool:
    """Whether there is a file; False, too, where a folder above it may not be entered."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """The same of a folder."""
    try:
        return path.is_dir()
    except OSError:
        return False


def write_json(path: str | Path, data: Any) -> None:
    """Write JSON atomically, readable and in the order given."""
    with atomic(path) as partial:
        partial.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; raises `WorkError` that names the file if it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise WorkError(f"cannot read '{path}' (lists in lists without end); name another folder") from None
    except (OSError, ValueError) as error:
        raise WorkError(f"cannot read '{path}' ({error}); restore the file or name another folder") from None


def read_config(path: str | Path) -> dict[str, Any]:
    """A model's config with what is ours in it, ``sia_gen``, empty where there is none; raises `WorkError`."""
    config = read_json(path)
    if not isinstance(config, dict):
        raise WorkError(f"'{path}' is a {type(config).__name__}, not settings by name; fetch the file again")
    extra = config.setdefault("sia_gen", {})
    if not isinstance(extra, dict):
        raise WorkError(f"'{path}' has sia_gen={extra!r}, not settings by name; mend or remove it")
    return config


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors and string metadata as safetensors, atomically."""
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    places = Counter(tensor.data_ptr() for tensor in own.values())
    own = {name: tensor.clone() if places[tensor.data_ptr()] > 1 else tensor for name, tensor in own.items()}  # tied
    data = save(own, dict(metadata or {}))
    with atomic(path) as partial:
        partial.write_bytes(data)


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Tells tensors from others, by names, shapes and every bit."""
    return hashlib.sha256(save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})).hexdigest()


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read safetensors as (tensors, metadata); raises `WorkError` if the file is missing, truncated or foreign."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WorkError(f"cannot read weights '{path}' ({error}); fetch the file again") from None


def pretrained_folder() -> Path:
    """Where the shipped models lie: inside an installed package, or beside it in a checkout."""
    inside = PACKAGE / "pretrained"
    return inside if inside.is_dir() else PACKAGE.parent / "pretrained"


def slug(name: str) -> str:
    """A name as part of a file's name: small Latin letters, digits and single hyphens; it may be nothing."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def shipped(kind: str) -> list[str]:
    """Names of the shipped models of one kind ("generator", "target" or "verifier"), sorted."""
    found = []
    for config in sorted(pretrained_folder().glob("*/config.json")):
        if read_config(config)["sia_gen"].get("kind") == kind:
            found.append(config.parent.name)
    return found
