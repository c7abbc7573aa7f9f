"""What a target is held against: the verifier's reading of the label where there is one, else its own prediction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sia_gen.core.executors import Batches
from sia_gen.core.files import shipped
from sia_gen.core.images import Images, quantise
from sia_gen.generators.generator import Codes, Generator
from sia_gen.targets.target import Target
from sia_gen.targets.task import Classification
from sia_gen.targets.verifier import Verifier, load_verifier

VERIFIER = "verifier"
VERIFIED, OWN = "verifier reading", "target's own prediction"  # what the settings of a run say that the reference was


@dataclass(frozen=True)
class VerifiedLabel:
    """Reads the class of a face off its image, independently of the target."""

    verifier: Verifier
    factor: int
    thresholds: tuple[float, ...]

    def read(self, images: Images) -> Tensor:
        """Images ``[B, 3, H, W]`` → classes ``[B]``: how many thresholds lie at or below the verifier's reading."""
        value = self.verifier.read(images)[:, self.factor].float().contiguous()  # [B]
        return torch.bucketize(value, torch.tensor(self.thresholds, device=value.device), right=True)


def verified_label(target: Target, device: torch.device) -> VerifiedLabel | None:
    """How to read this target's label, or None where the shipped verifier cannot."""
    if target.label is None or not isinstance(target.task, Classification) or VERIFIER not in shipped("verifier"):
        return None
    verifier = load_verifier(VERIFIER, device)
    names = [factor.name for factor in verifier.factors]
    if target.label.attribute not in names:
        return None
    return VerifiedLabel(verifier, names.index(target.label.attribute), target.label.thresholds)


def reference_name(verified: VerifiedLabel | None) -> str:
    return OWN if verified is None else VERIFIED


@torch.no_grad()
def reference_of(verified: VerifiedLabel | None, generator: Generator, codes: Codes) -> Tensor | None:
    """The label ``[B]`` read off the unedited 8-bit faces of ``codes``, or None where nothing reads it."""
    if verified is None:
        return None

    def read(part: slice) -> Tensor:
        return verified.read(quantise(generator.render(codes[part]).float()))

    return torch.cat(list(Batches(len(codes))(len(codes), read)))
