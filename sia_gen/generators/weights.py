"""What tells a generator from others of the same family and size."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from sia_gen.generators.foreign.mapped import Mapped
from sia_gen.generators.generator import Generator

SAMPLED = 16  # numbers of each weight, evenly spaced: to read all of a large model takes seconds


def weights_digest(generator: Generator) -> str | None:
    """A digest of a generator's weights, None where it shows none.

    A converted one has that of its checkpoint. Of others each weight's name, shape and some of its numbers count, these
    as float16, so that a copy that is stored so has the same. What is no module, and what is brought over part by part,
    shows no weights.
    """
    if isinstance(generator, Mapped) and generator.config.source and "sha256" in generator.config.source:
        return str(generator.config.source["sha256"])[:16]
    weights = dict(generator.named_parameters()) if isinstance(generator, nn.Module) else {}
    if not weights or any(weight.is_meta for weight in weights.values()):
        return None
    found = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        found.update(f"{name} {tuple(weight.shape)}".encode() + _some(weight).numpy().tobytes())
    return found.hexdigest()[:16]


def _some(weight: Tensor) -> Tensor:
    """Up to `SAMPLED` numbers of a tensor, from its first to its last."""
    at = torch.linspace(0, max(0, weight.numel() - 1), min(SAMPLED, weight.numel()), dtype=torch.float64)
    return weight.detach().take(at.round().long().to(weight.device)).half().cpu()
