"""The hub, without a network: what is asked of it, and what it says in one line."""

import json

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from sia_gen import push_to_hub
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.hub import PLAIN, fetch, fetch_public


@pytest.fixture
def model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"sia_gen": {}}))
    (tmp_path / "README.md").write_text("# mine\n")
    return tmp_path


@pytest.fixture
def hub(monkeypatch):
    asked = []

    class Hub:
        def __init__(self, token=None):
            self.token = token

        def create_repo(self, repository, *, private, exist_ok):
            asked.append((self.token, repository, private, exist_ok))
            return f"https://huggingface.co/{repository}"

        def upload_folder(self, *, repo_id, folder_path, allow_patterns):
            asked.append((repo_id, folder_path, allow_patterns))

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    return asked


def test_a_folder_goes_up_with_its_card_and_nothing_that_runs(model, hub):
    assert push_to_hub(model, "me/mine", private=True, token="t") == "https://huggingface.co/me/mine"
    assert hub[0] == ("t", "me/mine", True, True)
    assert hub[1] == ("me/mine", model, [*PLAIN, "*.jpg", "*.png"])


@pytest.mark.parametrize("lacking", ["config.json", "README.md"])
def test_a_folder_that_lacks_something_stays(model, hub, lacking):
    (model / lacking).unlink()
    with pytest.raises(RequestError, match=lacking):
        push_to_hub(model, "me/mine")
    assert not hub


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (HFValidationError("Repo id must be"), RequestError, r"'me mine' is not a hub id \(Repo id must be\)"),
        (OfflineModeIsEnabled("offline"), WorkError, r"cannot push to 'me mine' \(offline\); log in"),
    ],
)
def test_what_the_hub_refuses_is_one_line(model, hub, monkeypatch, error, kind, message):
    def refuse(self, repository, **options):
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    with pytest.raises(kind, match=message):
        push_to_hub(model, "me mine")


def test_a_revision_is_asked_for(monkeypatch, tmp_path):
    asked = {}

    def snapshot(name, **options):
        asked.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert fetch("me/mine@v2") == tmp_path
    assert asked == {"name": "me/mine", "revision": "v2", "allow_patterns": list(PLAIN)}
    fetch("me/mine")
    assert asked["revision"] is None


@pytest.mark.parametrize(
    ("kind", "raised", "message"),
    [
        (
            RepositoryNotFoundError,
            RequestError,
            "the hub shows no 'hf:me/mine'; mend the name; {}",
        ),
        (GatedRepoError, RequestError, "'hf:me/mine' is shown to few; ask for it on its page; {}"),
        (RevisionNotFoundError, RequestError, "'hf:me/mine' has no such revision; name one that its page lists"),
        (HfHubHTTPError, WorkError, r"cannot fetch 'hf:me/mine' \(said\); go online once, or give a local folder"),
        (type("ConnectError", (Exception,), {}), WorkError, r"cannot fetch 'hf:me/mine' \(said\); go online once"),
    ],
)
def test_what_cannot_be_had_of_the_hub_is_one_line(monkeypatch, kind, raised, message):
    error = kind.__new__(kind)
    Exception.__init__(error, "said")

    def refuse(*given, **options):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    ours, visitors = "if it is private, set HF_TOKEN", "only models that all may see are fetched here"
    for get, private in ((lambda: fetch("me/mine"), ours), (lambda: fetch_public("me/mine", dict), visitors)):
        with pytest.raises(raised, match=f"^{message.format(private)}"):
            get()
