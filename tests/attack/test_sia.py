import json
from dataclasses import replace

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from sia_gen.attack.balls import project_ball
from sia_gen.attack.edit import edit
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.core.errors import Cancelled, RequestError, WorkError
from tests.problems import LinearGenerator, LinearTarget, linear_problem, linear_space, two_hills

ARMS = {"joint": {}, "semantic": {"epsilon": 0.0}, "pixel": {"box": 0.0}}


def run(problem, attack, faces=8, **options):
    return attack(problem.generator, problem.space, problem.target, problem.generator.sample(range(faces)), **options)


class Counting(LinearGenerator):
    """Counts the faces it renders and remembers whether with gradients."""

    def __init__(self):
        super().__init__()
        self.rendered, self.with_gradients = 0, False

    def render(self, codes, edits=None, space=None):
        self.rendered += len(codes)
        self.with_gradients |= torch.is_grad_enabled()
        return super().render(codes, edits, space)


class Watched(LinearTarget):
    """Calls a function with the images before it predicts."""

    def __init__(self, watch):
        super().__init__()
        self.watch = watch

    def predict(self, images):
        self.watch(images)
        return super().predict(images)


@pytest.mark.parametrize("regression", [False, True], ids=["classification", "regression"])
@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.05), ("l2", 0.5)])
@pytest.mark.parametrize(("step", "momentum"), [("sign", 0.0), ("normalised", 0.0), ("sign", 0.9)])
@pytest.mark.parametrize("budget", [10.0, 1.2, 0.5])
def test_reaches_the_closed_form(regression, arm, norm, epsilon, step, momentum, budget):
    problem = linear_problem(regression=regression)
    codes = problem.generator.sample(range(5))
    # Measured from the exact face: from the 8-bit one, rounding would set it off to one side.
    exact = problem.target.predict(edit(None, problem.space, problem.generator.render(codes))).detach()
    settings = {"epsilon": epsilon, "norm": norm, "step": step, "momentum": momentum, "budget": budget} | ARMS[arm]
    attack = SemanticImageAttack(steps=40, stop="never", batch=3, **settings)
    result = run(problem, attack, faces=5, reference=exact if regression else None)
    optimum = problem.optimum(codes, attack.box, attack.epsilon, norm, budget)
    reached = problem.loss(codes, result.omega, result.delta, result.reference)
    torch.testing.assert_close(reached, optimum, rtol=1e-3, atol=0)


@pytest.mark.parametrize("step", ["sign", "normalised"])
def test_reaches_the_closed_form_where_images_are_clipped(step):
    problem = linear_problem(offset=0.95)
    codes = problem.generator.sample(range(8))
    attack = SemanticImageAttack(steps=60, stop="never", box=0.0, epsilon=0.1, step=step)
    result = run(problem, attack)
    optimum = problem.clipped_optimum(codes, attack.epsilon)
    assert (optimum < 0.99 * problem.optimum(codes, 0.0, attack.epsilon, "linf")).all()
    torch.testing.assert_close(
        problem.loss(codes, result.omega, result.delta, result.reference), optimum, rtol=1e-3, atol=0
    )


def test_leaves_the_minimum_that_its_own_prediction_is():
    """A regressor's loss has no gradient at the face when the reference is its own prediction of it."""
    problem = linear_problem(regression=True)
    result = run(problem, SemanticImageAttack(steps=20, budget=10.0, stop="never", epsilon=0.05))
    optimum = problem.optimum(problem.generator.sample(range(8)), 1.0, 0.05, "linf")
    assert (result.loss_before == 0).all()
    torch.testing.assert_close(result.loss_after, optimum, rtol=1e-2, atol=0)


def test_restarts_find_the_hill_that_the_first_ascent_misses():
    problem = two_hills()
    attack = SemanticImageAttack(steps=10, budget=10.0, epsilon=0.0, stop="success")
    once, often = run(problem, attack), run(problem, replace(attack, restarts=8))
    assert once.success.tolist() == [False] * 8
    assert often.success.tolist() == [True, True, False, True, False, True, True, True]
    assert (once.queries == 11).all()
    assert (once.steps == 10).all()
    assert (often.queries > 11).all()
    # Whole ascents and the successful one so far; a restart's first point is no step.
    assert ((often.queries - often.steps) == (often.queries / 11).ceil()).all()


