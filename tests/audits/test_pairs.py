import json

import numpy as np
import pytest
import torch

from sia_gen.core.errors import RequestError
from tests.audits.conftest import run


@pytest.fixture
def together(planted):
    """A target whose output follows the product of two attributes, and neither alone."""
    generator, space = planted.generator, planted.space
    into = torch.linalg.pinv(space.directions) @ torch.eye(len(space.attributes))  # codes → attributes
    matrix = torch.linalg.pinv(generator.matrix.detach())

    def predict(images):
        codes = (images.flatten(1) - generator.offset) @ matrix.T  # [B, L]
        moved = codes @ into  # [B, K]
        value = moved[:, 0] * moved[:, 1]
        return torch.stack([-value, value], dim=1)

    planted.target.predict = predict
    return planted


def test_two_that_work_together_are_told(together, monkeypatch):
    sample = together.generator.sample
    monkeypatch.setattr(together.generator, "sample", lambda seeds: 0.001 * sample(seeds))
    report = run(together, faces=6, pairs=[("a2", "a3"), ("a0", "a1")])
    first, second = report.histogram["pairs"]
    assert first["name"] == "a0 + a1"
    assert first["beyond_interval"][0] > 0
    assert first["beyond"] > 5 * abs(second["beyond"])
    assert "a0 + a1" in (report.folder / "report.html").read_text()


def test_a_pair_moves_its_two_attributes_only(problem, tmp_path):
    report = run(problem, tmp_path / "run", pairs=[("a3", "a1")])
    frame = report.to_pandas().query("arm == 'a3 + a1' and correct")
    assert np.abs(frame[["omega_a1", "omega_a3"]].to_numpy()).max() > 0
    assert frame[["omega_a0", "omega_a2"]].isna().all().all()
    (row,) = report.histogram["pairs"]
    assert row["attempted"] == len(frame)
    assert row["successes"] == frame["success"].sum()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["pairs"] == ["a3 + a1"]
    with pytest.raises(RequestError, match="holds a run with pairs="):
        run(problem, tmp_path / "run")


def test_a_pair_asked_for_twice_is_refused(problem):
    with pytest.raises(RequestError, match=r"the pair 'a1 \+ a0' is asked for twice; name it once"):
        run(problem, pairs=[("a0", "a1"), ("a1", "a0")])


def test_without_pairs_there_is_no_section(finished):
    assert json.loads((finished / "histogram.json").read_text())["pairs"] == []
    assert "Pairs of attributes" not in (finished / "report.html").read_text()
