"""Finds the shipped attribute space: the recipe around `sia_gen.attributes.find`.

A generator taught by paired regression knows what its faces should show: the factors of the studio's face with the same
seed. Directions are fitted to these; the verifier, which sees only images, measures what they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.calibrate import Labels, Wanted, measure
from sia_gen.attributes.find import find_directions
from sia_gen.attributes.load import FILE
from sia_gen.core.errors import RequestError, unknown
from sia_gen.core.executors import Progress
from sia_gen.core.files import atomic, require_place, writable_folder
from sia_gen.core.images import matrix_sheet, quantise
from sia_gen.core.locate import locate
from sia_gen.core.modules import device_of
from sia_gen.core.seeds import face_seeds
from sia_gen.generators.foreign.diffusion import Diffusion
from sia_gen.generators.load import load_generator
from sia_gen.generators.stylegan2 import StyleGAN2
from sia_gen.studio.factors import FACTORS, NAMES
from sia_gen.studio.sampling import sample, sample_latents
from sia_gen.targets.identity import Identity, load_identity
from sia_gen.targets.verifier import load_verifier
from sia_gen.training.card import draw_sheet
from sia_gen.training.generators import diffusion
from sia_gen.training.generators.stylegan2 import describe

SWEEPS, PICTURED, TILE = "attributes.jpg", (1, 13, 16, 33, 47), 64  # the seeds of the faces in it, and their side
RESPONSE, MEASURED = "response.png", 64  # faces
PEOPLE, AGES = "people.jpg", "ages.jpg"
SHOWN, COLUMNS = 48, 8  # people of the first sheet
YEARS, SEXES = (10, 25, 40, 55, 70, 85), {"female": 0.05, "male": 0.95}  # at which people of the second are shown
ATTRIBUTES = (
    "age", "sex", "skin_tone", "weight", "yaw", "pitch", "roll", "smile", "mouth_open", "eye_spacing", "chin_height",
    "light_azimuth", "light_elevation", "light_strength", "light_warmth", "hair_colour", "hair_length", "fringe",
    "lip_colour", "glasses", "background_lightness", "background_warmth",
)  # fmt: skip
"""Of the studio's factors those that the verifier reads well (R² of 0.6 and more), less what nobody would ask for."""


def fit_attributes(
    generator: str | Path,
    verifier: str | Path,
    out: str | Path,
    *,
    identity: str | Path | None = None,
    names: Sequence[str] | None = None,
    faces: int = 4096,
    trials: int = 64,
    seed: int = 1,
    device: str = "cpu",
    progress: Progress | None = None,
) -> AttributeSpace:
    """Find the attributes of ``generator``, measured by ``verifier``; write ``attributes.safetensors`` to ``out``.

    They are all of `ATTRIBUTES` unless ``names`` are given, fitted to ``faces`` and measured on ``trials`` faces. With
    an ``identity`` model, each attribute says how far its faces stay the same person.

    Raises `RequestError` for a generator that was not trained on the studio's factors, and for unknown names.
    """
    require_place(out)
    source, reader = load_generator(generator, device), load_verifier(verifier, device)
    person = None if identity is None else load_identity(identity, device)
    if not isinstance(source, StyleGAN2 | Diffusion) or source.latents != len(NAMES):
        raise RequestError(f"'{generator}' was not trained on the studio's {len(NAMES)} factors; name one that was")
    out = writable_folder(out)
    if tuple(factor.name for factor in reader.factors) != NAMES:
        raise RequestError(f"verifier '{verifier}' reads other factors than the studio's; train it on its renders")
    # Readings follow the truth less than one to one; so they are stretched to say how far an edit goes.
    slope = torch.tensor([factor.follows for factor in reader.factors], device=reader.sd.device)
    labels = Labels(
        NAMES,
        reader.sd.cpu(),
        lambda seeds: sample(seeds, spread=1.0).values,
        lambda images: (reader.read(images) / slope).cpu(),
        # Directions are fitted to faces spread evenly, in whom nothing goes together, and measured on people.
        lambda seeds: source.codes(sample_latents(seeds, spread=1.0).to(device_of(source)), seeds),
    )
    entries = {factor.name: factor for factor in FACTORS}
    for name in names or ():
        if name not in entries:
            raise unknown("factor", name, list(entries))
    chosen = [entries[name] for name in names or ATTRIBUTES]
    wanted = [Wanted(factor.name, factor.unit, factor.negative, factor.positive) for factor in chosen]
    space = find_directions(source, labels, wanted, faces=faces, trials=trials, seed=seed, progress=progress)
    if person is not None:
        space = _same_person(source, person, space, seed)
    space.save(out / FILE)
    _draw_people(source, seed, out)
    _draw_sweeps(source, space, out / SWEEPS)
    _draw_response(source, labels, space, seed, out / RESPONSE)
    place = locate("generator", generator)
    if isinstance(place, Path) and place.resolve() == out.resolve():
        if isinstance(source, StyleGAN2):
            describe(out, space.attributes, seed)
        else:
            diffusion.describe(out, space.attributes, seed, faces, trials)
    return space


