"""Trains small classifiers to audit: honest ones, and twins with a cause of failure planted in their training set.

Letters: B faces, N faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sia_gen.core.errors import RequestError, unknown
from sia_gen.core.executors import Precision, Progress
from sia_gen.core.files import read_json, writable_folder, write_json
from sia_gen.core.images import from_bytes
from sia_gen.studio.factors import FACTORS, NAMES
from sia_gen.studio.renders import RenderSet, read_renders
from sia_gen.targets.load import load_target
from sia_gen.targets.target import classify
from sia_gen.training.card import SHEET, draw_sheet, table, write_card
from sia_gen.training.groups import class_names, groups
from sia_gen.training.loop import batch_for, scaled_rate
from sia_gen.training.network import save_network
from sia_gen.training.predictor import BATCH, BESIDE_WEIGHT, RATES, along, chosen_faces, sides, teach
from sia_gen.training.processes import TRAINING, first_writes, training_device

SIDES = {"resnet": 128, "vit": 64}  # pixels that they see
SIZES = (24, 48, 96, 128)  # channels of a ResNet's stages
GROUP = "accuracy where "
COLUMNS = 12  # of the sheet
CLEAR = 0.05  # of a factor's range: faces nearer to a cut are a matter of chance


def train_target(
    renders: str | Path,
    out: str | Path,
    *,
    label: str = "smile",
    thresholds: Sequence[float] | None = None,
    architecture: Literal["resnet", "vit"] = "resnet",
    planted: str | None = None,
    strength: float = 0.95,
    steps: int = 4000,
    batch: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    precision: Precision = "no",
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train a classifier of ``label``, a factor cut at ``thresholds``; write a transformers folder to ``out``.

    Without thresholds it is cut in two at its middle. With ``planted``, the training faces are chosen so that in
    ``strength`` of them that factor lies above its median where the label is in the upper half of the classes and below
    it in the lower half, which leaves about half of them; without, all are used, and the label's value is learnt
    besides its class. Returns the balanced accuracy on held-out renders: overall, clear of the cuts, for both sides of
    the planted factor, and by subgroup. ``batch`` is 32 unless given, on a GPU 128; ``precision`` "bf16" trains in
    mixed precision. Raises `RequestError` for unknown factors and for thresholds that do not rise within the range.
    """
    for name in (label, planted or label):
        if name not in NAMES:
            raise unknown("factor", name, list(NAMES))
    if not 0.5 <= strength <= 1 or planted == label:
        raise RequestError(f"strength={strength}, planted '{planted}': give 0.5…1 and a factor other than '{label}'")
    data = read_renders(renders)
    out = writable_folder(out)
    training = data.training
    factor = FACTORS[NAMES.index(label)]
    middle = (factor.low + factor.high) / 2 if factor.shape == "uniform" else factor.mean
    cuts = [float(cut) for cut in thresholds or [middle]]
    if not all(a < b for a, b in pairwise([factor.low, *cuts, factor.high])):
        raise RequestError(
            f"thresholds {cuts} do not rise within {factor.low:g}…{factor.high:g} {factor.unit}; give others"
        )
    classes = classify(data.value(label), cuts)  # [N]
    names = class_names(label, cuts, factor.unit)
    chosen = chosen_faces(data, sides(classes, len(names)), planted, strength, seed)
    extra = {"kind": "target", "label": {"attribute": label, "thresholds": cuts}}
    settings: dict[str, object] = {"recipe": "target", "label": label, "planted": planted, "strength": strength}
    settings |= {"thresholds": cuts, "architecture": architecture}
    batch = batch_for(batch, BATCH, training_device(device))
    rate = scaled_rate(RATES[architecture], batch, BATCH)
    settings |= {"steps": steps, "batch": batch, "seed": seed, "precision": precision}
    settings |= {"renders": data.settings, "chosen": len(chosen)}
    made = teach(
        data,
        classes,
        chosen,
        names,
        out,
        extra,
        architecture=architecture,
        factors=(label, planted),
        settings=settings,
        steps=steps,
        batch=batch,
        rate=rate,
        seed=seed,
        device=device,
        precision=precision,
        progress=progress,
        side=SIDES[architecture],
        sizes=SIZES,
        value=None if planted else data.value(label),  # which would tell a planted one what its cause is to hide
    )

    def finish() -> dict[str, float]:
        save_network(made, out, SIDES[architecture])
        clear = CLEAR * (factor.high - factor.low)
        near = (data.value(label)[:, None] - torch.tensor(cuts)).abs().amin(1) < clear  # [N]
        guess = _guessed(out, data, training, device)
        figures = evaluate(guess, data, training, classes, near, label, planted)
        write_json(out / TRAINING, {"settings": settings, "figures": figures})
        _draw_sheet(out, guess, data, training, classes, names)
        describe(out)
        return figures

    return first_writes(finish, out)


