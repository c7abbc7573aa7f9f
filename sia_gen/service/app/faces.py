"""What every tab does alike: going from face to face, and offering a generator's attributes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.seeds import MAX_FACES
from sia_gen.service.models import Models
from sia_gen.service.offer import Offer
from sia_gen.service.words import in_words

DRAWN = 1000  # faces that a random one is drawn from
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""How events are set up that are over at once and that no program needs."""


def next_face(face: int | None) -> int:
    return (int(face or 0) + 1) % MAX_FACES


def any_face() -> int:
    return random.randrange(DRAWN)


def choices(names: Sequence[str]) -> list[tuple[str, str]]:
    """What a component shows for each attribute, and its name."""
    return [(in_words(name), name) for name in names]


def known(models: Models, offer: Offer, generator: str) -> list[str]:
    """The attributes of a generator; nothing of one that is not found, which is said where work is asked of it."""
    with suppress(RequestError, WorkError):
        return models.attributes(offer.generator(generator)).names
    return []
