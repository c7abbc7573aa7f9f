"""What every implementation keeps.

A suite is a base class: a test file derives ``class TestMine(GeneratorSuite)`` and gives the fixtures the suite names.

Letters: B faces, K attributes, R resolution.
"""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from sia_gen.attack.edit import edit
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.core.errors import RequestError
from tests.problems import linear_problem

ATTACKS = [
    SemanticImageAttack(steps=6, epsilon=0.02),
    SemanticImageAttack(steps=6, epsilon=0.02, stop="never", momentum=0.9),
    SemanticImageAttack(steps=6, epsilon=0.02, step="normalised", restarts=3),
    SemanticImageAttack(steps=6, epsilon=0.5, norm="l2", restarts=2, stop="never"),
    SemanticImageAttack(steps=6, epsilon=0.0, restarts=2),
    SemanticImageAttack(steps=6, epsilon=0.0, step="sweep"),
    SemanticImageAttack(steps=4, epsilon=0.02, step="evolve", pairs=3),
    SemanticImageAttack(steps=6, epsilon=0.02, box=0.0, restarts=2),
    SemanticImageAttack(steps=6, epsilon=0.5, box=0.0, norm="l2", momentum=0.5),
]


def assert_slope(function, point, direction, step, tolerance):
    """The gradient along a direction agrees with the central difference."""
    point = point.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(function(point), point)
    with torch.no_grad():
        difference = (function(point + step * direction) - function(point - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), difference, rtol=tolerance, atol=1e-7)


def in_double(model):
    """A copy in float64, where finite differences are exact enough; models that are no module stay as they are."""
    return copy.deepcopy(model).double() if isinstance(model, nn.Module) else model


class GeneratorSuite:
    """Fixture ``generator``."""

    def test_each_seed_has_its_own_stream(self, generator):
        together = generator.sample([3, 11, 5])
        torch.testing.assert_close(together[1:2], generator.sample([11]), rtol=0, atol=0)
        torch.testing.assert_close(together[2:], generator.sample([5]), rtol=0, atol=0)
        assert not torch.equal(together[0], together[1])

    def test_images_are_float32_squares_within_0_and_1(self, generator):
        codes = generator.sample(range(3))
        with torch.no_grad():
            images = generator.render(codes)
        assert images.shape == (3, 3, generator.resolution, generator.resolution)
        assert images.dtype == torch.float32
        assert images.device == codes.device
        assert 0 <= images.min() <= images.max() <= 1

    def test_a_face_does_not_depend_on_its_batch(self, generator):
        codes = generator.sample(range(5))
        with torch.no_grad():
            together = generator.render(codes)
            for index in range(5):
                alone = generator.render(codes[index : index + 1])
                torch.testing.assert_close(together[index : index + 1], alone, rtol=0, atol=1e-5)

    def test_no_edit_is_the_face_bit_for_bit(self, generator):
        codes = generator.sample(range(2))
        with torch.no_grad():
            for space, shape in generator.edit_shapes.items():
                edits = torch.zeros(2, *shape, device=codes.device)
                assert torch.equal(generator.render(codes, edits, space), generator.render(codes))

    def test_gradients_in_edits_agree_with_differences(self, generator):
        generator = in_double(generator)
        codes = generator.sample([0])
        if isinstance(generator, nn.Module):
            codes = codes.double()
        for space, shape in generator.edit_shapes.items():
            random = torch.Generator().manual_seed(0)
            direction = torch.randn(1, *shape, generator=random, dtype=torch.float64).to(codes)
            pixels = torch.randn(1, 3, generator.resolution, generator.resolution, generator=random).to(codes)

            def seen(edits, space=space, pixels=pixels):
                return (generator.render(codes, edits, space) * pixels).sum()

            step = 1e-6 if codes.dtype == torch.float64 else 1e-2
            tolerance = 1e-4 if codes.dtype == torch.float64 else 5e-2
            assert_slope(seen, torch.zeros_like(direction), direction, step, tolerance)


