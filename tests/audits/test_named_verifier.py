"""Audits that another verifier than the shipped one judges, or none."""

from pathlib import Path

import pytest
from transformers import ViTImageProcessor

from sia_gen.audits.evidence.reference import VERIFIER
from sia_gen.audits.finished import inputs
from sia_gen.core.errors import RequestError
from sia_gen.core.files import read_json
from sia_gen.targets.verifier import load_verifier
from tests.audits.conftest import run
from tests.targets.conftest import FACTORS, resnet, save

PRETRAINED = Path(__file__).parents[2] / "pretrained"


@pytest.fixture
def mine(tmp_path):
    network = resnet([factor["name"] for factor in FACTORS], problem_type="regression")
    processor = ViTImageProcessor(size={"height": 32, "width": 32}, do_normalize=False)
    return save(tmp_path / "mine", network, processor, {"kind": "verifier", "factors": FACTORS})


def test_its_readings_say_what_is_right_and_valid(problem, mine, tmp_path, monkeypatch):
    def strange(generator, verifier):
        raise AssertionError("a verifier that was named is believed")

    monkeypatch.setattr("sia_gen.audits.evidence.witness.familiar", strange)
    report = run(problem, tmp_path / "run", label="smile:0.4", verifier=mine)
    digest, settings = load_verifier(mine).digest(), report.histogram["settings"]
    assert (report.histogram["reference"], settings["verifier"]) == ("verifier reading", digest)
    assert (report.histogram["gate"]["label"], report.histogram["gate"]["same_person"]) == ("smile", None)
    assert read_json(tmp_path / "run" / "config.json")["made_of"]["verifier"] == str(mine)
    monkeypatch.setattr("sia_gen.audits.evidence.witness.familiar", lambda generator, verifier: 1.0)
    with pytest.raises(RequestError, match=f"holds a run with verifier={digest}, not "):
        run(problem, tmp_path / "run", label="smile:0.4")


def test_with_none_nothing_is_called_valid(problem, tmp_path):
    report = run(problem, tmp_path / "run", verifier=None)
    assert report.histogram["reference"] == "target's own prediction"
    assert report.histogram["gate"] is None
    assert all(row["valid"] is None for row in report.histogram["attributes"])
    assert read_json(tmp_path / "run" / "config.json")["made_of"]["verifier"] == "none"


def test_a_finished_run_is_asked_as_it_was(problem, mine, tmp_path, monkeypatch):
    folder = run(problem, tmp_path / "run", verifier=mine).folder
    for name, found in (("generator", problem.generator), ("target", problem.target), ("attributes", problem.space)):
        monkeypatch.setattr(inputs, f"load_{name}", lambda *given, found=found: found)
    asked = []
    monkeypatch.setattr(inputs, "followed", lambda target, device, by: asked.append(by) or target)
    inputs.FinishedAudit.load(folder).target()
    assert asked == [str(mine)]
    assert VERIFIER not in asked


@pytest.mark.parametrize(
    ("verifier", "message"),
    [
        ("nowhere", "unknown verifier 'nowhere'"),
        (PRETRAINED / "smile-classifier", "smile-classifier' is no verifier; train one with 'sia-gen train verifier'"),
        (7, "verifier=7 is not a name, a folder or None"),
    ],
)
def test_what_is_no_verifier_is_one_line(problem, verifier, message):
    with pytest.raises(RequestError) as caught:
        run(problem, verifier=verifier)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_that_nobody_reads_is_refused(problem):
    with pytest.raises(RequestError, match="unknown label 'smile': there are a0, a1, a2, a3"):
        run(problem, label="smile:0.5", verifier=None)
