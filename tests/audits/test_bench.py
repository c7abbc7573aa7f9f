import json

import numpy as np
import pytest

from sia_gen.audits.evidence.statistics import mean_interval, wilson
from sia_gen.audits.proof import bench
from sia_gen.audits.proof.bench import mean_coverage, planted_suite, rate_coverage, row_of, summary
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import read_json
from sia_gen.training.planted import Case
from tests.audits.conftest import PLANTED, run
from tests.training.conftest import write_flat


@pytest.fixture
def renders(tmp_path):
    (tmp_path / "renders").mkdir()
    return write_flat(tmp_path / "renders", 60, ("light_azimuth", "smile", "age"))


@pytest.fixture
def suite(planted, renders, tmp_path, monkeypatch):
    """Runs the suite with the planted linear target in place of every trained one."""
    trained = []

    def train_case(case, data, out, *, steps, device):
        trained.append(case.name)
        return planted.target, 0.75, None if case.cause is None else 0.5

    monkeypatch.setattr(bench, "train_case", train_case)
    given = {"renders": renders, "generator": planted.generator, "attributes": planted.space, "faces": 12}

    def go(**changes):
        return planted_suite(tmp_path / "suite", **given | changes)

    go.trained, go.out = trained, tmp_path / "suite"
    return go


def case(cause=PLANTED, kind="correlated"):
    return Case(label="smile", cuts=(0.5,), kind=kind, cause=cause)


def test_a_row_says_where_the_cause_came(planted):
    report, again = (run(planted, faces=24, seed=seed) for seed in (0, 1))
    row = row_of(case(), 0.75, 0.5, report, again)
    assert row["rank"] == 1
    assert row["first"] == PLANTED
    assert row["stands_out"] == [PLANTED]
    assert (row["score"], row["effect"]) == (0.75, 0.5)
    assert row["change"] > 3 * row["control"]
    assert row_of(case("a3"), 0.75, 0.5, report, again)["rank"] > 1
    assert row_of(case(None, "balanced"), 0.75, 0.5, report, again)["rank"] is None
    count = len(planted.space.attributes)
    assert 0 < row["rates"]["of"] <= row["means"]["of"] == count
    for kind in ("rates", "means"):
        assert 0 <= row[kind]["held"] <= row[kind]["of"]
        assert 0.5 < row[kind]["expected"] / row[kind]["of"] < 0.95


def held(count, of):
    return {"of": of, "held": count, "expected": 0.85 * of}


def test_the_counts_are_those_of_the_rows():
    rows = [
        {"cause": "age", "rank": 1, "stands_out": ["age"], "rates": held(4, 5)},
        {"cause": "yaw", "rank": 3, "stands_out": ["age"], "rates": held(3, 5)},
        {"cause": "sex", "rank": None, "stands_out": [], "rates": held(0, 0)},
        {"cause": None, "rank": None, "stands_out": [], "rates": held(9, 10)},
        {"cause": None, "rank": None, "stands_out": ["yaw"], "rates": held(9, 10)},
    ]
    found = summary([{**row, "means": held(0, 0)} for row in rows])
    assert {key: (found[key]["count"], found[key]["of"]) for key in ("rank_1", "top_3", "named", "false_alarms")} == {
        "rank_1": (1, 3),
        "top_3": (2, 3),
        "named": (1, 3),
        "false_alarms": (1, 2),
    }
    assert found["rates"]["of"] == 30
    assert found["rates"]["share"] == pytest.approx(25 / 30)
    assert found["rates"]["expected"] == pytest.approx(0.85)
    assert found["rates"]["interval"] == wilson(25, 30, 4)  # of models that have any
    assert (found["means"]["of"], found["means"]["share"], found["means"]["expected"]) == (0, None, None)


def attribute(success, change):
    """A bar as an audit counts it."""
    failed, attempted = int(success.sum()), len(success)
    return {
        "attempted": attempted,
        "successes": failed,
        "success": failed / attempted if attempted else 0.0,
        "interval": wilson(failed, attempted),
        "counted": len(change),
        "output_change": change.mean() if len(change) else None,
        "output_interval": mean_interval(change, np.arange(len(change))),
    }


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
def test_rates_are_held_as_often_as_expected(rate):
    random = np.random.default_rng(0)
    checks = [
        rate_coverage(*(attribute(random.random(size) < rate, np.zeros(0)) for size in (12, 14))) for _ in range(600)
    ]
    held, expected = zip(*(check for check in checks if check is not None), strict=True)
    assert np.mean(held) == pytest.approx(np.mean(expected), abs=0.05)


def test_rates_that_say_nothing_are_left_out():
    none, some = (attribute(np.arange(12) < failed, np.zeros(0)) for failed in (0, 3))
    assert rate_coverage(none, none) is None
    assert rate_coverage(none, some) is not None
    assert rate_coverage(attribute(np.zeros(0), np.zeros(0)), some) is None


