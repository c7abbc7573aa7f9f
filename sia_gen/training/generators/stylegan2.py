"""Trains the shipped generator by paired regression: latents on one side, the renders of the same faces on the other.

Every studio factor is a function of one normal latent, so a generator that takes those latents as its z can be taught
picture by picture, without an adversary, and told where each face's landmarks lie; it comes out sharp where few latents
decide and soft where many do, which a discriminator can mend afterwards.

Letters: B faces, Z latents, R resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.attributes.attribute_space import Attribute
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Precision, Progress
from sia_gen.core.files import read_json, writable_folder, write_json
from sia_gen.core.images import from_bytes
from sia_gen.core.modules import device_of, one_seed
from sia_gen.generators.stylegan2 import SPREAD, StyleGAN2, StyleGAN2Config
from sia_gen.studio.factors import MIRRORED, NAMES
from sia_gen.studio.landmarks import in_a_mirror
from sia_gen.studio.people import population
from sia_gen.studio.renders import RenderSet, read_renders
from sia_gen.training.card import SHEET, attribute_table, draw_sheet, write_card
from sia_gen.training.generators.adversary import sharpen
from sia_gen.training.loop import CHECKPOINT, batch_for, fit
from sia_gen.training.network import either, mirrored_at_random
from sia_gen.training.processes import TRAINING, first_writes, training_device
from sia_gen.training.stepper import Lessons

BATCH = 16
RATE = 1.2e-2  # whatever the batch: it is as high as it may be
GROW_AT = (0.5, 0.85)  # of the steps: until then a quarter, then half of the resolution is made, which is cheap
POINTS_WEIGHT = 20.0  # of the mean distance of landmarks, in picture widths
KNOTS = 10
ADVERSARIAL = "adversarial"  # folder of that phase's checkpoint
NEAREST, COLUMNS = "nearest.jpg", 12
SHARPENED = (
    "\nThen {steps} steps against a discriminator (non-saturating loss, R1), the pairs' loss going on beside it.\n"
)
SOFT = "Soft: regression blurs what many latents decide (strands of hair, teeth, wrinkles, the eyes). "
ALIKE = 32  # side of the pictures by which samples are compared with renders
CHANNELS = {64: (192, 192, 128, 80, 40), 128: (192, 192, 128, 80, 40, 24)}


def train_generator(
    renders: str | Path,
    out: str | Path,
    *,
    steps: int = 26_000,
    adversarial: int = 0,
    batch: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    precision: Precision = "no",
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train on the folder ``renders`` and write config, weights and ``training.json`` to ``out``; returns the figures.

    With ``adversarial`` steps, a discriminator sharpens it after the ``steps`` of regression, which pays on a GPU.
    ``batch`` is 16 unless given, on a GPU 64; ``precision`` "bf16" runs its network in mixed precision.
    Interrupted, the same call goes on. Raises `RequestError` for a resolution that there is no network for.
    """
    if adversarial < 0:
        raise RequestError(f"adversarial={adversarial} is below 0; give 0 or more steps")
    data = read_renders(renders)
    resolution = data.images.shape[-1]
    if resolution not in CHANNELS:
        raise RequestError(
            f"renders of {resolution} pixels, but networks for {sorted(CHANNELS)}; render at one of these"
        )
    out, place = writable_folder(out), training_device(device)
    if not adversarial and (out / ADVERSARIAL / CHECKPOINT).exists():
        raise RequestError(f"'{out}' was sharpened by an adversarial phase; give its --adversarial, or another --out")
    batch = batch_for(batch, BATCH, place)
    training = data.training
    pairs, lessons = paired(data, torch.arange(training), out.resolve().name, batch, seed, place)
    settings: dict[str, object] = {"recipe": "generator", "steps": steps, "batch": batch, "seed": seed}
    settings |= {"grow_at": list(GROW_AT), "precision": precision, "renders": data.settings}
    made = regress(pairs, lessons, out, steps=steps, settings=settings, precision=precision, progress=progress)
    if adversarial:
        settings = settings | {"recipe": "adversarial", "adversarial": adversarial}
        made = sharpen(
            made,
            replace(lessons, first=steps),
            writable_folder(out / ADVERSARIAL),
            steps=adversarial,
            settings=settings,
            precision=precision,
            progress=progress,
        )

    def finish() -> dict[str, float]:
        made.generator.cpu().save(out)
        saved = StyleGAN2.load(out).to(place)
        figures = evaluate(saved, data, training)
        write_json(out / TRAINING, {"settings": settings, "figures": figures})
        _draw_sheet(saved, data, training, out / SHEET)
        _draw_nearest(saved, data, training, out / NEAREST)
        describe(out)
        return figures

    return first_writes(finish, out)


def paired(
    data: RenderSet, chosen: Tensor, name: str, batch: int, seed: int, place: torch.device
) -> tuple[Pairs, Lessons]:
    """An untaught generator, and its lessons: of the renders it sees the rows ``chosen`` alone, int64."""
    config = StyleGAN2Config(
        name=name,
        latents=len(NAMES),
        channels=CHANNELS[data.images.shape[-1]],
        knots=KNOTS,
        landmarks=data.landmarks.shape[1],
        population=population().to_json(),
    )
    with one_seed(seed):
        model = StyleGAN2(config)
    with torch.no_grad():
        model.synthesis.points.bias.copy_((data.landmarks[chosen].mean(0).flatten() - 0.5) / SPREAD)
    model.to(place, memory_format=torch.channels_last)
    mirror = torch.tensor([-1.0 if name in MIRRORED else 1.0 for name in NAMES])
    points = data.landmarks
    tables = (data.images, data.latents, data.latents * mirror, points, in_a_mirror(points))

    def prepare(
        random: torch.Generator, images: Tensor, latents: Tensor, latents_turned: Tensor, *points: Tensor
    ) -> tuple[Tensor, ...]:
        pictures, flip = mirrored_at_random(from_bytes(images) * 2 - 1, random)
        straight, turned = points
        return pictures, either(flip, latents_turned, latents), either(flip, turned, straight)

    return Pairs(model), Lessons(tables, chosen, prepare, batch, seed)


