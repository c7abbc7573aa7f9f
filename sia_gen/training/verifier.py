"""Trains the verifier: one network that reads every factor off an image.

Letters: B faces, F factors.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.executors import Progress, resolve_device
from sia_gen.core.files import writable_folder, write_json
from sia_gen.core.images import from_bytes
from sia_gen.core.modules import one_seed
from sia_gen.core.seeds import stream
from sia_gen.studio.factors import FACTORS
from sia_gen.studio.renders import RenderSet, read_renders
from sia_gen.targets import verifier as reader
from sia_gen.training.card import table, write_card
from sia_gen.training.generator import MIRRORED
from sia_gen.training.loop import batch_indices, fit
from sia_gen.training.resnet import augment, make_resnet, network_input, save_resnet

BATCH, RATE, SIDE = 32, 2e-3, 64
SIZES = (48, 96, 192)


def train_verifier(
    renders: str | Path,
    out: str | Path,
    *,
    steps: int = 2000,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, dict[str, float]]:
    """Train on the folder ``renders``, write a transformers folder and ``training.json`` to ``out``.

    Returns for each factor the mean absolute error in its unit and R² on held-out renders. Interrupted, the same call
    goes on.
    """
    data = read_renders(renders)
    out, place = writable_folder(out), resolve_device(device)
    training = data.training
    mean, sd = data.values[:training].mean(0), data.values[:training].std(0)
    factors = [
        reader.Factor(factor.name, factor.unit, round(m, 6), round(s, 6))
        for factor, m, s in zip(FACTORS, mean.tolist(), sd.tolist(), strict=True)
    ]
    extra = {"kind": "verifier", "factors": [asdict(factor) for factor in factors]}
    with one_seed(seed):
        model = make_resnet([factor.name for factor in factors], SIZES, True, extra)
    model = model.to(place, memory_format=torch.channels_last)
    mirrored = torch.tensor([factor.name in MIRRORED for factor in factors])
    mean, sd = (torch.tensor([getattr(factor, name) for factor in factors]) for name in ("mean", "sd"))

    def loss(network: nn.Module, step: int) -> Tensor:
        index = batch_indices(seed, step, training, BATCH)
        images, values = augment(data.images[index], seed, step), data.values[index]
        flip = torch.from_numpy(stream(seed, f"flip{step}").random(len(index)) < 0.5)
        images = torch.where(flip[:, None, None, None], images.flip(3), images)
        values = torch.where(flip[:, None] & mirrored, -values, values)
        wanted = ((values - mean) / sd).to(place)
        return F.smooth_l1_loss(network(network_input(images.to(place), SIDE)).logits, wanted, beta=0.5)

    settings: dict[str, object] = {"recipe": "verifier", "steps": steps, "seed": seed, "renders": data.settings}
    made = fit(model, loss, out, steps=steps, rate=RATE, weight_decay=0.05, settings=settings, progress=progress)
    save_resnet(made.cpu(), out, SIDE)
    figures = evaluate(out, data, training)
    write_json(out / "training.json", {"settings": settings, "figures": figures})
    errors = [(name, f"{found['mae']:.3g}", f"{found['r2']:.2f}") for name, found in figures.items()]
    recipe = {"steps": steps, "rate": RATE, "batch": BATCH, "seed": seed, "factors": len(figures)}
    errors_table = table(["factor", "error", "R²"], errors)
    write_card(out, "verifier", data.settings, len(data) - training, errors=errors_table, **recipe)
    return figures


def evaluate(folder: Path, data: RenderSet, start: int) -> dict[str, dict[str, float]]:
    """Error of a saved verifier on the faces from ``start`` on."""
    verifier = reader.load_verifier(folder)
    with torch.inference_mode():
        read = torch.cat([verifier.read(from_bytes(part)) for part in data.images[start:].split(64)])
    error = read - data.values[start:]
    mae, variance = error.abs().mean(0), data.values[start:].var(0)
    r2 = 1 - error.square().mean(0) / variance
    return {
        factor.name: {"mae": round(m, 4), "r2": round(r, 4)}
        for factor, m, r in zip(verifier.factors, mae.tolist(), r2.tolist(), strict=True)
    }