class TargetSuite:
    """Fixtures ``target`` and ``images`` ``[B, 3, H, W]``, B ≥ 2."""

    def test_predictions_pass_their_task(self, target, images):
        with torch.no_grad():
            prediction = target.predict(images)
        target.task.check(prediction, len(images))
        reference = target.task.decide(prediction)
        loss = target.task.loss(prediction, reference)
        assert loss.shape == (len(images),)
        assert loss.dtype == torch.float32
        assert prediction.device == images.device
        assert not target.task.failed(prediction, reference).any()
        assert target.task.output(prediction, reference).shape == (len(images),)

    def test_an_image_does_not_depend_on_its_batch(self, target, images):
        with torch.no_grad():
            together = target.predict(images)
            for index in range(len(images)):
                alone = target.predict(images[index : index + 1])
                torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-4, atol=1e-5)

    def test_gradients_in_pixels_agree_with_differences(self, target, images):
        if not target.differentiable:
            pytest.skip("a black box has no gradients")
        with torch.no_grad():
            reference = target.task.decide(target.predict(images[1:2]))
        random = torch.Generator().manual_seed(0)
        direction = torch.rand(images[:1].shape, generator=random).to(images)
        inside = images[:1] * 0.9 + 0.05

        def seen(pixels):
            return target.task.loss(target.predict(pixels), reference).sum()

        assert_slope(seen, inside, direction, 2e-3, 5e-2)


class AttributeSpaceSuite:
    """Fixture ``space``."""

    def test_no_change_is_no_edit(self, space):
        edits = space.edits(torch.zeros(2, len(space.attributes)))
        assert edits.shape == (2, *space.directions.shape[1:])
        assert not edits.any()

    def test_edits_are_linear_and_independent_of_the_batch(self, space):
        omega = torch.stack([space.low, space.high, space.high / 2])
        edits = space.edits(omega)
        torch.testing.assert_close(edits[1], 2 * edits[2])
        torch.testing.assert_close(edits[:1], space.edits(omega[:1]))
        one = torch.zeros(1, len(space.attributes))
        one[0, -1] = 1
        torch.testing.assert_close(space.edits(one)[0], space.directions[-1])

    def test_zero_lies_within_every_range(self, space):
        assert (space.low <= 0).all()
        assert (space.high >= 0).all()
        assert (space.high > space.low).all()

    def test_survives_a_round_trip_through_a_file(self, space, tmp_path):
        space.save(tmp_path / "space.safetensors")
        loaded = AttributeSpace.load(tmp_path / "space.safetensors")
        assert (loaded.generator, loaded.space, loaded.attributes) == (space.generator, space.space, space.attributes)
        assert torch.equal(loaded.directions, space.directions)
        assert loaded.directions.dtype == space.directions.dtype

    def test_selects_by_name_in_the_order_asked(self, space):
        backwards = space.select(space.names[::-1])
        assert backwards.names == space.names[::-1]
        assert torch.equal(backwards.directions, space.directions.flip(0))
        assert space.without(space.names[0]).names == space.names[1:]


