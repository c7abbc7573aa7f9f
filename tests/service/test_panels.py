"""The tabs without a page: what their events give."""

from contextlib import closing
from types import SimpleNamespace

import gradio as gr
import pytest

from sia_gen.service.app.attack_panel import AttackPanel
from sia_gen.service.app.audit_request import AuditRequest
from sia_gen.service.app.compare_panel import HEADINGS, NO_RUNS, ComparePanel
from sia_gen.service.app.faces import known
from sia_gen.service.app.jobs import Jobs
from sia_gen.service.app.mend_panel import MendPanel
from sia_gen.service.app.own_model import OwnModel
from sia_gen.service.models import Models
from sia_gen.service.offer import Offer
from sia_gen.service.runs import RunStore
from sia_gen.service.uploads import Uploads

COLOURS = "tests.standins:colours"
IS_RED, IS_BLUE = "tests.standins:is_red", "tests.standins:is_blue"
VISITOR = SimpleNamespace(session_hash="a")


@pytest.fixture
def jobs():
    with closing(Jobs()) as made:
        yield made


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two finished runs of different targets on the same faces."""
    made = RunStore(tmp_path_factory.mktemp("runs"))
    for target in (IS_RED, "tests.standins:is_redder"):
        asked = AuditRequest(generator=COLOURS, target=target, attributes=("redness", "blueness"), faces=6, epsilon=0)
        asked.run(made, "cpu", lambda done, total, what: None)
    return made


def test_two_targets_are_attacked_on_the_same_face(store, jobs):
    with gr.Blocks():
        panel = ComparePanel(Offer([COLOURS], [IS_RED, IS_BLUE]), Models(), store, jobs)
    status, first, second = list(panel.both(COLOURS, IS_RED, IS_BLUE, 4, 5, 0, VISITOR))[-1]
    assert "Done." in status
    assert (first.count("<section"), second.count("<section")) == (1, 1)
    assert "<h3>tests.standins:is_red</h3>" in first
    assert "<h3>tests.standins:is_blue</h3>" in second
    with pytest.raises(gr.Error, match="unknown target 'os:getcwd'"):
        list(panel.both(COLOURS, "os:getcwd", IS_BLUE, 4, 5, 0, VISITOR))


def test_a_gentle_attack_shows_the_first_failure(jobs):
    offer = Offer([COLOURS], [IS_RED])
    with gr.Blocks():
        panel = AttackPanel({COLOURS: ["redness"]}, offer, Models(), jobs)
    asked = COLOURS, IS_RED, 4, ["redness"], 3, 0, 10
    worst, first = (list(panel.attack(*asked, gentle, VISITOR))[-1][panel.result] for gentle in (False, True))
    assert "(the worst is " in worst
    assert "(the first failure is " in first


def test_two_audits_are_compared(store, jobs, tmp_path):
    with gr.Blocks():
        panel = ComparePanel(Offer([COLOURS], [IS_RED]), Models(), store, jobs)
        empty = ComparePanel(Offer([COLOURS], [IS_RED]), Models(), RunStore(tmp_path), jobs)
    assert empty.finding.value == NO_RUNS
    finding, table = panel.runs_side_by_side(*store.finished())
    assert finding.startswith("**")
    assert [row[0] for row in table.value["data"]] == ["redness", "blueness"]
    assert table.value["headers"] == HEADINGS
    with pytest.raises(gr.Error, match="unknown run"):
        panel.runs_side_by_side("../x", "y")


def test_a_choice_of_generator_offers_its_attributes():
    models, local, closed = Models(), Offer(["g"], [IS_RED], local=True), Offer(["g"], [IS_RED])
    assert known(models, local, COLOURS) == ["redness", "blueness"]
    assert known(models, local, "nobody") == []
    assert known(models, closed, COLOURS) == []


def test_what_cannot_be_mended_is_one_line(store, jobs):
    with gr.Blocks():
        panel = MendPanel(store, jobs, "cpu")
    with pytest.raises(gr.Error, match=r"no run is chosen; finish one in the tab Audit, and choose it here"):
        list(panel.mend(None, "sia-semantic", 100, 1, 50, VISITOR))
    with pytest.raises(gr.Error, match=r"cannot be trained|nothing reads"):
        list(panel.mend(store.finished()[0], "sia-semantic", 100, 1, 50, VISITOR))


def test_a_fault_of_the_app_is_said(store, jobs, monkeypatch):
    def fail(*given, **more):
        raise KeyError("key")

    monkeypatch.setattr("sia_gen.service.app.mend_panel.harden", fail)
    monkeypatch.setattr("sia_gen.service.app.attack_request.AttackRequest.run", fail)
    with gr.Blocks():
        mending = MendPanel(store, jobs, "cpu")
        comparing = ComparePanel(Offer([COLOURS], [IS_RED]), Models(), store, jobs)
    with pytest.raises(gr.Error, match="The mending broke off because of a fault in this app"):
        list(mending.mend(store.finished()[0], "sia-semantic", 100, 1, 50, VISITOR))
    with pytest.raises(gr.Error, match="The attack broke off because of a fault in this app"):
        list(comparing.both(COLOURS, IS_RED, IS_RED, 4, 5, 0, VISITOR))


def test_an_upload_is_removed_only_once_it_is_a_target(tmp_path, monkeypatch):
    sent, anothers = tmp_path / "sent" / "model.zip", tmp_path / "sent" / "another.zip"
    sent.parent.mkdir()
    sent.write_bytes(b"no zip")
    anothers.write_bytes(b"")
    with gr.Blocks():
        menu = gr.Dropdown(["a"])
        panel = OwnModel(Uploads(tmp_path / "models"), ["smile"], [menu])
    with pytest.raises(gr.Error, match="the zip is damaged"):
        panel.add(str(sent), "", "smile", "0.5", [])
    assert sent.is_file()
    monkeypatch.setattr(Uploads, "add", lambda *given: "mine")
    emptied, _, own, _ = panel.add(str(sent), "", "smile", "0.5", [])
    assert (emptied, own) == (None, ["mine"])
    assert [path.name for path in sent.parent.iterdir()] == ["another.zip"]
