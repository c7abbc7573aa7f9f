"""Models that visitors bring."""

import json
import os
import shutil
import stat
import zipfile
import zlib
from functools import partial
from threading import Thread
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from torch import nn

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import pretrained_folder
from sia_gen.service import uploads
from sia_gen.service.models import Models
from sia_gen.service.offer import Offer
from sia_gen.service.trial import Limits, try_out
from sia_gen.service.uploads import Uploads, unpack
from sia_gen.targets.load import load_target

SMILE = pretrained_folder() / "smile-classifier"
FILES = ("config.json", "model.safetensors", "preprocessor_config.json")


@pytest.fixture
def brought(tmp_path, monkeypatch):
    """Where models are kept; they are not tried in a process of their own, which takes seconds."""
    monkeypatch.setattr(uploads, "try_out", load_target)
    return Uploads(tmp_path / "models")


def packed(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def model(folder="", **changes):
    """The files of a shipped classifier that says nothing of its label."""
    files = {f"{folder}{name}": (SMILE / name).read_bytes() for name in FILES}
    config = json.loads(files[f"{folder}config.json"])
    del config["sia_gen"]
    return files | {f"{folder}config.json": json.dumps(config | changes)}


def test_a_zip_becomes_a_target_with_a_label(brought, tmp_path):
    archive = packed(tmp_path / "My model.zip", model("smiles/"))
    name = brought.add(archive, "", "smile:0.5")
    assert name.startswith("my-model-")
    assert sorted(path.name for path in brought.place(name).iterdir()) == sorted(FILES)
    target = load_target(brought.place(name))
    assert (target.name, target.task.classes) == (name, ("no smile", "smile"))
    assert (target.label.attribute, target.label.thresholds) == ("smile", (0.5,))
    assert brought.add(archive, "", "smile:0.5") == name
    unlabelled = brought.add(archive, "")
    assert unlabelled != name
    assert load_target(brought.place(unlabelled)).label is None
    assert sorted(path.name for path in brought.folder.iterdir()) == sorted([name, unlabelled])  # nothing half-made


def link(path):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in model().items():
            archive.writestr(name, data)
        entry = zipfile.ZipInfo("preprocessor.json")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    return path


BAD = {
    "another file": (lambda path: packed(path, model() | {"x.bin": b""}), "the zip has 'x.bin', neither safetensors"),
    "code": (lambda path: packed(path, model() | {"model.py": b""}), "the zip has 'model.py', neither safetensors"),
    "above": (lambda path: packed(path, {"../config.json": b"{}"}), "the zip has '../config.json', which lies outside"),
    "absolute": (lambda path: packed(path, {"/etc/x.json": b"{}"}), "the zip has '/etc/x.json', which lies outside"),
    "Windows": (lambda path: packed(path, {"a\\..\\x.json": b"{}"}), "which lies outside"),
    "link": (link, "the zip has 'preprocessor.json', a link and no file; pack the files themselves"),
    "bomb": (lambda path: packed(path, model() | {"a.json": b" " * 10**7}), "the zip has 'a.json', which grows more"),
    "json": (
        lambda path: packed(path, model() | {"a.json": torch.randint(99, (21 * 10**5,)).byte().numpy().tobytes()}),
        "the zip has 'a.json' of 2 MB, more than 2; leave it out",
    ),
    "folders": (lambda path: packed(path, model() | {"a/b.json": b"{}"}), "the zip holds more than one folder"),
    "no weights": (lambda path: packed(path, {"config.json": b"{}"}), "the zip has no model.safetensors; pack"),
    "many": (
        lambda path: packed(path, {f"{i}.json": b"{}" for i in range(65)}),
        "the zip holds 65 files, more than 64",
    ),
    "no zip": (
        lambda path: path.write_bytes(b"PK, but no zip") and path,
        "the zip is damaged (File is not a zip file)",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_refuses_before_it_unpacks(brought, tmp_path, monkeypatch, kind):
    make, message = BAD[kind]
    archive = make(tmp_path / "model.zip")
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *given: pytest.fail("it was unpacked"))
    with pytest.raises(RequestError) as error:
        brought.add(archive, "")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(brought.folder.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"model.zip", "models"}


def test_refuses_what_is_too_large(brought, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "LARGEST", 1000)
    with pytest.raises(RequestError, match=r"^the zip holds 2 MB, more than 0; bring a smaller model$"):
        brought.add(packed(tmp_path / "model.zip", model()), "")


def test_a_header_that_lies_about_its_size_is_cut_off(brought, tmp_path):
    archive = packed(tmp_path / "model.zip", model() | {"a.json": b"x" * 5000})
    data = archive.read_bytes()
    true, lie = (5000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    assert zlib.crc32(b"x" * 5000).to_bytes(4, "little") in data
    archive.write_bytes(data.replace(true, lie))
    with pytest.raises(RequestError, match=r"^the zip is damaged"):
        brought.add(archive, "")
    assert list(brought.folder.iterdir()) == []


def test_a_config_that_would_take_all_memory_is_refused(brought, tmp_path):
    archive = packed(tmp_path / "model.zip", model(hidden_sizes=[32, 64, 128, 200_000]))
    with pytest.raises(RequestError) as error:
        brought.add(archive, "")
    assert "million numbers, its weights hold 1.0; save both" in str(error.value)
    assert str(error.value).startswith("its config.json describes more than ")
    assert list(brought.folder.iterdir()) == []


ENDLESS = {
    "a list": ({"depths": [1, 1, 1, 10**7]}, WorkError, "has depths=10000000, more than 1000; fetch the file again"),
    "in another": ({"backbone_config": {"num_layers": 1e7}}, WorkError, "has num_layers=10000000.0, more than 1000;"),
    "many lists": ({"depths": [1000] * 4}, RequestError, "million numbers, its weights hold 1.0; save both"),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_network_without_end_is_refused_before_it_is_laid_out(brought, tmp_path, kind):
    changes, error, message = ENDLESS[kind]
    with pytest.raises(error) as raised:
        brought.add(packed(tmp_path / "model.zip", model(**changes)), "")
    assert message in str(raised.value)
    assert ".new-" not in str(raised.value)


def test_large_pictures_are_refused(brought, tmp_path):
    told = json.loads((SMILE / "preprocessor_config.json").read_text()) | {"size": {"height": 2048, "width": 2048}}
    archive = packed(tmp_path / "model.zip", model() | {"preprocessor_config.json": json.dumps(told)})
    with pytest.raises(RequestError, match=r"^its preprocessor_config.json has (height|width)=2048, more than 512 pix"):
        brought.add(archive, "")


def test_few_models_that_were_brought_are_kept(monkeypatch):
    monkeypatch.setattr(Models, "_attacker", lambda models, generator, target: target)
    models = Models()
    for name in ("smile-classifier", "/a/1", "/a/2", "/a/3", "/a/4", "/a/5"):
        models.attacker("g", name)
    assert [target for _, _, target in models._kept] == ["smile-classifier", "/a/2", "/a/3", "/a/4", "/a/5"]


def test_only_the_network_that_was_brought_is_counted():
    with uploads._within(10, 5):
        Thread(target=lambda: nn.Linear(100, 100)).start()
        nn.Linear(3, 2)
        with pytest.raises(RequestError, match=r"describes more than 0\.0 million numbers"):
            nn.Linear(3, 2)
    nn.Linear(100, 100)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "nothing-known",
            r"^'the model' holds a model of type 'nothing-known', no image classifier; name one that is$",
        ),
        ("vitpose", r"^'the model' holds a model of type 'vitpose', no image classifier; name one that is$"),
        ("timm_wrapper", r"^it is a model of timm's, which is not taken; bring one of transformers' own$"),
    ],
)
def test_a_config_of_another_kind_builds_nothing(brought, tmp_path, monkeypatch, kind, message):
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", lambda *given, **more: pytest.fail("it was built"))
    archive = packed(tmp_path / "model.zip", model(model_type=kind, architecture="resnet18", model_args={}))
    with pytest.raises(RequestError, match=message):
        brought.add(archive, "")


def test_a_model_that_does_not_load_leaves_nothing(brought, tmp_path):
    archive = packed(tmp_path / "model.zip", model() | {"model.safetensors": b"nothing"})
    with pytest.raises(WorkError, match=r"^'the model' fails \(SafetensorError: .*header too small\); mend it"):
        brought.add(archive, "")
    assert list(brought.folder.iterdir()) == []


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_flipped_bytes_are_one_line(tmp_path, packing):
    archive, data = tmp_path / "model.zip", bytes(range(256)) * 40
    with zipfile.ZipFile(archive, "w", packing) as written:
        for name in FILES:
            written.writestr(name, data)
    whole = archive.read_bytes()
    for where in range(50, 90):
        archive.write_bytes(whole[:where] + bytes(255 - byte for byte in whole[where : where + 8]) + whole[where + 8 :])
        with pytest.raises(RequestError, match=r"^the zip is damaged \(.+\); pack the model's folder again$"):
            unpack(archive, tmp_path)
    archive.unlink()
    with pytest.raises(RequestError, match=r"^the zip is no longer there; send it again$"):
        unpack(archive, tmp_path)


@pytest.fixture
def hub(monkeypatch):
    """A hub with one model; `asked` is what was asked of it."""
    asked, sizes = [], {name: (SMILE / name).stat().st_size for name in FILES}
    sizes |= {"model.bin": 10**12, "x/a.json": 10**12}

    class Hub:
        def __init__(self, token):
            asked.append(token)

        def model_info(self, name, **options):
            files = [SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()]
            return SimpleNamespace(sha="abc", siblings=files)

    def snapshot(name, **options):
        asked.append(options)
        return str(SMILE)

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return SimpleNamespace(asked=asked, sizes=sizes)


def test_a_model_of_the_hub_is_fetched_without_a_token(brought, hub):
    name = brought.add(None, "owner/smiles")
    assert load_target(brought.place(name)).name == name
    assert hub.asked == [False, {"revision": "abc", "allow_patterns": list(FILES), "token": False}]


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("b.safetensors", 500, "^the repository holds 50[0-9] MB, more than 500; bring a smaller model$"),
        ("b.json", 3, "^the repository has 'b.json' of 3 MB, more than 2; leave it out$"),
    ],
)
def test_what_is_too_large_on_the_hub_is_not_fetched(brought, hub, name, size, message):
    hub.sizes[name] = size * 10**6
    with pytest.raises(RequestError, match=message):
        brought.add(None, "owner/smiles")
    assert hub.asked == [False]


