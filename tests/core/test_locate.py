from pathlib import Path

import pytest

from sia_gen.core import locate as module
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.locate import build, lasting, locate


@pytest.fixture(autouse=True)
def pretrained(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "pretrained_folder", lambda: tmp_path)
    monkeypatch.setattr(module, "shipped", lambda kind: ["faces-a", "faces-b"] if kind == "generator" else [])
    return tmp_path


def test_a_shipped_name_and_a_folder_become_folders(pretrained, tmp_path):
    assert locate("generator", "faces-a") == pretrained / "faces-a"
    assert locate("generator", tmp_path) == tmp_path


def test_a_path_is_a_folder_even_if_a_shipped_model_has_its_name(tmp_path, monkeypatch):
    (tmp_path / "mine" / "faces-a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "mine")
    assert locate("generator", Path("faces-a")).resolve() == tmp_path / "mine" / "faces-a"
    assert locate("generator", "./faces-a").resolve() == tmp_path / "mine" / "faces-a"
    assert locate("generator", "faces-a") == tmp_path / "faces-a"
    with pytest.raises(RequestError, match="generator 'faces-b' is no folder; name one that is, or give a shipped"):
        locate("generator", Path("faces-b"))


def test_module_and_name_become_the_callable():
    assert locate("target", "tests.problems:linear_problem").__name__ == "linear_problem"


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (
            "generator",
            "faces-c",
            "unknown generator 'faces-c': there are faces-a, faces-b; "
            "or give a folder, a hub id 'hf:owner/name' or 'module:callable'",
        ),
        (
            "target",
            "smile",
            "unknown target 'smile': there are none; or give a folder, a hub id 'hf:owner/name' or 'module:callable'",
        ),
        (
            "target",
            "nowhere_at_all:build",
            "cannot import target 'nowhere_at_all:build' (No module named 'nowhere_at_all'); "
            "write it as package.module:callable",
        ),
        (
            "target",
            "math:smile",
            "cannot import target 'math:smile' (module 'math' has no attribute 'smile'); "
            "write it as package.module:callable",
        ),
        ("target", ":x", "cannot import target ':x' (Empty module name); write it as package.module:callable"),
        ("target", "math:pi", "target 'math:pi' is a float, not a callable; name a function or class"),
    ],
)
def test_a_miss_says_what_exists(kind, name, message):
    with pytest.raises(RequestError) as caught:
        locate(kind, name)
    assert str(caught.value) == message


def test_an_unreachable_hub_is_no_fault_of_the_request(monkeypatch, tmp_path):
    import huggingface_hub

    def offline(repository, **options):
        raise ConnectionError("no route\nand more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(WorkError) as caught:
        locate("target", "hf:owner/name")
    assert str(caught.value) == "cannot fetch 'hf:owner/name' (no route); go online once, or give a local folder"


def test_only_weights_and_text_are_downloaded(monkeypatch, tmp_path):
    import huggingface_hub

    asked = {}

    def snapshot(repository, revision, allow_patterns):
        asked[repository] = allow_patterns
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert locate("target", "hf:owner/name") == tmp_path
    assert asked == {"owner/name": ["*.json", "*.safetensors", "*.txt", "*.md"]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("class", "target 'broken:build' fails (SyntaxError: invalid syntax (broken.py, line 1)); mend it"),
        ("{}['no']", "target 'broken:build' fails (KeyError: 'no'); mend it and run the same again"),
    ],
)
def test_a_module_that_fails_is_one_line(pretrained, monkeypatch, line, message):
    (pretrained / "broken.py").write_text(line)
    monkeypatch.syspath_prepend(pretrained)
    with pytest.raises(WorkError) as caught:
        locate("target", "broken:build")
    assert str(caught.value).startswith(message)


def test_a_callable_gets_the_device_if_it_takes_one():
    assert build("generator", "a:b", lambda device: device, "cuda:1") == "cuda:1"
    assert build("generator", "a:b", lambda: 3, "cuda:1") == 3


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("weights"), "generator 'a:b' fails (KeyError: 'weights'); mend it and run the same again"),
        (AssertionError(), "generator 'a:b' fails (AssertionError); mend it and run the same again"),
        (OSError("no file\nat all"), "generator 'a:b' fails (OSError: no file); mend it and run the same again"),
        (WorkError("no room"), "no room"),
    ],
)
def test_a_callable_that_fails_is_one_line(error, message):
    def fail():
        raise error

    with pytest.raises(WorkError) as caught:
        build("generator", "a:b", fail, "cpu")
    assert str(caught.value) == message


def test_what_lasts_is_found_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "shipped", lambda kind: ["faces-stylegan2"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "faces-stylegan2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert lasting("generator", "mine") == lasting("generator", Path("mine")) == str(tmp_path / "mine")
    assert lasting("generator", "faces-stylegan2") == "faces-stylegan2"  # the shipped one
    assert lasting("generator", Path("faces-stylegan2")) == str(tmp_path / "faces-stylegan2")
    assert lasting("target", "package.module:build") == "package.module:build"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "target",
            "target '{}' is a file of no kind that is read; give an .onnx file, a folder, or a 'mod",
        ),
        (
            "generator",
            "generator '{}' is a file of no kind that is read; give a StyleGAN's .pkl or .pt, a",
        ),
    ],
)
def test_a_file_is_told_from_a_name(tmp_path, kind, message):
    (tmp_path / "net.bin").write_bytes(b"x")
    with pytest.raises(RequestError) as caught:
        locate(kind, str(tmp_path / "net.bin"))
    assert str(caught.value).startswith(message.format(tmp_path / "net.bin"))
    with pytest.raises(RequestError, match="is no folder; there is none at that place"):
        locate(kind, str(tmp_path / "nothing"))
