"""A sheet of a few attacked faces: before, semantic, adversarial. N faces, K attributes, R resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.load import load_attributes
from sia_gen.audits.evidence.reference import as_sampled, followed, reference_name, verified_label
from sia_gen.audits.run.job import worst_alone
from sia_gen.core.executors import Progress
from sia_gen.core.images import contact_sheet
from sia_gen.generators.load import load_generator
from sia_gen.service.commands.sheet import Sheet, enlargement, require_few
from sia_gen.targets.load import load_target
from sia_gen.targets.task import Classification, Detection, Following, Task, Verification

COLUMNS = ("before", "semantic", "adversarial")


def attack_sheet(
    generator_name: str,
    target_name: str,
    faces: Mapping[int, int],
    attributes: Sequence[str] | None,
    attack: SemanticImageAttack,
    device: str,
    progress: Progress | None = None,
) -> Sheet:
    """Attack ``faces`` (number → seed), each held against the same reference as in an audit.

    As there, it begins at the worst point of one attribute alone, so that together they never do less.
    ``attributes`` are names, by default all but the one that the target predicts.
    """
    require_few(faces)
    generator, space = load_generator(generator_name, device), load_attributes(generator_name, device)
    target = load_target(target_name, device)
    label = target.label.attribute if target.label is not None else None
    if attributes is not None:
        space = space.select(attributes)
    elif label in space.names:
        space = space.without(label)
    seeds = list(faces.values())
    codes = generator.sample(seeds)
    verified, target = verified_label(target, torch.device(device)), followed(target, torch.device(device))
    rendered, reference = as_sampled(generator, space, codes, verified, attack.precision)
    attack, count = attack.suited(target), len(space.names)
    common = {"seeds": seeds, "rendered": rendered}
    singles = []
    for index, name in enumerate(space.names if attack.box > 0 else ()):
        if progress:
            progress(index, count, f"{name} alone")
        singles.append(attack.alone()(generator, space.select([name]), target, codes, reference, **common))
    result = attack(
        generator,
        space,
        target,
        codes,
        reference,
        **common,
        start=worst_alone(singles) if singles else None,
        progress=progress,
    )
    pictures = torch.stack([result.original, result.semantic, result.adversarial], dim=1)  # [N, 3, 3, R, R]
    rows = []
    for index, (number, seed) in enumerate(faces.items()):
        rows.append(
            {
                "face": number,
                "seed": seed,
                "reference": _named(target.task, result.reference[index]),
                "before": _said(target.task, result.prediction_before[index]),
                "after": _said(target.task, result.prediction_after[index]),
                "correct": bool(result.correct[index]),
                "success": bool(result.success[index]),
                "output_before": float(result.output_before[index]),
                "output_after": float(result.output_after[index]),
                "changes": dict(zip(space.names, result.omega[index].tolist(), strict=True)),
                "steps": int(result.steps[index]),
                "queries": int(result.queries[index] + sum(single.queries[index] for single in singles)),
            }
        )
    summary = {
        "generator": generator.name,
        "target": target.name,
        "reference": reference_name(target, verified),
        "units": {attribute.name: attribute.unit for attribute in space.attributes},
        "faces": rows,
    }
    image = contact_sheet(list(pictures), [_label(row) for row in rows], COLUMNS, enlargement(generator.resolution))
    return Sheet(image, summary)


def _said(task: Task, prediction: torch.Tensor) -> Any:
    """What the target said of one face, in short."""
    if isinstance(task, Detection):
        return "found" if prediction > 0 else "missed"
    return _named(task, task.decide(prediction[None])[0])


def _named(task: Task, decided: torch.Tensor) -> Any:
    """The class's name or the values; nothing where it is points or an embedding."""
    if isinstance(task, Classification):
        return task.classes[int(decided)]
    return None if isinstance(task, Following | Verification | Detection) else decided.tolist()


def _label(row: Mapping[str, Any]) -> str:
    if not row["correct"]:
        return f"face {row['face']}: wrong as it is"
    return f"face {row['face']}: {'fails' if row['success'] else 'holds'}"
