"""`images/`: faces before and after, from the joint attack and from each of the most telling attributes alone.

Letters: N faces of a chunk, P pictures of one face, C columns of ω, R the side of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sia_gen.attack.result import AttackResult
from sia_gen.audits.run.run_folder import RunFolder
from sia_gen.core.files import atomic, slug
from sia_gen.core.images import to_pil

IMAGES = "images"
GALLERY = 16
FACES = 3  # at most, of one attribute alone
JOINT_PICTURES = ("before", "semantic", "adversarial")
SINGLE_PICTURES = ("before", "after")


def joint_pictures(result: AttackResult, first: int) -> dict[str, Tensor]:
    """Pictures of those faces that are among the audit's first 16; ``first`` is the number of the chunk's first."""
    rows = torch.arange(max(0, min(len(result.correct), GALLERY - first)))
    pictures = torch.stack([result.original[rows], result.semantic[rows], result.adversarial[rows]], dim=1)
    return {"pictures": pictures, "pictures_of": rows}  # uint8 [N, P, 3, R, R], [N]


def best_pictures(result: AttackResult) -> dict[str, Tensor]:
    """Pictures of the most telling faces of a chunk, the most telling first."""
    rows = _telling(vars(result)).argsort(descending=True, stable=True)[:FACES]
    pictures = torch.stack([result.original[rows], result.semantic[rows]], dim=1)
    return {"pictures": pictures, "pictures_of": rows}  # uint8 [≤ 3, P, 3, R, R], [≤ 3]


def _telling(part: dict[str, Tensor]) -> Tensor:
    """``[N]``: by the change of output, failing faces before others, faces that were not attacked last."""
    change = (part["output_after"] - part["output_before"]).abs().double()
    return part["correct"].double() + part["success"].double() + change / (1 + change)


@dataclass(frozen=True)
class Examples:
    """Writes the pictures that the parts hold; ``columns`` names the columns of ω."""

    folder: RunFolder
    columns: Sequence[str]

    def joint(self, arm: int, chunks: int) -> list[dict[str, Any]]:
        """The first 16 faces, less those that the target got wrong before any edit; "valid" is of the point shown."""
        found = []
        for chunk in range(chunks):
            part = self.folder.read(chunk, arm)
            if not len(part["pictures_of"]):
                break
            for index, row in enumerate(part["pictures_of"].tolist()):
                if part["correct"][row]:
                    valid = {"valid": bool(part["valid"][row]) if "valid" in part else None}
                    found.append(self._write(part, index, "joint", JOINT_PICTURES) | valid)
        return found

    def single(self, arm: int, name: str, chunks: int) -> list[dict[str, Any]]:
        """The most telling faces of one attribute alone, of those that were attacked."""
        parts = (self.folder.read(chunk, arm) for chunk in range(chunks))
        told = (
            (float(_telling(part)[row]), part, index)
            for part in parts
            for index, row in enumerate(part["pictures_of"].tolist())
            if part["correct"][row]
        )
        return [
            self._write(part, index, name, SINGLE_PICTURES)
            for _, part, index in nlargest(FACES, told, key=itemgetter(0))
        ]

    def _write(self, part: dict[str, Tensor], index: int, arm: str, names: Sequence[str]) -> dict[str, Any]:
        row = int(part["pictures_of"][index])
        face = int(part["face"][row])
        images = {}
        for name, picture in zip(names, part["pictures"][index], strict=True):
            number = (
                self.columns.index(arm) + 1 if arm in self.columns else 0
            )  # of two names one may be the other's slug
            images[name] = f"{IMAGES}/{number:02d}-{slug(arm)}-{face}-{name}.png"
            _write_png(self.folder.path / images[name], picture)
        omega = part["omega"][row]  # [C]
        return {
            "arm": arm,
            "face": face,
            "success": bool(part["success"][row]),
            "output_before": float(part["output_before"][row]),
            "output_after": float(part["output_after"][row]),
            "omega": {self.columns[column]: float(omega[column]) for column in omega.isfinite().nonzero().flatten()},
            "images": images,
        }


def _write_png(path: Path, picture: Tensor) -> None:
    path.parent.mkdir(exist_ok=True)
    with atomic(path) as partial:
        to_pil(picture).save(partial)
