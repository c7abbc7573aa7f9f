"""How often people look like someone before them, generated ones and, as the floor of it, rendered ones.

Letters: M pictures, R resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sia_gen.core.executors import Batches
from sia_gen.core.images import from_bytes
from sia_gen.rebalancing.rare_faces import BATCH, RareFaces
from sia_gen.studio.renders import RenderSet
from sia_gen.studio.sampling import drawn_evenly


def likeness_of(cosines: Sequence[float], source: RareFaces) -> dict[str, Any]:
    """How alike faces look: share above the limit, and above the identity model's own threshold."""
    threshold = 1.0 if source.gate.identity is None else source.gate.identity.threshold
    known = torch.tensor(cosines)
    return {
        "alike": round(source.alike, 4),
        "twice": round(float((known >= source.alike).float().mean()), 4),
        "above_threshold": round(float((known >= threshold).float().mean()), 4),
        "likeness_median": round(float(known.median()), 4),
    }


@torch.no_grad()
def nearest_before(pictures: Tensor, source: RareFaces) -> list[float]:
    """The cosine of each of the pictures, uint8 ``[M, 3, R, R]``, with the nearest before it; −1 of the first."""
    identity = source.gate.identity
    if identity is None:
        return [-1.0] * len(pictures)
    place = source.space.directions.device
    parts = Batches(BATCH)(len(pictures), lambda part: identity.embed(from_bytes(pictures[part]).to(place)).cpu())
    embedded = torch.cat(list(parts))
    later = torch.ones(len(embedded), len(embedded), dtype=torch.bool).triu()
    return (embedded @ embedded.T).masked_fill(later, -1.0).amax(1).tolist()


def people_of(renders: RenderSet) -> Tensor:
    """Rows of the renders, int64: the first picture of each person who was drawn as a population has people."""
    who = renders.identity.tolist()
    first = {person: row for row, person in reversed(list(enumerate(who)))}
    rows = torch.tensor(sorted(first.values()), dtype=torch.int64)
    even = drawn_evenly(renders.identity[rows].tolist(), renders.settings["spread"])
    return rows[~even]