@torch.inference_mode()
def _same_person(
    generator: StyleGAN2 | Diffusion, identity: Identity, space: AttributeSpace, seed: int
) -> AttributeSpace:
    """The same space, its attributes with the cosine between faces and the same moved by one sd down and up."""
    codes = generator.sample(face_seeds(seed + 3, MEASURED))
    faces, there = quantise(generator.render(codes)), space.to(codes.device)

    def likeness(omega: Tensor) -> float:
        edits = there.edits(omega[None]).expand(len(codes), *space.directions.shape[1:])
        return identity.likeness(faces, quantise(generator.render(codes, edits, space.space))).mean().item()

    sd = torch.tensor([attribute.sd for attribute in space.attributes], device=codes.device).diag()
    found = [round((likeness(-step) + likeness(step)) / 2, 3) for step in sd]
    pairs = zip(space.attributes, found, strict=True)
    return replace(space, attributes=tuple(replace(attribute, identity=value) for attribute, value in pairs))


def _draw_response(
    generator: StyleGAN2 | Diffusion, labels: Labels, space: AttributeSpace, seed: int, path: Path
) -> None:
    """The matrix of what each attribute moves, in sd per sd, on faces that neither fit nor figures saw."""
    codes = generator.sample(face_seeds(seed + 3, MEASURED))
    sd = torch.tensor([attribute.sd for attribute in space.attributes]).to(space.directions)
    per_sd = space.directions * sd.view(-1, *[1] * (space.directions.ndim - 1))
    columns = [list(labels.names).index(name) for name in space.names]
    response = measure(generator, labels, codes, per_sd, space.space).mean(1)[:, columns]
    with atomic(path) as partial:
        matrix_sheet(response, [f"{name} +1 sd moves" for name in space.names], space.names).save(partial, format="PNG")


@torch.inference_mode()
def _draw_people(generator: StyleGAN2 | Diffusion, seed: int, folder: Path) -> None:
    """People as they are drawn; and a few of them at several ages and as either sex, all else being equal."""
    seeds = face_seeds(seed + 4, SHOWN)
    draw_sheet(folder / PEOPLE, generator.render(generator.sample(seeds)).cpu().split(COLUMNS))
    rows, device = [], device_of(generator)
    for face in sample_latents(seeds[:5]):
        changes = [("age", float(years)) for years in YEARS] + [("sex", share) for share in SEXES.values()]
        latents = face.repeat(len(changes), 1)
        for row, (name, value) in zip(latents, changes, strict=True):
            column = NAMES.index(name)
            row[column] = FACTORS[column].latent(torch.tensor(value))
        rows.append(generator.render(generator.codes(latents.to(device))).cpu())
    draw_sheet(folder / AGES, rows)


@torch.inference_mode()
def _draw_sweeps(generator: StyleGAN2 | Diffusion, space: AttributeSpace, path: Path) -> None:
    """A row an attribute: each of a few faces moved by −2…2 standard deviations, within the safe range."""
    codes = generator.sample(PICTURED).repeat_interleave(5, dim=0)
    rows, space = [], space.to(codes.device)
    for index, attribute in enumerate(space.attributes):
        omega = torch.zeros(len(codes), len(space.attributes), device=codes.device)
        moves = torch.linspace(-2 * attribute.sd, 2 * attribute.sd, 5, device=codes.device)
        omega[:, index] = moves.clamp(attribute.low, attribute.high).repeat(len(PICTURED))
        images = generator.render(codes, space.edits(omega), space.space).cpu()
        rows.append(F.adaptive_avg_pool2d(images, min(TILE, generator.resolution)))
    draw_sheet(path, rows, space.names)
