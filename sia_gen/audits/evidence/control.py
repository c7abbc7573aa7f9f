"""The control: random directions that change the picture as much as an attribute does, and mean nothing.

An attack finds something to exploit along almost any direction, so an attribute's effect says little until it is held
against directions that were searched in the same way over the same size of change. Each face is moved along a few of
its own, up to what the strongest attribute changes in the picture; turning a head or a lamp changes far more of it than
opening a mouth, and each attribute is held against so much of the way as changes that face as much as it does. None
goes further than faces lie apart: beyond that a direction makes pictures that are no faces, on which any target fails.

Letters: N faces, M random directions, K attributes, D numbers in one face's edit, A principal axes of codes, B faces.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sia_gen.attack.balls import per_face
from sia_gen.attack.edit import edit
from sia_gen.attributes.attribute_space import Attribute, AttributeSpace
from sia_gen.core.errors import WorkError
from sia_gen.core.executors import Batches
from sia_gen.core.seeds import normals, seeds_apart
from sia_gen.generators.generator import Codes, Generator, StyleGenerator

GROUPS = 40  # of directions: those of a face; their number, not that of faces, is what gives a test its power
EACH = 3  # directions of a group: what one of them does differs so much that a mean of several tells more
FACES, SEEN = 4, 2  # that tell how much an attribute changes the picture, and those of them that tell it of a direction
SPANNED = 512  # faces whose codes say in which axes codes vary at all
SAMPLED = 4096  # faces whose codes say by how much: what is left of an attribute falls with the root of their number
NEGLIGIBLE = 1e-3  # axes with less than this share of the largest deviation are rounding
FURTHEST = 1.0  # along the difference of two faces' codes: as far as these lie apart, and so among faces
DOUBLINGS = 6  # of a direction's size, or halvings, in search of one that changes the picture as much as attributes
MARGIN = 1.25  # on that, as faces differ in what changes them
BATCH = 32


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
    """M = 120 directions ``[M, E]`` that leave every attribute in ``known`` where it is.

    A direction is the difference of the codes of two random faces where codes live in the edit space, or can be carried
    into it, else Gaussian.
    What it shares with any direction in ``known`` is taken out of it. Raises `WorkError` where that leaves nothing.
    """
    drawn, axes = _draw(generator, known.space, seed)  # [M, E], [A, D]
    drawn = drawn.to(known.directions)
    axes = None if axes is None else axes.to(known.directions).double()
    directions = _unrelated(drawn.flatten(1).double(), known.directions.flatten(1).double(), axes)
    return directions.float().view_as(drawn)


@torch.no_grad()
def reaches(
    generator: Generator, known: AttributeSpace, audited: AttributeSpace, directions: Tensor, seed: int
) -> Tensor:
    """How far to go along each of ``directions`` to change the picture as much as any audited attribute: ``[M]``.

    The change is the root mean square over the picture, averaged over four faces (of a direction over two) and both
    ends of a range. A size is doubled while it changes less, and halved while it changes more than twice as much; where
    none is enough, the largest is taken. The difference of two faces is followed no further than these lie apart.
    """
    codes = generator.sample(seeds_apart(seed, "control faces", FACES))
    wanted = MARGIN * _picture_change(generator, audited, codes).max().cpu()
    furthest = FURTHEST if _carries(generator, known.space) else 2.0**DOUBLINGS
    reach, left = torch.ones(len(directions)), torch.arange(len(directions))
    for _ in range(DOUBLINGS):
        some = control_space(known, directions[left.to(directions.device)], reach[left])
        change = _picture_change(generator, some, codes, SEEN, left).cpu()  # of those that have no size yet
        up = (change < wanted) & (reach[left] < furthest)
        down = change > 2 * wanted
        reach[left] *= torch.where(up, 2.0, torch.where(down, 0.5, 1.0))
        left = left[up | down]
        if not len(left):
            break
    return reach.clamp(max=furthest)


def group(face: Tensor) -> Tensor:
    """The directions ``[N, EACH]`` of a run's faces, numbered ``face`` ``[N]``."""
    return EACH * (face % GROUPS)[:, None] + torch.arange(EACH)


