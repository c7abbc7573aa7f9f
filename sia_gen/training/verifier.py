"""Trains the verifier: one network that reads every factor and the landmarks off an image.

Letters: B faces, F factors, N faces of a render set.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.executors import Precision, Progress
from sia_gen.core.files import read_json, writable_folder, write_json
from sia_gen.core.images import from_bytes
from sia_gen.core.modules import one_seed
from sia_gen.studio.factors import FACTORS, MIRRORED
from sia_gen.studio.landmarks import in_a_mirror
from sia_gen.studio.renders import HELD_OUT, RenderSet, read_renders
from sia_gen.targets import verifier as reader
from sia_gen.targets.points import normalised_error
from sia_gen.training.card import SHEET, draw_sheet, table, with_points, write_card
from sia_gen.training.loop import learn, scaled_rate
from sia_gen.training.network import (
    SIDE,
    augment,
    coordinates,
    either,
    make_resnet,
    mirrored_at_random,
    network_input,
    save_network,
)
from sia_gen.training.processes import TRAINING, first_writes, training_device

BATCH, RATE = 32, 2e-3
SIZES, DEPTHS = (32, 64, 128, 256), (2, 2, 3, 2)  # channels and blocks of its stages: it judges what others are told
FOREMOST = (
    "age", "sex", "smile", "glasses", "hair_length", "skin_tone", "yaw", "pitch", "roll", "mouth_open",
    "light_azimuth", "light_elevation", "light_strength",
)  # fmt: skip
EMPHASIS = 4.0  # of these in the loss, against the other factors
READABLE = 0.5  # R² from which the card counts a factor as one that can be read
COLUMNS = 12  # of the sheet, which has two rows


def train_verifier(
    renders: str | Path,
    out: str | Path,
    *,
    steps: int = 6000,
    batch: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    precision: Precision = "no",
    progress: Progress | None = None,
) -> dict[str, dict[str, float]]:
    """Train on the folder ``renders``, write a transformers folder and ``training.json`` to ``out``.

    Returns for each factor the mean absolute error in its unit, R² and the slope of the reading over the truth on
    held-out renders, and R² on the same downsampled by 2 ("r2_half"); under "landmarks" the normalised mean error of
    both. ``batch`` is 32 unless given, on a GPU 128; ``precision`` "bf16" trains in mixed precision. Interrupted, the
    same call goes on.
    """
    data = read_renders(renders)
    out, place = writable_folder(out), training_device(device)
    training = data.training
    mean, sd = data.values[:training].mean(0), data.values[:training].std(0)
    factors = [
        reader.Factor(factor.name, factor.unit, round(m, 6), round(s, 6))
        for factor, m, s in zip(FACTORS, mean.tolist(), sd.tolist(), strict=True)
    ]
    point_mean, point_sd = coordinates(data.landmarks[:training])
    extra = {"kind": "verifier", "factors": [asdict(factor) for factor in factors]}
    extra["landmarks"] = {
        "mean": [round(value, 6) for value in point_mean.tolist()],
        "sd": [round(value, 6) for value in point_sd.tolist()],
    }
    outputs = [
        *(factor.name for factor in factors),
        *(f"landmark {i // 2} {'xy'[i % 2]}" for i in range(len(point_sd))),
    ]
    with one_seed(seed):
        model = make_resnet(outputs, SIZES, True, extra, DEPTHS[: len(SIZES)])
    model = model.to(place, memory_format=torch.channels_last)
    mirrored = torch.tensor([factor.name in MIRRORED for factor in factors])
    mean, sd = (torch.tensor([getattr(factor, name) for factor in factors]) for name in ("mean", "sd"))
    mean, sd = torch.cat([mean, point_mean]), torch.cat([sd, point_sd])

    values = torch.cat([data.values, data.landmarks.flatten(1)], dim=1)
    flipped = torch.where(mirrored, -data.values, data.values)
    flipped = torch.cat([flipped, in_a_mirror(data.landmarks).flatten(1)], dim=1)
    weight = torch.tensor([EMPHASIS if factor.name in FOREMOST else 1.0 for factor in factors], device=place)
    weight = weight / weight.mean()

    def prepare(random: torch.Generator, images: Tensor, straight: Tensor, turned: Tensor) -> tuple[Tensor, ...]:
        images, flip = mirrored_at_random(augment(images, random), random)
        return images, either(flip, turned, straight)

    def loss(network: nn.Module, kind: object, images: Tensor, wanted: Tensor) -> Tensor:
        read = network(network_input(images, SIDE)).logits.float()
        apart = F.smooth_l1_loss(read, wanted, beta=0.5, reduction="none").mean(0)
        values, points = apart.split([len(factors), wanted.shape[1] - len(factors)])
        return (weight * values).mean() + points.mean()  # they weigh the same, however many there are of each

    tables = (data.images, (values - mean) / sd, (flipped - mean) / sd)
    made, settings = learn(
        "verifier",
        model,
        data,
        tables,
        prepare,
        loss,
        out,
        usual=BATCH,
        rate=RATE,
        steps=steps,
        batch=batch,
        seed=seed,
        precision=precision,
        progress=progress,
    )

    def finish() -> dict[str, dict[str, float]]:
        save_network(made.cpu(), out, SIDE)
        figures = evaluate(out, data, training, place)
        config = read_json(out / "config.json")
        for entry in config["sia_gen"]["factors"]:
            entry["slope"] = figures[entry["name"]]["slope"]
        write_json(out / "config.json", config)
        write_json(out / TRAINING, {"settings": settings, "figures": figures})
        shown = from_bytes(data.images[training : training + 2 * COLUMNS])
        points = reader.load_verifier(out).read_landmarks(shown)
        draw_sheet(out / SHEET, with_points(shown, points).split(COLUMNS))
        describe(out)
        return figures

    return first_writes(finish, out)


def describe(folder: Path) -> None:
    """Write the card of a trained verifier."""
    training = read_json(folder / TRAINING)
    settings, figures = training["settings"], training["figures"]
    renders, read = settings["renders"], {name: found for name, found in figures.items() if "r2" in found}
    errors = [
        (name, f"{found['mae']:.3g}", f"{found['r2']:.2f}", f"{found['slope']:.2f}", f"{found['r2_half']:.2f}")
        for name, found in read.items()
    ]
    write_card(
        folder,
        "verifier",
        renders,
        int(HELD_OUT * renders["faces"]),
        steps=settings["steps"],
        batch=settings["batch"],
        rate=scaled_rate(RATE, settings["batch"], BATCH),
        seed=settings["seed"],
        precision=settings["precision"],
        foremost=len(FOREMOST),
        emphasis=EMPHASIS,
        side=renders["resolution"],
        factors=len(read),
        readable=sum(found["r2"] >= READABLE for found in read.values()),
        threshold=READABLE,
        errors=table(["factor", "error", "R²", "slope", "R² at half"], errors),
        **figures["landmarks"],
    )


def evaluate(
    folder: Path, data: RenderSet, start: int, device: torch.device | str = "cpu"
) -> dict[str, dict[str, float]]:
    """Error of a saved verifier on the faces from ``start`` on; keys in "_half" are of images downsampled by 2."""
    verifier = reader.load_verifier(folder, device)
    truth, landmarks = data.values[start:], data.landmarks[start:]
    centred = truth - truth.mean(0)
    measured: dict[str, Tensor] = {}
    nme = {}
    with torch.inference_mode():
        for size in ("", "_half"):
            parts = [from_bytes(part.to(device)) for part in data.images[start:].split(64)]
            parts = [F.avg_pool2d(part, 2) for part in parts] if size else parts
            read = torch.cat([verifier.read(part) for part in parts]).cpu()
            points = torch.cat([verifier.read_landmarks(part) for part in parts]).cpu()
            if not size:
                measured["mae"] = (read - truth).abs().mean(0)
                measured["slope"] = (centred * read).sum(0) / centred.square().sum(0)
            measured[f"r2{size}"] = 1 - (read - truth).square().mean(0) / truth.var(0)
            nme[f"nme{size}"] = round(normalised_error(points, landmarks).mean().item(), 4)
    figures = {
        factor.name: {name: round(values[index].item(), 4) for name, values in measured.items()}
        for index, factor in enumerate(verifier.factors)
    }
    return figures | {"landmarks": nme}
