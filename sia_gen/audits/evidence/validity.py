"""Whether a face that an edit made the target fail on still is what it was: same label, same person, a likely face.

What is judged is the face without the pixel residual, which is bounded so as to change none of this.

Letters: B faces, R faces it is compared with, F numbers of a verifier's features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sia_gen.audits.evidence.reference import Followed
from sia_gen.core.executors import Batches
from sia_gen.core.files import shipped
from sia_gen.core.images import from_bytes, quantise
from sia_gen.core.seeds import seeds_apart
from sia_gen.generators.generator import Generator
from sia_gen.targets.identity import FaceVerifier, Identity, load_identity
from sia_gen.targets.target import Target
from sia_gen.targets.verifier import Verifier

IDENTITY = "identity"
COMPARED = 256  # unedited faces that say which ones a generator makes
BATCH = 32
USUAL = 0.99  # share of unedited faces that pass for one


@dataclass(frozen=True)
class Gate:
    """``features`` ``[R, F]`` are those of unedited faces, scaled; another is likely if it lies as near to one of them.

    Nearer, that is, than ``reach``, within which 99 % of them have another one.
    """

    verifier: Verifier
    identity: Identity | None
    mean: Tensor
    sd: Tensor
    features: Tensor
    reach: float

    @classmethod
    def of(cls, verifier: Verifier, identity: Identity | None, features: Tensor) -> Gate:
        """``features`` ``[R, F]`` as `unedited` gives them."""
        mean, sd = features.mean(0), features.std(0).clamp(min=1e-6)
        scaled = (features - mean) / sd
        apart = torch.cdist(scaled, scaled)
        apart.fill_diagonal_(torch.inf)
        reach = float(apart.amin(dim=1).quantile(USUAL))
        return cls(verifier, identity, mean, sd, scaled, reach)

    def distance(self, features: Tensor) -> Tensor:
        """How far features ``[B, F]`` lie from the nearest of the compared faces ``[B]``, 1 at the limit."""
        return torch.cdist((features.float() - self.mean) / self.sd, self.features).amin(dim=1) / self.reach

    @torch.no_grad()
    def judge(self, before: Tensor, after: Tensor) -> dict[str, Tensor]:
        """uint8 faces ``[B, 3, R, R]`` → what is kept of each, ``[B]``.

        "likeness": cosine with the face before, NaN without an identity model; "distance": to the nearest of the
        compared faces, 1 at the limit; "passed": whether both are within bounds; "read" ``[B, F]``: the verifier's
        readings after.
        """
        device = self.mean.device
        read, features = self.verifier.look(from_bytes(after).to(device))
        distance = self.distance(features)
        passed = distance <= 1
        likeness = torch.full_like(distance, torch.nan)
        if self.identity is not None:
            likeness = self.identity.likeness(from_bytes(before).to(device), from_bytes(after).to(device))
            passed &= likeness >= self.identity.threshold
        return {"likeness": likeness.cpu(), "distance": distance.cpu(), "passed": passed.cpu(), "read": read}


@torch.no_grad()
def unedited(
    generator: Generator, verifier: Verifier, seed: int, purpose: str = "gate", count: int | None = None
) -> Tensor:
    """Features ``[R, F]`` of ``count`` faces, by default as many as a gate compares, that are no part of the audit."""
    codes = generator.sample(seeds_apart(seed, purpose, COMPARED if count is None else count))

    def features(part: slice) -> Tensor:
        return verifier.look(quantise(generator.render(codes[part]).float()))[1].float()

    return torch.cat(list(Batches(BATCH)(len(codes), features)))


def identity_for(target: Target, device: torch.device) -> Identity | None:
    """The identity model that comes with the package, unless it is the target itself."""
    if IDENTITY not in shipped("identity"):
        return None
    identity = load_identity(IDENTITY, device)
    asked = target.target if isinstance(target, Followed) else target
    if isinstance(asked, FaceVerifier) and asked.identity.model.digest() == identity.model.digest():
        return None
    return identity
