"""What is right of generated faces, and what is learnt of it, for each kind of target."""

import pytest
import torch
from torch import nn

from sia_gen import ModuleTarget, harden, load_generator, load_target
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.load import load_attributes
from sia_gen.audits.proof.figures import figures, measured
from sia_gen.core.errors import RequestError
from sia_gen.core.images import from_bytes
from sia_gen.hardening import harden as module
from sia_gen.hardening.faces import Faces
from sia_gen.hardening.lessons import apart, error, in_mirror, prepared
from sia_gen.hardening.regimens import REGIMENS, HardeningSettings
from sia_gen.hardening.trainable import Trainable
from sia_gen.hardening.truth import OwnTruth, truth_of
from sia_gen.studio.factors import NAMES
from sia_gen.studio.landmarks import in_a_mirror
from sia_gen.studio.renders import read_renders, shipped_renders
from sia_gen.studio.sampling import sample
from sia_gen.targets.points import FACE_POINTS, Keypoints, normalised_error
from sia_gen.targets.target import Label, labelled
from sia_gen.targets.task import Classification, Detection, MultiLabel, Regression
from sia_gen.targets.verifier import load_verifier
from sia_gen.training.landmarks import make_vitpose
from tests.standins import colours

CPU = torch.device("cpu")
SEEDS = range(4)


class Flat(nn.Module):
    """A number of outputs, all from the mean colour."""

    def __init__(self, outputs):
        super().__init__()
        torch.manual_seed(0)
        self.out = nn.Linear(3, outputs)

    def forward(self, images):
        return self.out(images.mean(dim=(2, 3)))


def age(tolerance=5.0):
    return labelled(ModuleTarget(Flat(1), Regression(("age",), tolerance), "years"), "age")


@pytest.fixture(scope="module")
def generator():
    return load_generator("faces-stylegan2")


@pytest.fixture(scope="module")
def faces(generator):
    with torch.no_grad():
        return generator.render(generator.sample(SEEDS)).clamp(0, 1)


def test_a_value_is_what_the_generator_was_told_of_a_face(generator, faces):
    truth = truth_of(age(), generator, CPU)
    wanted = sample(SEEDS).values[:, [NAMES.index("age")]]
    told, lesson, read = truth.of(SEEDS, faces)
    assert torch.equal(told, wanted)
    assert torch.equal(lesson, wanted)
    assert truth.words.startswith("what the generator was told of them")
    same, known = truth.after(SEEDS, faces, wanted, read)
    assert torch.equal(same, wanted)
    assert known.all()
    _, known = truth.after(SEEDS, faces.flip(0), wanted, read)  # of other people of other ages
    assert not known.all()


def test_elsewhere_the_verifier_reads_it_if_it_knows_such_faces(faces, monkeypatch):
    with pytest.raises(RequestError, match="the shipped verifier does not know such faces as 'colours' draws"):
        truth_of(age(), colours(), CPU)
    monkeypatch.setattr("sia_gen.hardening.truth.unfamiliar", lambda generator, verifier: [])
    truth = truth_of(age(), colours(), CPU)
    verifier = load_verifier("verifier")
    wanted = verifier.read(faces)[:, [[factor.name for factor in verifier.factors].index("age")]]
    torch.testing.assert_close(truth.of(SEEDS, faces)[0], wanted)
    assert truth.words == "the verifier"


def test_landmarks_are_read_off_each_picture(generator, faces):
    truth = truth_of(load_target("landmarks-68"), generator, CPU)
    straight, _, read = truth.of(SEEDS, faces)
    turned, known = truth.after(SEEDS, faces.flip(3), straight, read)
    assert known.all()
    assert normalised_error(turned, in_a_mirror(straight)).mean() < 0.05
    assert (turned - straight).abs().mean() > 0.01


def test_several_labels_are_to_stay_as_the_model_said(generator, faces):
    target = ModuleTarget(Flat(2), MultiLabel(("smile", "glasses")), "both")
    truth = truth_of(target, generator, CPU)
    said, _, read = truth.of(SEEDS, faces)
    assert torch.equal(said, target.predict(faces) > 0)
    after, known = truth.after(SEEDS, 1 - faces, said, read)
    assert torch.equal(after, said)
    assert known.all()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (ModuleTarget(Flat(1), Detection(), "finder"), "'finder' is a Detection; hardened are classifiers"),
        (ModuleTarget(Flat(1), Regression(("age",), 5.0), "years"), "nothing reads the values of 'years'.*label='age'"),
        (ModuleTarget(Flat(10), Keypoints(5, (0, 1)), "five"), "'five' gives 5 points, which no verifier"),
    ],
    ids=["detection", "no label", "five points"],
)
def test_what_nothing_tells_is_refused(generator, target, message):
    with pytest.raises(RequestError, match=message):
        truth_of(target, generator, CPU)