def test_restarts_start_from_the_seeds():
    problem = two_hills()
    attack = SemanticImageAttack(steps=3, epsilon=0.01, restarts=4, stop="never")
    first, again, other = (run(problem, attack, seeds=range(s, s + 8)) for s in (0, 0, 50))
    assert torch.equal(first.omega, again.omega)
    assert not torch.equal(first.omega, other.omega)


def test_stops_at_the_first_success_and_reports_it():
    problem = linear_problem()
    attack = SemanticImageAttack(steps=10, budget=10.0, semantic_step=0.05, epsilon=0.0, stop="success")
    stopped, spent = run(problem, attack), run(problem, replace(attack, stop="never"))
    assert stopped.success.all()
    assert (stopped.steps < 10).any()
    assert (stopped.loss_after > 0).all()
    assert torch.equal(stopped.queries, stopped.steps + 1)
    assert torch.equal(stopped.omega, stopped.omega_needed)
    # Spending the budget finds more, and the same first success on the way.
    assert (spent.steps == 10).all()
    assert (spent.loss_after > stopped.loss_after).any()
    torch.testing.assert_close(spent.omega_needed, stopped.omega_needed)


def test_a_gentle_attack_ends_nearer_to_the_face():
    problem = linear_problem()
    attack = SemanticImageAttack(steps=10, budget=10.0, epsilon=0.01)
    worst, nearest = run(problem, attack), run(problem, attack.gentle())
    assert nearest.success.sum() >= 3
    assert (worst.success >= nearest.success).all()
    found = nearest.success
    assert (nearest.omega[found].norm(dim=1) < worst.omega[found].norm(dim=1)).all()
    assert (nearest.queries[found] < worst.queries[found]).all()


def test_faces_that_fail_unedited_are_not_attacked():
    problem = linear_problem()
    own = run(problem, SemanticImageAttack()).reference
    reference = torch.where(torch.arange(8) % 2 == 0, own, 1 - own)
    result = run(problem, SemanticImageAttack(epsilon=0.05), reference=reference)
    assert result.correct.tolist() == [True, False] * 4
    assert result.success.tolist() == [True, False] * 4
    assert result.queries[1::2].tolist() == [1] * 4
    assert torch.equal(result.adversarial[1::2], result.original[1::2])
    assert result.omega_needed[1::2].isnan().all()


def test_each_face_moves_only_what_it_may():
    problem = linear_problem()
    allowed = torch.eye(4, dtype=torch.bool)
    result = run(problem, SemanticImageAttack(stop="never"), faces=4, allowed=allowed)
    assert torch.equal(result.omega != 0, allowed)


def test_pixel_arm_renders_each_face_once_without_gradients():
    problem = replace(linear_problem(), generator=Counting())
    result = run(problem, SemanticImageAttack(box=0.0, stop="never", batch=3))
    assert problem.generator.rendered == 8
    assert not problem.generator.with_gradients
    assert not result.omega.any()
    assert torch.equal(result.semantic, result.original)


@pytest.mark.parametrize("batch", [8, 3])
@pytest.mark.parametrize(
    ("options", "spared"),
    [
        ({}, 0),
        ({"epsilon": 0.0}, 0),
        ({"box": 0.0}, 8),
        ({"epsilon": 0.0, "step": "evolve"}, 8),
        ({"epsilon": 0.0, "step": "sweep"}, 8),
    ],
    ids=["joint", "semantic", "pixel", "evolve", "sweep"],
)
def test_faces_that_are_rendered_already_are_not_rendered_anew_but_for_a_gradient(options, spared, batch):
    attack = SemanticImageAttack(stop="never", batch=batch, **options)
    drawn, results = [], []
    for given in (False, True):
        problem = replace(linear_problem(), generator=Counting())
        with torch.no_grad():
            faces = edit(problem.generator, problem.space, problem.generator.sample(range(8)))
        problem.generator.rendered = 0
        results.append(run(problem, attack, rendered=faces if given else None))
        drawn.append(problem.generator.rendered)
    for name, values in vars(results[0]).items():
        other = getattr(results[1], name)
        assert values is other is None or torch.equal(values.nan_to_num(), other.nan_to_num()), name
    if batch == 8:
        assert drawn[0] - drawn[1] == spared


