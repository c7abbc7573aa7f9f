"""Controls: random directions that change the picture as much as an attribute does, and mean nothing.

An attack finds something to exploit along almost any direction, so an attribute's effect says little until it is held
against directions that were searched in the same way over the same size of change. Turning a head or a lamp changes far
more of the picture than opening a mouth, so there are controls of several sizes, which attributes share. None goes
further than faces lie apart: beyond that a direction makes pictures that are no faces, on which any target fails.

Letters: M random directions, K attributes, S sizes of control, T sizes tried, D numbers in one face's edit, P principal
axes of codes, B faces.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sia_gen.attack.balls import per_face
from sia_gen.attack.edit import edit
from sia_gen.attributes.attribute_space import Attribute, AttributeSpace
from sia_gen.audits.statistics import Floats
from sia_gen.core.errors import WorkError
from sia_gen.core.seeds import normals, seeds_apart
from sia_gen.generators.generator import Codes, Generator, StyleGenerator

DIRECTIONS = (
    40  # the effects of a direction on two faces are much alike, so that their number is what gives a test power
)
FACES, EACH = 4, 2  # that tell how much an attribute changes the picture, and those of them that tell it of a direction
SPANNED = 512  # faces whose codes say in which axes codes vary at all
SAMPLED = 4096  # faces whose codes say by how much: what is left of an attribute falls with the root of their number
NEGLIGIBLE = 1e-3  # axes with less than this share of the largest deviation are rounding
APART = (
    1.25  # ratio of a control's size to the next smaller one's: an attribute is held against one up to so much larger
)
FURTHEST = 1.0  # along the difference of two faces' codes: as far as these lie apart, and so among faces
DOUBLINGS = 6  # of a direction's size, up and down, in search of those that change the picture as much as attributes


def control_space(known: AttributeSpace, directions: Tensor, reach: Tensor) -> AttributeSpace:
    """Attributes of range ±1 in the space of ``known``: random directions ``[M, E]`` in units of ``reach`` ``[M]``."""
    attributes = tuple(
        Attribute(f"random {index + 1}", "of its range", -1.0, 1.0, sd=1.0, slope=1.0, leakage=0.0)
        for index in range(len(directions))
    )
    scaled = directions.to(known.directions)
    return AttributeSpace(known.generator, known.space, attributes, scaled * per_face(reach.to(scaled), scaled))


@torch.no_grad()
def random_directions(generator: Generator, known: AttributeSpace, seed: int) -> Tensor:
    """M = 40 directions ``[M, E]`` that leave every attribute in ``known`` where it is.

    A direction is the difference of the codes of two random faces where codes live in the edit space, or can be carried
    into it, else Gaussian.
    What it shares with any direction in ``known`` is taken out of it. Raises `WorkError` where that leaves nothing.
    """
    drawn, axes = _draw(generator, known.space, seed)  # [M, E], [P, D]
    drawn, axes = drawn.to(known.directions), axes.to(known.directions)
    directions = _unrelated(drawn.flatten(1).double(), known.directions.flatten(1).double(), axes.double())
    return directions.float().view_as(drawn)


@torch.no_grad()
def reaches(
    generator: Generator, known: AttributeSpace, audited: AttributeSpace, directions: Tensor, seed: int
) -> tuple[Tensor, Tensor]:
    """How far to go along ``directions`` to change the image as much as attributes do: ``[S + 1, M]``, and who is like.

    A row per size of control, ascending, then one for the attributes' mean; the second, int64 ``[K]``, is the row of
    each audited attribute, which changes the image as much as it does or up to a quarter more. The change is the root
    mean square over the image, averaged over four faces (of a direction over two) and both ends of a range. It is
    measured at sizes a factor of two apart and interpolated between them; where no size changes the image enough, the
    largest is taken. The difference of two faces is followed no further than these lie apart.
    """
    codes = generator.sample(seeds_apart(seed, "control faces", FACES))
    changed = _image_change(generator, audited, codes)  # [K]
    sizes, like = _in_sizes(changed)
    wanted = torch.cat([sizes, changed.mean()[None]])

    def change(size: float) -> Tensor:
        reach = torch.full((len(directions),), size)
        return _image_change(generator, control_space(known, directions, reach), codes, EACH)  # [M]

    tried, changes = [1.0], [change(1.0)]
    while changes[0].max() > wanted.min() and len(tried) <= DOUBLINGS:
        tried.insert(0, tried[0] / 2)
        changes.insert(0, change(tried[0]))
    furthest = FURTHEST if _carries(generator, known.space) else 2.0**DOUBLINGS
    while changes[-1].min() < wanted.max() and tried[-1] < furthest:
        tried.append(tried[-1] * 2)
        changes.append(change(tried[-1]))
    curve = torch.stack(changes, dim=1).cpu().numpy()  # [M, T]
    found = [_interpolated(wanted.cpu().numpy(), row, np.array(tried)) for row in curve]  # M times [S + 1]
    return torch.from_numpy(np.stack(found, axis=1)).float().clamp(max=furthest), like


def _in_sizes(changed: Tensor) -> tuple[Tensor, Tensor]:
    """Changes ``[K]`` → the sizes ``[S]`` of controls, ascending, and which of them each is rounded up to, ``[K]``."""
    smallest = changed.amin().clamp(min=torch.finfo(changed.dtype).tiny)
    steps = torch.log(changed / smallest) / math.log(APART)
    steps, like = torch.ceil(steps - 1e-3).clamp(min=0).unique(return_inverse=True)
    return (smallest * APART**steps).clamp(max=changed.amax()), like.cpu()


def _interpolated(wanted: Floats, changes: Floats, sizes: Floats) -> Floats:
    """The sizes at which a direction changes the image as ``wanted``: ``[K + 1]``.

    On logarithms, where what is nearly proportional is nearly straight; below the smallest size proportional to it.
    """
    changes = np.maximum.accumulate(changes)  # a picture that is all black or white already changes no more
    if not changes[0]:
        return np.full(len(wanted), sizes[-1])
    logs = np.interp(np.log(np.maximum(wanted, changes[0])), np.log(changes), np.log(sizes))
    return np.exp(logs) * np.minimum(1, wanted / changes[0])


def _draw(generator: Generator, space: str, seed: int) -> tuple[Tensor, Tensor]:
    """M random directions ``[M, E]``, and ``[P, D]`` the axes along which codes vary, as long as their deviations."""
    seeds = seeds_apart(seed, "control directions", 2 * DIRECTIONS)
    codes = generator.sample(seeds)
    shape = generator.edit_shapes[space]
    if not _carries(generator, space):
        return normals(seeds[:DIRECTIONS], shape, "control"), torch.eye(shape.numel())
    many = generator.sample(seeds_apart(seed, "control axes", SAMPLED)).flatten(1).float()  # [., D]
    many = many - many.mean(dim=0)
    _, span = _principal(many[:SPANNED])
    deviations, axes = _principal(many @ span.T)
    drawn, axes = codes[:DIRECTIONS] - codes[DIRECTIONS:], deviations[:, None] * (axes @ span)
    if isinstance(generator, StyleGenerator) and space == "s":
        return generator.carry(drawn), generator.carry(axes.view(-1, *codes.shape[1:]))
    return drawn, axes


def _carries(generator: Generator, space: str) -> bool:
    """Whether differences of codes are edits in ``space``, or can be made ones."""
    styled = isinstance(generator, StyleGenerator) and space == "s"
    return styled or generator.sample([0]).shape[1:] == generator.edit_shapes[space]


def _principal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviations ``[P]`` and axes ``[P, D]`` of centred rows, less those that are rounding."""
    _, lengths, axes = torch.linalg.svd(rows, full_matrices=False)
    kept = lengths > NEGLIGIBLE * lengths[0]
    return lengths[kept] / math.sqrt(len(rows)), axes[kept]


