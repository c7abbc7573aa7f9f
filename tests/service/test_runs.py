import json
import os
import zipfile
from types import SimpleNamespace

import pytest

from sia_gen.audits.finished.audit_report import AuditReport
from sia_gen.core.errors import RequestError
from sia_gen.core.files import write_json
from sia_gen.service import runs
from sia_gen.service.runs import RunStore, default_folder, pack, slug


def finish(store, name, age):
    folder = store.folder / name
    (folder / "parts").mkdir(parents=True)
    (folder / "parts" / "0.safetensors").write_bytes(b"part")
    (folder / "report.html").write_text(name)
    write_json(folder / "histogram.json", {"finding": name})
    os.utime(folder / "histogram.json", (1000 - age, 1000 - age))


@pytest.fixture
def store(tmp_path):
    made = RunStore(tmp_path / "runs")
    finish(made, "old", age=2)
    finish(made, "new", age=1)
    (made.folder / "stopped").mkdir()
    return made


def test_lists_finished_runs_newest_first(store, tmp_path):
    assert store.finished() == ["new", "old"]
    assert RunStore(tmp_path / "absent").finished() == []


@pytest.mark.parametrize("name", ["stopped", "../runs/new", "/etc", "", "nobody"])
def test_gives_nothing_but_finished_runs(store, name):
    with pytest.raises(RequestError) as error:
        store.report(name)
    assert str(error.value) == f"unknown run '{name}': there are new, old; choose one of these"


def test_opens_with_the_newest_run_else_the_shipped_one(store, tmp_path, monkeypatch):
    assert store.first().finding == "new"
    monkeypatch.setattr(runs, "FIRST_RESULT", store.folder / "old")
    assert RunStore(tmp_path / "absent").first().finding == "old"
    monkeypatch.setattr(runs, "FIRST_RESULT", tmp_path / "absent")
    assert RunStore(tmp_path / "absent").first() is None


def test_packs_a_run_without_its_parts(store, tmp_path):
    (store.folder / "new" / ".report.html.0.partial.html").write_text("half")
    pack(AuditReport.load(store.folder / "new"), tmp_path / "new.zip")
    with zipfile.ZipFile(tmp_path / "new.zip") as archive:
        assert archive.namelist() == ["new/histogram.json", "new/report.html"]


def test_a_packed_run_does_not_tell_where_a_model_lies(store, tmp_path):
    made_of = {"generator": "faces-stylegan2", "target": "/tmp/sia-gen-models-x/mine-1234"}
    write_json(store.folder / "new" / "config.json", {"faces": 8, "made_of": made_of})
    pack(AuditReport.load(store.folder / "new"), tmp_path / "new.zip")
    with zipfile.ZipFile(tmp_path / "new.zip") as archive:
        told = json.loads(archive.read("new/config.json"))
    assert told == {"faces": 8, "made_of": {"generator": "faces-stylegan2", "target": "mine-1234"}}


def test_only_a_space_forgets_runs(store, monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    store.tidy()
    assert store.finished() == ["new", "old"]
    monkeypatch.setenv("SPACE_ID", "owner/name")
    size = sum(path.stat().st_size for path in (store.folder / "new").rglob("*") if path.is_file())
    monkeypatch.setattr(runs, "KEPT_SECONDS", float("inf"))
    monkeypatch.setattr(runs.shutil, "disk_usage", lambda folder: SimpleNamespace(total=(size + 1) / runs.DISK_SHARE))
    store.tidy()
    assert store.finished() == ["new"]
    monkeypatch.setattr(runs, "KEPT_SECONDS", 0)
    store.tidy()
    assert store.finished() == []


def test_a_space_forgets_stopped_runs_and_mended_models_too(store, monkeypatch):
    mended, asked = store.folder / runs.MENDED / "new-1234", store.folder / ".asked"
    for folder in (mended, asked, store.folder / "at-work"):
        folder.mkdir(parents=True)
        (folder / "file.json").write_text("{}")
    monkeypatch.setenv("SPACE_ID", "owner/name")
    monkeypatch.setattr(runs, "KEPT_SECONDS", 3600)
    store.tidy()
    assert store.finished() == []  # whose clock stood at 1970
    assert all(folder.is_dir() for folder in (mended, asked, store.folder / "stopped"))
    monkeypatch.setattr(runs, "KEPT_SECONDS", -1)
    store.tidy("at-work")
    assert sorted(str(path.relative_to(store.folder)) for path in store.folder.rglob("*")) == [
        ".asked", ".asked/file.json", ".mended", "at-work", "at-work/file.json",
    ]  # fmt: skip


def test_where_runs_lie(monkeypatch):
    monkeypatch.delenv("SIA_GEN_RUNS", raising=False)
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert str(default_folder()) == "runs"
    monkeypatch.setenv("SPACE_ID", "owner/name")
    assert default_folder().name == "sia-gen-runs"
    monkeypatch.setenv("SIA_GEN_RUNS", "/somewhere")
    assert str(default_folder()) == "/somewhere"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smile-classifier", "smile-classifier"),
        ("hf:owner/Name_1.0", "hf-owner-name-1-0"),
        ("../../etc/passwd", "etc-passwd"),
        ("..", "run-5ec1f7e7"),
        ("Лицо/модель", "лицо-модель"),
        ("顔認識", "顔認識"),
        ("x" * 300, "x" * 60),
        ("module:callable", "module-callable"),
    ],
)
def test_a_models_name_as_a_folders(name, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert slug(name) == expected
