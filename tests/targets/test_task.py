import pytest
import torch

from sia_gen.core.errors import WorkError
from sia_gen.targets.task import Following, Keypoints, Regression


def test_the_output_of_one_value_is_its_signed_error():
    output = Regression(("age",), 1.0).output(torch.tensor([[3.0], [-1.0]]), torch.tensor([[1.0], [1.0]]))
    assert output.tolist() == [2.0, -2.0]


def test_errors_of_several_values_do_not_cancel():
    output = Regression(("x", "y"), 1.0).output(torch.tensor([[1.0, -7.0], [1.0, 1.0]]), torch.tensor([[0.0, 0.0]]))
    assert output.tolist() == [5.0, 1.0]


def points(*rows):
    return torch.tensor([rows], dtype=torch.float32)


def test_keypoints_are_measured_by_the_distance_between_two_of_the_true_ones():
    task = Keypoints(3, (0, 2), 0.1)
    truth = points([0.2, 0.5], [0.4, 0.6], [0.6, 0.5])
    found = truth + points([0.0, 0.0], [0.0, 0.06], [0.0, 0.0])
    assert task.output(found, truth).item() == pytest.approx(0.06 / 0.4 / 3)
    assert not task.failed(found, truth)
    assert task.failed(truth + 0.04, truth)
    with pytest.raises(WorkError, match=r"shape \[1, 2, 2\], not \[1, 3, 2\]"):
        task.check(truth[:, :2], 1)


def test_a_task_that_follows_holds_each_prediction_against_its_own_reference():
    task = Following(Keypoints(2, (0, 1), 0.1))
    truth, moved = points([0.2, 0.5], [0.6, 0.5]), points([0.4, 0.4], [0.8, 0.4])
    before, after = torch.stack([truth, truth], dim=1), torch.stack([moved, moved], dim=1)
    reference = task.decide(before)
    assert torch.equal(reference, truth)
    assert not task.failed(after, reference)  # it has moved along
    assert task.failed(torch.stack([truth, moved], dim=1), reference)  # it has stayed behind
    assert task.output(after, reference).item() == 0
    task.check(after, 1)
    with pytest.raises(WorkError, match=r"shape \[1, 2, 2\]"):
        Following(Keypoints(3, (0, 1))).check(after, 1)
