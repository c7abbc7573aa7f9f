from dataclasses import replace

import pytest
import torch

from sia_gen.attack.edit import edit
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attack.trace import swept
from sia_gen.core.errors import RequestError
from sia_gen.core.images import quantise
from sia_gen.targets.task import Regression
from tests.problems import LinearTarget, linear_problem, two_hills

SWEEP = SemanticImageAttack(steps=10, epsilon=0.0, step="sweep", stop="never")


class BlackBox(LinearTarget):
    """Answers, and gives no gradient."""

    differentiable = False

    def predict(self, images):
        return super().predict(images).detach()


def run(problem, attack=SWEEP, faces=8, target=None):
    codes = problem.generator.sample(range(faces))
    return attack(problem.generator, problem.space, target or problem.target, codes)


def alone(problem, index=0):
    return replace(problem, space=problem.space.select(problem.space.names[index : index + 1]))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_ends_where_one_attribute_does_most(index):
    problem = alone(linear_problem(), index)
    codes = problem.generator.sample(range(8))
    result = run(problem)
    reached = problem.loss(codes, result.omega, result.delta, result.reference)
    torch.testing.assert_close(reached, problem.optimum(codes, 1.0, 0.0, "linf"), rtol=1e-3, atol=0)
    assert (result.queries == 11).all()


def test_finds_the_hill_that_an_ascent_misses():
    problem = alone(two_hills(), 3)
    uphill = run(problem, replace(SWEEP, step="sign", semantic_step=0.2))
    assert not uphill.success.any()
    assert run(problem).success.any()


def test_goes_outwards_so_that_the_first_success_is_the_least_change():
    problem = alone(linear_problem())
    result = run(problem)
    assert result.success.any()
    shares = torch.arange(1, 6) / 5
    for face in result.success.nonzero().squeeze(1).tolist():
        codes = problem.generator.sample([face])
        needed = result.omega_needed[face]
        end = problem.space.high if needed > 0 else problem.space.low
        smaller = [share * end for share in shares if (share * end).abs() < 0.999 * needed.abs()]
        fails = [
            problem.loss(codes, omega[None], torch.zeros(1), result.reference[face : face + 1]) for omega in smaller
        ]
        assert all(loss < 0 for loss in fails)
        assert any(torch.isclose(share * end, needed).all() for share in shares)


def test_of_two_ways_to_fail_the_nearer_counts_and_of_equals_the_one_with_more_effect():
    problem = linear_problem(regression=True)
    problem.target.task = Regression(("value",), tolerance=0.05)  # fails where the value has changed, up or down
    space = problem.space.select(["a1"])
    attribute = replace(space.attributes[0], low=-1.0, high=3.0)
    lopsided = replace(problem, space=replace(space, attributes=(attribute,)))
    result = run(lopsided)
    assert result.success.all()
    assert (result.omega_needed < 0).all()  # a fifth of the way down is nearer than a fifth of the way up
    even = replace(problem, space=replace(space, attributes=(replace(attribute, high=1.0),)))
    result = run(even, faces=32)
    first = (result.outputs[:, 1:3] - result.outputs[:, :1]).abs()
    assert result.failures[:, 1:3].all()
    chosen = torch.where(first[:, 0] >= first[:, 1], 0.2, -0.2)
    torch.testing.assert_close(result.omega_needed[:, 0], chosen)
    assert (chosen > 0).any()
    assert (chosen < 0).any()


def test_keeps_what_the_target_said_at_every_point():
    problem = alone(linear_problem())
    result = run(problem)
    assert result.outputs.shape == result.failures.shape == (8, 11)
    assert torch.equal(result.outputs[:, 0], result.output_before)
    assert torch.equal(result.failures[result.correct].any(dim=1), result.success[result.correct])
    change = (result.outputs - result.outputs[:, :1]).abs().amax(dim=1)
    assert (change >= (result.output_after - result.output_before).abs()).all()
    assert run(problem, replace(SWEEP, step="sign")).outputs is None


def test_needs_no_gradient():
    problem = alone(linear_problem())
    seen, unseen = run(problem), run(problem, target=BlackBox())
    assert torch.equal(seen.omega, unseen.omega)
    assert torch.equal(seen.success, unseen.success)
    assert not torch.equal(seen.omega, torch.zeros_like(seen.omega))


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"epsilon": 0.1}, "epsilon=0.1 is above 0"),
        ({"steps": 3}, "steps=3 is odd"),
        ({"restarts": 2}, "restarts=2 is above 1"),
        ({"momentum": 0.5}, "momentum=0.5 is above 0"),
    ],
)
def test_refuses_what_it_has_no_use_for(options, fault):
    with pytest.raises(RequestError) as caught:
        replace(SWEEP, **options)
    assert str(caught.value) == f"{fault}, which step='sweep' has no use for; change it"


def test_tries_up_and_down_in_turn_as_far_as_both_ends():
    problem = alone(linear_problem())
    tried = []

    class Watching(LinearTarget):
        def predict(self, images):
            tried.append(super().predict(images)[0, 1].item())
            return super().predict(images)

    run(problem, faces=1, target=Watching())
    moved = torch.tensor(tried[1:]) - tried[0]
    low, high = problem.space.low.item(), problem.space.high.item()
    asked = torch.tensor([end * k / 5 for k in range(1, 6) for end in (high, low)])
    torch.testing.assert_close(moved / moved[0], asked / asked[0], rtol=0.05, atol=0.05)  # on the 8-bit grid


def test_notes_how_far_each_point_changes_the_picture():
    problem = alone(linear_problem(), 1)
    codes = problem.generator.sample(range(8))
    result = run(problem, replace(SWEEP, batch=3))  # faces take the rows of those that left
    low, high = (torch.full((11, 1), end) for end in (problem.space.low.item(), problem.space.high.item()))
    for number, omega in enumerate(swept(torch.arange(11), 10, low, high)):
        with torch.no_grad():
            edited = edit(problem.generator, problem.space, codes, omega.expand(8, 1))
            change = (quantise(edited) - quantise(edit(problem.generator, problem.space, codes))).square()
        expected = torch.where(result.correct, change.mean(dim=(1, 2, 3)).sqrt(), 0)
        torch.testing.assert_close(result.changes[:, number], expected, rtol=1e-4, atol=1e-6)