def test_what_was_brought_is_there_after_a_restart(brought, tmp_path):
    name = brought.add(packed(tmp_path / "model.zip", model()), "")
    offer = Offer(["g"], ["t"], Uploads(brought.folder))
    assert offer.target(name) == str(brought.folder / name)
    shutil.rmtree(brought.folder)
    with pytest.raises(RequestError, match=rf"^the model '{name}' is no longer here; bring it again$"):
        offer.target(name)


def test_what_is_brought_is_tried_before_it_is_kept(tmp_path, monkeypatch):
    """Whatever starts holds more than these limits let it: see test_trial for what is let through and what is not."""
    monkeypatch.setattr(uploads, "try_out", partial(try_out, limits=Limits(60, 1e6, 0.5)))
    with pytest.raises(
        RequestError, match=r"^the model takes more than 0\.0 GB of memory with 32 pictures; take a smaller"
    ):
        Uploads(tmp_path / "models").add(packed(tmp_path / "model.zip", model()), "")
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("label", ["smile:0.5,0.7", "smile", "smile:x"])
def test_a_wrong_label_is_refused_before_the_model_is_tried(brought, tmp_path, monkeypatch, label):
    monkeypatch.setattr(uploads, "try_out", lambda *given: pytest.fail("it was tried"))
    with pytest.raises(RequestError, match=r"^label smile.* write it as smile:0\.5 or age:30,60$"):
        brought.add(packed(tmp_path / "model.zip", model()), "", label)
    assert list(brought.folder.iterdir()) == []


@pytest.mark.parametrize("text", ["../..", "owner", "os:getcwd", "https://host/owner/name", "a/b/c", "-"])
def test_what_is_no_hub_id_is_one_line(brought, text):
    with pytest.raises(RequestError, match=r"is not a hub id; write owner/name$"):
        brought.add(None, text)


def test_gives_one_place_and_no_other(brought):
    with pytest.raises(RequestError, match="give a zip or a hub id, one of the two"):
        brought.add(None, " ")
    for name in ("..", "/etc", "", "nobody", "a/b"):
        assert brought.place(name) is None


def test_models_that_are_used_stay(brought, tmp_path):
    name = brought.add(packed(tmp_path / "a.zip", model()), "")
    os.utime(brought.folder / name, (0, 0))
    assert brought.place(name) is not None
    brought._tidy()
    assert brought.place(name) is not None


def test_old_models_go(brought, tmp_path, monkeypatch):
    first = brought.add(packed(tmp_path / "a.zip", model()), "")
    monkeypatch.setattr(uploads, "KEPT_SECONDS", -1)
    second = brought.add(packed(tmp_path / "b.zip", model()), "")
    assert brought.place(first) is None
    assert brought.place(second) is not None
