"""Directions of a few style channels, those that move a score most (Wu et al., "StyleSpace Analysis", CVPR 2021).

With a CLIP model between two texts as the scorer these are the global directions of StyleCLIP (Patashnik et al., ICCV
2021, section 6): a channel's relevance is how far the score goes when the channel goes by one of its standard
deviations. The mean gradient over faces gives that of all channels at once, where both papers try one by one.

Letters: B faces, E channels, K attributes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.calibrate import calibrated, measure
from sia_gen.attributes.ways.scorer import Scorer, scores
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.executors import Batches, Progress
from sia_gen.core.seeds import face_seeds, seeds_apart
from sia_gen.generators.generator import Codes, StyleGenerator

BATCH, SPREAD = 8, 512  # faces at a time; faces that tell how far a channel goes anyway
LEAST = 0.1  # of what the gradients foresee: what moves a score less is not worth stretching


def by_channels(
    generator: StyleGenerator,
    scorer: Scorer,
    names: Sequence[str] | None = None,
    *,
    count: int = 10,
    beta: float | None = None,
    faces: int = 64,
    trials: int = 64,
    seed: int = 1,
    progress: Progress | None = None,
) -> AttributeSpace:
    """An attribute in "s" for each of the scorer's ``names``, by default all: the ``count`` most relevant channels.

    With ``beta``, a share 0…1, those that are at least that share of the most relevant one's relevance. Each channel
    goes in proportion to its relevance and to how far it varies. One unit is one of the scorer's; relevance is the mean
    over ``faces`` faces.

    Raises `RequestError` for a generator without a StyleSpace, a scorer without gradients, an unknown name and numbers
    outside their range, `WorkError` where no channel moves a score.
    """
    if not isinstance(generator, StyleGenerator) or "s" not in generator.edit_shapes:
        raise RequestError(f"'{generator.name}' has no style channels to rank; find directions by a scorer")
    (channels,) = generator.edit_shapes["s"]
    if beta is None and not 1 <= count <= channels:
        raise RequestError(f"count={count} is outside 1…{channels}; choose a number of channels in that range")
    if beta is not None and not 0 < beta <= 1:
        raise RequestError(f"beta={beta:g} is outside 0…1; give a share of the foremost channel's relevance")
    seeds = face_seeds(seed, faces)
    labels, wanted = scores(generator, scorer, names, seed)
    columns = [list(labels.names).index(want.name) for want in wanted]
    spread = generator.carry(generator.sample(seeds_apart(seed, "channels", SPREAD))).std(dim=0).cpu()  # [E]
    found = relevance(generator, scorer, generator.sample(seeds), columns, progress) * spread  # [K, E]
    size = found.abs()
    if beta is None:
        least = size.topk(count, dim=1).values[:, -1:]
    else:
        least = beta * size.amax(dim=1, keepdim=True)
    found = torch.where(size >= least, found, 0)
    tiny = torch.finfo(found.dtype).tiny
    foreseen = found.square().sum(dim=1) / labels.sd[columns]  # sd that they move the score together
    directions = found * spread / foreseen.clamp(min=tiny)[:, None]
    codes = generator.sample(face_seeds(seed + 3, trials))
    moved = measure(generator, labels, codes, directions, "s", progress).mean(1)[range(len(columns)), columns]  # [K]
    for want, own in zip(wanted, moved.tolist(), strict=True):
        if not own >= LEAST:
            raise WorkError(f"no channels of '{generator.name}' move the score '{want.name}' alike; leave it out")
    return calibrated(
        generator, labels, wanted, directions / moved[:, None], "s", trials=trials, seed=seed, progress=progress
    )


def relevance(
    generator: StyleGenerator, scorer: Scorer, codes: Codes, columns: Sequence[int], progress: Progress | None = None
) -> Tensor:
    """How far each score goes per unit of each channel, ``[K, E]``: the mean gradient over the faces of ``codes``."""
    total = torch.zeros(len(columns), *generator.edit_shapes["s"])

    def of(part: slice) -> Tensor:
        shift = torch.zeros(len(codes[part]), *generator.edit_shapes["s"], device=codes.device, requires_grad=True)
        read = scorer.read(generator.render(codes[part], shift, "s").float())[:, columns].sum(dim=0)  # [K]
        if not read.requires_grad:
            raise RequestError("this scorer gives no gradients, by which channels are ranked; use --by scorer")
        return torch.stack(
            [torch.autograd.grad(one, shift, retain_graph=True)[0].sum(dim=0).cpu() for one in read.unbind()]
        )

    for done, part in enumerate(Batches(BATCH)(len(codes), of)):
        total += part
        if progress:
            progress(min((done + 1) * BATCH, len(codes)), len(codes), "ranking channels")
    return total / len(codes)
