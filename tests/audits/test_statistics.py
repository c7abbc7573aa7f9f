import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from sia_gen.audits.evidence.statistics import benjamini_hochberg, mean_interval, permutation, rate_difference, wilson


def test_wilson_is_the_score_interval():
    z, n, p = 1.959963984540054, 20, 0.25
    centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    np.testing.assert_allclose(wilson(5, 20), np.array([centre - half, centre + half]) / (1 + z * z / n), rtol=1e-9)
    assert wilson(0, 0) == [0.0, 1.0]
    interval = binomtest(7, 9).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson(7, 9), [interval.low, interval.high], rtol=1e-9)


def test_attempts_that_depend_on_each_other_count_once():
    np.testing.assert_allclose(wilson(16, 32, 8), wilson(4, 8))
    assert wilson(16, 32, 32) == wilson(16, 32)
    assert wilson(0, 0, 0) == [0.0, 1.0]


def test_permutation_counts_every_way():
    own, chance = np.array([0.6, 0.5, 0.3]), np.array([[0.1, 0.2], [0.7, 0.1], [0.2, 0.2]])
    values = np.column_stack([own, chance])
    scores = [sum(values[np.arange(3), places]) for places in itertools.product(range(3), repeat=3)]
    exact = np.mean(np.array(scores) >= own.sum() - 1e-12)
    assert permutation(own, chance, np.arange(3), 0) == pytest.approx(exact, abs=0.005)
    assert permutation(np.zeros(8), np.zeros((8, 3)), np.arange(8), 0) == 1.0
    assert permutation(np.ones(24), np.zeros((24, 3)), np.arange(24), 0) == 1e-5
    assert permutation(-np.ones(24), np.zeros((24, 3)), np.arange(24), 0) == 1.0


def test_faces_that_share_directions_change_places_together():
    assert permutation(np.ones(32), np.zeros((32, 3)), np.arange(32) % 2, 0) == pytest.approx(1 / 16, abs=0.005)
    assert permutation(np.ones(32), np.zeros((32, 3)), np.zeros(32, dtype=int), 0) == pytest.approx(1 / 4, abs=0.005)


@pytest.mark.parametrize("shape", ["normal", "few do much", "few do much, own as much always"])
def test_permutation_keeps_its_level(shape, monkeypatch):
    """Under no effect, with faces of a group alike, 5 % of p-values lie below 0.05."""
    monkeypatch.setattr("sia_gen.audits.evidence.statistics.SHUFFLES", 1000)
    random = np.random.default_rng(0)
    groups = np.arange(48) % 24

    def draw():
        if shape == "normal":
            return random.normal(size=(24, 4))[groups] + 0.1 * random.normal(size=(48, 4))
        values = np.where(random.random((24, 4)) < 0.1, 0.9, 0.02)[groups]
        if shape != "few do much":
            values[:, 0] = 0.1 * 0.9 + 0.9 * 0.02  # the mean of the others: a test of signs says so in 7 %
        return values

    drawn = [draw() for _ in range(1000)]
    p_values = [permutation(values[:, 0], values[:, 1:], groups, 0) for values in drawn]
    assert np.mean(np.array(p_values) <= 0.05) < 0.065


@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda random, size: random.normal(1, 1, size), 1.0),
        (lambda random, size: random.exponential(1, size), 1.0),
        (lambda random, size: random.beta(0.3, 2, size), 0.3 / 2.3),
    ],
    ids=["normal", "exponential", "most change little"],
)
@pytest.mark.parametrize("draws", [12, 32])
def test_an_interval_holds_the_mean_as_often_as_it_claims(draw, mean, draws):
    random = np.random.default_rng(0)
    intervals = [mean_interval(draw(random, draws), np.arange(draws)) for _ in range(2000)]
    assert np.mean([low <= mean <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.015)


def test_an_interval_is_of_groups_where_values_are_alike():
    values = np.random.default_rng(0).exponential(size=12)
    again = mean_interval(np.tile(values, 8), np.tile(np.arange(12), 8))
    assert again == pytest.approx(mean_interval(values, np.arange(12)))
    low, high = mean_interval(np.tile(values, 8), np.arange(96))
    assert (again[1] - again[0]) > 2.5 * (high - low)


def test_groups_count_by_their_size():
    random = np.random.default_rng(0)
    held = []
    for _ in range(1000):
        sizes = random.integers(1, 6, 24)
        groups = np.repeat(np.arange(24), sizes)
        low, high = mean_interval(random.normal(sizes, 1)[groups], groups)
        held.append(low <= 11 / 3 <= high)  # groups alone have a mean of 3
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def test_an_interval_goes_no_further_than_the_values():
    values = np.array([0.15, 0.7, 0.8, 0.85, 0.9, 0.92, 0.95, 0.96])
    assert mean_interval(values, np.arange(8))[0] == 0.15
    assert mean_interval(values[:3], np.arange(3))[0] < 0.15  # of so few the mean often lies beyond all


def test_an_interval_of_what_is_turned_over_is_turned_over():
    values = np.array([0.01, 0.05, 0.4])
    low, high = mean_interval(values, np.arange(3))
    assert mean_interval(-values, np.arange(3)) == pytest.approx([-high, -low])


def test_an_interval_of_little_or_of_what_is_alike():
    assert mean_interval(np.zeros(0), np.zeros(0)) is None
    assert mean_interval(np.ones(5), np.zeros(5)) is None
    assert mean_interval(np.full(5, 0.1), np.arange(5)) == pytest.approx([0.1, 0.1])
    assert mean_interval(np.full(7, 0.1), np.arange(7)) == pytest.approx([0.1, 0.1])
    assert mean_interval(np.zeros(5), np.arange(5)) == [0.0, 0.0]


def test_benjamini_hochberg():
    np.testing.assert_allclose(benjamini_hochberg([0.01, 0.04, 0.03, 0.5]), [0.04, 0.16 / 3, 0.16 / 3, 0.5])


def test_the_interval_of_a_difference_of_rates_is_newcombes():
    first, second = np.zeros(50), np.zeros(50)
    first[:24], second[1:37] = 1, 1
    low, high = rate_difference(first, second)
    assert low < 12 / 50 < high
    apart = rate_difference(first, np.roll(second, 25))  # the same rates, not so much on the same faces
    assert apart[1] - apart[0] > 1.3 * (high - low)
    assert rate_difference(second, first) == pytest.approx([-high, -low])
    published = np.repeat([[1, 1], [0, 1], [0, 0]], [14, 5, 22], axis=0)  # Newcombe's example, in both of its ways
    assert rate_difference(*published.T) == pytest.approx([0.0114, 0.2265], abs=1e-4)
    low, high = rate_difference(np.zeros(8), np.ones(8))
    assert (low, high) == pytest.approx((1 - 0.4589, 1.0), abs=5e-4)
    low, high = rate_difference(np.zeros(8), np.zeros(8))
    assert (low, high) == pytest.approx((-0.3244, 0.3244), abs=5e-4)
    assert rate_difference(np.zeros(0), np.zeros(0)) is None
