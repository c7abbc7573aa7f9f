"""Letters: B draws, Z columns."""

import json

import pytest
import torch

from sia_gen.core.errors import WorkError
from sia_gen.core.population import Population

PLAIN = {
    "roots": {0: ((-3.0, 0.0, 3.0), (-1.0, 0.0, 2.0)), 1: ((-3.0, 3.0), (-1.0, 1.0))},
    "across": (0, 1),
    "at": ((-1.0, 2.0), (-1.0, 1.0)),
    "tables": {2: (((0.0, 10.0), (3.0, 13.0)), ((1.0, 1.0), (0.0, 0.0)))},
    "pulls": ((3, 2, 0.5),),
}


def drawn(*normals):
    return Population(**PLAIN).draw(torch.tensor([normals])).squeeze(0).tolist()


def test_roots_follow_their_own_number():
    assert drawn(1.5, 0.0, 0.0, 0.0)[:2] == [1.0, 0.0]
    assert drawn(-9.0, 9.0, 0.0, 0.0)[:2] == [-1.0, 1.0]  # constant beyond the ends


def test_tables_are_read_between_their_values():
    assert drawn(-3.0, -3.0, 2.0, 0.0)[2] == 2.0  # mean 0, spread 1
    assert drawn(3.0, 3.0, 2.0, 0.0)[2] == 13.0  # mean 13, spread 0
    assert drawn(0.75, 0.0, 1.0, 0.0)[2] == pytest.approx(6.5 + 0.5)  # half-way between all four


def test_a_column_is_pulled_along():
    assert drawn(3.0, 3.0, 0.0, 1.0)[3] == pytest.approx(1.0 + 0.5 * 13.0)


def test_a_draw_is_the_same_however_many_are_drawn():
    normals = torch.randn(257, 4, generator=torch.Generator().manual_seed(0))
    population = Population(**PLAIN)
    assert torch.equal(population.draw(normals)[41:42], population.draw(normals[41:42]))


def test_comes_back_from_json():
    population = Population(**PLAIN)
    again = Population.from_json(json.loads(json.dumps(population.to_json())))
    normals = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.draw(normals), population.draw(normals))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"roots": {0: ((0.0, -1.0), (0.0, 1.0)), 1: PLAIN["roots"][1]}}, "root 0 .* not rising"),
        ({"across": (0, 2)}, r"tables across \[0, 2\] of a population whose roots are \[0, 1\]"),
        ({"tables": {2: (((0.0, 1.0),), ((1.0, 1.0),))}}, r"table 2 of a population is \[1, 2\], not \[2, 2\]"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes, words):
    with pytest.raises(WorkError, match=words):
        Population(**PLAIN | changes)


@pytest.mark.parametrize("entries", [{}, {"roots": []}, {"roots": {"a": 1}}, None])
def test_other_data_is_refused(entries):
    with pytest.raises(WorkError, match="no description of a population"):
        Population.from_json(entries)


def test_columns_that_are_not_there_are_named():
    with pytest.raises(WorkError, match="a population of columns 0 to 3, but 3 numbers"):
        Population(**PLAIN).draw(torch.zeros(1, 3))