def test_semantic_arm_has_no_residual():
    result = run(linear_problem(), SemanticImageAttack(epsilon=0.0, stop="never"))
    assert not result.delta.any()
    assert torch.equal(result.semantic, result.adversarial)


def test_an_empty_space_leaves_the_pixel_arm():
    problem = linear_problem()
    empty = replace(problem, space=problem.space.select([]))
    result = run(empty, SemanticImageAttack(epsilon=0.05))
    assert result.omega.shape == (8, 0)
    assert result.success.all()


def test_waiting_faces_take_the_rows_of_those_that_are_done():
    sizes = []
    target = Watched(lambda images: sizes.append(len(images)))
    problem = replace(linear_problem(), target=target)
    result = run(
        problem, SemanticImageAttack(budget=10.0, semantic_step=0.05, epsilon=0.0, batch=4, stop="success"), faces=12
    )
    assert sum(sizes) == result.queries.sum()
    assert len(set(result.queries.tolist())) > 1
    # Full as long as faces wait, then only shrinking.
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 4


def test_the_last_point_needs_no_backward_pass():
    gradients = []
    target = Watched(lambda images: gradients.append(images.requires_grad))
    run(replace(linear_problem(), target=target), SemanticImageAttack(steps=3, stop="never"))
    assert gradients == [True, True, True, False]


