"""A contact sheet to be written as PNG, with what it shows as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from sia_gen.core.errors import RequestError
from sia_gen.core.files import atomic, require_file_place

MAX_FACES = 64
TILE = 128


@dataclass(frozen=True)
class Sheet:
    """``summary`` is plain data, ready for JSON."""

    image: Image.Image
    summary: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Write the image as PNG, whole or not at all."""
        with atomic(path) as partial:
            self.image.save(partial, format="PNG")


def require_png(path: Path) -> Path:
    """The path, if a PNG can be written there; raises `RequestError` before any work is done for it."""
    if path.suffix.lower() != ".png":
        raise RequestError(f"'{path}' is no PNG; give --out a name that ends in .png")
    return require_file_place(path)


def require_few(faces: Mapping[int, int]) -> None:
    """Raise `RequestError` for more faces than one sheet is good for."""
    if len(faces) > MAX_FACES:
        raise RequestError(f"{len(faces)} faces are more than the {MAX_FACES} of one sheet; ask for fewer")


def enlargement(resolution: int) -> int:
    """How much to enlarge images of this side for a sheet."""
    return max(1, TILE // resolution)
