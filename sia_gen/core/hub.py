"""Models on the Hugging Face hub: fetched as plain data, and pushed with their card."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sia_gen.core.errors import Cancelled, RequestError, WorkError
from sia_gen.core.files import is_file
from sia_gen.core.foreign import first_line

PLAIN = ("*.json", "*.safetensors", "*.txt", "*.md")  # what is fetched: nothing that could run
OWN = re.compile(r"[\w.-]+\.(json|safetensors)")
CARD, CONFIGS = "README.md", ("config.json", "model_index.json")


def fetch(repository: str) -> Path:
    """The folder of ``owner/name`` or ``owner/name@revision`` in huggingface_hub's cache, fetched first if need be.

    ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` are honoured. Raises `RequestError` for what is no hub id and for what the hub
    does not have or show, `WorkError` where it cannot be fetched.
    """
    from huggingface_hub import snapshot_download

    name, _, revision = repository.partition("@")
    with _in_one_line(repository):
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(PLAIN)))


def fetch_public(repository: str, check: Callable[[Mapping[str, int]], None]) -> Path:
    """The same for a stranger: JSON and safetensors of a model's own folder alone, and never with ``HF_TOKEN``.

    ``check`` is given the bytes of each file before any is fetched, and raises for what is refused.
    """
    from huggingface_hub import HfApi, snapshot_download

    name, _, revision = repository.partition("@")
    with _in_one_line(repository, "only models that all may see are fetched here"):
        found = HfApi(token=False).model_info(name, revision=revision or None, files_metadata=True, timeout=60)
        sizes = {file.rfilename: file.size or 0 for file in found.siblings or [] if OWN.fullmatch(file.rfilename)}
        check(sizes)
        return Path(snapshot_download(name, revision=found.sha, allow_patterns=list(sizes), token=False))


@contextmanager
def _in_one_line(repository: str, private: str = "if it is private, set HF_TOKEN") -> Iterator[None]:
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except (RequestError, WorkError, Cancelled):  # of whoever looks at what would be fetched
        raise
    except HFValidationError as error:
        raise RequestError(f"'hf:{repository}' is not a hub id ({error}); write hf:owner/name") from None
    except GatedRepoError:
        raise RequestError(f"'hf:{repository}' is shown to few; ask for it on its page; {private}") from None
    except RevisionNotFoundError:
        raise RequestError(f"'hf:{repository}' has no such revision; name one that its page lists") from None
    except RepositoryNotFoundError:
        raise RequestError(f"the hub shows no 'hf:{repository}'; mend the name; {private}") from None
    except Exception as error:  # of the hub, of the disk and of whichever library speaks HTTP
        reason = first_line(error)
        raise WorkError(f"cannot fetch 'hf:{repository}' ({reason}); go online once, or give a local folder") from None


def push_to_hub(folder: str | Path, repository: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload a model's ``folder`` with its card to ``owner/name`` on the hub, made if need be; gives its URL.

    ``token`` is that of ``HF_TOKEN`` or of a login unless given. Raises `RequestError` for a folder without a config or
    a card, or what is no hub id, `WorkError` where the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    folder = Path(folder)
    if not any(is_file(folder / name) for name in CONFIGS):
        raise RequestError(f"'{folder}' holds no model, for it has no {CONFIGS[0]}; name the folder of one")
    if not is_file(folder / CARD):
        raise RequestError(f"'{folder}' has no {CARD}; say in it what the model is, how it was made and its limits")
    hub = HfApi(token=token)
    try:
        url = hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=[*PLAIN, "*.jpg", "*.png"])
    except HFValidationError as error:
        raise RequestError(f"'{repository}' is not a hub id ({first_line(error)}); write owner/name") from None
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        raise WorkError(
            f"cannot push to '{repository}' ({first_line(error)}); log in with a token that may write"
        ) from None
    return str(url)
