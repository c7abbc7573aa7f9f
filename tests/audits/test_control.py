import dataclasses

import pytest
import torch

from sia_gen.attributes.attribute_space import Attribute, AttributeSpace
from sia_gen.audits.evidence.control import (
    EACH,
    FURTHEST,
    GROUPS,
    MARGIN,
    control_space,
    group,
    random_directions,
    reaches,
)
from sia_gen.core.errors import WorkError
from sia_gen.core.seeds import normals
from tests.generators.test_stylegan2 import tiny
from tests.problems import LinearGenerator, linear_space


@pytest.fixture
def generator():
    return LinearGenerator(codes=12)


class Stretched(LinearGenerator):
    """Codes that vary along some axes thirty times more than along others."""

    def __init__(self):
        super().__init__(codes=12)
        mixing = normals([5], (12, 12), "mixing")[0]
        self.mixing = torch.linalg.qr(mixing).Q * torch.logspace(-1, 0.5, 12)  # [D, D]

    def sample(self, seeds):
        return super().sample(seeds) @ self.mixing.T


def test_leaves_every_known_attribute_where_it_is():
    generator = Stretched()
    covariance = generator.mixing @ generator.mixing.T
    reading = normals([6], (4, 12), "reading")[0]  # [K, D] each attribute as a linear function of codes
    # The directions of a regression: those that move one reading and stay among faces.
    directions = torch.linalg.solve(reading @ covariance @ reading.T, reading @ covariance)
    space = dataclasses.replace(linear_space(generator), directions=directions)
    control = random_directions(generator, space, seed=0)
    assert control.shape == (GROUPS * EACH, 12)
    codes = generator.sample(range(3000))
    spread = (codes @ reading.T).std(dim=0)

    def movement(directions):
        """How far readings move while the code moves by as much as codes differ, in their deviations."""
        length = (directions @ torch.linalg.inv(covariance) * directions).sum(dim=1).sqrt()
        return (directions @ reading.T / spread / length[:, None]).abs()

    # Axes are estimated from 4096 faces, so that each of 480 movements is off by about a root of 12 in 4096.
    assert movement(control).square().mean().sqrt() < 0.06
    assert movement(control).max() < 0.2
    assert movement(directions).max(dim=1).values.min() > 0.5


def picture_change(generator, space, codes, ends):
    """How far each attribute changes the pictures of all these codes at one end of its range."""
    clean = generator.render(codes)
    edited = [generator.render(codes, row * end, "w") for row, end in zip(space.directions, ends, strict=True)]
    return torch.stack([(image - clean).square().mean(dim=(1, 2, 3)).sqrt().mean() for image in edited]).detach()


class Saturating(LinearGenerator):
    def render(self, codes, edits=None, space=None):
        return torch.sigmoid(40 * (super().render(codes, edits, space) - 0.5))


@pytest.mark.parametrize("kind", [LinearGenerator, Saturating])
@pytest.mark.parametrize("size", [0.02, 0.15])
def test_goes_as_far_as_any_attribute_changes_the_picture_and_not_much_further(kind, size):
    generator = kind(codes=12)
    space = linear_space(generator)
    space = dataclasses.replace(space, directions=size * space.directions)
    directions = random_directions(generator, space, seed=0)
    reach = reaches(generator, space, space, directions, seed=0)
    assert reach.shape == (GROUPS * EACH,)
    codes = generator.sample(range(100, 140))
    wanted = (
        picture_change(generator, space, codes, space.low) + picture_change(generator, space, codes, space.high)
    ) / 2
    control = control_space(space, directions, reach)
    change = picture_change(generator, control, codes, control.high)
    assert ((change > wanted.max()) | (reach == FURTHEST)).all()
    assert (change > wanted.max()).float().mean() > 0.9
    assert change.max() < 2.2 * MARGIN * wanted.max()


