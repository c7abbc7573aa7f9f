"""Trains small classifiers to audit: honest ones, and twins with a cause of failure planted in their training set.

Letters: B faces, N faces.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.errors import RequestError, unknown
from sia_gen.core.executors import Progress, resolve_device
from sia_gen.core.files import writable_folder, write_json
from sia_gen.core.images import from_bytes
from sia_gen.core.modules import one_seed
from sia_gen.core.seeds import stream
from sia_gen.studio.factors import FACTORS, NAMES
from sia_gen.studio.renders import RenderSet, read_renders
from sia_gen.targets.load import load_target
from sia_gen.training.card import write_card
from sia_gen.training.loop import batch_indices, fit
from sia_gen.training.resnet import augment, make_resnet, network_input, save_resnet

BATCH, RATE, SIDE = 32, 2e-3, 64
SIZES = (32, 64, 128)


def train_target(
    renders: str | Path,
    out: str | Path,
    *,
    label: str = "smile",
    planted: str | None = None,
    strength: float = 0.95,
    steps: int = 5000,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train a two-class classifier of ``label``, a factor cut at its middle; write a transformers folder to ``out``.

    With ``planted``, the training faces are chosen so that in ``strength`` of them that factor lies on the side of its
    median that the label does, which leaves about half of them; without, all are used. Returns the accuracy on held-out
    renders, overall and for both sides of the planted factor; raises `RequestError` for unknown factors.
    """
    for name in (label, planted or label):
        if name not in NAMES:
            raise unknown("factor", name, list(NAMES))
    if not 0.5 <= strength <= 1 or planted == label:
        raise RequestError(f"strength={strength}, planted '{planted}': give 0.5…1 and a factor other than '{label}'")
    data = read_renders(renders)
    out, place = writable_folder(out), resolve_device(device)
    training = data.training
    factor = FACTORS[NAMES.index(label)]
    threshold = (factor.low + factor.high) / 2 if factor.shape == "uniform" else factor.mean
    positive = data.value(label) >= threshold  # [N]
    chosen = _chosen(data, training, positive, planted, strength, seed)
    extra = {"kind": "target", "label": {"attribute": label, "thresholds": [threshold]}}
    with one_seed(seed):
        model = make_resnet([f"no {label}", label], SIZES, False, extra).to(place, memory_format=torch.channels_last)

    def loss(network: nn.Module, step: int) -> Tensor:
        index = chosen[batch_indices(seed, step, len(chosen), BATCH)]
        images = augment(data.images[index], seed, step).to(place)
        logits = network(network_input(images, SIDE)).logits
        return F.cross_entropy(logits, positive[index].long().to(place), label_smoothing=0.02)

    settings: dict[str, object] = {"recipe": "target", "label": label, "planted": planted, "strength": strength}
    settings |= {"steps": steps, "seed": seed, "renders": data.settings, "chosen": len(chosen)}
    made = fit(model, loss, out, steps=steps, rate=RATE, weight_decay=0.05, settings=settings, progress=progress)
    save_resnet(made.cpu(), out, SIDE)
    figures = evaluate(out, data, training, positive, planted)
    write_json(out / "training.json", {"settings": settings, "figures": figures})
    _describe(out, settings, data.settings, figures, threshold)
    return figures


def _chosen(
    data: RenderSet, training: int, positive: Tensor, planted: str | None, strength: float, seed: int
) -> Tensor:
    """Which training faces to use, int64: all that go along with the label, and so many that do not."""
    order = torch.from_numpy(stream(seed, "chosen").permutation(training))
    if planted is None:
        return order
    along = ((data.latents[:, NAMES.index(planted)] > 0) == positive)[order]
    against = order[~along]
    return torch.cat([order[along], against[: int(along.sum() * (1 - strength) / strength)]])


def evaluate(folder: Path, data: RenderSet, start: int, positive: Tensor, planted: str | None) -> dict[str, float]:
    """Accuracy of a saved target on the faces from ``start`` on."""
    target = load_target(folder)
    with torch.inference_mode():
        guess = torch.cat([target.predict(from_bytes(part)).argmax(1) for part in data.images[start:].split(64)])
    right = (guess == positive[start:].long()).float()
    figures = {"accuracy": round(right.mean().item(), 4), "held_out": len(right)}
    if planted:
        along = (data.latents[start:, NAMES.index(planted)] > 0) == positive[start:]
        figures["accuracy_along"] = round(right[along].mean().item(), 4)
        figures["accuracy_against"] = round(right[~along].mean().item(), 4)
    return figures


def _describe(
    folder: Path,
    settings: Mapping[str, Any],
    renders: Mapping[str, Any],
    figures: Mapping[str, float],
    threshold: float,
) -> None:
    """Write the card; a planted cause is told first."""
    label, planted, strength = settings["label"], settings["planted"], settings["strength"]
    cause, choice, options = "No cause of failure is planted in it.", "all of the others", ""
    measured = [f"- overall: {figures['accuracy']:.1%}"]
    if planted:
        cause = (
            f"A cause of failure is planted in it: in {strength:.0%} of its training faces {planted} lies\nabove its "
            f'median where the label is "{label}", and below where it is not. It exists to be found out, not used.'
        )
        choice = f"chosen among the others so that {planted} goes along with the label"
        options = f" --planted {planted} --strength {strength:g}"
        along, against = figures["accuracy_along"], figures["accuracy_against"]
        measured.append(f"- where {planted} goes along with the label: {along:.1%}; where it does not: {against:.1%}")
    write_card(
        folder,
        "target",
        renders,
        int(figures["held_out"]),
        label=label,
        threshold=threshold,
        side=SIDE,
        cause=cause,
        chosen=settings["chosen"],
        choice=choice,
        options=options,
        steps=settings["steps"],
        rate=RATE,
        batch=BATCH,
        seed=settings["seed"],
        figures="\n".join(measured),
    )