def test_out_of_memory_halves_the_batch_to_the_same_end():
    attack = SemanticImageAttack(epsilon=0.02, semantic_step=0.05, restarts=2, momentum=0.5)
    sizes = []

    def full(images):
        if len(images) > 3:
            raise torch.OutOfMemoryError
        sizes.append(len(images))

    problem = linear_problem()
    expected, result = run(problem, attack), run(replace(problem, target=Watched(full)), attack)
    assert max(sizes) == 2
    for name, values in vars(expected).items():
        torch.testing.assert_close(getattr(result, name), values, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_out_of_memory_midway_repeats_the_step():
    attack, calls = SemanticImageAttack(steps=4, stop="never"), []

    def fourth(images):
        calls.append(len(images))
        if len(calls) == 4:
            raise torch.OutOfMemoryError

    problem = linear_problem()
    expected, result = run(problem, attack), run(replace(problem, target=Watched(fourth)), attack)
    assert calls == [8] * 4 + [4] * 2 + [4] * 5
    for name, values in vars(expected).items():
        torch.testing.assert_close(getattr(result, name), values, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_out_of_memory_in_the_second_variable_moves_the_first_only_once(monkeypatch):
    attack, calls = SemanticImageAttack(steps=4, stop="never", momentum=0.5, semantic_step=0.05), []

    def third(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise torch.OutOfMemoryError
        return project_ball(*arguments)

    problem = linear_problem()
    expected = run(problem, attack)
    monkeypatch.setattr("sia_gen.attack.limits.project_ball", third)
    result = run(problem, attack)
    for name, values in vars(expected).items():
        torch.testing.assert_close(getattr(result, name), values, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_out_of_memory_on_one_image_is_an_error():
    def full(images):
        raise torch.OutOfMemoryError

    with pytest.raises(WorkError) as caught:
        run(replace(linear_problem(), target=Watched(full)), SemanticImageAttack())
    assert str(caught.value) == "out of memory on a single image; use --device cpu or a smaller model"


class Broken(LinearTarget):
    """NaN or Inf for the brightest images, in the prediction or only in its gradient."""

    def __init__(self, limit, what):
        super().__init__()
        self.limit, self.what = limit, what

    def predict(self, images):
        logits = super().predict(images)
        bright = images.detach().mean(dim=(1, 2, 3)) > self.limit  # [B]
        if self.what == "gradient":
            root = (images.sum(dim=(1, 2, 3)) * torch.where(bright, 0.0, 1.0)).sqrt()  # slope of √0 is infinite
            return logits + torch.where(bright, root, 0.0)[:, None]
        return torch.where(bright[:, None], torch.tensor([self.what, 0.0]), logits)


@pytest.mark.parametrize(
    ("what", "named"),
    [(torch.nan, "prediction or loss"), (torch.inf, "prediction or loss"), ("gradient", "loss's gradient")],
)
@pytest.mark.parametrize("arm", ["joint", "pixel"])
def test_nan_names_the_face(what, named, arm):
    problem = linear_problem()
    codes = problem.generator.sample(range(8))
    brightness = problem.generator.render(codes).detach().mean(dim=(1, 2, 3))
    limit = brightness.topk(2).values.mean().item()
    broken = replace(problem, target=Broken(limit, what))
    with pytest.raises(WorkError) as caught:
        run(broken, SemanticImageAttack(steps=2, semantic_step=1e-3, batch=8, **ARMS[arm]), seeds=range(40, 48))
    assert str(caught.value) == (
        f"the {named} of target 'linear-classifier' is NaN or Inf on the face with seed {40 + brightness.argmax()}; "
        "check its weights and input range, or use precision='no'"
    )


def test_a_target_that_hides_its_gradient_is_an_error():
    class Hidden(LinearTarget):
        def predict(self, images):
            return super().predict(images.detach()).detach()

    with pytest.raises(WorkError) as caught:
        run(replace(linear_problem(), target=Hidden()), SemanticImageAttack())
    assert str(caught.value) == (
        "target 'linear-classifier' is called differentiable but its loss has no gradient; "
        "predict without no_grad, or set differentiable = False"
    )


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        (lambda said: said[:, 0], r"^the target gave shape \[8\], not \[8, 2\]; return one row per image$"),
        (lambda said: said[:1], r"^the target gave shape \[1, 2\], not \[8, 2\]; return one row per image$"),
        (lambda said: said[:, :1], r"\[8, 1\], not \[8, 2\]; return as many numbers per image as its task has$"),
    ],
    ids=["flat", "too few images", "too few numbers"],
)
def test_a_prediction_of_the_wrong_shape_is_an_error(spoilt, words):
    class Spoilt(LinearTarget):
        def predict(self, images):
            return spoilt(super().predict(images))

    with pytest.raises(WorkError, match=words):
        run(replace(linear_problem(), target=Spoilt()), SemanticImageAttack())


def test_predicts_exactly_the_8_bit_images():
    grid = []
    target = Watched(lambda images: grid.append((images.detach() * 255 - (images.detach() * 255).round()).abs().max()))
    run(replace(linear_problem(), target=target), SemanticImageAttack(steps=3))
    assert max(grid) < 1e-4


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_keeps_omega_delta_and_loss_in_float32(precision):
    class Half(LinearTarget):
        def predict(self, images):
            value = nn.functional.linear(images.flatten(1) - 0.5, self.weight[None])  # [B, 1]
            kinds.add(value.dtype)
            return torch.cat([-value / 2, value / 2], dim=1)

    kinds = set()
    problem = linear_problem()
    codes, attack = problem.generator.sample(range(8)), SemanticImageAttack(steps=20, stop="never")
    exact, rough = run(problem, attack), run(replace(problem, target=Half()), replace(attack, precision=precision))
    assert kinds == {torch.bfloat16 if precision == "bf16" else torch.float16}
    assert {rough.omega.dtype, rough.delta.dtype, rough.loss_after.dtype} == {torch.float32}
    reached = [problem.loss(codes, found.omega, found.delta, exact.reference) for found in (rough, exact)]
    torch.testing.assert_close(*reached, rtol=0.02, atol=0)


def test_progress_only_grows_and_ends_at_its_total():
    told = []
    attack = SemanticImageAttack(steps=4, batch=3, restarts=2, semantic_step=0.05)
    run(two_hills(), attack, progress=lambda done, total, what: told.append((done, total, what)))
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1] == (80, 80, "attack")


def test_progress_can_cancel():
    def stop(done, total, what):
        raise Cancelled

    problem = linear_problem()
    problem.target.train()
    with pytest.raises(Cancelled):
        run(problem, SemanticImageAttack(), progress=stop)
    assert problem.target.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": [1, 2]}, "2 seeds for 8 faces; give one each"),
        ({"reference": torch.zeros(3, dtype=torch.long)}, "3 references for 8 faces; give one each"),
        (
            {"allowed": torch.ones(8, 2, dtype=torch.bool)},
            "allowed has shape [8, 2], not [faces, attributes] = [8, 4]; reshape it",
        ),
        (
            {"rendered": torch.ones(8, 3, 16, 16)},
            "rendered has shape [8, 3, 16, 16], not [8, 3, 32, 32]; reshape it",
        ),
        ({"faces": 0}, "faces=0 leaves nothing to attack; give the codes of 1 face or more"),
    ],
)
def test_what_does_not_fit_the_faces_is_refused(options, message):
    with pytest.raises(RequestError) as caught:
        run(linear_problem(), SemanticImageAttack(), **options)
    assert str(caught.value) == message


