"""A quick look: each attribute alone and the control, and all that reads finished audits reads it."""

import re

import pyarrow.parquet as pq
import pytest

from sia_gen.audits.finished import inputs
from sia_gen.audits.finished.audit_report import AuditReport
from sia_gen.audits.finished.comparison import compare
from sia_gen.audits.finished.export import export
from sia_gen.audits.verdict.finding import QUICK
from sia_gen.core.errors import RequestError
from sia_gen.service.commands.audit_tables import show_audit
from tests.audits.conftest import FACES, PLANTED, planted_problem, run

NAMES = ["a0", "a1", "a2", "a3"]
CONTROLS = [f"random direction {number}" for number in (1, 2, 3)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same audit as a quick look, and whole."""
    folder = tmp_path_factory.mktemp("quick")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sia_gen.audits.evidence.witness.familiar", lambda generator, verifier: 1.0)
        return [run(planted_problem(), folder / f"{quick}", quick=quick) for quick in (True, False)]


def test_it_says_the_same_of_each_attribute_alone(runs):
    quick, whole = (report.histogram for report in runs)
    assert quick["finding"] == whole["finding"]
    for row, same in zip(quick["attributes"], whole["attributes"], strict=True):
        assert row["zoom"] is None
        assert same["zoom"] is not None
        assert {**row, "zoom": None} == {**same, "zoom": None}
    assert quick["control"] == whole["control"]
    assert (quick["arms"], quick["subgroups"]) == ({}, [])
    assert set(quick) == set(whole)
    assert list(dict.fromkeys(runs[0].table()["arm"].to_pylist())) == [*NAMES, "unedited", *CONTROLS]
    assert {example["arm"] for example in quick["examples"]} <= set(NAMES)


def test_it_asks_no_more_than_it_needs(runs):
    asked = [report.to_pandas()["queries"].sum() for report in runs]
    assert asked[0] == FACES * (9 * (len(NAMES) + len(CONTROLS)) + 1)
    assert asked[1] == asked[0] - FACES + FACES * 3 * 7


def test_the_page_and_the_terminal_say_what_is_left_out(runs, capsys):
    pages = [(report.folder / "report.html").read_text(encoding="utf-8") for report in runs]
    assert [QUICK in page for page in pages] == [True, False]
    assert ["ZOOM" in page for page in pages] == [False, True]
    rows = re.findall(r"<td>(joint|semantic|pixel): ", "".join(pages[0]))
    assert rows == []
    show_audit(runs[0].histogram)
    assert QUICK in capsys.readouterr().out


def test_it_is_compared_with_a_whole_audit_in_what_both_have(runs):
    content = compare(runs[0].folder, runs[1].folder)
    assert [row["name"] for row in content["arms"]] == ["random direction"]
    assert all(row["change_difference"] == 0 for row in content["attributes"])
    assert "no attribute differs for sure" in content["finding"]


def test_its_failures_alone_are_exported(runs, tmp_path, monkeypatch):
    problem = planted_problem()
    monkeypatch.setattr(inputs, "load_generator", lambda name, device: problem.generator)
    monkeypatch.setattr(inputs, "load_attributes", lambda name, device, of: problem.space)
    count = export(runs[0].folder, tmp_path / "data")
    rows = pq.read_table(tmp_path / "data" / "metadata.parquet").to_pandas()
    assert len(rows) == count
    assert (rows["arm"] == "unedited").sum() == runs[0].histogram["correct"]
    failed = {row["name"]: row["successes"] for row in runs[0].histogram["attributes"] if row["successes"]}
    assert rows[rows["arm"] != "unedited"]["arm"].value_counts().to_dict() == failed
    assert failed[PLANTED] > 0


def test_it_is_shown_again_and_is_no_whole_audit(runs):
    assert AuditReport.load(runs[0].folder).histogram == runs[0].histogram
    with pytest.raises(RequestError, match="holds a run with quick=True, not None; choose another --out"):
        run(planted_problem(), runs[0].folder)
    with pytest.raises(RequestError, match="quick='yes' is not True or False"):
        run(planted_problem(), quick="yes")


def test_it_renders_nothing_unless_that_is_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr("sia_gen.audits.run.resolve.taught", lambda generator: True)
    monkeypatch.setattr("sia_gen.audits.run.resolve.installed", lambda: "here")
    monkeypatch.setattr("sia_gen.audits.run.resolve.Rendered.of", lambda *given: asked.append(given) or None)
    report = run(planted_problem(), faces=2, quick=True)
    assert asked == []
    assert "a quick look renders nothing unless --confirm asks for it" in report.histogram["confirmation"]
    run(planted_problem(), faces=2)
    run(planted_problem(), faces=2, quick=True, confirm=True)
    assert len(asked) == 2
