from types import SimpleNamespace

import pytest
import torch

from sia_gen.attack.edit import edit
from sia_gen.audits.diagnose import audit
from sia_gen.audits.evidence import reference, validity
from sia_gen.audits.evidence.control import EACH
from sia_gen.audits.evidence.reference import VerifiedLabel
from sia_gen.audits.evidence.validity import Gate, unedited
from sia_gen.audits.run.results import SWEPT, outcomes
from sia_gen.audits.verdict.chance import Chance, picture_change
from sia_gen.core.images import quantise, to_bytes
from sia_gen.core.seeds import face_seeds, normals, seeds_apart
from sia_gen.targets.identity import FaceVerifier
from sia_gen.targets.target import Label
from sia_gen.targets.task import Verification
from sia_gen.targets.verifier import Factor
from tests.audits.conftest import ATTACK
from tests.audits.test_readings import Reader
from tests.problems import linear_problem


def faces(features):
    """uint8 ``[B, 3, 2, 2]`` whose channels are these ``[B, 3]``."""
    return to_bytes(features[:, :, None, None].expand(-1, -1, 2, 2))


class SamePerson:
    """Takes faces for one person as far as their first channels are alike."""

    threshold = 0.9
    model = SimpleNamespace(digest=lambda: "same person")

    def likeness(self, images, others):
        return 1 - (images[:, 0].mean((1, 2)) - others[:, 0].mean((1, 2))).abs()


@pytest.fixture
def usual():
    return 0.5 + 0.05 * normals(range(400), (3,), "usual")  # [R, F]


def test_an_unlikely_face_and_another_person_do_not_pass(usual):
    gate = Gate.of(Reader(), SamePerson(), usual)
    before = torch.full((4, 3), 0.5)
    after = torch.tensor([[0.5, 0.5, 0.5], [0.5, 0.5, 0.95], [0.62, 0.5, 0.5], [0.56, 0.52, 0.5]])
    found = gate.judge(faces(before), faces(after))
    assert found["passed"].tolist() == [True, False, False, True]
    assert found["distance"][1] > 1 > found["distance"][3]
    torch.testing.assert_close(found["likeness"], torch.tensor([1.0, 1.0, 0.88, 0.94]), rtol=0, atol=0.005)


def test_nearly_all_unedited_faces_pass(usual):
    gate = Gate.of(Reader(), None, usual)
    others = faces(0.5 + 0.05 * normals(range(1000, 3000), (3,), "usual"))
    found = gate.judge(others, others)
    assert 0.97 < found["passed"].float().mean() < 1
    assert found["likeness"].isnan().all()


def test_what_is_compared_with_is_no_face_of_the_audit(problem, monkeypatch):
    monkeypatch.setattr(validity, "COMPARED", 40)
    features = unedited(problem.generator, Reader(), seed=0)
    assert features.shape == (40, 3)
    assert set(seeds_apart(0, "gate", 40)).isdisjoint(face_seeds(0, 100_000))


@pytest.fixture
def report(problem, monkeypatch):
    monkeypatch.setattr(reference, "shipped", lambda kind: ["verifier"])
    monkeypatch.setattr(reference, "load_verifier", lambda name, device: Reader())
    monkeypatch.setattr(validity, "shipped", lambda kind: ["identity"])
    monkeypatch.setattr(validity, "load_identity", lambda name, device: SamePerson())
    return audit(problem.generator, problem.target, problem.space, faces=12, attack=ATTACK)


def test_a_pictured_failure_knows_whether_it_is_valid(report):
    frame = report.to_pandas().query("arm == 'joint'").set_index("face")
    joint = [example for example in report.histogram["examples"] if example["arm"] == "joint"]
    assert joint
    assert [example["valid"] for example in joint] == [frame.loc[example["face"], "valid"] for example in joint]


def test_an_audit_counts_attempted_failed_and_valid(report):
    frame = report.to_pandas()
    for row in [*report.histogram["attributes"], *report.histogram["arms"].values()]:
        rows = frame[(frame["arm"] == row["name"]) & frame["correct"]]
        assert row["attempted"] == len(rows)
        assert row["successes"] == rows["success"].sum()
        assert row["valid_successes"] == rows["valid"].sum() <= row["successes"]
        assert row["valid_interval"][0] <= row["valid"] <= row["valid_interval"][1]
        failed = rows[rows["success"]]
        passed = (failed["likeness"] >= SamePerson.threshold) & (failed["distance"] <= 1)
        assert passed.tolist() == failed["valid"].astype(bool).tolist()
        assert rows[~rows["success"]]["distance"].isna().all()
    assert frame["valid"].dropna().astype(bool).any()
    page = (report.folder / "report.html").read_text()
    assert "Valid: the identity model still takes it for the same person" in page


