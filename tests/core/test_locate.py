import pytest

from sia_gen.core import locate as module
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.locate import locate


@pytest.fixture(autouse=True)
def pretrained(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "pretrained_folder", lambda: tmp_path)
    monkeypatch.setattr(module, "shipped", lambda kind: ["faces-a", "faces-b"] if kind == "generator" else [])
    return tmp_path


def test_a_shipped_name_and_a_folder_become_folders(pretrained, tmp_path):
    assert locate("generator", "faces-a") == pretrained / "faces-a"
    assert locate("generator", tmp_path) == tmp_path


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

    def snapshot(repository, allow_patterns):
        asked[repository] = allow_patterns
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert locate("target", "hf:owner/name") == tmp_path
    assert asked == {"owner/name": ["*.json", "*.safetensors", "*.txt", "*.md"]}