def _unrelated(drawn: Tensor, known: Tensor, axes: Tensor) -> Tensor:
    """``drawn`` ``[M, D]`` less what it shares with ``known`` ``[K, D]``, measured where all axes are equally long.

    There "orthogonal" means "uncorrelated among faces": a linear reading of a known attribute off the codes stays put.
    Orthogonal in the codes themselves would still move attributes along the axes in which faces vary most.
    """
    into = torch.linalg.pinv(axes)  # [D, P]
    basis = known @ into  # [K, P]
    if torch.linalg.matrix_rank(basis) >= len(axes):
        raise WorkError(
            f"{len(known)} attributes fill the whole edit space of {len(axes)} axes, which leaves no direction for the "
            "control; give fewer attributes or a larger edit space"
        )
    coordinates = drawn @ into  # [M, P]
    return (coordinates - coordinates @ torch.linalg.pinv(basis) @ basis) @ axes


def _image_change(generator: Generator, space: AttributeSpace, codes: Codes, each: int = FACES) -> Tensor:
    """Root mean square change of the image, mean over both ends of each attribute's range and over faces: ``[K]``.

    Of the faces, ``each`` attribute is measured on so many, in turn.
    """
    clean = edit(generator, space, codes)  # [B, 3, R, R]
    changes = []
    for index in range(len(space.attributes)):
        total = torch.zeros((), device=clean.device)
        own = (index + torch.arange(each, device=clean.device)) % len(codes)
        for ends in (space.low, space.high):
            omega = torch.zeros(each, len(space.attributes), device=space.directions.device)
            omega[:, index] = ends[index]
            moved = edit(generator, space, codes[own], omega)
            total += (moved - clean[own]).square().mean(dim=(1, 2, 3)).sqrt().mean() / 2
        changes.append(total)
    return torch.stack(changes)
