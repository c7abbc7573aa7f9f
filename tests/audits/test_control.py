import dataclasses
import math

import pytest
import torch

from sia_gen.attributes.attribute_space import Attribute, AttributeSpace
from sia_gen.audits.control import APART, DIRECTIONS, FURTHEST, control_space, random_directions, reaches
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
    assert control.shape == (DIRECTIONS, 12)
    codes = generator.sample(range(3000))
    spread = (codes @ reading.T).std(dim=0)

    def movement(directions):
        """How far readings move while the code moves by as much as codes differ, in their deviations."""
        length = (directions @ torch.linalg.inv(covariance) * directions).sum(dim=1).sqrt()
        return (directions @ reading.T / spread / length[:, None]).abs()

    # Axes are estimated from 4096 faces, so that each of 160 movements is off by about a root of 12 in 4096.
    assert movement(control).square().mean().sqrt() < 0.06
    assert movement(control).max() < 0.2
    assert movement(directions).max(dim=1).values.min() > 0.5


def held(found, wanted):
    """The sizes that reaches are to have, in their order: those of the attributes rounded up, then their mean's."""
    reach, like = found
    sizes = torch.full((len(reach) - 1,), torch.nan)
    wanted = wanted.detach()
    smallest = wanted.min()
    for size, row in zip(wanted, like.tolist(), strict=True):
        steps = math.ceil(math.log(size / smallest) / math.log(APART) - 1e-3)
        sizes[row] = min(smallest * APART**steps, wanted.max())
        assert size * 0.999 <= sizes[row] <= APART * size * 1.001
    assert torch.isfinite(sizes).all()  # none that no attribute is held against
    return [*sizes, wanted.mean()]


def modest(generator):
    """Attributes that change the image less than random faces differ."""
    space = linear_space(generator)
    return dataclasses.replace(space, directions=0.15 * space.directions)


def test_changes_the_image_as_much_as_each_attribute_and_as_their_mean(generator):
    space = modest(generator).select(["a0", "a2"])
    directions = random_directions(generator, space, seed=0)
    found = reaches(generator, space, space, directions, seed=0)
    # A linear generator changes every face alike, so the exact change needs no rendering.
    matrix = generator.matrix.detach()

    def change(directions, reach):
        return (directions @ matrix.T).square().mean(dim=1).sqrt() * reach

    wanted = change(space.directions, (space.high - space.low) / 2)
    for reach, size in zip(found[0], held(found, wanted), strict=True):
        control = control_space(space, directions, reach)
        torch.testing.assert_close(change(control.directions, 1.0), size.expand(DIRECTIONS), rtol=1e-3, atol=0)


def test_sizes_are_right_where_the_image_saturates(generator):
    class Saturating(LinearGenerator):
        def render(self, codes, edits=None, space=None):
            return torch.sigmoid(40 * (super().render(codes, edits, space) - 0.5))

    generator = Saturating(codes=12)
    space = modest(generator)
    directions = random_directions(generator, space, seed=0)
    found = reaches(generator, space, space, directions, seed=0)
    codes = generator.sample(range(100, 140))

    def change(space, ends):
        clean = generator.render(codes)
        edited = [generator.render(codes, row * end, "w") for row, end in zip(space.directions, ends, strict=True)]
        return torch.stack([(image - clean).square().mean(dim=(1, 2, 3)).sqrt().mean() for image in edited])

    wanted = (change(space, space.low) + change(space, space.high)) / 2
    reach, like = found
    rows = [*zip(like.tolist(), wanted, [APART] * len(wanted), strict=True), (-1, wanted.mean(), 1.0)]
    for row, size, above in rows:  # a row's size is the attribute's or up to a quarter more, to a tenth
        control = control_space(space, directions, reach[row])
        changed = (change(control, control.low) + change(control, control.high)) / 2
        assert changed.min() > 0.9 * size
        assert changed.max() < 1.1 * above * size


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
    found, _ = reaches(generator, space, space, directions, seed=0)
    assert torch.isfinite(found).all()
    assert (found == FURTHEST).all()


def test_goes_no_further_than_faces_lie_apart(generator):
    space = linear_space(generator)
    directions = random_directions(generator, space, seed=0)
    found, like = reaches(generator, space, space, directions, seed=0)
    change = (directions @ generator.matrix.detach().T).square().mean(dim=1).sqrt()  # as far as two faces lie apart
    wanted = (space.directions @ generator.matrix.detach().T).square().mean(dim=1).sqrt()
    wanted = (wanted * (space.high - space.low) / 2).detach()
    assert wanted.max() > change.max()
    assert wanted.min() < change.mean()
    largest = held((found, like), wanted)[like.max()]
    torch.testing.assert_close(found[like.max()], (largest / change).clamp(max=FURTHEST), rtol=1e-3, atol=0)
    assert (found[like.min()] < FURTHEST).any()


def test_attributes_of_one_size_share_a_control(generator):
    space = linear_space(generator)
    one, other = space.directions[:2]
    length = (generator.matrix.detach() @ torch.stack([one, other]).T).square().mean(0).sqrt()
    rows = torch.stack([one, 1.2 * other * length[0] / length[1], 3 * one, 2.9 * one])
    attributes = tuple(dataclasses.replace(a, low=-1.0, high=1.0) for a in space.attributes)
    space = dataclasses.replace(space, attributes=attributes, directions=rows)
    directions = random_directions(generator, space, seed=0)
    reach, like = reaches(generator, space, space, directions, seed=0)
    assert like.tolist() == [0, 1, 2, 2]
    assert len(reach) == 4


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
    assert control.shape == (DIRECTIONS, 5)
    assert torch.linalg.matrix_rank(control) == 3
    larger = dataclasses.replace(space, directions=30 * space.directions)
    assert reaches(wide, larger, larger, control, seed=0)[0].max() > FURTHEST  # nothing says where faces end


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
    assert carried.shape == (DIRECTIONS, *generator.edit_shapes["s"])
    likeness = torch.nn.functional.cosine_similarity(generator.carry(drawn), carried, dim=1)
    assert likeness.min() > 0.95  # what they share with the attributes is measured along other axes
    found, _ = reaches(generator, in_s, in_s, carried, seed=0)
    assert torch.isfinite(found).all()