def test_landmarks_are_not_learnt_from_pictures_that_are_turned(tmp_path):
    with pytest.raises(RequestError, match="'randaugment' turns and shifts pictures"):
        harden("landmarks-68", tmp_path / "out", by="randaugment")


def test_changed_landmarks_come_with_the_changed_face(generator):
    space = load_attributes("faces-stylegan2").select(["yaw"])
    target = load_target("landmarks-68")
    truth = truth_of(target, generator, CPU)
    attack = SemanticImageAttack(steps=1, epsilon=0.0)
    made = Faces(generator, space, truth, attack, ("yaw",))
    pictures, points = made.draw(list(SEEDS), REGIMENS["sia-semantic"], target, lambda *told: None)
    assert pictures.shape == (8, 3, 128, 128)
    torch.testing.assert_close(points, truth.of((), from_bytes(pictures))[1], atol=2e-3, rtol=0)
    assert (pictures[:4] != pictures[4:]).any(dim=(1, 2, 3)).all()


def test_what_a_mirror_does_to_what_is_right():
    values = torch.rand(3, 1)
    assert in_mirror(age(), values) is values
    yaw = labelled(ModuleTarget(Flat(1), Regression(("yaw",), 5.0), "yaw"), "yaw")
    assert in_mirror(yaw, values) is None
    points = torch.rand(3, 68, 2)
    torch.testing.assert_close(in_mirror(load_target("landmarks-68"), points), in_a_mirror(points))
    assert in_mirror(ModuleTarget(Flat(2), MultiLabel(("smile", "roll")), "both"), values) is None
    assert in_mirror(ModuleTarget(Flat(2), MultiLabel(("looks left", "smile")), "both"), values) is None  # who knows
    assert in_mirror(ModuleTarget(Flat(2), MultiLabel(("smile", "glasses")), "both"), values) is values


def test_pictures_and_points_are_mirrored_together():
    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
    places = torch.arange(16.0)
    made, kept, _ = prepared(REGIMENS["standard"], mirrored=True)(
        torch.Generator().manual_seed(0), images, places, -places
    )
    alone, _, _ = prepared(REGIMENS["standard"], mirrored=False)(
        torch.Generator().manual_seed(0), images, places, places
    )
    flipped = kept < 0
    assert 0 < flipped.sum() < 15
    torch.testing.assert_close(made[flipped], alone[flipped].flip(3))
    torch.testing.assert_close(made[~flipped], alone[~flipped])


def test_errors_of_each_task():
    said, true = torch.tensor([[30.0], [50.0]]), torch.tensor([[40.0], [50.0]])
    assert error(age().task, said, true, 0.0).item() == pytest.approx((2 - 0.5 + 0) / 2)  # in tolerances of 5, huber
    assert apart(age().task, said, true).item() == pytest.approx((4 + 0) / 2)
    both = MultiLabel(("smile", "glasses"))
    sure = torch.tensor([[9.0, -9.0]])
    assert error(both, sure, torch.tensor([[True, False]]), 0.0) < 1e-3
    assert error(both, sure, torch.tensor([[False, False]]), 0.0).item() == pytest.approx(4.5, abs=0.01)
    assert apart(both, sure, sure).item() == pytest.approx(0, abs=1e-6)
    assert apart(both, -sure, sure) > 1
    points = torch.rand(2, 68, 2)
    assert error(FACE_POINTS, points, points, 0.0) == 0


def test_heat_maps_are_right_where_their_points_are(faces):
    target = load_target("landmarks-68")
    student = Trainable(target).eval()
    with torch.no_grad():
        points, heat = target.predict(faces), student(faces)
    assert heat.ndim == 4
    pixel = 1 / faces.shape[-1]
    there = error(FACE_POINTS, heat, points, pixel)
    assert there < 0.5 * error(FACE_POINTS, heat, points + 2 / heat.shape[-1], pixel)
    assert torch.equal(student.put_into(target).predict(faces), points)


def test_a_detector_and_a_regression_learn_and_are_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "JUDGED", 100)
    settings = HardeningSettings(faces=8, rounds=1, steps=2, batch=8, attack=1)
    made = harden("landmarks-68", tmp_path / "points", attributes=["yaw"], settings=settings)
    assert made.figures["measure"] == "faces with an error up to 0.08"
    assert made.figures["before"]["balanced"] > 0.9
    assert load_target(tmp_path / "points").task == FACE_POINTS
    made = harden(age(40.0), tmp_path / "years", attributes=["yaw"], settings=settings, label="age", by="trades")
    assert made.figures["measure"] == "faces read within 40"
    assert made.target.task == Regression(("age",), 40.0)


