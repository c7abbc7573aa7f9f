"""Reads NVIDIA's network pickles without running anything that they carry.

A pickle is a program: it names functions and calls them. Here every name is looked up in a short list; what stands on
it is a plain value's maker or becomes a `Stub`, which only remembers what it was called with. The source code that such
files embed is dropped unread.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.foreign import first_line

STUBBED = ("torch_utils.", "training.", "dnnlib.", "torch.nn.", "metrics.", "legacy")
"""Packages of which any class becomes a `Stub`."""
RECONSTRUCT = ("torch_utils.persistence", "_reconstruct_persistent_obj")
LONGEST_NUMBER, MOST_MEMO = 64, 1 << 22  # bytes of a whole number; places of the pickle's own store
PLACES = {"PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET"}


class Stub(dict[str, Any]):
    """An object that was not made: its class's name, and what its state holds."""

    kind = "object"

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.update(state)

    def tensors(self) -> dict[str, Tensor]:
        """A module's parameters and buffers, those of the modules within by dotted names."""
        found: dict[str, Tensor] = {}
        for group in ("_parameters", "_buffers"):
            found |= {name: value for name, value in self.get(group, {}).items() if isinstance(value, Tensor)}
        for name, part in self.get("_modules", {}).items():
            if isinstance(part, Stub):
                found |= {f"{name}.{inner}": value for inner, value in part.tensors().items()}
        return found

    def plain(self, name: str, kind: Any, otherwise: Any) -> Any:
        """A setting of this kind, or ``otherwise`` where there is none; raises `WorkError` for one of another kind."""
        found = self.get(name)
        if found is not None and not isinstance(found, kind):
            raise WorkError(f"the network's {name} is a {type(found).__name__}; it is damaged")
        return otherwise if found is None else found

    def part(self, name: str) -> Stub:
        """The module of this name within; raises `WorkError` where there is none."""
        found = self.get("_modules", {}).get(name)
        if not isinstance(found, Stub):
            raise WorkError(f"the network has no '{name}'; it is none of StyleGAN's, or damaged")
        return found


def _persistent(meta: Any) -> Stub:
    """What NVIDIA's files say of an object of theirs: its class and state are kept, the source of it is not."""
    stub = Stub()
    if isinstance(meta, dict):
        name = meta.get("class_name")
        stub.kind = name if isinstance(name, str) else "object"
        stub.__setstate__(meta.get("state"))
    return stub


def _storage(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _parameter(data: Tensor, *rest: Any) -> Tensor:
    return data


class _Kind:
    """A numpy type of plain numbers; of what a pickle tells of it only the order of bytes is taken."""

    __slots__ = ("dtype",)

    def __init__(self, name: Any, *rest: Any) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"[?biufc]\d{0,2}", name):
            raise WorkError("an array holds something else than plain numbers; it is refused")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise WorkError("an array holds something else than plain numbers; it is refused")
        self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray):
    """A numpy array that is filled with plain numbers alone."""

    def __setstate__(self, state: Any) -> None:  # type: ignore[override]
        version, shape, kind, columns_first, data = state
        super().__setstate__((version, shape, kind.dtype, columns_first, data))


def _array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    return np.ndarray.__new__(_Array, (0,), "b")


def _scalar(kind: _Kind, data: bytes) -> Any:
    return np.frombuffer(data, kind.dtype)[0]


class _Maker:
    """A function that a pickle may call, but not change."""

    __slots__ = ("_made",)

    def __init__(self, made: Callable[..., Any]) -> None:
        self._made = made

    def __call__(self, *given: Any) -> Any:
        return self._made(*given)

    def __setstate__(self, state: Any) -> None:
        raise WorkError("the pickle would change a function; it is refused")


NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    RECONSTRUCT: _persistent,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch", "Size"): torch.Size,
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): _array,
    **{(module, "_reconstruct"): _array for module in NUMPY},
    **{(module, "scalar"): _scalar for module in NUMPY},
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in MAKERS:
            return _Maker(MAKERS[module, name])
        if "." not in name and any(f"{module}.".startswith(known) for known in STUBBED):
            return type(name, (Stub,), {"kind": name})
        raise WorkError(f"the pickle names '{module}.{name}', which is none of a StyleGAN's; it is refused")

    def persistent_load(self, pid: Any) -> Any:
        raise WorkError("the pickle refers to something outside of it; it is refused")


def read_pickle(path: Path) -> dict[str, Any]:
    """The networks in an NVIDIA pickle by name, "G_ema" among them, as stubs.

    Raises `WorkError` for a damaged file and for one that names, or asks for, anything else than such networks do.
    """
    data = path.read_bytes()
    try:
        _require_harmless(data)
        found = _Reader(io.BytesIO(data)).load()
    except WorkError as error:
        raise WorkError(f"'{path}': {error}") from None
    except Exception as error:  # whatever a broken stream of opcodes comes to
        raise WorkError(f"cannot read '{path}' ({first_line(error)}); fetch the file again") from None
    if isinstance(found, (tuple, list)) and len(found) == 3:  # G, D and Gs of old files
        found = dict(zip(("G", "D", "G_ema"), found, strict=True))
    if not isinstance(found, dict) or not isinstance(found.get("G_ema"), Stub):
        raise RequestError(f"'{path}' holds no network 'G_ema'; name a StyleGAN2, -ADA or -3 pickle of PyTorch")
    return found


def _require_harmless(data: bytes) -> None:
    """Raise `WorkError` for opcodes that make a reader take more memory than the file has bytes."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in PLACES and int(argument) > MOST_MEMO:
            raise WorkError(f"the opcode {opcode.name} {argument} is beyond {MOST_MEMO}; it is refused")
        if opcode.name in ("LONG1", "LONG4", "INT", "LONG") and int(argument).bit_length() > 8 * LONGEST_NUMBER:
            raise WorkError(
                f"the opcode {opcode.name} holds a number of more than {LONGEST_NUMBER} bytes; it is refused"
            )
