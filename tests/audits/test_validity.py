from types import SimpleNamespace

import pytest
import torch

from sia_gen.audits import reference, validity
from sia_gen.audits.diagnose import audit
from sia_gen.audits.validity import Gate, unedited
from sia_gen.core.images import to_bytes
from sia_gen.core.seeds import face_seeds, normals, seeds_apart
from sia_gen.targets.identity import FaceVerifier
from sia_gen.targets.task import Verification
from tests.audits.conftest import ATTACK
from tests.audits.test_readings import Reader


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


def test_an_audit_counts_attempted_failed_and_valid(report):
    frame = report.to_pandas()
    for row in [*report.histogram["attributes"], *report.histogram["arms"].values(), report.histogram["control"]]:
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
    assert "A failure is valid if the identity model still takes it for the same person" in page


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
