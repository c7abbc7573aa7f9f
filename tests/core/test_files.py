import json
import os

import pytest
import torch

from sia_gen.core import files
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import (
    atomic,
    read_json,
    read_tensors,
    require_file_place,
    require_place,
    shipped,
    writable_folder,
    write_json,
    write_tensors,
)


def test_atomic_replaces_only_when_all_went_well(tmp_path):
    path = tmp_path / "results.json"
    with atomic(path) as partial:
        partial.write_text("old")
        assert not path.exists()

    def interrupted():
        with atomic(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["results.json"]


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    with pytest.raises(RequestError, match=r"\(it is a folder\); remove it or choose another name"), atomic(tmp_path):
        raise AssertionError("the block is not entered")


def test_atomic_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "results.json"
    with atomic(path) as first:
        with atomic(path) as second:
            second.write_text("second")
        first.write_text("first")
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["results.json"]


def test_json_is_readable_and_keeps_its_order(tmp_path):
    write_json(tmp_path / "a.json", {"z": 1, "a": "30…40 °"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "z": 1,\n  "a": "30…40 °"\n}\n'
    assert list(read_json(tmp_path / "a.json")) == ["z", "a"]


@pytest.mark.parametrize("content", [None, b"{", b"\xff"])
def test_json_that_is_missing_or_damaged_is_named(tmp_path, content):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WorkError) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"cannot read '{path}' (")
    assert str(caught.value).endswith("); restore the file or name another folder")


def test_tensors_survive_with_their_types_and_header(tmp_path):
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.ones(2, dtype=torch.bfloat16, requires_grad=True)}
    write_tensors(tmp_path / "w.safetensors", tensors, {"name": "x"})
    loaded, header = read_tensors(tmp_path / "w.safetensors")
    assert header == {"name": "x"}
    for name, values in tensors.items():
        assert loaded[name].dtype == values.dtype
        assert torch.equal(loaded[name], values)


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "foreign"])
def test_weights_that_are_missing_or_damaged_are_named(tmp_path, damage):
    path = tmp_path / "w.safetensors"
    write_tensors(path, {"a": torch.zeros(100)})
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "truncated": whole[:-4], "foreign": b"\x80\x04pickle" * 9}[damage])
    with pytest.raises(WorkError) as caught:
        read_tensors(path)
    assert str(caught.value).startswith(f"cannot read weights '{path}' (")
    assert str(caught.value).endswith("); fetch the file again")


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    assert os.listdir(writable_folder(tmp_path / "runs" / "first")) == []


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError) as caught:
        writable_folder(tmp_path / "file" / "run")
    assert str(caught.value) == f"cannot write to '{tmp_path}/file/run' (Not a directory); choose another --out"


def test_shipped_models_are_listed_by_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "pretrained_folder", lambda: tmp_path)
    for name, extra in (("b", {"kind": "target"}), ("a", {"kind": "target"}), ("g", {"kind": "generator"}), ("x", {})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"sia_gen": extra}))
    assert shipped("target") == ["a", "b"]
    assert shipped("generator") == ["g"]
    assert shipped("verifier") == []


def test_a_place_is_refused_before_anything_is_made_there(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    assert require_place(tmp_path / "new" / "newer") == tmp_path / "new" / "newer"
    for there in (tmp_path / "file", tmp_path / "file" / "new"):
        with pytest.raises(
            RequestError, match=rf"^cannot write to '{there}' \('.*file' is no folder\); choose another"
        ):
            require_place(there)
    monkeypatch.setattr("os.access", lambda *given: False)
    with pytest.raises(RequestError, match=rf"^cannot write to '.*new' \('{tmp_path}' may not be written to\); choose"):
        require_place(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_is_not_put_where_a_folder_is(tmp_path):
    with pytest.raises(RequestError, match=r"is a folder; give --out another name$"):
        require_file_place(tmp_path)
    assert require_file_place(tmp_path / "new" / "file").parent.is_dir()
