"""A generator that has seen one long tail alone: what generated faces are worth without one that knows more pictures.

It is the shipped recipe of paired regression, shorter and at the networks' side. It learns from the tail's renders,
their factors and landmarks; how factors go together among people it is told, as the studio is. Who a face is it is told
with noise: else it learns the few faces of the rare class by heart, and draws no other with what they wear. Nothing
reads or judges what it draws: a face's label is what the generator was told.

Letters: B faces, R resolution.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sia_gen.core.executors import Batches, Progress
from sia_gen.core.files import is_file, read_json, writable_folder, write_json
from sia_gen.core.images import from_bytes, to_bytes
from sia_gen.core.seeds import seeds_apart
from sia_gen.generators.stylegan2 import StyleGAN2
from sia_gen.rebalancing.faces_folder import Faces, clock
from sia_gen.rebalancing.learning import drawn
from sia_gen.rebalancing.long_tail import Split, Tail
from sia_gen.rebalancing.rare_faces import RareFaces
from sia_gen.studio.factors import FACTORS, NAMES
from sia_gen.studio.renders import RenderSet
from sia_gen.studio.sampling import sample_latents
from sia_gen.training.generators.stylegan2 import BATCH, paired, regress
from sia_gen.training.stepper import Lessons

STEPS = 9000
DRAWN = 32  # faces drawn at once
TAUGHT, WORK = "training.json", "work"
NOISE = 0.5  # sd of what is added to the latents of who a face is, other values each time
EXACT = (
    "yaw", "pitch", "roll", "gaze_x", "gaze_y", "smile", "mouth_open", "brow_raise", "eye_closure",
    "light_azimuth", "light_elevation", "light_strength", "ambient_strength", "light_softness", "light_warmth",
    "rim_light", "lens_tint", "frame_size", "frame_thickness", "frame_lightness",
    "background_lightness", "background_warmth", "camera_distance",
)  # fmt: skip
"""What is told as it is, as the label's own attributes are: pose, expression, light, frames of glasses, background."""


def tail_faces(
    folder: Path, data: RenderSet, tail: Tail, parts: Split, wanted: Mapping[int, int], place: torch.device,
    progress: Progress | None = None,
) -> Faces:  # fmt: skip
    """``wanted`` faces of each class, from the generator in ``folder``, which is taught there first; goes on where an
    interrupted call stopped. Their ``seconds`` are those of both."""
    before = _teach(folder, data, tail, parts, place, progress)
    begun, model = clock(place), StyleGAN2.load(folder).to(place)
    pictures = torch.cat([_draw(model, tail, number, count) for number, count in wanted.items()])
    labels = torch.tensor([number for number, count in wanted.items() for _ in range(count)])
    rows = [{"hard": False} for _ in range(len(labels))]
    return Faces(pictures, labels, rows, Counter(), round(before + clock(place) - begun, 1))


def _teach(
    folder: Path, data: RenderSet, tail: Tail, parts: Split, place: torch.device, progress: Progress | None
) -> float:
    """Gives the seconds that it took, those of interrupted calls too."""
    work = writable_folder(folder / WORK)
    taught = read_json(folder / TAUGHT) if is_file(folder / TAUGHT) else {"seconds": 0.0, "steps": 0}
    before, begun = taught["seconds"], clock(place)

    def tell(step: int, steps: int, text: str) -> None:
        seconds = round(before + clock(place) - begun, 1)
        write_json(folder / TAUGHT, {"seconds": seconds, "steps": step, "pictures": len(parts.tail)})
        if progress:
            progress(step, steps, f"{folder.name}: {text}")

    if not is_file(folder / "model.safetensors"):
        seen = parts.tail[drawn(parts.labels[parts.tail], "over", tail.seed)]
        pairs, lessons = paired(data, seen, folder.name, BATCH, tail.seed, place)
        settings: dict[str, object] = {"recipe": "tail", "renders": data.settings, "steps": STEPS, "noise": NOISE}
        made = regress(pairs, _noised(lessons, tail), work, steps=STEPS, settings=settings, progress=tell)
        made.generator.cpu().save(folder)
    shutil.rmtree(work, ignore_errors=True)
    return float(read_json(folder / TAUGHT)["seconds"])


def _noised(lessons: Lessons, tail: Tail) -> Lessons:
    """The same lessons, their latents ``[B, 119]`` noised but for those that are told exactly."""
    sd = torch.full((len(NAMES),), NOISE)
    sd[[NAMES.index(name) for name in (*tail.attributes, *EXACT)]] = 0

    def prepare(random: torch.Generator, *items: Tensor) -> tuple[Tensor, ...]:
        pictures, latents, points = lessons.prepare(random, *items)
        noise = torch.randn(latents.shape, generator=random, device=latents.device)
        return pictures, latents + noise * sd.to(latents), points

    return replace(lessons, prepare=prepare)


@torch.no_grad()
def read_as_told(faces: Faces, source: RareFaces) -> float:
    """The share of faces that the verifier, which has no say in them, reads as of their class."""
    verifier, place = source.verifier, source.space.directions.device
    look = Batches(DRAWN)(
        len(faces.pictures), lambda part: verifier.read(from_bytes(faces.pictures[part]).to(place)).cpu()
    )
    read = torch.cat(list(look))[:, source.factors]
    return round(float((source.meant.of(read) == faces.labels).float().mean()), 4)


@torch.no_grad()
def _draw(model: StyleGAN2, tail: Tail, number: int, count: int) -> Tensor:
    """Faces of people, uint8 ``[B, 3, R, R]``; the label's factors stay within the class or are drawn from it."""
    seeds, columns = seeds_apart(tail.seed, f"tail {number}", count), [NAMES.index(name) for name in tail.attributes]
    latents, own = sample_latents(seeds), [FACTORS[column] for column in columns]
    told = torch.stack([factor.value(latents[:, column]) for factor, column in zip(own, columns, strict=True)], dim=1)
    asked = tail.meant.asked(seeds, told, tail.meant.ends(number, [(factor.low, factor.high) for factor in own]))
    for place, (factor, column) in enumerate(zip(own, columns, strict=True)):
        latents[:, column] = factor.latent(asked[:, place])
    codes = model.codes(latents.to(next(model.parameters()).device))
    return torch.cat(list(Batches(DRAWN)(count, lambda part: to_bytes(model.render(codes[part])).cpu())))
