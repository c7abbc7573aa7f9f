"""Finds the shipped attribute space: the recipe around `sia_gen.attributes.find`.

A generator taught by paired regression knows what its faces should show: the factors of the studio's face with the same
seed. Directions are fitted to these; the verifier, which sees only images, measures what they do.
"""

from __future__ import annotations

from pathlib import Path

import torch

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.find import Labels, Wanted, find_directions
from sia_gen.attributes.load import FILE
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Progress
from sia_gen.core.files import atomic, writable_folder
from sia_gen.core.images import contact_sheet
from sia_gen.generators.load import load_generator
from sia_gen.generators.stylegan2 import StyleGAN2
from sia_gen.studio.factors import FACTORS, NAMES, sample
from sia_gen.targets.verifier import load_verifier
from sia_gen.training.generator import describe

SWEEPS, PICTURED = "attributes.png", (6, 16, 27)  # and the seeds of the faces in it
LEAST = 0.25  # slope of a reading that is worth stretching
ATTRIBUTES = (
    "age", "sex", "skin_tone", "weight", "yaw", "pitch", "roll", "light_azimuth", "light_elevation", "light_strength",
    "smile", "mouth_open", "hair_colour", "hair_length",
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
    # Readings follow the truth less than one to one; so they are stretched to say how far an edit goes.
    slope = torch.tensor([max(factor.slope, LEAST) for factor in reader.factors], device=reader.sd.device)
    labels = Labels(
        NAMES, reader.sd.cpu(), lambda seeds: sample(seeds).values, lambda images: (reader.read(images) / slope).cpu()
    )
    entries = {factor.name: factor for factor in FACTORS}
    wanted = [Wanted(name, entries[name].unit, entries[name].negative, entries[name].positive) for name in ATTRIBUTES]
    space = find_directions(source, labels, wanted, faces=faces, seed=seed, progress=progress)
    space.save(out / FILE)
    _draw_sweeps(source, space, out / SWEEPS)
    if out.resolve() == Path(generator).resolve():
        describe(out, space.attributes, seed)
    return space


@torch.inference_mode()
def _draw_sweeps(generator: StyleGAN2, space: AttributeSpace, path: Path) -> None:
    """A row an attribute: each of a few faces from the low end of the safe range to the high one."""
    codes = generator.sample(PICTURED).repeat_interleave(5, dim=0)
    rows = []
    for index, attribute in enumerate(space.attributes):
        omega = torch.zeros(len(codes), len(space.attributes), device=codes.device)
        omega[:, index] = torch.linspace(attribute.low, attribute.high, 5, device=codes.device).repeat(len(PICTURED))
        rows.append(generator.render(codes, space.edits(omega), space.space).cpu())
    with atomic(path) as partial:
        contact_sheet(rows, space.names).save(partial, format="PNG")
