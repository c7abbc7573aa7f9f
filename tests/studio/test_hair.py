import math

import pytest
import torch

from sia_gen.studio.factors import FACTORS, values_of
from sia_gen.studio.sampling import sample
from sia_gen.studio.surface.hair import (
    COLUMNS,
    EDGE,
    HANGING,
    ROWS,
    Growth,
    Hair,
    coverage,
    greyed,
    hair_ends,
    hangs_loose,
    temples,
)
from sia_gen.studio.surface.texture import Noise


@pytest.fixture(scope="module")
def ball():
    """A skull without a face: points all over a sphere about the middle of the head."""
    index = torch.arange(4000) + 0.5
    height = 1 - 2 * index / 4000
    turn = index * math.pi * (1 + math.sqrt(5))
    flat = (1 - height.square()).sqrt()
    points = torch.stack([flat * turn.cos(), height, flat * turn.sin()], dim=1)
    return 1.4 * points + torch.tensor([0.0, 0.55, -1.0])


@pytest.fixture(scope="module")
def hair(ball):
    return Hair(ball, torch.ones(len(ball), dtype=torch.bool), Noise())


def growth(**changes):
    values = {"length": 0.5, "hairline": 0.0, "fringe": 0.0, "baldness": 0.0, "sides": 1.0, "loose": 1.0} | changes
    return Growth(**{name: torch.tensor([value]) for name, value in values.items()})


def covered(x, y, z, azimuth, hanging=0.0, facing=1.0, **changes):
    place, even = torch.tensor([[x], [y], [z]]), torch.zeros(1)
    lies = torch.tensor([azimuth]), torch.tensor([hanging])
    return coverage(place, *lies, even, even, torch.tensor([facing]), growth(**changes)).item()


def test_the_grid_lies_on_the_scalp_and_hangs_straight_down(hair):
    grid = hair.rest.view(ROWS + HANGING, COLUMNS, 3)
    from_centre = (grid[:ROWS] - torch.tensor([0.0, 0.55, -1.0])).norm(dim=-1)
    torch.testing.assert_close(from_centre, torch.full_like(from_centre, 1.4), rtol=0.02, atol=0)
    assert (grid[ROWS:, :, 1].diff(dim=0) < 0).all()
    torch.testing.assert_close(grid[:, 0], grid[:, -1])  # the grid closes behind the head
    assert hair.along.max() > EDGE


def test_volume_lifts_hair_off_the_scalp(hair, ball):
    flat, full = (
        hair.vertices(ball[None], values_of(torch.zeros(1, len(FACTORS))).with_values(hair_volume=value))[0]
        for value in (0.0, 1.0)
    )
    on_head = slice(0, ROWS * COLUMNS)
    lifted = (full - flat)[on_head].norm(dim=-1)
    assert lifted.mean() > 0.1
    assert (flat[on_head] - torch.tensor([0.0, 0.55, -1.0])).norm(dim=-1).min() > 1.4


def test_strands_run_along_the_surface(hair, ball):
    spec = values_of(torch.zeros(1, len(FACTORS)))
    normals, falling, parted, aside = hair.frame(hair.vertices(ball[None], spec), spec)
    inner = slice(2 * COLUMNS, (ROWS - 2) * COLUMNS)
    for tangents in (falling, parted):
        assert (normals * tangents).sum(-1)[0, inner].abs().max() < 0.2
    assert ((aside >= 0) & (aside <= 1)).all()
    outward = (hair.rest - torch.tensor([0.0, 0.55, -1.0]))[inner]
    assert (normals[0, inner] * torch.nn.functional.normalize(outward, dim=1)).sum(1).min() > 0


def test_hair_grows_where_it_should():
    crown, forehead, brow = (0.0, 1.9, -0.8, 0.0), (0.0, 0.9, 0.4, 0.0), (0.0, 0.45, 0.45, 0.0)
    assert covered(*crown) == 1
    assert covered(*forehead) == 0
    assert covered(*forehead, fringe=1.0) == 1
    assert covered(*brow, fringe=1.0) < 0.1
    assert covered(*crown, baldness=1.0) == 0
    assert covered(*crown, length=0.0) == 0  # cropped so short that only the scalp's colour tells
    line = (0.0, 1.36, 0.2, 0.0)
    assert covered(*line) > 0.8
    assert covered(*line, hairline=1.0) < 0.6
    temple = (0.6, 1.3, 0.0, 0.58)
    assert covered(*temple) > 0.9
    assert covered(*temple, hairline=1.0) < 0.3  # recedes there first


def test_hair_frays_at_its_outline_and_thins_at_cropped_sides():
    crown, side = (0.0, 1.9, -0.8, 0.0), (1.2, 0.1, -0.8, 1.4)
    assert covered(*crown, facing=0.0) < 0.05
    assert 0.2 < covered(*crown, facing=0.15) < 0.6
    short = {"length": 0.12}
    assert covered(*side, sides=1.0, **short) > 0.9 * covered(*side, sides=0.75, **short) > 0
    assert covered(*side, sides=0.0, **short) < 0.7 * covered(*side, sides=1.0, **short)


def test_tied_hair_does_not_hang():
    beside = {"azimuth": 1.6, "hanging": 1.0, "length": 0.8}
    assert covered(1.3, -0.3, -1.0, **beside) == 1
    assert covered(1.3, -0.3, -1.0, **beside, loose=0.0) == 0
    assert hangs_loose(sample([0], tied=1.0, hair_length=0.8)).item() == 0
    assert hangs_loose(sample([0], tied=1.0, hair_length=0.1)).item() == 1  # too short to be tied


def test_hair_greys_at_the_temples_first():
    azimuth, y = torch.tensor([0.0, 1.2]), torch.tensor([1.8, 0.3])  # crown and temple
    pigment = torch.full((3, 2), 0.02)
    half = greyed(pigment, torch.full((2,), 0.5), temples(azimuth, y), torch.zeros(2))[0]
    assert half[1] > 1.5 * half[0] > 1.5 * 0.02
    none, all_of_it = (greyed(pigment, torch.full((2,), g), temples(azimuth, y), torch.zeros(2)) for g in (0.0, 1.0))
    assert torch.equal(none, pigment)
    assert (all_of_it > 0.2).all()


def test_hair_hangs_as_low_as_it_is_long():
    for length in (0.3, 0.6, 1.0):
        ends = hair_ends(torch.tensor(length)).item()
        beside = {"azimuth": 1.6, "hanging": 1.0, "length": length}
        assert covered(1.3, ends + 0.5, -1.0, **beside) == 1
        assert covered(1.3, ends - 0.1, -1.0, **beside) == 0
    assert covered(0.4, 0.0, 0.4, azimuth=0.3, hanging=1.0, length=1.0) == 0  # never over the face