@pytest.mark.parametrize("faces", [6, 24])
def test_means_are_held_as_often_as_expected(faces):
    random = np.random.default_rng(0)
    checks = [
        mean_coverage(*(attribute(np.zeros(0), random.normal(9, 1, size)) for size in (faces, 20))) for _ in range(600)
    ]
    held, expected = zip(*checks, strict=True)
    assert np.mean(held) == pytest.approx(np.mean(expected), abs=0.04)
    few = attribute(np.zeros(0), np.ones(1))
    assert mean_coverage(few, few) is None


def test_a_suite_goes_on_where_it_stopped(suite, monkeypatch):
    wrong = bench.audit
    calls = []

    def breaks(*arguments, **settings):
        calls.append(settings["out"])
        if len(calls) == 3:
            raise WorkError("no power")
        return wrong(*arguments, **settings)

    monkeypatch.setattr(bench, "audit", breaks)
    with pytest.raises(WorkError, match="no power"):
        suite(models=4)
    content = suite(models=4)
    assert len(suite.trained) == 5  # the third one twice
    assert len(content["models"]) == 4
    assert json.loads((suite.out / "planted.json").read_text()) == content
    assert suite(models=4) == content
    assert len(suite.trained) == 5


def test_every_audit_is_of_faces_that_nothing_else_has_seen(suite):
    content = suite(models=2, seed=4)
    folders = [suite.out / row["model"] / audit for row in content["models"] for audit in ("audit", "again")]
    assert [read_json(folder / "config.json")["seed"] for folder in folders] == [2004, 2005, 2006, 2007]


def test_targets_with_other_flaws_are_another_suite(suite, monkeypatch):
    suite(models=1)
    monkeypatch.setitem(bench.PLANT, "wrong", 0.4)
    with pytest.raises(RequestError, match=r"holds a suite with plant=\{'wrong': 0.8\}, not \{'wrong': 0.4\}"):
        suite(models=1)


def test_another_suite_is_refused(suite):
    suite(models=1)
    with pytest.raises(RequestError, match=r"holds a suite with faces=12, not 13; choose another --out"):
        suite(models=1, faces=13)


def test_a_suite_judged_by_another_rule_is_refused(suite, monkeypatch):
    suite(models=1)
    monkeypatch.setitem(bench.RULE, "others_ratio", 3.0)
    with pytest.raises(RequestError, match=r"holds a suite with rule=\{.*\}, not \{.*'others_ratio': 3.0"):
        suite(models=2)


def test_a_folder_of_something_else_is_refused(suite):
    suite.out.mkdir(parents=True)
    (suite.out / "histogram.json").write_text("{}")
    with pytest.raises(RequestError, match=r"holds something else, 'histogram\.json' for one; choose another"):
        suite(models=1)
    assert [path.name for path in suite.out.iterdir()] == ["histogram.json"]


def test_a_wrong_request_is_refused_before_anything_is_trained(suite):
    with pytest.raises(RequestError, match="faces=0 is outside"):
        suite(faces=0)
    with pytest.raises(RequestError, match="steps=0 is below 1"):
        suite(steps=0)
    with pytest.raises(RequestError, match=r"seed=-1 is outside 0…2147481559; choose"):
        suite(seed=-1)
    with pytest.raises(RequestError, match=r"seed=2147483647 is outside 0…2147481645; choose"):
        suite(seed=2**31 - 1, models=1)
    with pytest.raises(RequestError, match="unknown generator 'absent'"):
        suite(generator="absent")
    assert suite.trained == []
    assert not suite.out.exists()


def test_with_makehuman_fresh_faces_are_rendered_and_trained_on(suite, monkeypatch):
    asked = []

    def write_renders(makehuman, out, faces, *, seed, resolution, **common):
        asked.append((makehuman, faces, seed, resolution))
        out.mkdir(parents=True)
        return write_flat(out, 60, ("light_azimuth", "smile", "age"))

    monkeypatch.setattr(bench, "write_renders", write_renders)
    content = suite(renders=None, makehuman="copy", models=1, seed=3)
    assert asked == [("copy", 5000, 1003, 64)]
    assert suite.trained == [content["models"][0]["model"]]
    with pytest.raises(RequestError, match=r"renders='.*' and makehuman='copy' both say what to train on; give one"):
        suite(makehuman="copy")


def test_without_renders_it_says_what_to_do(suite, tmp_path, monkeypatch):
    monkeypatch.setattr("sia_gen.studio.renders.pretrained_folder", lambda: tmp_path / "nothing")
    with pytest.raises(RequestError, match="no 'faces-renders' are shipped here; name renders with --renders DIR"):
        suite(renders=None)
