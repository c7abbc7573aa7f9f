"""Directions without a scorer: what styles move most (SeFa), what tells two sets of faces apart, or two prompts.

Letters: N faces, L layers, D numbers of w, S numbers of a style, K directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sia_gen.attributes.attribute_space import Attribute, AttributeSpace
from sia_gen.core.errors import RequestError
from sia_gen.core.seeds import seeds_apart
from sia_gen.generators.generator import Generator, StyleGenerator
from sia_gen.generators.weights import weights_digest

SPREAD, REACH = 1024, 2.0  # faces that say how far codes vary; sd of theirs that a direction may go either way


def by_sefa(generator: Generator, count: int = 10, seed: int = 1) -> AttributeSpace:
    """The ``count`` directions of w that move styles most (Shen & Zhou, "Closed-Form Factorization of Latent
    Semantics", CVPR 2021), foremost first, named sefa-1, sefa-2 …; one unit is one sd of faces along them.

    Raises `RequestError` for a generator without styles.
    """
    if not isinstance(generator, StyleGenerator) or "w" not in generator.edit_shapes:
        raise RequestError(f"'{generator.name}' has no styles to factorise; find directions by a scorer")
    layers, width = generator.edit_shapes["w"]
    if not 1 <= count <= width:
        raise RequestError(f"count={count} is outside 1…{width}; choose a number of directions in that range")
    device = generator.sample([0]).device
    every = torch.eye(width, device=device)[:, None].expand(width, layers, width)  # each number of w in all layers
    styles = generator.carry(every).double()  # [D, S]
    found = torch.linalg.svd(styles, full_matrices=False).U.T[:count].float()  # [K, D]
    signs = torch.where(found.gather(1, found.abs().argmax(1, keepdim=True)) < 0, -1.0, 1.0)  # else left to chance
    names = [f"sefa-{number}" for number in range(1, count + 1)]
    return scaled(generator, names, (found * signs)[:, None].repeat(1, layers, 1), seed)


def by_contrast(
    generator: Generator, name: str, those: Sequence[int], others: Sequence[int], seed: int = 1
) -> AttributeSpace:
    """The direction from the mean code of ``others`` to that of ``those``, seeds of faces; one unit is one sd along it.

    Raises `RequestError` for too few faces or the same on both sides.
    """
    if len(those) < 2 or len(others) < 2 or {*those} & {*others}:
        raise RequestError(
            f"{len(those)} faces against {len(others)} tell nothing; give two of each or more, none twice"
        )
    apart = generator.sample(those).mean(0) - generator.sample(others).mean(0)  # [L, D]
    if tuple(apart.shape) != tuple(generator.edit_shapes.get("w", ())) or not apart.norm() > 0:
        raise RequestError(f"'{generator.name}' has no w in which these faces differ; find directions by a scorer")
    return scaled(generator, [name], apart[None] / apart.norm(), seed)


def by_prompts(generator: Generator, prompts: Mapping[str, tuple[str, str]]) -> AttributeSpace:
    """Attributes of a text-to-image model, each by two texts: one unit is the way from the second to the first.

    Raises `RequestError` for another generator, and for texts that are the same.
    """
    encode = getattr(generator, "encode", None)
    if "text" not in generator.edit_shapes or encode is None:
        raise RequestError(f"'{generator.name}' has no prompt to edit; find directions by a scorer")
    if not prompts:
        raise RequestError("no prompts were given; give an attribute's name and two texts")
    directions = torch.stack([(encode([more]) - encode([less]))[0] for more, less in prompts.values()]).cpu()
    for (more, less), direction in zip(prompts.values(), directions, strict=True):
        if not direction.abs().max() > 0:
            raise RequestError(f"'{more}' and '{less}' are the same to '{generator.name}'; give two texts that differ")
    attributes = tuple(
        Attribute(name, "prompts", -1.0, 1.0, sd=0.5, slope=1.0, leakage=0.0, negative=less, positive=more)
        for name, (more, less) in prompts.items()
    )
    return AttributeSpace(generator.name, "text", attributes, directions, weights_digest(generator))


def scaled(generator: Generator, names: Sequence[str], directions: Tensor, seed: int) -> AttributeSpace:
    """``directions`` ``[K, L, D]`` as attributes whose unit is the faces' own sd along them, two of which are safe.

    Nothing is measured of what they do to a picture: slope 1 and leakage 0 are of the codes.
    """
    codes = generator.sample(seeds_apart(seed, "spread", SPREAD)).flatten(1)  # [N, L · D]
    flat = directions.to(codes).flatten(1)
    flat = flat / flat.norm(dim=1, keepdim=True)
    sd = (codes @ flat.T).std(dim=0)  # [K]
    attributes = tuple(Attribute(name, "sd", -REACH, REACH, sd=1.0, slope=1.0, leakage=0.0) for name in names)
    edits = (flat * sd[:, None]).view_as(directions).cpu()
    return AttributeSpace(generator.name, "w", attributes, edits, weights_digest(generator))
