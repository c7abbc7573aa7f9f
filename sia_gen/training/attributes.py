"""Finds the shipped attribute space: the recipe around `sia_gen.attributes.find`.

A generator taught by paired regression knows what its faces should show: the factors of the studio's face with the same
seed. Directions are fitted to these; the verifier, which sees only images, measures what they do.
"""

from __future__ import annotations

from pathlib import Path

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.find import Labels, Wanted, find_directions
from sia_gen.attributes.load import FILE
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Progress
from sia_gen.core.files import writable_folder
from sia_gen.generators.load import load_generator
from sia_gen.generators.stylegan2 import StyleGAN2
from sia_gen.studio.factors import FACTORS, NAMES, sample
from sia_gen.targets.verifier import load_verifier

ATTRIBUTES = (
    "age", "sex", "skin_tone", "weight", "yaw", "pitch", "roll", "light_azimuth", "light_elevation", "light_strength",
    "smile", "mouth_open", "hair_colour",
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
    """Find the attributes of ``generator``, measured by ``verifier``; write ``attributes.safetensors`` to ``out``.

    Raises `RequestError` for a generator that was not trained on the studio's factors.
    """
    source, reader = load_generator(generator, device), load_verifier(verifier, device)
    if not isinstance(source, StyleGAN2) or source.config.latents != len(NAMES):
        raise RequestError(f"'{generator}' was not trained on the studio's {len(NAMES)} factors; name one that was")
    out = writable_folder(out)
    if tuple(factor.name for factor in reader.factors) != NAMES:
        raise RequestError(f"verifier '{verifier}' reads other factors than the studio's; train it on its renders")
    labels = Labels(
        NAMES, reader.sd.cpu(), lambda seeds: sample(seeds).values, lambda images: reader.read(images).cpu()
    )
    entries = {factor.name: factor for factor in FACTORS}
    wanted = [Wanted(name, entries[name].unit, entries[name].negative, entries[name].positive) for name in ATTRIBUTES]
    space = find_directions(source, labels, wanted, faces=faces, seed=seed, progress=progress)
    space.save(out / FILE)
    return space