def _draw(generator: Generator, space: str, seed: int) -> tuple[Tensor, Tensor | None]:
    """M random directions ``[M, E]``, and ``[A, D]`` the axes along which codes vary, as long as their deviations.

    None where codes do not live in the space, all of whose axes are then alike.
    """
    count = GROUPS * EACH
    seeds = seeds_apart(seed, "control directions", 2 * count)
    codes = generator.sample(seeds)
    shape = generator.edit_shapes[space]
    if not _carries(generator, space):
        return normals(seeds[:count], shape, "control"), None
    many = generator.sample(seeds_apart(seed, "control axes", SAMPLED)).flatten(1).float()  # [., D]
    many = many - many.mean(dim=0)
    _, span = _principal(many[:SPANNED])
    deviations, axes = _principal(many @ span.T)
    drawn, axes = codes[:count] - codes[count:], deviations[:, None] * (axes @ span)
    if isinstance(generator, StyleGenerator) and space == "s":
        return generator.carry(drawn), generator.carry(axes.view(-1, *codes.shape[1:]))
    return drawn, axes


def _carries(generator: Generator, space: str) -> bool:
    """Whether differences of codes are edits in ``space``, or can be made ones."""
    styled = isinstance(generator, StyleGenerator) and space == "s"
    return styled or generator.sample([0]).shape[1:] == generator.edit_shapes[space]


def _principal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviations ``[A]`` and axes ``[A, D]`` of centred rows, less those that are rounding."""
    _, lengths, axes = torch.linalg.svd(rows, full_matrices=False)
    kept = lengths > NEGLIGIBLE * lengths[0]
    return lengths[kept] / math.sqrt(len(rows)), axes[kept]


def _unrelated(drawn: Tensor, known: Tensor, axes: Tensor | None) -> Tensor:
    """``drawn`` ``[M, D]`` less what it shares with ``known`` ``[K, D]``, measured where all axes are equally long.

    There "orthogonal" means "uncorrelated among faces": a linear reading of a known attribute off the codes stays put.
    Orthogonal in the codes themselves would still move attributes along the axes in which faces vary most.
    """
    into = None if axes is None else torch.linalg.pinv(axes)  # [D, A]
    basis = known if into is None else known @ into  # [K, A]
    if torch.linalg.matrix_rank(basis) >= basis.shape[1]:
        raise WorkError(
            f"{len(known)} attributes fill the whole edit space of {basis.shape[1]} axes, which leaves no direction "
            "for the control; give fewer attributes or a larger edit space"
        )
    coordinates = drawn if into is None else drawn @ into  # [M, A]
    left = coordinates - coordinates @ torch.linalg.pinv(basis) @ basis
    return left if axes is None else left @ axes


def _picture_change(
    generator: Generator, space: AttributeSpace, codes: Codes, each: int = FACES, numbers: Tensor | None = None
) -> Tensor:
    """Root mean square change of the picture, mean over both ends of each attribute's range and over faces: ``[K]``.

    Of the faces, ``each`` attribute is measured on so many, in turn, from that of its number in ``numbers`` ``[K]`` on,
    by default its place.
    """
    clean = edit(generator, space, codes)  # [B, 3, R, R]
    count = len(space.attributes)
    index = torch.arange(count).repeat_interleave(2 * each)  # K times each face, first up, then down
    first = index if numbers is None else numbers[index]
    face = (first + torch.arange(each).repeat(2 * count)) % len(codes)
    up = torch.arange(2).repeat_interleave(each).repeat(count).bool()

    def change(part: slice) -> Tensor:
        ends = torch.where(up[part].to(space.high.device), space.high[index[part]], space.low[index[part]])
        omega = torch.zeros(len(ends), count, device=ends.device)
        omega[torch.arange(len(ends)), index[part]] = ends
        moved = edit(generator, space, codes[face[part]], omega)
        return (moved - clean[face[part]]).square().mean(dim=(1, 2, 3)).sqrt()

    return torch.cat(list(Batches(BATCH)(len(index), change))).view(count, -1).mean(dim=1)
