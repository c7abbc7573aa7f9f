from dataclasses import replace

import numpy as np
import pytest
import torch

from sia_gen.audits.diagnose import audit
from sia_gen.audits.evidence import reference
from sia_gen.audits.finished.audit_report import AuditReport
from sia_gen.audits.verdict.readings import MOVED, entangled, explained
from sia_gen.targets.verifier import Factor
from tests.audits.conftest import ATTACK


class Reader:
    """Reads two attributes of the problem, each its own half of the picture, and an age that edits change."""

    factors = (Factor("a0", "units", 0, 1), Factor("a1", "units", 0, 1), Factor("age", "years", 40, 18))

    def read(self, images):
        upper, lower = images[:, :, :16].mean(dim=(1, 2, 3)), images[:, :, 16:].mean(dim=(1, 2, 3))
        return torch.stack([1000 * upper, 1000 * lower, 45 + 1e5 * (upper - lower)], dim=1)

    def look(self, images):
        return self.read(images), images.mean(dim=(2, 3))

    def digest(self):
        return "reader"


@pytest.fixture
def report(problem, monkeypatch):
    monkeypatch.setattr(reference, "shipped", lambda kind: ["verifier"])
    monkeypatch.setattr(reference, "load_verifier", lambda name, device: Reader())
    return audit(problem.generator, problem.target, problem.space, faces=8, attack=replace(ATTACK, batch=8))


def test_the_matrix_is_what_the_readings_say(report):
    frame = report.to_pandas().query("correct")
    found = report.histogram["collateral"]
    assert found["names"] == ["a0", "a1"]
    before = frame[frame["arm"] == "pixel"]
    for arm, row in zip(found["names"], found["moved"], strict=True):
        after = frame[frame["arm"] == arm]
        for name, moved in zip(found["names"], row, strict=True):
            change = np.abs(after[f"read_{name}"].to_numpy() - before[f"read_{name}"].to_numpy()).mean()
            assert moved == pytest.approx(change, rel=1e-3, abs=1e-3)  # an sd is 1
    assert (report.folder / "collateral.png").is_file()
    assert "What else each attribute moved" in (report.folder / "report.html").read_text()


def test_failures_are_told_apart_by_group(report):
    frame = report.to_pandas().query("correct")
    after, before = (frame[frame["arm"] == arm].set_index("face") for arm in ("semantic", "pixel"))
    rows = report.histogram["subgroups"]
    assert sum(row["attempted"] for row in rows) == len(after)
    bands = np.digitize(before["read_age"], [21, 37, 53, 69])
    assert (bands != np.digitize(after["read_age"], [21, 37, 53, 69])).any()
    assert len(rows) == len(set(bands)) > 1
    for row, band in zip(rows, sorted(set(bands)), strict=True):
        chosen = after["success"][bands == band]
        assert row["attempted"] == len(chosen)
        assert row["success"] == pytest.approx(chosen.mean())
        assert row["interval"][0] <= row["success"] <= row["interval"][1]
        assert row["group"] in (report.folder / "report.html").read_text().replace("&lt;", "<")


def test_without_a_verifier_nothing_is_read(finished):
    report = AuditReport.load(finished)
    assert report.histogram["collateral"]["names"] == []
    assert report.histogram["subgroups"] == []
    assert "What else each attribute moved" not in (report.folder / "report.html").read_text()


def test_a_weaker_attribute_that_drags_a_stronger_one_is_marked():
    rows = [
        {"name": "yaw", "output_change": 0.6, "above_control": True},
        {"name": "roll", "output_change": 0.3, "above_control": True},
        {"name": "age", "output_change": 0.2, "above_control": True},
        {"name": "smile", "output_change": 0.1, "above_control": False},
    ]
    moved = [[1, MOVED, 0, 0], [MOVED, 1, 0, 0], [MOVED / 2, 0, 1, 0], [1, 0, 0, 1]]
    explained(rows, {"names": ["yaw", "roll", "age", "smile"], "moved": moved})
    assert [row["explained_by"] for row in rows] == [None, "yaw", None, None]


def test_what_an_attribute_that_stands_out_drags_along_is_said():
    found = {"names": ["a", "b", "c", "d", "e"], "moved": [[2.0, 0.6, 0.9, 0.5, 0.71], [0.9] * 5, *[[0.1] * 5] * 3]}
    rows = [{"name": name, "stands_out": name in ("a", "d", "unread")} for name in (*found["names"], "unread")]
    assert entangled(rows, found) == (
        "As the verifier reads it, a also moved c by 0.9, e by 0.7, b by 0.6 standard deviations and 1 more: part of "
        "the effect may be of these."
    )
    assert entangled(rows[1:], found) == ""
