import dataclasses
import json
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.audits.diagnose import audit
from sia_gen.audits.evidence.reference import VerifiedLabel
from sia_gen.audits.finished.audit_report import AuditReport
from sia_gen.core.errors import Cancelled, RequestError, WorkError
from sia_gen.core.files import read_json
from sia_gen.targets.target import Label
from sia_gen.targets.task import Classification, Regression
from sia_gen.targets.verifier import Factor
from tests.audits.conftest import ATTACK, FACES, PLANTED, run
from tests.problems import linear_problem

ROOT = Path(__file__).parents[2]
NAMES = ["a0", "a1", "a2", "a3"]
CONTROLS = [f"random direction {number}" for number in (1, 2, 3)]
ARMS = [*NAMES, "joint", "semantic", "pixel", *CONTROLS]
FILES = [
    "config.json",
    "control.safetensors",
    "curves.png",
    "histogram.json",
    "histogram.png",
    "report.html",
    "results.parquet",
]


def contents(folder):
    """Every file of a run folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_names_the_planted_cause(planted, tmp_path):
    report = run(planted, tmp_path, faces=16)
    first, *others = report.histogram["attributes"]
    assert (first["name"], first["stands_out"], first["unit"]) == (PLANTED, True, "units")
    changed = "it changed the probability of the right class by 0."
    assert report.finding.startswith(f"What stands out is a1: moved alone, {changed}")
    assert first["q"] < 0.01
    assert first["success"] > 0.1
    assert not any(row["stands_out"] for row in others)
    for row in [*others, report.histogram["control"], *(row["control"] for row in report.histogram["attributes"])]:
        assert row["output_change"] < 0.1 * first["output_change"]


def test_a_run_folder_holds_what_the_design_says(finished):
    report = AuditReport.load(finished)
    assert sorted(path.name for path in finished.iterdir()) == sorted([*FILES, "images", "parts"])
    table = report.table()
    assert table.num_rows == FACES * len(ARMS)
    assert list(dict.fromkeys(table["arm"].to_pylist())) == ARMS
    frame = report.to_pandas()
    joint, pixel = frame[frame["arm"] == "joint"], frame[frame["arm"] == "pixel"]
    assert joint["face"].tolist() == list(range(FACES))
    assert np.isfinite(joint[["omega_a0", "omega_a3"]]).all(axis=None)
    assert joint["omega_random direction"].isna().all()
    assert pixel.filter(like="omega").isna().all(axis=None)
    single = frame[frame["arm"] == "a2"]
    assert np.isfinite(single["omega_a2"]).all()
    assert single[["omega_a0", "omega_a1", "omega_a3"]].isna().all(axis=None)
    for number, arm in enumerate(CONTROLS):
        control = frame[frame["arm"] == arm]
        assert control["direction"].tolist() == list(range(number, 3 * FACES, 3))
        assert control["omega_random direction"].abs().max() == pytest.approx(1)
    assert json.loads((finished / "histogram.json").read_text()) == report.histogram
    assert {"target", "generator", "faces", "correct", "reference", "left_out", "settings"} <= set(report.histogram)
    assert set(report.histogram["arms"]) == {"joint", "semantic", "pixel"}


def test_without_a_folder_it_finds_the_same_and_leaves_nothing(problem, finished, tmp_path):
    temporary = run(problem)
    (temporary.folder / ".report.html.0.partial.html").write_text("half")
    saved = temporary.save(tmp_path / "saved")
    assert contents(saved.folder) == contents(finished)
    assert not list(saved.folder.glob(".*"))
    assert "<iframe srcdoc=" in temporary._repr_html_()
    folder = temporary.folder
    del temporary
    assert not folder.exists()


def test_save_refuses_the_folder_of_another_run(problem, finished, tmp_path):
    other = run(problem, tmp_path / "other", faces=2)
    with pytest.raises(RequestError, match="holds a run with faces=10, not 2; choose another --out"):
        other.save(finished)


def test_a_longer_audit_begins_with_the_same_faces(problem, tmp_path):
    short, long = run(problem, tmp_path / "short", faces=3), run(problem, tmp_path / "long", faces=6)
    for arm in ("joint", "a0", "random direction 1"):
        losses = []
        for report in (short, long):
            frame = report.to_pandas()
            losses.append(frame[frame["arm"] == arm]["loss_after"].to_numpy()[:3])
        np.testing.assert_allclose(*losses, rtol=1e-5)


def stop_at(part):
    """A progress that stops the work once so many parts are done."""

    def progress(done, total, what):
        if done == part:
            raise Cancelled

    return progress


KILLED = f"""
import sys, torch
from sia_gen.audits.finished.audit_report import AuditReport
from sia_gen.audits.diagnose import audit
from tests.audits.conftest import ATTACK
from tests.problems import linear_problem
torch.set_num_threads(int(sys.argv[2]))
problem = linear_problem()
audit(problem.generator, problem.target, problem.space, faces={FACES}, attack=ATTACK, out=sys.argv[1],
      progress=lambda done, total, what: print(done, flush=True))