class AttackSuite:
    """Fixture ``problem`` with a generator, a space and a target, on which the attacks of the table run."""

    @pytest.fixture(params=ATTACKS, ids=repr)
    def attack(self, request):
        return request.param

    @pytest.fixture
    def problem(self):
        return linear_problem()

    def test_is_its_own_configuration(self, attack):
        assert eval(repr(attack)) == attack

    def test_a_face_does_not_depend_on_its_batch(self, attack, problem):
        codes, seeds = problem.generator.sample(range(16)), list(range(100, 116))
        together = replace(attack, batch=16)(problem.generator, problem.space, problem.target, codes, seeds=seeds)
        for batch in (1, 5):
            apart = replace(attack, batch=batch)(problem.generator, problem.space, problem.target, codes, seeds=seeds)
            assert_same(apart, together)
        alone = attack(problem.generator, problem.space, problem.target, codes[7:8], seeds=seeds[7:8])
        assert_same(alone, together, faces=[7])

    def test_a_face_does_not_depend_on_the_order(self, attack, problem):
        codes = problem.generator.sample(range(6))
        straight = attack(problem.generator, problem.space, problem.target, codes, seeds=range(6))
        order = [4, 2, 0, 5, 1, 3]
        mixed = replace(attack, batch=4)(problem.generator, problem.space, problem.target, codes[order], seeds=order)
        assert_same(mixed, straight, faces=order)

    def test_stays_within_box_and_ball(self, attack, problem):
        codes = problem.generator.sample(range(6))
        result = attack(problem.generator, problem.space, problem.target, codes)
        assert (result.omega >= attack.box * problem.space.low - 1e-6).all()
        assert (result.omega <= attack.box * problem.space.high + 1e-6).all()
        length = result.delta.flatten(1).norm(p=torch.inf if attack.norm == "linf" else 2, dim=1)
        assert (length <= attack.epsilon * (1 + 1e-6)).all()

    def test_reports_what_the_target_sees(self, attack, problem):
        codes = problem.generator.sample(range(6))
        result = attack(problem.generator, problem.space, problem.target, codes)
        task = problem.target.task
        with torch.no_grad():
            for images, loss, prediction in (
                (result.original, result.loss_before, result.prediction_before),
                (result.adversarial, result.loss_after, result.prediction_after),
            ):
                seen = problem.target.predict(images / 255)
                torch.testing.assert_close(prediction, seen, rtol=1e-5, atol=1e-4)
                torch.testing.assert_close(loss, task.loss(seen, result.reference), rtol=1e-5, atol=1e-4)
            for images, delta in ((result.adversarial, result.delta), (result.semantic, None)):
                shown = edit(problem.generator, problem.space, codes, result.omega, delta)
                torch.testing.assert_close(images / 255, shown, rtol=0, atol=0.5001 / 255)
        assert (result.loss_after >= result.loss_before).all()
        assert (result.success <= result.correct).all()
        assert torch.equal(result.omega_needed.isnan().any(dim=1), ~result.success)
        asked = 1 + 2 * attack.pairs if attack.step == "evolve" else 1
        assert (result.queries <= attack.restarts * (attack.steps * asked + 1)).all()
        assert (result.steps < result.queries).all()

    def test_empty_box_and_ball_give_the_original_back(self, attack, problem):
        codes = problem.generator.sample(range(4))
        nothing = replace(attack, box=0.0, epsilon=0.0)
        result = nothing(problem.generator, problem.space, problem.target, codes)
        assert torch.equal(result.adversarial, result.original)
        assert torch.equal(result.semantic, result.original)
        assert not result.omega.any()
        assert not result.delta.any()
        assert not result.success.any()
        assert result.queries.tolist() == [1] * 4

    def test_keeps_types_and_lies_on_the_cpu(self, attack, problem):
        result = attack(problem.generator, problem.space, problem.target, problem.generator.sample(range(2)))
        found = tensors(result)
        kinds = {name: str(values.dtype).removeprefix("torch.") for name, values in found.items()}
        swept = {"outputs": "float32", "failures": "bool", "changes": "float32"} if attack.step == "sweep" else {}
        assert kinds == swept | {
            "original": "uint8", "adversarial": "uint8", "semantic": "uint8",
            "omega": "float32", "delta": "float32", "omega_needed": "float32",
            "least": "float32", "output_needed": "float32",
            "reference": "int64", "correct": "bool", "success": "bool",
            "loss_before": "float32", "loss_after": "float32", "output_before": "float32", "output_after": "float32",
            "prediction_before": "float32", "prediction_after": "float32", "steps": "int64", "queries": "int64",
            "unanswered": "int64",
        }  # fmt: skip
        assert {values.device.type for values in found.values()} == {"cpu"}
        assert not any(values.requires_grad for values in found.values())

    def test_leaves_the_models_as_they_were(self, attack, problem):
        problem.target.train()
        attack(problem.generator, problem.space, problem.target, problem.generator.sample([0]))
        assert problem.target.training
        assert problem.target.weight.requires_grad
        assert problem.target.weight.grad is None

    def test_needs_gradients_unless_it_only_asks(self, attack, problem):
        problem.target.differentiable = False
        if attack.step in ("sweep", "evolve"):
            codes = problem.generator.sample(range(6))
            assert attack(problem.generator, problem.space, problem.target, codes).omega.any()
            return
        with pytest.raises(RequestError) as caught:
            attack(problem.generator, problem.space, problem.target, problem.generator.sample([0]))
        assert str(caught.value) == (
            "target 'linear-classifier' gives no gradients, which this attack ascends; use step='evolve'"
        )


def tensors(result):
    """What a result holds; some attacks leave some of it out."""
    return {name: values for name, values in vars(result).items() if values is not None}


def assert_same(result, other, faces=None):
    """The same outcome face by face, up to the rounding of sums."""
    assert tensors(result).keys() == tensors(other).keys()
    for name, values in tensors(result).items():
        expected = getattr(other, name) if faces is None else getattr(other, name)[faces]
        if values.dtype == torch.float32:
            torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-4, equal_nan=True, msg=name)
        else:
            assert torch.equal(values, expected), name