def regress(
    pairs: Pairs,
    lessons: Lessons,
    out: Path,
    *,
    steps: int,
    settings: dict[str, object],
    precision: Precision = "no",
    progress: Progress | None = None,
) -> Pairs:
    """Teach a generator picture by picture; the checkpoint lies in ``out``. Gives the moving average."""

    def loss(pairs: nn.Module, halved: int, *items: Tensor) -> Tensor:
        return pairs(*items, halved=halved)[1]

    made = fit(
        pairs,
        lessons,
        loss,
        out,
        steps=steps,
        rate=RATE,
        settings=settings,
        precision=precision,
        kind=lambda step, done: sum(done < share for share in GROW_AT),
        progress=progress,
    )
    assert isinstance(made, Pairs)
    return made


class Pairs(nn.Module):
    """A generator that is told what the faces of given latents look like, and where their landmarks lie."""

    def __init__(self, generator: StyleGAN2) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, pictures: Tensor, latents: Tensor, points: Tensor, halved: int = 0) -> tuple[Tensor, Tensor]:
        """Its pictures of the latents ``[B, Z]``, float32 around 0, and the loss, a scalar, against renders
        ``[B, 3, R, R]`` and points ``[B, P, 2]``; the resolution is ``halved`` so many times."""
        network = self.generator
        levels = len(network.config.channels) - halved
        w = network.mapping(latents)
        made = network.synthesis(w[:, None].expand(-1, network.config.layers, -1), levels).float()
        apart = (network.synthesis.place(w).float() - points).abs().mean()
        return made, picture_loss(made, F.avg_pool2d(pictures, 2**halved)) + POINTS_WEIGHT * apart


def picture_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference over up to four scales, plus that of the pictures' gradients at the finest two."""
    total = made.new_zeros(())
    for scale in range(min(4, made.shape[-1].bit_length())):
        if scale:
            made, wanted = F.avg_pool2d(made, 2), F.avg_pool2d(wanted, 2)
        total = total + (made - wanted).abs().mean()
        if scale < 2:
            for axis in (2, 3):
                total = total + (made.diff(dim=axis) - wanted.diff(dim=axis)).abs().mean()
    return total


@torch.inference_mode()
def evaluate(model: StyleGAN2, data: RenderSet, start: int) -> dict[str, float]:
    """Peak signal-to-noise ratio in dB on the faces from ``start`` on (mean over faces)."""
    device = device_of(model)
    ratios = []
    for part in torch.arange(start, len(data)).split(64):
        pictures = model.render(model.codes(data.latents[part].to(device))).cpu()
        error = (pictures - from_bytes(data.images[part])).square().mean((1, 2, 3))
        ratios.append(-10 * error.log10())
    return {"psnr_db": round(torch.cat(ratios).mean().item(), 2), "held_out": len(data) - start}


@torch.inference_mode()
def _draw_sheet(model: StyleGAN2, data: RenderSet, start: int, path: Path) -> None:
    """Held-out renders above what the generator makes of their latents, in pairs of rows; then samples."""
    rows, device = [], device_of(model)
    for part in torch.arange(start, min(start + 3 * COLUMNS, len(data))).split(COLUMNS):
        rows += [from_bytes(data.images[part]), model.render(model.codes(data.latents[part].to(device))).cpu()]
    rows.append(model.render(model.sample(range(COLUMNS))).cpu())
    labels = [*["render", "generator"] * (len(rows) // 2), "samples"]
    draw_sheet(path, rows, labels)


@torch.inference_mode()
def _draw_nearest(model: StyleGAN2, data: RenderSet, training: int, path: Path) -> None:
    """Samples above the renders trained on that are most like them, by the mean square difference of small pictures."""
    samples = model.render(model.sample(range(COLUMNS))).cpu()

    def small(images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images, min(ALIKE, images.shape[-1])).flatten(1)

    apart = [torch.cdist(small(samples), small(from_bytes(part))) for part in data.images[:training].split(512)]
    nearest = data.images[torch.cat(apart, dim=1).argmin(dim=1)]
    draw_sheet(path, [samples, from_bytes(nearest)], ["samples", "nearest"])


def describe(folder: Path, attributes: Sequence[Attribute] = (), fit_seed: int = 1) -> None:
    """Write the card of a trained generator, with its attributes once they have been found."""
    training = read_json(folder / "training.json")
    settings, figures = training["settings"], training["figures"]
    quarter, half = settings.get("grow_at", GROW_AT)
    write_card(
        folder,
        "generator",
        settings["renders"],
        figures["held_out"],
        resolution=settings["renders"]["resolution"],
        parameters=sum(weight.numel() for weight in StyleGAN2.load(folder).parameters()) / 1e6,
        batch=settings["batch"],
        quarter=quarter,
        half=half,
        steps=settings["steps"],
        seed=settings["seed"],
        sharpened=SHARPENED.format(steps=settings["adversarial"]) if "adversarial" in settings else "",
        adversarial=f" --adversarial {settings['adversarial']}" if "adversarial" in settings else "",
        soft="" if "adversarial" in settings else SOFT,
        precision=settings["precision"],
        psnr=figures["psnr_db"],
        fit_seed=fit_seed,
        identity=" --identity ./identity" if any(a.identity is not None for a in attributes) else "",
        attributes=attribute_table(attributes),
    )
