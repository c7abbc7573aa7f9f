"""Makes all shipped weights, one recipe after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sia_gen.core.executors import Progress
from sia_gen.core.files import writable_folder
from sia_gen.studio.renders import write_renders
from sia_gen.training.attributes import fit_attributes
from sia_gen.training.generator import train_generator
from sia_gen.training.target import train_target
from sia_gen.training.verifier import train_verifier

TARGETS = {"smile-classifier": {}, "smile-classifier-planted": {"planted": "light_azimuth"}}


def train_everything(
    makehuman: str | Path,
    out: str | Path,
    *,
    faces: int = 20_000,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Render ``faces`` faces and train on them; each weight in its folder below ``out``, with its card.

    Interrupted, the same call goes on within the recipe that it was in. Returns the figures of each. Raises as the
    recipes do.
    """
    out = writable_folder(out)
    renders, generator, verifier = out / "renders", out / "faces-stylegan2", out / "verifier"
    common: dict[str, Any] = {"device": device, "progress": progress}
    write_renders(makehuman, renders, faces, seed=seed + 1, **common)  # not the faces that an audit of this seed meets
    figures: dict[str, Any] = {"faces-stylegan2": train_generator(renders, generator, seed=seed, **common)}
    errors = train_verifier(renders, verifier, seed=seed, **common)
    figures["verifier"] = {name: found["r2"] for name, found in errors.items()}
    space = fit_attributes(generator, verifier, generator, seed=seed + 1, **common)
    figures["attributes"] = {attribute.name: attribute.slope for attribute in space.attributes}
    for name, options in TARGETS.items():
        figures[name] = train_target(renders, out / name, seed=seed, **options, **common)
    return figures
