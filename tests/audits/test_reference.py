import re

import pytest
import torch

from sia_gen.audits.diagnose import audit
from sia_gen.audits.evidence import reference
from sia_gen.core.errors import RequestError
from sia_gen.targets.points import FACE_POINTS, Keypoints
from sia_gen.targets.target import Label
from sia_gen.targets.verifier import Factor
from tests.audits.conftest import ATTACK


class Reader:
    """A verifier that reads the brightness of an image, in percent."""

    factors = (Factor("age", "years", 40.0, 18.0), Factor("brightness", "%", 50.0, 10.0))

    def read(self, images):
        value = 100 * images.mean(dim=(1, 2, 3))
        return torch.stack([0 * value, value], dim=1)

    def look(self, images):
        return self.read(images), images.mean(dim=(2, 3))

    def digest(self):
        return "reader"


@pytest.fixture
def shipped(monkeypatch):
    monkeypatch.setattr(reference, "shipped", lambda kind: ["verifier"])
    monkeypatch.setattr(reference, "load_verifier", lambda name, device: Reader())


def labelled(target, attribute, *thresholds):
    target.label = Label(attribute, thresholds)
    return target


def test_a_value_on_a_threshold_is_of_the_upper_class(problem, shipped):
    verified = reference.verified_label(labelled(problem.target, "brightness", 40.0, 60.0), torch.device("cpu"))
    levels = torch.tensor([0.2, 0.4, 0.5, 0.6, 0.9])
    images = levels[:, None, None, None].expand(-1, 3, 4, 4)
    verified.verifier.read = lambda images: torch.tensor([[0, 20], [0, 40], [0, 50], [0, 60], [0, 90]])
    assert verified.read(images).tolist() == [0, 1, 1, 2, 2]


@pytest.mark.parametrize("label", [None, Label("mood", (0.5,))], ids=["no label", "unread label"])
def test_other_targets_have_none(problem, shipped, label):
    problem.target.label = label
    assert reference.verified_label(problem.target, torch.device("cpu")) is None


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("brihgtness:50", r"^unknown label 'brihgtness': there are .*age, brightness"),
        (
            "brightness:0.5",
            r"^label brightness is cut at 0\.5 %, which no face reaches \(their mean is 50, sd 10\); give",
        ),
    ],
    ids=["misspelt", "in another unit"],
)
def test_a_label_that_would_judge_nothing_is_refused(problem, shipped, label, words):
    with pytest.raises(RequestError, match=words):
        audit(problem.generator, problem.target, problem.space, faces=4, attack=ATTACK, label=label)


def test_an_attribute_that_nothing_reads_may_be_the_label(problem, shipped):
    report = audit(problem.generator, problem.target, problem.space, faces=4, attack=ATTACK, label="a0:0.5")
    assert report.histogram["left_out"] == ["a0"]


def test_without_a_shipped_verifier_there_is_none(problem, monkeypatch):
    monkeypatch.setattr(reference, "shipped", lambda kind: [])
    assert reference.verified_label(labelled(problem.target, "brightness", 50.0), torch.device("cpu")) is None


def test_an_audit_holds_the_target_against_the_reading(problem, shipped):
    target = labelled(problem.target, "brightness", 50.0)
    report = audit(problem.generator, target, problem.space, faces=12, attack=ATTACK)
    clean = problem.generator.render(problem.generator.sample(range(12))).mul(255).round().div(255)
    read = (100 * clean.mean(dim=(1, 2, 3)) >= 50).long()
    correct = target.predict(clean).argmax(dim=1) == read
    joint = report.to_pandas().query("arm == 'joint'")
    assert report.histogram["reference"] == "verifier reading"
    assert joint["reference"].tolist() == read.tolist()
    assert joint["correct"].tolist() == correct.tolist()
    assert report.histogram["correct"] == int(correct.sum()) < 12
    assert joint["label_kept"].notna().tolist() == correct.tolist()
    assert 0 <= report.histogram["arms"]["joint"]["label_kept"] <= 1
    assert "still reads the same label" in (report.folder / "report.html").read_text()


