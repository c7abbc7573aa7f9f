import pytest
import torch

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.targets.points import Keypoints
from sia_gen.targets.task import Classification, Detection, Following, MultiLabel, Regression, Verification, eligible


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


LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.5, 0.0, 4.0]])
FIRST = torch.tensor([0, 0, 0])


def test_a_classifier_fails_when_another_class_wins():
    task = Classification(("a", "b", "c"))
    assert task.loss(LOGITS, FIRST).tolist() == [-1.0, 3.0, 3.5]
    assert task.failed(LOGITS, FIRST).tolist() == [False, True, True]
    measured = Classification(("a", "b", "c"), measure="cross-entropy")
    torch.testing.assert_close(measured.loss(LOGITS, FIRST), -LOGITS.log_softmax(1)[:, 0])
    assert measured.failed(LOGITS, FIRST).tolist() == [False, True, True]


def test_a_classifier_driven_towards_a_class_fails_when_that_one_wins():
    for measure in ("margin", "cross-entropy"):
        task = Classification(("a", "b", "c"), towards="c", measure=measure)
        assert task.failed(LOGITS, FIRST).tolist() == [False, False, True]
        loss = task.loss(LOGITS, FIRST)
        assert loss.argmax() == 2
        assert loss[2] > loss[1]
    # What is read wrongly, or shows the class already, is not attacked.
    task = Classification(("a", "b", "c"), towards="c")
    assert eligible(task, LOGITS, torch.tensor([0, 0, 2])).tolist() == [True, False, False]
    assert eligible(Classification(("a", "b", "c")), LOGITS, torch.tensor([0, 0, 2])).tolist() == [True, False, True]
    with pytest.raises(RequestError, match=r"^unknown class 'd': there are a, b, c"):
        Classification(("a", "b", "c"), towards="d")


def test_one_changed_label_of_several_is_a_failure():
    task = MultiLabel(("hat", "beard"))
    logits = torch.tensor([[2.0, -1.0], [2.0, 0.5], [-3.0, -4.0]])
    reference = torch.tensor([[True, False]]).expand(3, 2)
    assert task.failed(logits, reference).tolist() == [False, True, True]
    assert task.loss(logits, reference).tolist() == [-1.0, 0.5, 3.0]
    torch.testing.assert_close(task.output(logits, reference), torch.tensor([1.0, -0.5, -3.0]).sigmoid())
    assert torch.equal(task.decide(logits)[0], reference[0])
    with pytest.raises(WorkError, match=r"shape \[3, 3\], not \[3, 2\]"):
        task.check(torch.zeros(3, 3), 3)


def test_a_detector_fails_where_it_finds_nothing():
    task = Detection()
    score = torch.tensor([3.0, 0.0, -1.0])
    assert task.failed(score, task.decide(score)).tolist() == [False, True, True]
    assert task.loss(score, task.decide(score)).tolist() == [-3.0, 0.0, 1.0]
    task.check(score, 3)


def test_another_person_is_one_whose_cosine_is_below_the_threshold():
    task = Verification(2, 0.5)
    reference = torch.tensor([[2.0, 0.0]]).expand(3, 2)
    embedded = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.1, 1.0]])
    assert task.failed(embedded, reference).tolist() == [False, False, True]
    torch.testing.assert_close(task.output(embedded, reference)[1], torch.tensor(0.5).sqrt())
    assert task.loss(embedded, reference).argmax() == 2
