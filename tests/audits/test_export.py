import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.audits.diagnose import audit
from sia_gen.audits.finished import export as module
from sia_gen.audits.finished import inputs
from sia_gen.audits.finished.export import UNEDITED, export
from sia_gen.core.errors import RequestError
from sia_gen.core.images import from_pil


@pytest.fixture
def report(problem, monkeypatch, tmp_path):
    monkeypatch.setattr(inputs, "load_generator", lambda name, device: problem.generator)
    monkeypatch.setattr(inputs, "load_attributes", lambda name, device, of: problem.space)
    attack = SemanticImageAttack(batch=4, steps=6, semantic_step=0.4, box=0.9)
    return audit(problem.generator, problem.target, problem.space, faces=10, attack=attack, out=tmp_path / "run")


def rows_of(folder):
    return pq.read_table(folder / "metadata.parquet").to_pandas()


def test_every_image_is_what_its_row_says(report, problem, tmp_path):
    count = export(report.folder, tmp_path / "data", alone=True)
    rows = rows_of(tmp_path / "data")
    assert len(rows) == count == len(list((tmp_path / "data" / "images").iterdir()))
    assert set(rows["arm"]) == {UNEDITED, "semantic", *problem.space.names}
    images = torch.stack([from_pil(Image.open(tmp_path / "data" / name)) for name in rows["file_name"]])
    with torch.no_grad():
        prediction = problem.target.predict(images)
    failed = problem.target.task.failed(prediction, torch.tensor(rows["reference"]))
    assert failed.tolist() == rows["success"].tolist()
    output = problem.target.task.output(prediction, torch.tensor(rows["reference"])).numpy()
    assert np.abs(output - rows["output_after"]).max() < 1e-3
    frame = report.to_pandas()
    for arm in ("semantic", *problem.space.names):
        chosen = frame[(frame["arm"] == arm) & frame["correct"] & frame["success"]]
        assert rows[rows["arm"] == arm]["face"].tolist() == chosen["face"].tolist()
        if arm != "semantic":  # the least change that fails, of which "valid" speaks
            assert rows[rows["arm"] == arm][f"omega_{arm}"].tolist() == chosen[f"omega_{arm}"].tolist()


@pytest.mark.parametrize("ours", [True, False])
def test_the_card_says_what_it_is(report, tmp_path, monkeypatch, ours):
    monkeypatch.setattr(module, "shipped", lambda kind: ["linear-generator"] if ours else [])
    export(report.folder, tmp_path / "data")
    card = (tmp_path / "data" / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n" if ours else "---\ntask_categories:")
    assert ("no real person" in card) == ours
    assert "(0 no, 1 yes)" in card
    assert report.finding in card
    assert "`valid`" in card
    assert "$" not in card


def test_classes_are_told_by_name(report, tmp_path):
    export(report.folder, tmp_path / "data")
    schema = pq.read_schema(tmp_path / "data" / "metadata.parquet")
    features = json.loads(schema.metadata[b"huggingface"])
    assert schema.field("reference").type == "int64"  # as that of a ClassLabel
    assert features["info"]["features"]["reference"] == {"names": ["no", "yes"], "_type": "ClassLabel"}


def stop(*arguments, **settings):
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["pictures", "card", "end"])
def test_what_a_killed_export_left_is_not_in_the_next_one(report, tmp_path, monkeypatch, where):
    with monkeypatch.context() as patch:
        if where == "card":
            patch.setattr(module.TEXT, "substitute", stop, raising=False)
        if where == "end":
            patch.setattr(Path, "rename", stop)
        progress = stop if where == "pictures" else None
        with pytest.raises(KeyboardInterrupt):
            export(report.folder, tmp_path / "data", alone=True, progress=progress)
    (tmp_path / "data" / ".README.md.0.partial.md").write_text("half")  # as a kill in the middle of it would
    count = export(report.folder, tmp_path / "data")
    assert len(list((tmp_path / "data" / "images").iterdir())) == count
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"README.md", "images", "metadata.parquet"}


def test_without_a_gate_no_failure_is_valid(report, tmp_path):
    export(report.folder, tmp_path / "data", valid=True)
    assert set(rows_of(tmp_path / "data")["arm"]) == {UNEDITED}


def test_other_attributes_of_the_same_names_are_refused(report, problem, tmp_path, monkeypatch):
    other = problem.space.select(problem.space.names)
    object.__setattr__(other, "directions", 2 * other.directions)
    monkeypatch.setattr(inputs, "load_attributes", lambda name, device, of: other)
    with pytest.raises(RequestError, match=r"the attributes of 'linear-generator' have changed since .*; audit again"):
        export(report.folder, tmp_path / "data")


def test_an_audit_that_was_given_some_of_the_attributes_is_found_again(problem, report, tmp_path):
    some = problem.space.select(problem.space.names[1::-1])
    attack = SemanticImageAttack(batch=4, steps=6, semantic_step=0.4, box=0.9)
    part = audit(problem.generator, problem.target, some, faces=4, attack=attack, out=tmp_path / "part")
    export(part.folder, tmp_path / "data")
    assert set(rows_of(tmp_path / "data")["arm"]) <= {UNEDITED, "semantic", *some.names}
    assert inputs.FinishedAudit.load(part.folder).asked.names == some.names
    config = json.loads((part.folder / "config.json").read_text())
    assert config.pop("given") == some.names
    (part.folder / "config.json").write_text(json.dumps(config))  # as a run of before says it
    (part.folder / "report.html").unlink()
    again = audit(problem.generator, problem.target, some, faces=4, attack=attack, out=part.folder)
    assert again.histogram == part.histogram
    assert inputs.FinishedAudit.load(report.folder).audited.names == problem.space.names


def test_nothing_is_written_over(report, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("mine")
    with pytest.raises(RequestError, match="is not empty; choose another --out"):
        export(report.folder, tmp_path / "data")
    assert (tmp_path / "data" / "mine.txt").read_text() == "mine"