def test_a_vitpose_in_hand_is_not_asked_for_points_that_it_does_not_give():
    heat = make_vitpose()
    assert Trainable(ModuleTarget(heat, FACE_POINTS, "pose"))(torch.rand(1, 3, 64, 64)).ndim == 4


def test_figures_count_what_is_within_the_tolerance():
    data = read_renders(shipped_renders(), 40)

    class Constant(nn.Module):
        def forward(self, images):
            return torch.full((len(images), 1), 40.0)

    target = labelled(ModuleTarget(Constant(), Regression(("age",), 10.0), "forty"), "age")
    right = ((data.value("age") - 40).abs() <= 10).float()
    found = figures(target, data, ["yaw"], CPU)
    assert found["balanced"] == pytest.approx(right.mean().item(), abs=1e-4)
    below = data.value("yaw") <= data.value("yaw").median()
    assert found["cells"]["yaw"] == [[pytest.approx(right[rows].mean().item(), abs=1e-4) for rows in (below, ~below)]]
    assert measured(target) == "faces read within 10"
    assert figures(target, data, ["component 1"], CPU)["cells"] == {}  # which renders do not have
    assert measured(ModuleTarget(Flat(2), MultiLabel(("smile", "glasses")))) is None
    assert Label("age", ()) == target.label


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_share_of_the_faces_is_attacked_and_the_others_change_at_random(share):
    generator = colours()
    asked = []

    def judge(images):
        asked.append(len(images))
        return images.mean(dim=(2, 3))[:, :2]

    target = ModuleTarget(judge, Classification(("a", "b")), "judge")
    attack = SemanticImageAttack(steps=1, epsilon=0.0)
    made = Faces(generator, generator.attributes, OwnTruth(target), attack, (), share)
    pictures, _ = made.draw(range(8), REGIMENS["sia-semantic"], target, lambda *told: None)
    plain, changed = pictures[:8], pictures[8:]
    assert (plain != changed).any(dim=(1, 2, 3)).sum() > 5
    at_random, _ = made.draw(range(8), REGIMENS["random"], target, lambda *told: None)
    same = (at_random[8:] == changed).all(dim=(1, 2, 3))
    assert same[round(8 * share) :].all()
    assert not same[: round(8 * share)].all() or not share


def test_classes_are_learnt_as_probabilities_by_the_distance_from_their_cuts(generator, faces, monkeypatch):
    monkeypatch.setattr("sia_gen.hardening.truth.unfamiliar", lambda generator, verifier: [])
    target = load_target("age-classifier")
    told, read = (truth_of(target, source, CPU) for source in (generator, colours()))
    verifier = load_verifier("verifier")
    index = [factor.name for factor in verifier.factors].index("age")
    values = verifier.read(faces)[:, index]
    for truth, wanted in ((told, (values + sample(SEEDS).values[:, NAMES.index("age")]) / 2), (read, values)):
        _, chances, _ = truth.of(SEEDS, faces)
        assert chances.shape == (4, 5)
        torch.testing.assert_close(chances.sum(1), torch.ones(4))
        assert chances.min() >= 0
        oldest = ((wanted - target.label.thresholds[-1]) / verifier.factors[index].off).sigmoid()
        torch.testing.assert_close(chances[:, -1], oldest)


def test_faces_are_drawn_and_attacked_in_the_precision_asked():
    generator, seen = colours(), {"drawn": [], "asked": []}
    render = generator.render

    def drawing(*given):
        seen["drawn"].append(torch.is_autocast_enabled("cpu"))
        return render(*given)

    def judge(images):
        seen["asked"].append(torch.is_autocast_enabled("cpu"))
        return images.mean(dim=(2, 3))[:, :2]

    generator.render = drawing
    target = ModuleTarget(judge, Classification(("a", "b")), "judge")
    attack = SemanticImageAttack(steps=1, epsilon=0.0)
    for precision in ("no", "bf16"):
        for kept in seen.values():
            kept.clear()
        made = Faces(generator, generator.attributes, OwnTruth(target), attack, (), 0.5, precision=precision)
        made.draw(range(4), REGIMENS["sia-semantic"], target, lambda *told: None)
        assert set(seen["drawn"]) == {precision == "bf16"}
        assert (True in seen["asked"]) == (precision == "bf16")  # the verifier, here the target, reads in full
