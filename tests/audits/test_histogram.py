from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.audits.diagnose import audit
from sia_gen.audits.evidence.control import EACH
from sia_gen.audits.evidence.statistics import wilson
from sia_gen.audits.finished.audit_report import AuditReport
from sia_gen.audits.verdict.finding import above_control
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.task import Classification, Regression
from tests.audits.conftest import run
from tests.problems import linear_problem

KEYS = {"name", "unit", "success", "interval", "mean_change", "output_change", "q"}


def test_rows_are_what_the_results_say(finished):
    report = AuditReport.load(finished)
    frame = report.to_pandas()
    rows = [*report.histogram["attributes"], *report.histogram["arms"].values()]
    for row in rows:
        arm = frame[(frame["arm"] == row["name"]) & frame["correct"]]
        assert row["attempted"] == len(arm) == report.histogram["correct"]
        assert row["success"] == pytest.approx(arm["success"].mean())
        change = (arm["output_after"] - arm["output_before"]).abs().mean()
        assert row["output_change"] == pytest.approx(change, rel=1e-5)
        assert row["output_interval"][0] <= row["output_change"] <= row["output_interval"][1]
    for row in report.histogram["attributes"]:
        needed = frame[frame["arm"] == row["name"]][f"needed_{row['name']}"].dropna()
        assert len(needed) == row["successes"]
        rounding = 1e-6 * float(needed.abs().mean())  # of float32, where ups and downs cancel
        assert row["mean_change"] == (pytest.approx(needed.mean(), abs=rounding) if len(needed) else None)


def test_zooms_bars_share_out_the_moves_of_the_failures(finished):
    report = AuditReport.load(finished)
    shares = {row["name"]: row["zoom"] for row in report.histogram["attributes"]}
    assert sum(shares.values()) == pytest.approx(1.0)
    frame = report.to_pandas()
    failed = frame[(frame["arm"] == "semantic") & frame["success"]]
    ranges = {"a0": 1.5, "a1": 3.0, "a2": 4.5, "a3": 6.0}
    moves = {name: failed[f"omega_{name}"].abs().mean() / ranges[name] for name in shares}
    for name, share in shares.items():
        assert share == pytest.approx(moves[name] / sum(moves.values()))


def test_has_the_keys_of_the_format_and_is_sorted(finished):
    histogram = AuditReport.load(finished).histogram
    assert all(set(row) >= KEYS for row in [*histogram["attributes"], histogram["control"]])
    assert histogram["control"]["name"] == "random direction"
    for row in histogram["attributes"]:  # a few directions for each face
        assert row["control"]["attempted"] == EACH * row["attempted"]
        assert row["control"]["queries"] == EACH * row["queries"]
    changes = [row["output_change"] for row in histogram["attributes"]]
    assert changes == sorted(changes, reverse=True)


def test_faces_that_share_directions_count_once_in_the_control(monkeypatch):
    monkeypatch.setattr("sia_gen.audits.evidence.control.GROUPS", 5)
    problem = linear_problem(regression=True)
    problem.target.task = Regression(("value",), tolerance=0.1)
    report = run(problem, faces=12)
    assert report.histogram["draws"] == 5
    for row in report.histogram["attributes"]:
        failed, attempted = row["control"]["successes"], row["control"]["attempted"]
        assert row["control"]["interval"] == wilson(failed, attempted, 5)
        assert row["interval"] == wilson(row["successes"], row["attempted"])
    assert any(row["control"]["successes"] for row in report.histogram["attributes"])


def test_a_regression_is_measured_in_its_own_unit():
    problem = linear_problem(regression=True)
    problem.target.task = Regression(("value",), tolerance=0.2)
    report = run(problem, faces=4, attack=SemanticImageAttack(batch=4))
    frame = report.to_pandas()
    joint = frame[frame["arm"] == "joint"]
    assert joint["success"].all()
    assert (joint["output_after"].abs() > 0.2).all()
    assert joint["reference"].iloc[0].shape == (1,)
    assert report.histogram["change_at_failure"] > 0.2


def test_where_nothing_fails_nothing_is_above_the_control(planted):
    planted.target.regression, planted.target.task = True, Regression(("value",), tolerance=1e6)
    report = run(planted, faces=8, attack=SemanticImageAttack(batch=8))
    histogram = report.histogram
    assert (histogram["change_at_failure"], histogram["draws"]) == (None, 8)
    assert histogram["attributes"][0]["q"] < 0.05
    assert [row["above_control"] for row in histogram["attributes"]] == [False] * 4
    assert "at which faces fail (none did)" in (report.folder / "report.html").read_text()


def test_the_picture_is_large_enough_to_read(finished):
    with Image.open(finished / "histogram.png") as picture:
        assert picture.width >= 1200
        assert np.asarray(picture.convert("L")).std() > 10


def test_a_target_of_pure_chance_has_no_attribute_above_its_control():
    """Small changes meet fewer answers in the control than eight: chance alone then sets an attribute above it."""
    problem = linear_problem()
    small = replace(problem.space.attributes[0], low=-0.05, high=0.05)
    space = replace(problem.space, attributes=(small, *problem.space.attributes[1:]))
    draws = torch.Generator().manual_seed(0)

    def answer(images):
        return torch.randn(len(images), 2, generator=draws)

    target = ModuleTarget(answer, Classification(("a", "b")), differentiable=False)
    report = audit(problem.generator, target, space, faces=16, attack=SemanticImageAttack(steps=1))
    rows = report.histogram["attributes"]
    assert min(row["q"] for row in rows) < 0.05
    assert min(row["noise"] for row in rows) > 0.05
    assert not any(row["above_control"] for row in rows)
    at_failure = report.histogram["change_at_failure"]
    assert any(above_control(row | {"noise": 0.0}, at_failure) for row in rows)  # nothing else says so
    assert any("answers the same image differently" in said for said in report.histogram["checks"])
