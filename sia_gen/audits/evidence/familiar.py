"""Whether a generator's pictures are such as the shipped verifier was taught on: what it says of others is no evidence.

Letters: B faces, R renders, C numbers of a feature.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sia_gen.core.executors import Batches
from sia_gen.core.files import pretrained_folder
from sia_gen.core.images import from_bytes, quantise
from sia_gen.core.seeds import seeds_apart
from sia_gen.generators.generator import Generator
from sia_gen.studio.renders import read_renders
from sia_gen.targets.verifier import Verifier

RENDERS, KNOWN = "faces-renders", 512  # of the shipped renders, so many say what the verifier knows
LOOKED_AT, BATCH = 64, 32
USUAL, ENOUGH = 0.99, 0.5  # of renders that lie as near to another; share of a generator's faces that have to


@torch.no_grad()
def familiar(generator: Generator, verifier: Verifier) -> float:
    """Which share of a generator's faces lies as near to a render, in the verifier's features, as renders do.

    1 where no renders are shipped that would say.
    """
    folder = pretrained_folder() / RENDERS
    if not folder.is_dir():
        return 1.0
    renders = read_renders(folder, KNOWN).images
    codes = generator.sample(seeds_apart(0, "familiar", LOOKED_AT))
    device = verifier.mean.device

    def of_renders(part: slice) -> Tensor:
        return verifier.look(from_bytes(renders[part]).to(device))[1].float()

    def of_faces(part: slice) -> Tensor:
        return verifier.look(quantise(generator.render(codes[part]).float()))[1].float()

    known = torch.cat(list(Batches(BATCH)(len(renders), of_renders)))  # [R, C]
    faces = torch.cat(list(Batches(BATCH)(len(codes), of_faces)))  # [B, C]
    mean, sd = known.mean(0), known.std(0).clamp(min=1e-6)
    known, faces = (known - mean) / sd, (faces - mean) / sd
    apart = torch.cdist(known, known).fill_diagonal_(torch.inf).amin(dim=1)
    return float((torch.cdist(faces, known).amin(dim=1) <= apart.quantile(USUAL)).float().mean())
