import numpy as np
import pytest

from sia_gen.audits.evidence.statistics import mean_interval
from sia_gen.audits.finished.comparison import compare, finding
from sia_gen.audits.run.results import CONTROL
from sia_gen.audits.verdict.chance import typical
from sia_gen.core.errors import RequestError
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.task import Regression
from tests.audits.conftest import PLANTED, planted_problem, run
from tests.problems import LinearProblem


def fainter(problem, share):
    """The same problem, its target's logits ``share`` of what they were."""
    task = problem.target.task
    target = ModuleTarget(lambda images: share * problem.target.predict(images), task, name="repaired")
    return LinearProblem(problem.generator, problem.space, target)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    planted, folder = planted_problem(), tmp_path_factory.mktemp("runs")
    run(planted, folder / "before", faces=24)
    run(fainter(planted, 0.2), folder / "after", faces=24)
    return folder / "before", folder / "after"


def test_a_repair_shows_as_a_sure_difference(runs):
    content = compare(*runs)
    row = content["attributes"][0]
    assert row["name"] == PLANTED
    assert row["q"] < 0.05
    assert row["change_interval"][1] < 0
    assert content["finding"].startswith(f"repaired follows {PLANTED} less than linear-classifier: moved alone, it")
    back = compare(*reversed(runs))["attributes"][0]
    assert back["change_difference"] == pytest.approx(-row["change_difference"])


def test_a_sentence_names_a_few_of_many_differences(runs):
    content = compare(*runs)
    names = ["smile", "age", "sex", "yaw", "roll", "pitch"]
    content["attributes"] = [content["attributes"][0] | {"name": name} for name in names]
    assert finding(content).endswith("; they differ in age, sex, yaw and 2 others too.")
    content["attributes"] = content["attributes"][:5]
    assert finding(content).endswith("; they differ in age, sex, yaw, roll too.")


def test_the_differences_are_those_of_faces_that_both_got_right(runs, planted):
    content = compare(*runs)
    assert content["faces"] == 24  # scaled logits decide alike
    assert [row["name"] for row in content["arms"]] == ["joint", "semantic", "pixel", "random direction"]
    assert {row["name"] for row in content["attributes"]} == set(planted.space.names)
    for row in [*content["attributes"], *content["arms"]]:
        for kind in ("success", "change"):
            low, high = row[f"{kind}_interval"]
            assert low <= row[f"{kind}_difference"] + 1e-9
            assert high >= row[f"{kind}_difference"] - 1e-9
            assert row[f"{kind}_difference"] == pytest.approx(row[f"{kind}_second"] - row[f"{kind}_first"])


def test_a_run_does_not_differ_from_itself(runs):
    content = compare(runs[0], runs[0])
    assert all(row["q"] == 1.0 for row in content["attributes"])
    assert all(np.allclose(row["change_interval"], 0) for row in content["attributes"])
    assert "no attribute differs for sure on 24 faces" in content["finding"]


def test_faces_of_one_random_direction_are_drawn_together(planted, tmp_path, monkeypatch):
    monkeypatch.setattr("sia_gen.audits.evidence.control.GROUPS", 5)
    folders = tmp_path / "before", tmp_path / "after"
    for folder, problem in zip(folders, (planted, fainter(planted, 0.2)), strict=True):
        run(problem, folder, faces=12)
    before, after = (typical(folder, planted.space.names) for folder in folders)
    assert len(set(before.direction)) == 5 < len(before.direction) == 36
    row = next(row for row in compare(*folders)["arms"] if row["name"] == CONTROL)
    assert row["change_interval"] == mean_interval(after.change - before.change, before.direction)


def test_runs_of_other_faces_are_refused(runs, planted, tmp_path):
    run(planted, tmp_path / "other", seed=1)
    with pytest.raises(RequestError, match=r"cannot be compared: seed is 0 in one and 1 in the other; audit both with"):
        compare(runs[0], tmp_path / "other")


def test_runs_of_other_tasks_or_attributes_are_refused(runs, planted, tmp_path):
    planted.target.regression, planted.target.task = True, Regression(("value",), tolerance=50.0)
    run(planted, tmp_path / "other")
    with pytest.raises(RequestError, match=r"compared: task is Classification\(.* in one and Regression\(.* in the"):
        compare(runs[0], tmp_path / "other")
    fewer = LinearProblem(planted.generator, planted.space.select(["a0", "a1"]), planted.target)
    run(fewer, tmp_path / "fewer")
    with pytest.raises(RequestError, match=r"attributes is \['a0', .* in one and \['a0', 'a1'\] in the other"):
        compare(runs[0], tmp_path / "fewer")


def test_a_shorter_run_is_compared_on_its_faces(runs, planted, tmp_path):
    run(planted, tmp_path / "short", faces=8)
    assert compare(runs[0], tmp_path / "short")["faces"] == 8


def test_a_folder_without_a_run_is_named(runs, tmp_path):
    with pytest.raises(RequestError, match="nothing' holds no finished audit; name another folder"):
        compare(runs[0], tmp_path / "nothing")