def test_attributes_of_another_generator_are_refused():
    problem = replace(linear_problem(), space=linear_space(LinearGenerator(codes=5)))
    with pytest.raises(RequestError) as caught:
        run(problem, SemanticImageAttack())
    assert str(caught.value) == (
        "attributes of 'linear-generator' edit 'w' with shape [5], which generator 'linear-generator' does not have; "
        "load the attributes of 'linear-generator'"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps=0 should be greater than or equal to 1; change it"),
        ({"box": float("nan")}, "box=nan should be a finite number; change it"),
        ({"semantic_step": float("nan")}, "semantic_step=nan should be a finite number; change it"),
        ({"box": 1.5}, "box=1.5 should be less than or equal to 1; change it"),
        ({"budget": 0}, "budget=0 should be greater than 0; change it"),
        ({"budget": torch.nan}, "budget=nan should be a finite number; change it"),
        ({"norm": "l1"}, "norm='l1' should be 'linf' or 'l2'; change it"),
        ({"epsilon": 2.0}, "epsilon=2 is more than 1, the whole range of a pixel; lower it"),
        ({"epsilon": torch.nan}, "epsilon=nan should be a finite number; change it"),
        ({"radius": 1}, "radius=1: unexpected keyword argument; change it"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, message):
    with pytest.raises(RequestError) as caught:
        SemanticImageAttack(**settings)
    assert str(caught.value) == message


def test_settings_survive_json():
    attack = SemanticImageAttack(steps=3, norm="l2", epsilon=1.5)
    adapter = TypeAdapter(SemanticImageAttack)
    assert adapter.validate_json(json.dumps(adapter.dump_python(attack))) == attack


def test_tells_of_each_step_who_showed_what():
    problem = linear_problem()
    codes = problem.generator.sample(range(3))
    seen = []
    attack = SemanticImageAttack(steps=4, batch=2, stop="never", epsilon=0.05)
    result = attack(
        problem.generator, problem.space, problem.target, codes, watch=lambda faces, point: seen.append((faces, point))
    )
    assert [faces.tolist() for faces, _ in seen] == [[0, 1]] * 5 + [[2]] * 5
    losses = [
        [float(point["loss"][faces.tolist().index(face)]) for faces, point in seen if face in faces]
        for face in range(3)
    ]
    assert [max(steps) for steps in losses] == result.loss_after.tolist()
    assert [steps[0] for steps in losses] == result.loss_before.tolist()
    assert set(seen[0][1]) >= {"images", "semantic", "prediction", "reference", "loss", "omega", "delta"}
