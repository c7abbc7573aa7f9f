import json

import pytest
import torch

from sia_gen.audits import bench
from sia_gen.audits.bench import planted_suite, row_of, summary
from sia_gen.core.errors import RequestError, WorkError
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
        return planted.target, 0.75

    monkeypatch.setattr(bench, "train_case", train_case)
    given = {"renders": renders, "generator": planted.generator, "attributes": planted.space, "faces": 12}

    def go(**changes):
        return planted_suite(tmp_path / "suite", **given | changes)

    go.trained, go.out = trained, tmp_path / "suite"
    return go


def case(cause=PLANTED, kind="correlated"):
    return Case(label="smile", cuts=(0.5,), kind=kind, cause=cause)


def test_a_row_says_where_the_cause_came(planted):
    report = run(planted, faces=24)
    row = row_of(case(), 0.75, report)
    assert row["rank"] == 1
    assert row["first"] == PLANTED
    assert row["stands_out"] == [PLANTED]
    assert row["change"] > 3 * row["control"]
    assert row_of(case("a3"), 0.75, report)["rank"] > 1
    assert row_of(case(None, "balanced"), 0.75, report)["rank"] is None
    assert row["intervals"] == 2 * len(planted.space.attributes)
    assert 0 <= row["covered"] <= row["intervals"]


def test_the_counts_are_those_of_the_rows():
    rows = [
        {"cause": "age", "rank": 1, "stands_out": ["age"], "covered": 8, "intervals": 10},
        {"cause": "yaw", "rank": 3, "stands_out": ["age"], "covered": 8, "intervals": 10},
        {"cause": "sex", "rank": None, "stands_out": [], "covered": 8, "intervals": 10},
        {"cause": None, "rank": None, "stands_out": [], "covered": 9, "intervals": 10},
        {"cause": None, "rank": None, "stands_out": ["yaw"], "covered": 9, "intervals": 10},
    ]
    found = summary(rows)
    assert {key: (found[key]["count"], found[key]["of"]) for key in ("rank_1", "top_3", "named", "false_alarms")} == {
        "rank_1": (1, 3),
        "top_3": (2, 3),
        "named": (1, 3),
        "false_alarms": (1, 2),
    }
    assert found["coverage"]["share"] == pytest.approx(0.84)
    assert found["coverage"]["expected"] == pytest.approx(0.834)


def test_halves_of_the_same_faces_are_covered_as_expected():
    """The figure that stands beside the measured one, by simulation."""
    random = torch.Generator().manual_seed(0)
    halves = torch.randn(20_000, 2, 50, generator=random)
    mean, error = halves[:, 0].mean(1), halves[:, 0].std(1) / 50**0.5
    inside = (halves[:, 1].mean(1) - mean).abs() <= 1.96 * error
    assert inside.float().mean().item() == pytest.approx(summary([])["coverage"]["expected"], abs=0.02)


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


def test_another_suite_is_refused(suite):
    suite(models=1)
    with pytest.raises(RequestError, match=r"holds a suite with faces=12, not 13; choose another --out"):
        suite(models=1, faces=13)


def test_without_renders_it_says_what_to_do(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "pretrained_folder", lambda: tmp_path / "nothing")
    with pytest.raises(RequestError, match="no 'faces-renders' are shipped here; name renders with --renders DIR"):
        suite(renders=None)