def test_without_a_verifier_nothing_is_called_valid(problem):
    report = audit(problem.generator, problem.target, problem.space, faces=4, attack=ATTACK)
    assert {row["valid"] for row in report.histogram["attributes"]} == {None}
    assert "valid" not in (report.folder / "report.html").read_text().split("</style>")[1]
    assert report.to_pandas()["valid"].isna().all()


def test_the_identity_model_does_not_judge_itself(monkeypatch):
    monkeypatch.setattr(validity, "shipped", lambda kind: ["identity"])
    monkeypatch.setattr(validity, "load_identity", lambda name, device: SamePerson())
    own = FaceVerifier("own", SamePerson(), Verification(3, 0.5))
    other = SimpleNamespace(model=SimpleNamespace(digest=lambda: "other"))
    assert validity.identity_for(own, torch.device("cpu")) is None
    assert validity.identity_for(FaceVerifier("other", other, own.task), torch.device("cpu")) is not None


def test_the_value_of_a_regression_is_judged_by_how_far_its_reading_moved(tmp_path, monkeypatch):
    problem = linear_problem(regression=True)

    def read(images):
        return problem.target.predict(images).detach()

    with torch.no_grad():
        clean = quantise(problem.generator.render(problem.generator.sample(range(12))))
    factor = Factor("value", "", 0, 100.0, slope=0.5)
    reader = SimpleNamespace(
        digest=lambda: "value", read=read, look=lambda x: (read(x), x.mean((2, 3))), factors=(factor,)
    )
    monkeypatch.setattr("sia_gen.audits.evidence.reference.shipped_verifier", lambda device: reader)
    problem.target.label = Label("value", ())
    report = audit(problem.generator, problem.target, problem.space, faces=12, attack=ATTACK, out=tmp_path)
    assert report.histogram["reference"] == "target's own prediction"
    assert report.histogram["correct"] == 12
    kept = []
    for name in problem.space.names:
        rows = report.to_pandas().query(f"arm == '{name}'")
        omega = torch.tensor(rows[f"omega_{name}"].to_numpy(), dtype=torch.float32)[:, None]
        with torch.no_grad():
            codes = problem.generator.sample(range(12))
            after = quantise(edit(problem.generator, problem.space.select([name]), codes, omega))
        stays = (read(after) - read(clean)).abs()[:, 0] <= 25  # half the truth's deviation, halved by the slope
        assert rows["label_kept"].astype(bool).tolist() == stays.tolist()
        kept += stays.tolist()
    assert any(kept)
    assert not all(kept)
    assert (
        "reads a label within half a standard deviation of the unedited face" in (tmp_path / "report.html").read_text()
    )


def test_a_face_whose_label_moved_counts_in_no_change_and_is_judged_at_its_worst(problem, monkeypatch):
    def read(images):
        return images[:, :1].mean((2, 3))

    codes = problem.generator.sample(range(400))
    middle = read(problem.generator.render(codes)).detach().median().item()
    reader = SimpleNamespace(
        digest=lambda: "red", read=read, look=lambda x: (read(x), x.mean((2, 3))), factors=(Factor("red", "", 0, 1),)
    )
    verified = VerifiedLabel(reader, 0, (middle,))
    monkeypatch.setattr("sia_gen.audits.evidence.witness.verified_label", lambda target, device, by: verified)
    report = audit(problem.generator, problem.target, problem.space, faces=24, attack=ATTACK)
    frame, flipped = report.to_pandas().query("correct"), 0
    for row in report.histogram["attributes"]:
        rows = frame[frame["arm"] == row["name"]]
        kept = rows["label_kept"].astype(bool)
        change = (rows["output_after"] - rows["output_before"]).abs()
        assert row["counted"] == kept.sum() < row["attempted"]
        assert row["output_change"] == pytest.approx(change[kept].mean(), rel=1e-5)
        size = picture_change(outcomes(report.folder, row["name"], SWEPT))
        against = Chance(report.folder).within(size).change.reshape(EACH, -1).mean(axis=0)
        assert row["excess"] == pytest.approx((change.to_numpy() - against)[kept.to_numpy()].mean(), rel=1e-4)
        space = problem.space.select([row["name"]])
        omega = torch.tensor(rows[f"omega_{row['name']}"].to_numpy(), dtype=torch.float32)[:, None]
        with torch.no_grad():
            shown = quantise(edit(problem.generator, space, problem.generator.sample(rows["face"].tolist()), omega))
        stays = (read(shown)[:, 0] >= middle).long() == torch.tensor(rows["reference"].astype(int).to_numpy())
        assert kept.tolist() == stays.tolist()
        flipped += int((~stays[torch.tensor(rows["success"].to_numpy())]).sum())
        assert not (rows["valid"].astype(bool) & ~kept).any()
    assert flipped > 0
