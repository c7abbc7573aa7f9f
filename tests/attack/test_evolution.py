from dataclasses import replace

import pytest
import torch

from sia_gen.attack.evolution import estimate, random_ways
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.targets.task import Verification
from tests.problems import LinearTarget, linear_problem

EVOLVE = SemanticImageAttack(steps=20, epsilon=0.0, step="evolve", stop="never")


class BlackBox(LinearTarget):
    """Answers, counts how often, and gives no gradient."""

    differentiable = False
    asked = 0

    def predict(self, images):
        self.asked += len(images)
        return super().predict(images).detach()


def run(attack=EVOLVE, faces=6):
    problem = replace(linear_problem(), target=BlackBox())
    codes = problem.generator.sample(range(faces))
    return problem, codes, attack(problem.generator, problem.space, problem.target, codes)


@pytest.mark.parametrize("budget", [10.0, 1.0])
def test_comes_near_the_optimum_without_a_gradient(budget):
    problem, codes, result = run(replace(EVOLVE, budget=budget))
    reached = problem.loss(codes, result.omega, result.delta, result.reference)
    optimum = problem.optimum(codes, 1.0, 0.0, "linf", budget)
    assert (reached > optimum - 0.05 * optimum.abs()).all()
    assert result.success.all()


def test_the_residual_moves_too():
    _, _, result = run(replace(EVOLVE, epsilon=0.02, box=0.0, steps=10))
    assert (result.loss_after > result.loss_before).all()
    assert result.delta.abs().max() <= 0.02 + 1e-6


def test_a_residual_in_the_other_norm_stays_near_where_it_is():
    _, _, result = run(replace(EVOLVE, epsilon=2.0, norm="l2", box=0.0, steps=10))
    assert (result.loss_after > result.loss_before).all()
    assert (result.delta.flatten(1).norm(dim=1) <= 2.0 * (1 + 1e-6)).all()


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf], ids=str)
def test_no_answer_to_an_edited_face_counts_as_no_change_and_infinity_is_a_fault(wrong):
    problem = replace(linear_problem(), target=BlackBox())
    said = problem.target.predict
    problem.target.predict = lambda images: said(images) + (wrong if problem.target.asked > 2 else 0.0)
    codes = problem.generator.sample(range(2))
    if wrong == torch.inf:
        with pytest.raises(WorkError, match=r"is NaN or Inf on the face with seed 0"):
            EVOLVE(problem.generator, problem.space, problem.target, codes)
        return
    result = EVOLVE(problem.generator, problem.space, problem.target, codes)
    assert not result.success.any()
    assert torch.equal(result.output_after, result.output_before)
    assert torch.equal(result.unanswered, result.steps)  # every point but the unedited one


def test_every_question_is_counted():
    problem, _, result = run(replace(EVOLVE, steps=3, pairs=2))
    assert result.queries.tolist() == [1 + 3 * (1 + 2 * 2)] * 6
    assert problem.target.asked == result.queries.sum()


@pytest.mark.parametrize("queries", [61, 500])
def test_a_budget_of_queries_is_kept_and_used(queries):
    attack = EVOLVE.within(queries)
    _, _, result = run(attack, faces=3)
    assert queries - 2 * attack.steps < result.queries.max() <= queries
    _, _, result = run(replace(EVOLVE, restarts=3, stop="success").within(1000), faces=3)
    assert result.queries.max() <= 1000


def test_a_budget_below_one_pair_a_step_is_refused():
    with pytest.raises(RequestError, match="queries=60 is below 61, one pair a step; raise it or ask for fewer steps"):
        EVOLVE.within(60)


def test_who_succeeds_stops_asking():
    problem, _, result = run(replace(EVOLVE, stop="success"))
    assert result.success.all()
    assert problem.target.asked == result.queries.sum() < 6 * 100


def test_a_gentle_attack_without_a_gradient_keeps_to_its_budget_and_to_the_first_failure():
    gentle = replace(EVOLVE, epsilon=0.01).gentle().within(100)
    problem, _, nearest = run(gentle)
    assert nearest.success.all()
    assert problem.target.asked == nearest.queries.sum()
    assert nearest.queries.max() <= 100
    _, _, worst = run(replace(gentle, stop="never"))
    assert (nearest.queries < worst.queries).all()
    assert (nearest.omega.norm(dim=1) < worst.omega.norm(dim=1)).all()


def quadratic(points):
    return -(points["omega"] - 3).square().sum(dim=1)


def test_the_estimate_points_uphill_on_average_as_the_gradient_does():
    variables = {"omega": torch.zeros(400, 2)}
    ways = lambda pair: random_ways(range(400), [f"{pair}"] * 400, {"omega": (2,)})  # noqa: E731
    found = estimate(quadratic, variables, {"omega": 1.0}, lambda name, values: values, ways, pairs=4)["omega"].mean(0)
    assert found[0] / found[1] == pytest.approx(1, rel=0.1)
    assert (found > 0).all()


def test_where_the_loss_is_flat_it_moves_somewhere():
    variables = {"omega": torch.zeros(2, 3)}
    ways = lambda pair: random_ways([7, 8], [f"{pair}"] * 2, {"omega": (3,)})  # noqa: E731
    found = estimate(lambda points: torch.zeros(2), variables, {"omega": 1.0}, lambda name, v: v, ways, pairs=2)
    assert torch.equal(found["omega"], ways(0)["omega"])


def test_a_residual_varies_by_blocks():
    way = random_ways([1], [""], {"delta": (3, 32, 32)})["delta"]
    assert set(way.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(way[:, :, :4, :4], way[:, :, :1, :1].expand(1, 3, 4, 4))


def test_a_face_leaves_its_own_embedding_the_same_way_in_any_batch():
    problem = linear_problem()
    value = problem.target.predict
    problem.target.predict = lambda images: value(images) / 100 + torch.tensor([0.0, 1.0])  # no two on one line
    problem.target.task = Verification(2, 0.5)
    attack = SemanticImageAttack(steps=4, epsilon=0.0)
    codes = problem.generator.sample(range(6))
    together = attack(problem.generator, problem.space, problem.target, codes)
    alone = attack(problem.generator, problem.space, problem.target, codes[3:4], seeds=[3])
    torch.testing.assert_close(alone.omega, together.omega[3:4], rtol=1e-4, atol=1e-4)
    assert (together.loss_after > together.loss_before).all()
