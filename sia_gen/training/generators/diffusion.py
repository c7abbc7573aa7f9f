"""Trains the shipped diffusion model: from noise to the renders, told the latents of the face that is to appear.

It takes the same latents as the shipped StyleGAN2, so that a seed is the same person in both, and shares nothing else
with it: what fails on one can be looked at on the other.

Letters: B faces, L latents, R resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.attributes.attribute_space import Attribute
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Precision, Progress
from sia_gen.core.files import read_json, writable_folder, write_json
from sia_gen.core.images import from_bytes
from sia_gen.core.modules import device_of, one_seed
from sia_gen.generators.foreign.diffusion import ACTS, ARCHITECTURE, OURS, Diffusion, load_diffusion, padded
from sia_gen.studio.factors import MIRRORED, NAMES
from sia_gen.studio.people import population
from sia_gen.studio.renders import RenderSet, read_renders
from sia_gen.training.card import SHEET, attribute_table, draw_sheet, write_card
from sia_gen.training.loop import batch_for, fit
from sia_gen.training.network import either, mirrored_at_random, shrunk
from sia_gen.training.processes import TRAINING, first_writes, training_device
from sia_gen.training.stepper import Lessons

BATCH, RATE = 32, 1e-3
TIMES = 1000  # of the noise
GROW_AT = (0.6,)  # of the steps: until then half of the resolution is made, at a quarter of the cost
STEPS = 3  # from noise to face: told what to draw, it takes few
CHANNELS = (32, 64, 96, 128)  # from the full resolution down to an eighth
GROUPS = 8  # of channels that are normalised together
SIDE, COLUMNS = 64, 12  # pixels, and faces in a row of the sheet


def train_diffusion(
    renders: str | Path,
    out: str | Path,
    *,
    steps: int = 6000,
    batch: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    precision: Precision = "no",
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train on the folder ``renders``; write a folder as diffusers does, ours beside it, to ``out``; gives the figures.

    Renders of more than 64 pixels are shrunk to that.

    The network says the velocity (Salimans & Ho, ICLR 2022) of pictures with noise on a cosine schedule. ``batch`` is
    32 unless given, on a GPU 128; ``precision`` "bf16" runs the network in mixed precision. Interrupted, the same call
    goes on. Raises `RequestError` for renders whose side is no multiple of 16.
    """
    data = shrunk(read_renders(renders), SIDE)
    side, least = data.images.shape[-1], 2 ** len(CHANNELS)
    if side % least:
        raise RequestError(f"renders of {side} pixels, which is no multiple of {least}; render 64, for example")
    out, place = writable_folder(out), training_device(device)
    batch = batch_for(batch, BATCH, place)
    with one_seed(seed):
        unet = make_unet(side)
    unet.to(place, memory_format=torch.channels_last)
    mirror = torch.tensor([-1.0 if name in MIRRORED else 1.0 for name in NAMES])
    tables = (data.images, data.latents, data.latents * mirror)
    kept = make_scheduler().alphas_cumprod.to(place)

    def prepare(random: torch.Generator, images: Tensor, latents: Tensor, turned: Tensor) -> tuple[Tensor, ...]:
        pictures, flip = mirrored_at_random(from_bytes(images) * 2 - 1, random)
        times = torch.randint(TIMES, (len(pictures),), generator=random, device=pictures.device)
        noise = torch.randn(pictures.shape, generator=random, device=pictures.device)
        return pictures, either(flip, turned, latents), times, noise

    def loss(model: nn.Module, halved: int, pictures: Tensor, latents: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        pictures = F.avg_pool2d(pictures, 2**halved)
        noise = noise[..., : pictures.shape[-2], : pictures.shape[-1]]
        share = kept[times].view(-1, 1, 1, 1)
        noisy, velocity = share.sqrt() * pictures + (1 - share).sqrt() * noise, share.sqrt() * noise
        said = model(noisy, times, class_labels=padded(latents, unet)).sample
        return F.mse_loss(said.float(), velocity - (1 - share).sqrt() * pictures)

    settings: dict[str, object] = {"recipe": "diffusion", "steps": steps, "batch": batch, "seed": seed}
    settings |= {"grow_at": list(GROW_AT), "precision": precision, "renders": data.settings}
    lessons = Lessons(tables, torch.arange(data.training), prepare, batch, seed)
    made = fit(
        unet,
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

    def finish() -> dict[str, float]:
        save(made.cpu(), out)
        saved = load_diffusion(out).to(place)
        figures = evaluate(saved, data)
        write_json(out / TRAINING, {"settings": settings, "figures": figures})
        draw(saved, data, out / SHEET)
        describe(out)
        return figures

    return first_writes(finish, out)


def make_unet(side: int) -> nn.Module:
    """The network, of diffusers: as wide as the latents are many is what it is told."""
    from diffusers import UNet2DModel

    levels = len(CHANNELS)
    return UNet2DModel(
        sample_size=side,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        norm_num_groups=GROUPS,
        attention_head_dim=CHANNELS[-1] // 4,
        time_embedding_dim=max(4 * CHANNELS[0], len(NAMES)),
        class_embed_type="identity",
    )


def make_scheduler() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=TIMES,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )


def save(unet: nn.Module, folder: Path) -> None:
    """Write a DDIM pipeline in half precision, and what it is told beside it."""
    from diffusers import DDIMPipeline

    DDIMPipeline(unet.half(), make_scheduler()).save_pretrained(folder)
    ours: dict[str, Any] = {"sia_gen": {"kind": "generator", "architecture": ARCHITECTURE}, "name": folder.name}
    ours |= {"latents": len(NAMES), "population": population().to_json(), "steps": STEPS, "acts": list(ACTS)}
    write_json(folder / OURS, ours)


@torch.inference_mode()
def evaluate(model: Diffusion, data: RenderSet) -> dict[str, float]:
    """Peak signal-to-noise ratio in dB on the held-out faces, mean over faces, each from noise of its own."""
    device, ratios, start = device_of(model), [], data.training
    for part in torch.arange(start, len(data)).split(64):
        pictures = model.render(model.codes(data.latents[part].to(device), part.tolist())).cpu()
        error = (pictures - from_bytes(data.images[part])).square().mean((1, 2, 3))
        ratios.append(-10 * error.log10())
    return {"psnr_db": round(torch.cat(ratios).mean().item(), 2), "held_out": len(data) - start}


@torch.inference_mode()
def draw(model: Diffusion, data: RenderSet, path: Path) -> None:
    """Held-out renders above what the model makes of their latents, in pairs of rows; then samples."""
    rows, device, start = [], device_of(model), data.training
    for part in torch.arange(start, min(start + 3 * COLUMNS, len(data))).split(COLUMNS):
        codes = model.codes(data.latents[part].to(device), part.tolist())
        rows += [from_bytes(data.images[part]), model.render(codes).cpu()]
    rows.append(model.render(model.sample(range(COLUMNS))).cpu())
    draw_sheet(path, rows, [*["render", "model"] * (len(rows) // 2), "samples"])


def describe(
    folder: Path, attributes: Sequence[Attribute] = (), fit_seed: int = 1, faces: int = 4096, trials: int = 64
) -> None:
    """Write the card of a trained model, with its attributes once they have been found."""
    training = read_json(folder / TRAINING)
    settings, figures = training["settings"], training["figures"]
    model = load_diffusion(folder)
    write_card(
        folder,
        "diffusion",
        settings["renders"],
        figures["held_out"],
        resolution=model.resolution,
        parameters=sum(weight.numel() for weight in model.parameters()) / 1e6,
        half=settings["grow_at"][0],
        sampled=model.steps,
        steps=settings["steps"],
        seed=settings["seed"],
        batch=settings["batch"],
        precision=settings["precision"],
        psnr=figures["psnr_db"],
        fit_seed=fit_seed,
        fitted=f"--attributes {','.join(a.name for a in attributes)} --faces {faces} --trials {trials}",
        attributes=attribute_table(attributes),
    )
