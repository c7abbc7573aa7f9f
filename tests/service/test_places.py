"""Where a service writes, and that it starts in a folder that nobody may write to."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sia_gen.service import places
from sia_gen.service.places import settle

ROOT = Path(__file__).parents[2]
NAMES = ("GRADIO_TEMP_DIR", "HF_HOME", "MPLCONFIGDIR")


@pytest.fixture
def bare(monkeypatch):
    for name in (*NAMES, "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "")
    return monkeypatch


def test_a_home_that_can_be_written_to_is_used(bare, tmp_path):
    bare.setenv("HOME", str(tmp_path))
    settle()
    assert Path(os.environ["GRADIO_TEMP_DIR"]).is_dir()
    assert "HF_HOME" not in os.environ
    assert "MPLCONFIGDIR" not in os.environ
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_without_a_home_all_is_temporary(bare, tmp_path):
    bare.setenv("HOME", str(tmp_path / "absent"))
    settle()
    for name in NAMES:
        assert os.access(os.environ[name], os.W_OK), name


def test_what_is_named_stays(bare, tmp_path):
    bare.setenv("HOME", str(tmp_path / "absent"))
    for name in NAMES:
        bare.setenv(name, "there")
    settle()
    assert [os.environ[name] for name in NAMES] == ["there"] * 3


def test_the_disk_of_a_space_is_used_where_it_has_one(bare, tmp_path):
    bare.setattr(places, "PERSISTENT", tmp_path)
    bare.setenv("SPACE_ID", "owner/name")
    settle()
    assert os.environ["HF_HOME"] == str(tmp_path / "huggingface")


SCRIPT = """
import os, sys
sys.path.insert(0, os.getcwd())
assert not os.access(".", os.W_OK)
from sia_gen.service.app import interface
interface._until_told = lambda: None
interface.launch(announce=lambda address: print("at", address))
"""


def test_starts_in_a_folder_that_cannot_be_written_to(tmp_path):
    """As on a Space, without a home, at a port and below a path of the environment's."""
    readonly = 'mount --bind . . && cd . && mount -o remount,ro,bind . && cd "$PWD" && "$@"'
    locked = ["unshare", "-m", "sh", "-c", readonly]
    if shutil.which("unshare") is None or subprocess.run([*locked, "sh", "true"], cwd=tmp_path).returncode:
        pytest.skip("no folder can be made read-only here")
    kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS", "PYTHONPATH") if name in os.environ}
    told = {"HOME": "/absent", "SPACE_ID": "owner/name", "GRADIO_SERVER_PORT": "7897", "GRADIO_ROOT_PATH": "/below"}
    command = [*locked, "sh", sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=ROOT, env=kept | told, capture_output=True, text=True, timeout=200)
    assert "at http://127.0.0.1:7897" in done.stdout, done.stderr
    for word in ("Traceback", "Permission", "Read-only"):
        assert word not in done.stderr


LENT = """
import pickle, sys, types

def GPU(duration):
    def lend(work):
        def run(*given):  # in another process: what goes there, and comes back, is pickled
            calls.append(duration)
            return pickle.loads(pickle.dumps(work(*pickle.loads(pickle.dumps(given)))))
        return run
    return lend

calls = []
sys.modules["spaces"] = types.SimpleNamespace(GPU=GPU)
from sia_gen.service import gpu
from sia_gen.service.app.attack_request import AttackRequest
gpu.Models = lambda device: calls.append(device) or Models("cpu")
from sia_gen.service.models import Models
asked = AttackRequest(generator="tests.standins:colours", target="tests.standins:is_red", face=4, steps=2)
shown = asked.run(None, None, lambda done, total, what: calls.append(what))
print(calls, len(shown.steps))
"""


def test_a_whole_attack_runs_on_a_gpu_that_is_lent():
    command = [sys.executable, "-c", LENT]
    told = os.environ | {"SPACES_ZERO_GPU": "true", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True, timeout=200)
    assert done.stdout == "['waiting for a GPU', 60, 'cuda'] 3\n", done.stderr