def test_a_resume_keeps_to_the_criterion(problem, shipped, tmp_path, monkeypatch):
    def again(*thresholds):
        target = labelled(problem.target, "brightness", *thresholds)
        return audit(problem.generator, target, problem.space, faces=2, attack=ATTACK, out=tmp_path)

    assert again(50.0).finding == again(50.0).finding
    with pytest.raises(RequestError, match=re.escape("holds a run with thresholds=[50.0], not [51.0]; choose")):
        again(51.0)
    monkeypatch.setattr(Reader, "digest", lambda self: "another")
    with pytest.raises(RequestError, match="holds a run with verifier=reader, not another; choose"):
        again(50.0)


class Points:
    """A keypoint target: a ring of 68 points that moves right with brightness, ``follows`` of the way it should."""

    name, label, differentiable = "points", None, True
    task = FACE_POINTS

    def __init__(self, follows=1.0):
        self.follows = follows

    def predict(self, images):
        angle = torch.linspace(0, 2 * torch.pi, 68)
        ring = 0.5 + 0.2 * torch.stack([angle.cos(), angle.sin()], dim=1)  # [68, 2]
        right = self.follows * 1000 * (images.mean(dim=(1, 2, 3)) - 0.5)  # what edits change by a ten thousandth
        return ring + torch.stack([right, 0 * right], dim=1)[:, None]


class PointReader(Reader):
    point_mean = torch.zeros(136)

    def read_landmarks(self, images):
        return Points().predict(images)


@pytest.fixture
def reads_points(monkeypatch, shipped):
    monkeypatch.setattr(reference, "load_verifier", lambda name, device: PointReader())


def test_landmarks_are_held_against_those_of_the_same_image(problem, reads_points):
    report = audit(problem.generator, Points(), problem.space, faces=6, attack=ATTACK)
    assert report.histogram["reference"] == "verifier reading of every image"
    assert report.histogram["correct"] == 6
    assert report.histogram["arms"]["semantic"]["success"] == 0  # the points move, and the target with them
    behind = audit(problem.generator, Points(follows=0.2), problem.space, faces=6, attack=ATTACK)
    assert behind.histogram["arms"]["semantic"]["success"] > 0
    assert "reads off each same image" in (behind.folder / "report.html").read_text()


def test_errors_are_told_apart_by_part_of_the_face(problem, reads_points):
    class StiffJaw(Points):
        def predict(self, images):
            points, still = Points().predict(images), Points(0.0).predict(images)
            return torch.where(torch.arange(68)[:, None] < 17, still, points)

    report = audit(problem.generator, StiffJaw(), problem.space, faces=6, attack=ATTACK)
    parts = report.histogram["parts"]
    assert parts["names"] == ["jaw", "brows", "nose", "eyes", "mouth"]
    assert list(parts["errors"]) == ["unedited", *(row["name"] for row in report.histogram["attributes"])]
    frame = report.to_pandas().query("correct")
    for name, (jaw, *others) in parts["errors"].items():
        rows = frame[frame["arm"] == ("pixel" if name == "unedited" else name)]
        error = rows["output_before" if name == "unedited" else "output_after"].mean()
        assert jaw * 17 / 68 == pytest.approx(error, rel=0.01)  # the rest of the face is found
        assert max(others) < 1e-4
    assert "Error by part of the face" in (report.folder / "report.html").read_text()


def test_the_gradient_does_not_make_the_verifier_err(reads_points):
    both = reference.followed(Points(0.0), torch.device("cpu"))
    images = torch.full((2, 3, 4, 4), 0.7, requires_grad=True)
    prediction = both.predict(images)
    assert prediction.shape == (2, 2, 68, 2)
    both.task.loss(prediction, both.task.decide(prediction)).sum().backward()
    assert images.grad.abs().max() == 0  # it could only come from the reading


def test_points_that_no_verifier_reads_are_refused(problem, shipped, reads_points, monkeypatch):
    target = Points()
    target.task = Keypoints(17, (5, 6))
    with pytest.raises(RequestError, match=r"^'points' gives 17 points, which no shipped verifier reads off an edited"):
        audit(problem.generator, target, problem.space, faces=2, attack=ATTACK)
    monkeypatch.setattr(PointReader, "point_mean", torch.zeros(0))
    with pytest.raises(RequestError, match=r"^'points' gives 68 points, which no shipped verifier reads"):
        audit(problem.generator, Points(), problem.space, faces=2, attack=ATTACK)