def test_where_no_size_is_enough_the_largest_is_taken(generator):
    class Deaf(LinearGenerator):
        """Shows known attributes alone."""

        def render(self, codes, edits=None, space=None):
            seen = None if edits is None else edits @ basis.T @ basis
            return super().render(codes, seen, space)

    generator = Deaf(codes=12)
    space = linear_space(generator)
    basis = torch.linalg.qr(space.directions.T).Q.T  # [K, D]
    directions = torch.eye(12) - basis.T @ basis
    assert (reaches(generator, space, space, directions, seed=0) == FURTHEST).all()


def test_goes_no_further_than_faces_lie_apart(generator):
    space = linear_space(generator)
    directions = random_directions(generator, space, seed=0)
    change = (directions @ generator.matrix.detach().T).square().mean(dim=1).sqrt()  # as far as two faces lie apart
    wanted = (space.directions @ generator.matrix.detach().T).square().mean(dim=1).sqrt()
    wanted = (wanted * (space.high - space.low) / 2).detach()
    assert wanted.max() > change.max()
    assert (reaches(generator, space, space, directions, seed=0) == FURTHEST).all()


def test_faces_share_groups_of_directions():
    found = group(torch.tensor([0, 1, GROUPS - 1, GROUPS, 2 * GROUPS + 1]))
    assert found.shape == (5, EACH)
    assert found[:3].unique().numel() == 3 * EACH
    assert torch.equal(found[3], found[0])
    assert torch.equal(found[4], found[1])
    assert found.max() == GROUPS * EACH - 1


def test_depends_on_the_seed_alone(generator):
    space = linear_space(generator)
    first, again, other = (random_directions(generator, space, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_draws_gaussian_directions_where_codes_live_elsewhere(generator):
    class Wide(LinearGenerator):
        """Codes of 12 numbers, edits of 5."""

        def __init__(self):
            super().__init__(codes=12)
            self.edit_shapes = {"s": torch.Size([5])}
            self.lift = normals([7], (5, 12), "lift")[0]

        def sample(self, seeds):
            return normals(seeds, (12,), "codes")

        def render(self, codes, edits=None, space=None):
            return super().render(codes, None if edits is None else edits @ self.lift)

    wide = Wide()
    space = linear_space(generator).select(["a0", "a1"])
    space = dataclasses.replace(space, space="s", directions=space.directions[:, :5])
    control = random_directions(wide, space, seed=0)
    assert control.shape == (GROUPS * EACH, 5)
    assert torch.linalg.matrix_rank(control) == 3
    larger = dataclasses.replace(space, directions=30 * space.directions)
    assert reaches(wide, larger, larger, control, seed=0).max() > FURTHEST  # nothing says where faces end


def test_says_when_there_is_no_room():
    generator = LinearGenerator(codes=4)
    space = linear_space(generator)
    with pytest.raises(WorkError, match="4 attributes fill the whole edit space of 4 axes"):
        random_directions(generator, space, seed=0)


def test_a_control_in_the_stylespace_is_that_in_w_carried_over():
    generator = tiny(width=24)
    names = tuple(Attribute(f"a{index}", "units", -1.0, 1.0, 1.0, 1.0, 0.0) for index in range(2))
    directions = 0.1 * normals([3, 4], generator.edit_shapes["w"], "directions")
    in_w = AttributeSpace(generator.name, "w", names, directions)
    in_s = dataclasses.replace(in_w, space="s", directions=generator.carry(directions))
    drawn = random_directions(generator, in_w, seed=0)
    carried = random_directions(generator, in_s, seed=0)
    assert carried.shape == (GROUPS * EACH, *generator.edit_shapes["s"])
    likeness = torch.nn.functional.cosine_similarity(generator.carry(drawn), carried, dim=1)
    assert likeness.min() > 0.95  # what they share with the attributes is measured along other axes
    assert torch.isfinite(reaches(generator, in_s, in_s, carried, seed=0)).all()
