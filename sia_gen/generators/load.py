"""Find a generator by name."""

from __future__ import annotations

from pathlib import Path

from sia_gen.core.errors import WorkError
from sia_gen.core.executors import resolve_device
from sia_gen.core.files import read_json
from sia_gen.core.locate import locate
from sia_gen.generators.generator import Generator
from sia_gen.generators.stylegan2 import StyleGAN2

ARCHITECTURES = {
    "stylegan2": StyleGAN2.load,
}


def load_generator(name: str | Path, device: str = "cpu") -> Generator:
    """A generator from a shipped name, a folder, ``"hf:owner/name"`` or ``"module:callable"`` (called with ``device``).

    Raises `RequestError` that names what exists, `WorkError` for damaged or foreign weights.
    """
    place = locate("generator", name)
    if not isinstance(place, Path):
        found: Generator = place(device=device)
        return found
    kind = read_json(place / "config.json").get("sia_gen", {}).get("architecture")
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise WorkError(f"'{place}' holds a generator of architecture '{kind}', not one of {known}; convert it first")
    return ARCHITECTURES[kind](place).to(resolve_device(device))
