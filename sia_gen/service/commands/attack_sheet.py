"""A sheet of a few attacked faces: before, semantic, adversarial. N faces, K attributes, R resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import Attribute
from sia_gen.audits.evidence.reference import reference_name
from sia_gen.core.executors import Progress
from sia_gen.core.files import writable_folder
from sia_gen.core.images import contact_sheet
from sia_gen.service.attacker import load_attacker, named, said
from sia_gen.service.commands.sheet import Sheet, enlargement, require_few
from sia_gen.service.replay import replay

COLUMNS = ("before", "semantic", "adversarial")


def attack_sheet(
    generator_name: str,
    target_name: str,
    faces: Mapping[int, int],
    attributes: Sequence[str] | None,
    attack: SemanticImageAttack,
    device: str,
    progress: Progress | None = None,
    replays: Path | None = None,
) -> Sheet:
    """Attack ``faces`` (number → seed), each held against the same reference as in an audit.

    As there, it begins at the worst point of one attribute alone, so that together they never do less.
    A gentle attack begins at the face.
    ``attributes`` are names, by default all but the one that the target predicts. ``replays`` is a folder for the steps
    of each face, see `Replay.save`.
    """
    require_few(faces)
    if replays is not None:
        writable_folder(replays)
    attacker = load_attacker(generator_name, target_name, device)
    found = attacker.attack(list(faces.values()), attributes, attack, progress=progress)
    if replays is not None:
        for number, seed in faces.items():
            shown = replay(attacker, number, seed, attributes, attack, progress=progress)
            shown.save(replays / f"face-{number}" if len(faces) > 1 else replays)
    target, generator, space, result = attacker.witness.target, attacker.generator, found.space, found.result
    pictures = torch.stack([result.original, result.semantic, result.adversarial], dim=1)  # [N, 3, 3, R, R]
    rows = []
    for index, (number, seed) in enumerate(faces.items()):
        rows.append(
            {
                "face": number,
                "seed": seed,
                "reference": named(target.task, result.reference[index]),
                "before": said(target.task, result.prediction_before[index]),
                "after": said(target.task, result.prediction_after[index]),
                "correct": bool(result.correct[index]),
                "success": bool(result.success[index]),
                "output_before": float(result.output_before[index]),
                "output_after": float(result.output_after[index]),
                "changes": _largest_first(space.attributes, result.omega[index].tolist()),
                "steps": int(result.steps[index]),
                "queries": int(found.queries[index]),
            }
        )
    summary = {
        "generator": generator.name,
        "target": target.name,
        "reference": reference_name(target, attacker.witness.verified),
        "attack": asdict(attack),
        "units": {attribute.name: attribute.unit for attribute in space.attributes},
        "faces": rows,
    }
    image = contact_sheet(list(pictures), [_label(row) for row in rows], COLUMNS, enlargement(generator.resolution))
    return Sheet(image, summary)


def _largest_first(attributes: Sequence[Attribute], omega: Sequence[float]) -> dict[str, float]:
    """Changes by name, in the order of their size in half ranges."""
    pairs = zip(attributes, omega, strict=True)
    ordered = sorted(pairs, key=lambda pair: -abs(pair[1]) / (pair[0].high - pair[0].low))
    return {attribute.name: value for attribute, value in ordered}


def _label(row: Mapping[str, Any]) -> str:
    if not row["correct"]:
        return f"face {row['face']}: wrong as it is"
    return f"face {row['face']}: {'fails' if row['success'] else 'holds'}"