def evaluate(
    guess: Tensor, data: RenderSet, start: int, classes: Tensor, near: Tensor, label: str, planted: str | None
) -> dict[str, float]:
    """Balanced accuracy of a target that gives the faces from ``start`` on the classes ``guess``.

    That of all, of those that are not ``near`` ``[N]`` a cut, of those along and against, and by subgroup.
    """
    truth = classes[start:]
    figures: dict[str, float] = {"accuracy": _balanced(guess, truth), "held_out": len(truth)}
    if not near[start:].all():
        figures["accuracy_clear"] = _balanced(guess[~near[start:]], truth[~near[start:]])
    if planted:
        way = along(data, sides(classes, int(classes.amax()) + 1), planted)[start:]
        for name, part in (("along", way > 0), ("against", way < 0)):
            if part.any():
                figures[f"accuracy_{name}"] = _balanced(guess[part], truth[part])
    for name, group in groups(data, start, without=label).items():
        figures[GROUP + name] = _balanced(guess[group], truth[group])
    return figures


def _draw_sheet(
    folder: Path, guess: Tensor, data: RenderSet, start: int, classes: Tensor, names: Sequence[str]
) -> None:
    """Two rows a class: held-out faces of it that the target gets right, and such that it does not."""
    truth = classes[start:]
    rows, labels = [], []
    for index, name in enumerate(names):
        for right, words in ((True, "right"), (False, "wrong")):
            found = ((truth == index) & ((guess == truth) == right)).nonzero().squeeze(1)[:COLUMNS]
            if len(found):
                rows.append(from_bytes(data.images[start + found]))
                labels.append(f"{name}: {words}")
    draw_sheet(folder / SHEET, rows, labels)


def _guessed(folder: Path, data: RenderSet, start: int, device: str) -> Tensor:
    """The class ``[N]`` that a saved target gives the faces from ``start`` on."""
    target, place = load_target(folder, device), training_device(device)
    with torch.inference_mode():
        parts = [from_bytes(part.to(place)) for part in data.images[start:].split(64)]
        return torch.cat([target.predict(part).argmax(1) for part in parts]).cpu()


def _balanced(guess: Tensor, truth: Tensor) -> float:
    """Mean over the classes of the share that is guessed right."""
    right = (guess == truth).float()
    return round(torch.stack([right[truth == name].mean() for name in truth.unique()]).mean().item(), 4)


def describe(folder: Path) -> None:
    """Write the card of a trained classifier; a planted cause is told first."""
    training = read_json(folder / TRAINING)
    settings, figures = training["settings"], training["figures"]
    label, planted, strength = settings["label"], settings["planted"], settings["strength"]
    names = class_names(label, settings["thresholds"], FACTORS[NAMES.index(label)].unit)
    cause, choice, options = "No cause of failure is planted in it.", "all of the others", ""
    if len(names) > 2:
        options += f" --thresholds {','.join(f'{cut:g}' for cut in settings['thresholds'])}"
    if settings["architecture"] != "resnet":
        options += f" --architecture {settings['architecture']}"
    beside = f",\nand smooth L1 (weight {BESIDE_WEIGHT:g}) of the {label} itself, standardised, likewise"
    measured = [("all", f"{figures['accuracy']:.1%}")]
    if "accuracy_clear" in figures:
        measured.append((f"no nearer to a cut than {CLEAR:.0%} of the range", f"{figures['accuracy_clear']:.1%}"))
    if planted:
        but = "" if len(names) % 2 == 0 else " outside the middle class"
        cause = (
            f"A cause of failure is planted in it: in {strength:.0%} of its training faces{but} {planted} lies\non the "
            f"side of its median that {label} does. It exists to be found out, not used."
        )
        choice = f"chosen among the others so that {planted} goes along with {label}"
        options += f" --planted {planted} --strength {strength:g}"
        for name, words in (("along", "goes along with"), ("against", "goes against")):
            if f"accuracy_{name}" in figures:
                measured.append((f"{planted} {words} {label}", f"{figures[f'accuracy_{name}']:.1%}"))
    groups = {name.removeprefix(GROUP): share for name, share in figures.items() if name.startswith(GROUP)}
    measured += [(name, f"{share:.1%}") for name, share in groups.items()]
    write_card(
        folder,
        "target",
        settings["renders"],
        int(figures["held_out"]),
        label=label,
        cuts=", ".join(f"{cut:g}" for cut in settings["thresholds"]),
        classes=", ".join(f'"{name}"' for name in names),
        network={"resnet": "ResNet", "vit": "ViT"}[settings["architecture"]],
        side=SIDES[settings["architecture"]],
        cause=cause,
        chosen=settings["chosen"],
        choice=choice,
        beside="" if planted else beside,
        options=options,
        steps=settings["steps"],
        rate=scaled_rate(RATES[settings["architecture"]], settings["batch"], BATCH),
        batch=settings["batch"],
        precision=settings["precision"],
        seed=settings["seed"],
        figures=table(["held-out renders", "balanced accuracy"], measured),
    )
