"""Two processes that train together on one CPU, as torchrun starts them, and ``accelerate launch`` on GPUs."""

import json
import subprocess
import sys

import pytest
import torch

from sia_gen.targets.verifier import load_verifier
from sia_gen.training import verifier as verifier_recipe

LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
SCRIPT = """
import json, os, sys
from sia_gen.training import verifier
verifier.SIZES, verifier.SIDE = (16, 32), 32
figures = verifier.train_verifier(sys.argv[1], sys.argv[2], steps=300)
open(f"{sys.argv[2]}/told-{os.environ['RANK']}.json", "w").write(json.dumps(figures))
"""


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(verifier_recipe, "SIZES", (16, 32))
    monkeypatch.setattr(verifier_recipe, "SIDE", 32)


def test_two_processes_share_each_batch_and_one_writes(renders, tmp_path, small):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, *LAUNCH, str(tmp_path / "script.py"), str(renders), str(tmp_path / "two")]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    first, second = (json.loads((tmp_path / "two" / f"told-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second == json.loads((tmp_path / "two" / "training.json").read_text())["figures"]
    assert first["light_azimuth"]["r2"] > 0.6
    alone = verifier_recipe.train_verifier(renders, tmp_path / "one", steps=300)
    assert first["light_azimuth"]["r2"] == pytest.approx(alone["light_azimuth"]["r2"], abs=0.25)
    networks = [load_verifier(tmp_path / name).model.network for name in ("one", "two")]
    assert all(a.shape == b.shape for a, b in zip(*(n.state_dict().values() for n in networks), strict=True))
    assert torch.load(tmp_path / "two" / "checkpoint.pt", weights_only=True)["step"] == 300
