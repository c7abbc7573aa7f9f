"""Find a generator by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.executors import resolve_device
from sia_gen.core.files import is_file, read_config
from sia_gen.core.locate import build, locate
from sia_gen.generators.foreign.convert import converted
from sia_gen.generators.foreign.diffusion import INDEX, load_diffusion
from sia_gen.generators.foreign.stylegan2 import ARCHITECTURE as ADA
from sia_gen.generators.foreign.stylegan2 import StyleGAN2ADA
from sia_gen.generators.foreign.stylegan3 import ARCHITECTURE as ALIAS_FREE
from sia_gen.generators.foreign.stylegan3 import StyleGAN3
from sia_gen.generators.generator import Generator
from sia_gen.generators.stylegan2 import StyleGAN2

ARCHITECTURES = {
    "stylegan2": StyleGAN2.load,
    ADA: StyleGAN2ADA.load,
    ALIAS_FREE: StyleGAN3.load,
}


CHECKPOINTS = (".pkl", ".pt")


def place_of(name: str | Path) -> Path | Callable[..., Any]:
    """What `locate` finds; a checkpoint of others is converted once, and kept, see `sia_gen.generators.foreign`."""
    path = Path(name)
    return converted(path) if path.suffix in CHECKPOINTS and is_file(path) else locate("generator", name)


def load_generator(name: str | Path, device: str = "cpu") -> Generator:
    """A generator from a shipped name, a folder, a checkpoint, ``"hf:owner/name"`` or ``"module:callable"``.

    The callable is called with ``device=`` if it takes one, else with nothing. Raises `RequestError` that names what
    exists, `WorkError` for damaged or foreign weights and for a callable that fails.
    """
    place = place_of(name)
    if not isinstance(place, Path):
        made = build("generator", name, place, device)
        if not isinstance(made, Generator):
            raise RequestError(
                f"generator '{name}' gave a {type(made).__name__}; return an object with name, resolution, "
                "edit_shapes, sample and render"
            )
        return made
    if is_file(place / INDEX):
        return load_diffusion(place).to(resolve_device(device))
    kind = read_config(place / "config.json")["sia_gen"].get("architecture")
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise WorkError(f"'{place}' holds a generator of architecture '{kind}', not one of {known}; convert it first")
    return ARCHITECTURES[kind](place).to(resolve_device(device))
