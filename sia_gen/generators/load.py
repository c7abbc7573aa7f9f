"""Find a generator by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from sia_gen.core.errors import RequestError, named_file
from sia_gen.core.executors import resolve_device
from sia_gen.core.files import is_file, read_config
from sia_gen.core.locate import build, locate
from sia_gen.generators.foreign.convert import converted
from sia_gen.generators.foreign.diffusion import INDEX, LATENTS, PIXELS, kind_of, load_diffusion
from sia_gen.generators.foreign.stylegan2 import ARCHITECTURE as ADA
from sia_gen.generators.foreign.stylegan2 import StyleGAN2ADA
from sia_gen.generators.foreign.stylegan3 import ARCHITECTURE as ALIAS_FREE
from sia_gen.generators.foreign.stylegan3 import StyleGAN3
from sia_gen.generators.foreign.text_to_image import PIPELINES, load_text_to_image
from sia_gen.generators.generator import Generator
from sia_gen.generators.offload import onto
from sia_gen.generators.stylegan2 import StyleGAN2

CHECKPOINTS = (".pkl", ".pt")
MARK = "?"  # between a generator's name and how it draws
TRUNCATED: dict[str, Callable[[str], Any]] = {"psi": float, "cutoff": int}
PROMPTED: dict[str, Callable[[str], Any]] = {"prompt": str, "guidance": float, "steps": int, "attention": str}
ARCHITECTURES: dict[str, tuple[Callable[..., Generator], dict[str, Callable[[str], Any]]]] = {
    # what loads it, and how each of its options is read
    "stylegan2": (StyleGAN2.load, {}),
    ADA: (StyleGAN2ADA.load, {**TRUNCATED, "noise": str}),
    ALIAS_FREE: (StyleGAN3.load, TRUNCATED),
    **{kind: (load_diffusion, {"steps": int}) for kind in (*PIXELS, *LATENTS)},
    **{kind: (partial(load_text_to_image, kind=kind), PROMPTED) for kind in PIPELINES},
}


def place_of(name: str | Path) -> Path | Callable[..., Any]:
    """What `locate` finds; a checkpoint of others is converted once, and kept, see `sia_gen.generators.foreign`.

    Options after the name say how the generator draws, not where it lies.
    """
    if isinstance(name, str):
        name = name.partition(MARK)[0]
    path = Path(name)
    return converted(path) if path.suffix in CHECKPOINTS and is_file(path) else locate("generator", name)


def load_generator(name: str | Path, device: str = "cpu") -> Generator:
    """A generator from a shipped name, a folder, a checkpoint, ``"hf:owner/name"`` or ``"module:callable"``.

    Options may follow a name: ``"ffhq.pkl?psi=0.7&cutoff=8"`` truncates a StyleGAN, ``"./turbo?prompt=a man&steps=2"``
    says what a text-to-image model is to draw, in how many steps. The callable is called with ``device=`` if it takes
    one, else with nothing. Raises `RequestError` that names what exists, its `DamageError` for damaged or foreign
    weights, and `WorkError` for a callable that fails.
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
    with named_file():
        loaded = _loaded(place, _kind(place), name)
    return onto(loaded, resolve_device(device))


def _kind(place: Path) -> Any:
    """What the generator in a folder says that it is, an architecture or a pipeline's class; raises `RequestError`."""
    if is_file(place / INDEX):
        return kind_of(place)
    said = read_config(place / "config.json")["sia_gen"] if is_file(place / "config.json") else {}
    if said.get("kind", "generator") != "generator" or not said:
        raise RequestError(f"'{place}' holds no generator; name a folder of one, or a checkpoint of a StyleGAN")
    return said.get("architecture")


def _loaded(place: Path, kind: Any, name: str | Path) -> Any:
    """The generator in a folder, of an architecture or a pipeline's class, with the options in its name."""
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        held = f"a {kind}" if isinstance(kind, str) else "what names no family"
        raise RequestError(f"'{place}' holds {held}, not one of {', '.join(ARCHITECTURES)}; name another folder")
    load, known = ARCHITECTURES[kind]
    found = {}
    text = str(name).partition(MARK)[2] if isinstance(name, str) else ""
    for key, value in parse_qsl(text, keep_blank_values=True):
        if key not in known:
            raise RequestError(f"generator '{name}' has an option '{key}'; {kind} has {', '.join(known) or 'none'}")
        try:
            found[key] = known[key](value)
        except ValueError:
            raise RequestError(f"generator '{name}' has {key}={value}, which is no number; write {key}=1") from None
    made = load(place, **found)
    if isinstance(name, str) and name.startswith("hf:"):  # whose folder is named by a commit
        made.name = name.partition(MARK)[0]
    return made
