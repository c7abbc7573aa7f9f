import math

import pytest
import torch
from scipy import stats

from sia_gen.attack.balls import ascent, largest, length, project_ball, project_box, project_budget
from sia_gen.attack.starts import random_delta, random_omega


def test_box_has_bounds_of_each_face():
    omega = torch.tensor([[-3.0, 0.5], [-3.0, 0.5]])
    low, high = torch.tensor([[-1.0, 0.0], [-4.0, 0.0]]), torch.tensor([[1.0, 1.0], [4.0, 0.0]])
    assert project_box(omega, low, high).tolist() == [[-1.0, 0.5], [-3.0, 0.0]]


def test_budget_counts_in_half_ranges_and_keeps_what_is_within():
    low, high = torch.tensor([[-1.0, -10.0]]), torch.tensor([[1.0, 30.0]])
    omega = torch.tensor([[0.6, 16.0]])  # 0.6 and 0.8 half ranges
    assert length(omega, low, high).item() == pytest.approx(1.0)
    torch.testing.assert_close(project_budget(2 * omega, low, high, 2.5), torch.tensor([[1.0, 30.0]]))  # the box alone
    torch.testing.assert_close(project_budget(1.5 * omega, low, high, 1.0), omega)
    assert torch.equal(project_budget(0.5 * omega, low, high, 1.0), 0.5 * omega)


@pytest.mark.parametrize("budget", [0.3, 1.0, 1.7])
def test_budget_projects_to_the_nearest_point(budget):
    """No point of the set is nearer, in half ranges: tried at random."""
    torch.manual_seed(0)
    low, high = torch.tensor([[-1.0, -2.0, 0.0, -0.5]]), torch.tensor([[2.0, 2.0, 0.0, 1.0]])
    omega, tried = 3 * torch.randn(1, 4), torch.randn(20000, 4)
    within = project_box(tried * 3, low, high)
    within = within[length(within, low.expand_as(within), high.expand_as(within)) <= budget]
    found = project_budget(omega, low, high, budget)
    assert length(found, low, high) <= budget * (1 + 1e-6)
    assert found[0, 2] == 0
    ends = low.expand_as(within), high.expand_as(within)
    assert (length(within - omega, *ends) >= length(found - omega, low, high) * (1 - 1e-6)).all()


def test_l2_ball_keeps_direction_and_what_is_inside():
    delta = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    expected = torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(project_ball(delta, 1.0, "l2"), expected)


def test_linf_ball_cuts_each_number():
    assert project_ball(torch.tensor([[3.0, -4.0, 0.5]]), 1.0, "linf").tolist() == [[1.0, -1.0, 0.5]]


def test_steepest_in_linf_is_the_sign_and_rounding_noise_has_none():
    gradient = torch.tensor([[2.0, -1e-3, 1e-9, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert ascent(gradient, "linf", "sign").tolist() == [[1.0, -1.0, 0.0, 0.0], [0.0] * 4]


def test_normalised_in_linf_has_root_mean_square_one_where_it_matters():
    step = ascent(torch.tensor([[3.0, -4.0, 0.0]]), "linf", "normalised")
    torch.testing.assert_close(step, torch.tensor([[3.0, -4.0, 0.0]]) / math.sqrt(12.5))


@pytest.mark.parametrize("step", ["sign", "normalised"])
def test_steepest_in_l2_is_the_gradient_over_its_length(step):
    gradient = torch.tensor([[3.0, -4.0], [3e-30, -4e-30], [3e30, -4e30], [0.0, 0.0]])
    expected = torch.tensor([[0.6, -0.8]] * 3 + [[0.0, 0.0]])
    torch.testing.assert_close(ascent(gradient, "l2", step), expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_largest_shows_what_is_not_finite(bad):
    values = torch.ones(3, 2, 40)
    values[1, 1, 17] = -bad
    assert torch.isfinite(largest(values)).tolist() == [True, False, True]


def test_random_starts_are_uniform():
    seeds = range(500)
    low, high = torch.tensor([[-2.0, 0.0, 0.0]]).expand(500, 3), torch.tensor([[1.0, 5.0, 0.0]]).expand(500, 3)
    omega = random_omega(seeds, low, high, restart=1)
    assert not omega[:, 2].any()
    assert stats.kstest(omega[:, 0], "uniform", args=(-2, 3)).pvalue > 0.01
    flat = random_delta(seeds, (3,), 0.1, "linf", restart=1)
    assert stats.kstest(flat.flatten(), "uniform", args=(-0.1, 0.2)).pvalue > 0.01
    # In a ball of 3 dimensions the cube of the length is uniform.
    length = random_delta(seeds, (3,), 2.0, "l2", restart=1).norm(dim=1)
    assert stats.kstest((length / 2) ** 3, "uniform").pvalue > 0.01
    assert not torch.equal(random_delta([3], (3,), 1.0, "l2", 1), random_delta([3], (3,), 1.0, "l2", 2))
