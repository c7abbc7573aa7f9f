"""Whether a generator's pictures are such as the shipped verifier was taught on: of others it says nothing sure."""

from __future__ import annotations

import torch
from torch import Tensor

from sia_gen.audits.evidence.validity import BATCH, Gate, unedited
from sia_gen.core.executors import Batches
from sia_gen.core.images import from_bytes
from sia_gen.generators.generator import Generator
from sia_gen.studio.renders import read_renders, shipped_renders
from sia_gen.targets.verifier import Verifier

KNOWN, LOOKED_AT = 512, 64  # shipped renders that say what the verifier knows; faces of a generator
ENOUGH = 0.5  # share of them that has to lie as near to a render as renders do to each other


@torch.no_grad()
def familiar(generator: Generator, verifier: Verifier) -> float:
    """Which share of a generator's faces lies as near to a render, in the verifier's features, as renders do.

    1 where no renders are shipped that would say.
    """
    folder = shipped_renders()
    if folder is None:
        return 1.0
    renders, device = read_renders(folder, KNOWN).images, verifier.mean.device

    def of_renders(part: slice) -> Tensor:
        return verifier.look(from_bytes(renders[part]).to(device))[1].float()

    known = Gate.of(verifier, None, torch.cat(list(Batches(BATCH)(len(renders), of_renders))))
    return float((known.distance(unedited(generator, verifier, 0, "familiar", LOOKED_AT)) <= 1).float().mean())
