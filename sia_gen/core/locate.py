"""From a name to the place of a model: a shipped name, a folder, ``hf:owner/name``, or ``module:callable``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sia_gen.core.errors import RequestError, WorkError, unknown
from sia_gen.core.files import is_file, is_folder, pretrained_folder, shipped
from sia_gen.core.foreign import first_line, foreign
from sia_gen.core.hub import fetch

if TYPE_CHECKING:
    import torch


def locate(kind: str, name: str | Path, *also: str) -> Path | Callable[..., Any]:
    """Resolve ``name`` to a local folder, or to a callable that builds the model.

    A `Path` is always a folder, even where a shipped model has its name: what a recipe wrote is what it then measures.
    In text, a shipped name goes before a folder of the same name, which ``./name`` is. Shipped models of the kinds
    ``also`` are found, too. A hub id is downloaded (safetensors and JSON only) through huggingface_hub's cache.
    Raises `RequestError` that lists the shipped models when nothing matches, `WorkError` when the hub cannot be
    reached.
    """
    if isinstance(name, Path):
        if is_folder(name):
            return name
        raise RequestError(f"{kind} '{name}' is no folder; name one that is, or give a shipped model's name as text")
    text = name
    known = [model for each in (kind, *also) for model in shipped(each)]
    if text in known:
        return pretrained_folder() / text
    if text.startswith("hf:"):
        return fetch(text.removeprefix("hf:"))
    if text and is_folder(Path(text)):
        return Path(text)
    if ":" in text:
        return _import(kind, text)
    if is_file(Path(text)):
        taken = "an .onnx file, " if kind == "target" else "a StyleGAN's .pkl or .pt, " if kind == "generator" else ""
        raise RequestError(
            f"{kind} '{text}' is a file of no kind that is read; give {taken}a folder, or a 'module:callable' that "
            "loads it"
        )
    if text.startswith(("/", "./", "../", "~")):
        raise RequestError(f"{kind} '{text}' is no folder; there is none at that place")
    remedy = "or give a folder, a hub id 'hf:owner/name' or 'module:callable'"
    raise unknown(kind, text, known, remedy)


def lasting(kind: str, name: str | Path) -> str:
    """Text that `locate` finds the same model by from any other folder: a folder's whole path, else the name itself."""
    if isinstance(name, Path):
        return str(name.resolve())
    place, mark, how = name.partition("?")
    there = bool(place) and (is_folder(Path(place)) or is_file(Path(place)))
    if place in shipped(kind) or place.startswith("hf:") or not there:
        return name
    return f"{Path(place).resolve()}{mark}{how}"


def build(kind: str, name: str | Path, factory: Callable[..., Any], device: torch.device | str) -> Any:
    """What a callable from `locate` gives, called with ``device=`` if it takes one; what it raises becomes one line."""
    try:
        takes_device = "device" in inspect.signature(factory).parameters
    except (TypeError, ValueError):  # a builtin that tells no signature
        takes_device = False
    with foreign(f"{kind} '{name}'"):
        return factory(device=device) if takes_device else factory()


def _import(kind: str, text: str) -> Callable[..., Any]:
    module_name, _, attribute = text.partition(":")
    try:
        with foreign(f"{kind} '{text}'"):
            found = getattr(importlib.import_module(module_name), attribute)
    except WorkError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and not f"{module_name}.".startswith(f"{cause.name}."):
            raise WorkError(f"{kind} '{text}' needs '{cause.name}', which is not installed; install it") from None
        if isinstance(cause, (ImportError, AttributeError, TypeError, ValueError)):
            reason = first_line(cause)
            remedy = "write it as package.module:callable"
            raise RequestError(f"cannot import {kind} '{text}' ({reason}); {remedy}") from None
        raise
    if not callable(found):
        raise RequestError(f"{kind} '{text}' is a {type(found).__name__}, not a callable; name a function or class")
    return found
