"""Finds the shipped attribute space: the recipe around `sia_gen.attributes.find`."""

from __future__ import annotations

from pathlib import Path

import torch

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.find import Reading, Wanted, find_directions
from sia_gen.attributes.load import FILE
from sia_gen.core.executors import Progress
from sia_gen.core.files import writable_folder
from sia_gen.core.modules import one_seed
from sia_gen.generators.load import load_generator
from sia_gen.studio.factors import FACTORS
from sia_gen.targets.verifier import load_verifier

ATTRIBUTES = (
    "age", "sex", "skin_tone", "weight", "yaw", "pitch", "roll", "light_azimuth", "light_elevation", "light_strength",
    "smile", "mouth_open", "brow_raise", "hair_colour",
)  # fmt: skip


def fit_attributes(
    generator: str | Path,
    verifier: str | Path,
    out: str | Path,
    *,
    faces: int = 4096,
    seed: int = 1,
    device: str = "cpu",
    progress: Progress | None = None,
) -> AttributeSpace:
    """Find the attributes of ``generator`` as ``verifier`` reads them; write ``attributes.safetensors`` to ``out``."""
    out = writable_folder(out)
    source, reader = load_generator(generator, device), load_verifier(verifier, device)
    reading = Reading([factor.name for factor in reader.factors], reader.sd.cpu(), lambda x: reader.read(x).cpu())
    words = {factor.name: factor for factor in FACTORS}
    wanted = [Wanted(name, words[name].unit, words[name].negative, words[name].positive) for name in ATTRIBUTES]
    with one_seed(seed), torch.no_grad():
        space = find_directions(source, reading, wanted, faces=faces, seed=seed, progress=progress)
    space.save(out / FILE)
    return space
