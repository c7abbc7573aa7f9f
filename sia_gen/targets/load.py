"""Find a target by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from sia_gen.core.errors import RequestError, named_file
from sia_gen.core.executors import resolve_device
from sia_gen.core.files import is_file, read_config
from sia_gen.core.locate import build, locate
from sia_gen.targets.adapted import MARK, Adapted, parted
from sia_gen.targets.formats.cascade import PREFIX, load_cascade
from sia_gen.targets.formats.classifier import load_classifier
from sia_gen.targets.formats.keypoints import load_keypoints
from sia_gen.targets.formats.onnx import SUFFIX, load_onnx
from sia_gen.targets.formats.zero_shot import load_zero_shot
from sia_gen.targets.identity import as_target, load_identity
from sia_gen.targets.module import UNNAMED, ModuleTarget, infer
from sia_gen.targets.target import Target


def load_target(name: str | Path | nn.Module, device: torch.device | str = "cpu") -> Target:
    """The target behind a shipped name, a folder, a hub id ``hf:owner/name``, ``opencv:NAME``, an ``.onnx`` file or
    ``module:callable``.

    The callable is called with ``device=`` if it takes one, else with nothing, and gives a target, or a torch module
    that turns images ``[B, 3, H, W]`` in [0, 1] into logits; such a module may also be given itself. A name may go on
    with how the model is shown pictures, or between which classes it decides, see `asked_as`. A `ModuleTarget`
    without a name of its own takes that of the callable. Raises
    `RequestError` that names what exists, its `DamageError` on damaged files, `WorkError` for a callable that fails.
    """
    device = resolve_device(str(device))
    if isinstance(name, nn.Module):
        return _of_module(name, type(name).__name__, device)
    if not isinstance(name, (str, Path)):
        raise RequestError(
            f"a {type(name).__name__} is no target; wrap it as ModuleTarget(it, task, differentiable=False)"
        )
    if isinstance(name, str) and MARK in name:
        return _in_form(name, device)
    text = str(name)
    if text.startswith(PREFIX):
        return load_cascade(text)
    if text.endswith(SUFFIX) and is_file(Path(text)):
        with named_file():
            return load_onnx(Path(text), Path(text).name, device)
    place = locate("target", name, "identity")
    if isinstance(place, Path):
        with named_file():
            return _of_folder(place, text if text.startswith("hf:") else place.name, device)
    made = build("target", text, place, device)
    if isinstance(made, ModuleTarget) and made.name == UNNAMED:
        return replace(made, name=text)
    if isinstance(made, Target):
        return made
    if isinstance(made, nn.Module):
        return _of_module(made, text, device)
    raise RequestError(f"target '{text}' gave a {type(made).__name__}; return a target or a torch.nn.Module")


def _of_folder(place: Path, shown: str, device: torch.device) -> Target:
    config = read_config(place / "config.json") if is_file(place / "config.json") else {"sia_gen": {}}
    if config.get("model_type") == "vitpose":
        return load_keypoints(place, shown, device)
    if config["sia_gen"].get("kind") == "identity":
        return as_target(load_identity(place, device), shown)
    return load_classifier(place, shown, device)


def _in_form(text: str, device: torch.device) -> Target:
    """A target whose name says how it is shown pictures."""
    name, form, classes = parted(text)
    if classes:
        place = locate("target", name)
        if not isinstance(place, Path):
            raise RequestError(f"'{name}' is no folder of a CLIP or SigLIP model, which take classes; leave them out")
        with named_file():
            target: Target = load_zero_shot(place, text, classes, device)
    else:
        target = load_target(name, device)
    return target if form is None else Adapted.of(target, form, text)


def _of_module(module: nn.Module, name: str, device: torch.device) -> Target:
    return infer(module.to(device), name)