"""


@pytest.mark.parametrize("moment", random.Random(0).sample(range(10, 150), 3))
def test_a_killed_run_goes_on_to_the_same_bytes(problem, finished, tmp_path, moment):
    out, calls = tmp_path / "killed", []
    command = [sys.executable, "-c", KILLED, str(out), str(torch.get_num_threads())]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(moment):  # a line a step of an attack, at least
            done = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (out / "histogram.json").exists()
    run(problem, out, progress=lambda *call: calls.append(call))
    assert calls[0][0] >= done  # what was finished is not done again
    assert contents(out) == contents(finished)


def test_a_finished_run_is_not_done_again(problem, finished):
    written, calls = contents(finished), []
    run(problem, finished, progress=lambda *call: calls.append(call))
    assert calls == [(3 * len(ARMS), 3 * len(ARMS), "done")]
    assert contents(finished) == written


def test_progress_counts_chunks_times_arms_and_may_cancel(problem, tmp_path):
    calls = []

    def stop_at_five(done, total, what):
        calls.append((done, total, what))
        if done == 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(problem, tmp_path, progress=stop_at_five)
    assert calls[0][:2] == (0, 1)  # the control
    assert calls[1] == (0, 3 * len(ARMS), "a0, faces 0…3")
    assert len(list((tmp_path / "parts").iterdir())) == 5


def test_a_damaged_control_is_drawn_again(problem, tmp_path):
    run(problem, tmp_path)
    kept = (tmp_path / "control.safetensors").read_bytes()
    (tmp_path / "control.safetensors").write_bytes(kept[:100])
    run(problem, tmp_path)
    assert (tmp_path / "control.safetensors").read_bytes() == kept


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("notes.txt", "holds files that are no run's; choose another --out or an empty folder"),
        ("config.json", "holds something other than a run; choose another --out"),
    ],
)
def test_refuses_a_folder_that_is_no_run(problem, tmp_path, file, reason):
    (tmp_path / file).write_text("{}")
    with pytest.raises(RequestError) as error:
        audit(problem.generator, problem.target, problem.space, faces=2, out=tmp_path)
    assert str(error.value) == f"'{tmp_path}' {reason}"
    assert [path.name for path in tmp_path.iterdir()] == [file]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"faces": 11}, "faces=10, not 11"),
        ({"seed": 1}, "seed=0, not 1"),
        ({"attack": dataclasses.replace(ATTACK, steps=9)}, "attack.steps=6, not 9"),
        ({"attack": dataclasses.replace(ATTACK, batch=8)}, "attack.batch=4, not 8"),
    ],
    ids=["faces", "seed", "steps", "chunk"],
)
def test_refuses_a_folder_with_other_settings(problem, finished, changes, difference):
    written = contents(finished)
    message = f"'{finished}' holds a run with {difference}; choose another --out or the same settings"
    with pytest.raises(RequestError, match=f"^{re.escape(message)}$"):
        run(problem, finished, **changes)
    assert contents(finished) == written


def test_refuses_a_folder_of_another_task(problem, finished):
    problem.target.task = Classification(("yes", "no"))
    with pytest.raises(
        RequestError, match=r"holds a run with task=Classification\(classes=\('no', 'yes'\), .*\), not Cla"
    ):
        run(problem, finished)


def test_refuses_a_folder_of_other_weights(problem, finished):
    with torch.no_grad():
        problem.target.weight.mul_(-1)
    with pytest.raises(
        RequestError, match=r"holds a run of other weights \(the target said \[.*\] about the first face"
    ):
        run(problem, finished)


def test_other_weights_are_told_by_small_outputs_too(problem, tmp_path):
    problem.target.regression, problem.target.task = True, Regression(("value",), tolerance=0.01)
    with torch.no_grad():
        problem.target.weight.mul_(1e-3)
    run(problem, tmp_path / "run", faces=2)
    with torch.no_grad():
        problem.target.weight.mul_(1.02)
    with pytest.raises(RequestError, match="holds a run of other weights"):
        run(problem, tmp_path / "run", faces=2)


def test_a_target_for_which_memory_is_short_is_audited_in_smaller_batches(problem, tmp_path):
    whole = run(problem, tmp_path / "whole", faces=4)

    def narrow(images):
        if len(images) > 2:
            raise torch.OutOfMemoryError
        return type(problem.target).predict(problem.target, images)

    problem.target.predict = narrow
    halved = run(problem, tmp_path / "halved", faces=4)
    for mine, other in zip(halved.histogram["attributes"], whole.histogram["attributes"], strict=True):
        assert mine["output_change"] == pytest.approx(other["output_change"], rel=1e-4)


def test_refuses_attributes_of_the_same_names_with_other_directions(problem, finished):
    problem = dataclasses.replace(
        problem, space=dataclasses.replace(problem.space, directions=-problem.space.directions)
    )
    with pytest.raises(RequestError, match="holds a run with edits="):
        run(problem, finished)


PART = "parts/00001-003.safetensors"


def cut(path):
    path.write_bytes(path.read_bytes()[:100])


def two_bytes(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    data[-9] ^= 128
    path.write_bytes(bytes(data))


def as_another(path):
    shutil.copy(path.with_name("00001-004.safetensors"), path)


def as_before(path):
    shutil.copy(path.with_name("00000-003.safetensors"), path)


def foreign(path):
    save_file({"omega": torch.zeros(2)}, path)


@pytest.mark.parametrize("harm", [cut, two_bytes, as_another, as_before, foreign])
def test_a_part_that_is_not_what_was_written_is_done_again_and_told_of(problem, finished, caplog, harm):
    written = contents(finished)
    harm(finished / PART)
    assert contents(finished) != written
    run(problem, finished)
    assert contents(finished) == written
    assert "00001-003.safetensors" in caplog.text
    assert "it is made again" in caplog.text


@pytest.mark.parametrize("harm", [cut, two_bytes, foreign])
def test_a_control_that_is_not_what_was_drawn_is_drawn_again(problem, finished, harm):
    written = contents(finished)
    harm(finished / "control.safetensors")
    run(problem, finished)
    assert contents(finished) == written


def test_a_part_of_another_run_is_done_again(problem, finished, tmp_path):
    written = contents(finished)
    run(problem, tmp_path / "other", seed=5)
    shutil.copy(tmp_path / "other" / PART, finished / PART)
    run(problem, finished)
    assert contents(finished) == written


@pytest.mark.parametrize("probe", ["null", "[]", "[NaN]", "[null, 1.0]", '"abc"', "{}"])
def test_a_config_whose_probe_is_none_is_no_run(problem, finished, probe):
    config = read_json(finished / "config.json")
    config.pop("probe")
    (finished / "config.json").write_text(json.dumps(config)[:-1] + f', "probe": {probe}}}')
    with pytest.raises(RequestError, match=r"holds something other than a run|of other weights"):
        run(problem, finished)


def test_a_damaged_config_is_named(problem, finished):
    cut(finished / "config.json")
    with pytest.raises(WorkError, match=r"^cannot read '.*config.json'"):
        run(problem, finished)


def test_a_run_that_goes_on_elsewhere_says_so(problem, tmp_path, monkeypatch, caplog):
    with pytest.raises(Cancelled):
        run(problem, tmp_path, progress=stop_at(5))
    assert "may differ by rounding" not in caplog.text
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    run(problem, tmp_path)
    assert "threads 99: what is added may differ by rounding" in caplog.text
    assert read_json(tmp_path / "config.json")["made_with"]["threads"] != 99
    caplog.clear()
    run(problem, tmp_path)  # nothing is added
    assert caplog.text == ""


def test_a_finished_run_is_shown_without_writing(problem, finished, monkeypatch):
    for name in ("writable_folder", "write_json", "write_tensors"):
        monkeypatch.setattr(f"sia_gen.audits.run.run_folder.{name}", None)
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    report = run(problem, finished)
    assert report.finding
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_what_was_lost_of_a_finished_run_is_made_again(problem, finished):
    written = contents(finished)
    (finished / "report.html").unlink()
    cut(finished / "histogram.json")
    run(problem, finished)
    assert contents(finished) == written


@pytest.mark.parametrize("faces", [0, -1, 1_000_000])
def test_refuses_a_number_of_faces(problem, faces):
    with pytest.raises(RequestError, match=f"faces={faces} is outside 1…100000"):
        run(problem, faces=faces)


def test_refuses_a_place_that_is_a_file(problem, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"cannot write to '.*file'"):
        run(problem, tmp_path / "file")


def test_refuses_an_empty_box(problem):
    with pytest.raises(RequestError, match="box=0 leaves no attribute to move"):
        run(problem, attack=SemanticImageAttack(box=0))


def test_what_the_target_predicts_is_left_out(problem):
    problem.target.label = Label("a2", (0.0,))
    report = run(problem, faces=4)
    assert report.histogram["left_out"] == ["a2"]
    assert [row["name"] for row in report.histogram["attributes"] if row["name"] == "a2"] == []
    assert "a2, because it is what the target predicts" in (report.folder / "report.html").read_text()
    with pytest.raises(
        RequestError, match="no attribute is left to audit: 'a2' is what the target predicts; name others"
    ):
        audit(problem.generator, problem.target, problem.space.select(["a2"]), faces=4)


class Failing:
    """A target that goes wrong once its predictions have been asked for often enough."""

    def __init__(self, target, calls, output):
        self.name, self.task, self.differentiable, self.label = target.name, target.task, True, None
        self.target, self.calls, self.output = target, calls, output

    def predict(self, images):
        self.calls -= 1
        prediction = self.target.predict(images)
        return prediction if self.calls >= 0 else self.output(prediction)


def explode(prediction):
    raise ValueError("no such thing\nand more")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda prediction: prediction * torch.nan, "NaN"),
        (explode, "target .* fails \\(ValueError: no such thing\\); mend it and run"),
    ],
    ids=["nan", "exception"],
)
def test_a_failing_target_costs_only_what_is_unfinished(problem, finished, tmp_path, output, message):
    out = tmp_path / "out"
    failing = dataclasses.replace(problem, target=Failing(problem.target, 140, output))
    with pytest.raises(WorkError, match=rf"^arm '.+', faces 4…7: .*{message}") as caught:
        run(failing, out)
    assert "\n" not in str(caught.value)
    assert len(list((out / "parts").iterdir())) >= len(ARMS)
    assert not (out / "results.parquet").exists()
    run(problem, out)
    assert contents(out) == contents(finished)


def test_a_path_is_not_taken_for_the_shipped_generator_of_that_name(problem, tmp_path, monkeypatch):
    (tmp_path / "faces-stylegan2").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=r"'faces-stylegan2' holds no generator"):
        audit(Path("faces-stylegan2"), problem.target, problem.space, faces=1)


def test_a_target_that_fits_its_task_from_no_face_on_starts_nothing(problem, tmp_path):
    failing = dataclasses.replace(problem, target=Failing(problem.target, 0, lambda prediction: prediction[:, :1]))
    with pytest.raises(WorkError, match=r"^the first face: the target gave shape \[1, 1\], not \[1, 2\]"):
        run(failing, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_target_that_is_always_wrong_is_said_to_be(problem, tmp_path, monkeypatch):
    def read(images):
        return 1.0 - problem.target.predict(images).argmax(dim=1, keepdim=True)

    factors = (Factor("opposite", "", 0, 1),)
    wrong = SimpleNamespace(
        digest=lambda: "wrong", read=read, look=lambda x: (read(x), x.mean((2, 3))), factors=factors
    )
    verified = VerifiedLabel(wrong, 0, (0.5,))
    monkeypatch.setattr("sia_gen.audits.evidence.witness.verified_label", lambda target, device, by: verified)
    report = run(problem, tmp_path, faces=3)
    assert report.finding == "The target is wrong on all 3 faces before any edit, so nothing was attempted."
    assert report.histogram["reference"] == "verifier reading"
    assert report.histogram["correct"] == 0
    assert 'name="bar"' not in (tmp_path / "report.html").read_text()
    assert pq.read_table(tmp_path / "results.parquet")["success"].to_pylist() == [False] * 3 * len(ARMS)


def test_defaults_resolve_names():
    with pytest.raises(RequestError, match="unknown generator 'no-such-generator'"):
        audit("no-such-generator", linear_problem().target)


def test_a_full_disk_is_said_in_one_line(problem, tmp_path, monkeypatch):
    def full(path, tensors, metadata):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sia_gen.audits.run.run_folder.write_tensors", full)
    message = f"cannot write to '{tmp_path}' any more (No space left on device); make room and run the same again"
    with pytest.raises(WorkError, match=re.escape(message)):
        run(problem, tmp_path)


def test_a_classifier_may_be_driven_towards_a_class(problem):
    report = run(problem, towards="yes")
    said = problem.target.predict(problem.generator.render(problem.generator.sample(range(FACES)))).argmax(dim=1)
    assert report.histogram["correct"] == int((said == 0).sum())  # the others say so already
    joint = report.to_pandas().query("arm == 'joint' and success")
    assert set(joint["reference"]) == {0}


def test_an_ascent_in_a_single_attribute_does_no_less_than_a_search_of_it(planted, monkeypatch):
    generator, space = planted.generator, planted.space
    into = torch.linalg.pinv(space.directions) @ torch.eye(len(space.attributes))  # codes → attributes
    matrix, sample = torch.linalg.pinv(generator.matrix.detach()), generator.sample

    def predict(images):
        moved = (images.flatten(1) - generator.offset) @ matrix.T @ into
        value = 4 * (moved[:, 1] - 0.4).relu() - 1  # no slope until far from the face
        return torch.stack([-value, value], dim=1)

    monkeypatch.setattr(planted.target, "predict", predict)
    monkeypatch.setattr(generator, "sample", lambda seeds: 0.001 * sample(seeds))
    report = run(dataclasses.replace(planted, space=space.select(["a1"])), faces=4)
    assert [row["success"] for row in report.histogram["attributes"]] == [1.0]
    assert [report.histogram["arms"][arm]["success"] for arm in ("joint", "semantic", "pixel")] == [1.0, 1.0, 0.0]
