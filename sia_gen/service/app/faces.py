"""Going from face to face, the same in every tab."""

from __future__ import annotations

import random
from typing import Any

from sia_gen.core.seeds import MAX_FACES

DRAWN = 1000  # faces that a random one is drawn from
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""How events are set up that are over at once and that no program needs."""


def next_face(face: int | None) -> int:
    return (int(face or 0) + 1) % MAX_FACES


def any_face() -> int:
    return random.randrange(DRAWN)
