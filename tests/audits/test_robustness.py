"""The report of what a model stands, and the corruptions in it."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sia_gen import ModuleTarget, load_target
from sia_gen.audits.evidence.rendered import DrawnOnce
from sia_gen.audits.proof import baselines
from sia_gen.audits.proof import robustness as module
from sia_gen.audits.proof.attacks import attack_table
from sia_gen.audits.proof.baselines import ensemble
from sia_gen.audits.proof.corruptions import CORRUPTIONS, STRENGTHS, corrupted
from sia_gen.audits.proof.figures import figures
from sia_gen.audits.proof.robustness import robustness
from sia_gen.core.errors import RequestError
from sia_gen.core.images import quantise
from sia_gen.service.commands.bench_tables import show_robustness
from sia_gen.studio.factors import NAMES
from sia_gen.studio.renders import read_renders, shipped_renders
from sia_gen.targets.task import Classification
from tests.standins import colours


@pytest.fixture(scope="module")
def pictures():
    return read_renders(shipped_renders(), 4).images.float() / 255


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_grows_with_its_strength_and_repeats_itself(pictures, name):
    made = [corrupted(name, strength, pictures, 0) for strength in range(1, STRENGTHS + 1)]
    apart = [(each - pictures).square().mean().item() for each in made]
    assert apart == sorted(apart)
    assert apart[0] > 1e-5
    for each in made:
        assert each.shape == pictures.shape
        assert 0 <= each.min() <= each.max() <= 1
    assert torch.equal(made[2], corrupted(name, 3, pictures, 0))


def test_brightness_makes_brighter(pictures):
    assert corrupted("brightness", 1, pictures, 0).mean() > pictures.mean() + 0.05


def test_a_report_says_what_a_classifier_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "CLEAN", 60)
    monkeypatch.setattr(module, "CORRUPTED", 24)
    monkeypatch.setattr(module, "EXTREME", 2)
    monkeypatch.setattr(baselines, "QUERIES", 20)
    found = robustness(
        ["smile-classifier-planted"], attributes=["light_azimuth", "yaw"], faces=4, radii=[2 / 255], steps=2,
        out=tmp_path / "robustness.json",
    )  # fmt: skip
    assert json.loads((tmp_path / "robustness.json").read_text()) == json.loads(json.dumps(found))
    (report,) = found["targets"]
    target = load_target("smile-classifier-planted")
    assert report["clean"] == figures(target, read_renders(shipped_renders(), 60), (), torch.device("cpu"))
    assert report["measure"] == "balanced accuracy"
    assert report["pixels"][0]["attacks"] == ensemble(target)
    assert set(report["alone"]) == {"light_azimuth", "yaw"}
    assert report["alone"]["light_azimuth"]["success"] == report["semantic"]["success"] == 1  # its cause
    assert report["joint"]["successes"] >= report["semantic"]["successes"]
    assert set(report["extremes"]["yaw"]) == {"low", "high"}
    ends = report["extremes"]["light_azimuth"].values()
    assert sum(side["failed"] for side in ends) > 0
    assert all(len(shares) == STRENGTHS for shares in report["corruptions"].values())
    assert report["alone"]["yaw"]["valid"] is None  # nobody asked
    show_robustness(found)
    shown = capsys.readouterr().out
    assert "light_azimuth alone" in shown
    assert "rendered at the ends of attributes" in shown


def test_landmarks_have_a_report_too(monkeypatch):
    monkeypatch.setattr(module, "CLEAN", 20)
    monkeypatch.setattr(module, "CORRUPTED", 4)
    (report,) = robustness(
        ["landmarks-68"], attributes=["yaw"], faces=2, radii=[4 / 255], steps=1, confirm=False
    )["targets"]  # fmt: skip
    assert report["pixels"][0]["attacks"] == ["ours, ω = 0"]
    assert report["extremes"] is None
    assert report["clean"]["balanced"] > 0.9


def test_wrong_requests_are_refused():
    asked = ModuleTarget(lambda images: images.mean((2, 3))[:, :2], Classification(("a", "b")), differentiable=False)
    with pytest.raises(RequestError, match="gives no gradients, which this report ascends"):
        robustness([asked], faces=2, confirm=False)
    with pytest.raises(RequestError, match="radius 2 is outside 0…1"):
        robustness(["smile-classifier"], radii=[2])
    with pytest.raises(RequestError, match="there is no target; name one or more"):
        robustness([])


class Bright(nn.Module):
    """Two classes by the mean brightness, moved by ``shift``."""

    def __init__(self, shift):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, images):
        level = 40 * (images.mean(dim=(1, 2, 3)) - self.shift)
        return torch.stack([-level, level], dim=1)


def test_pictures_made_against_one_target_are_shown_to_others():
    classes, source = Classification(("dark", "bright")), colours()
    first, second = (ModuleTarget(Bright(shift), classes, name) for name, shift in (("one", 0.3), ("two", 0.3001)))
    content = attack_table(
        [first, second],
        generator=source,
        attributes=source.attributes,
        faces=4,
        epsilon=32 / 255,
        steps=4,
        baselines=["FGSM"],
        transfer=True,
        confirm=False,
    )
    rows = {(row["target"], row["attack"]): row for row in content["rows"]}
    made = rows["one", "FGSM"]
    assert set(made["transfer"]) == {"two"}
    assert made["transfer"]["two"]["successes"] == pytest.approx(made["successes"], abs=1)  # hardly another model
    assert made["transfer"]["two"]["attempted"] == made["attempted"]
    with pytest.raises(RequestError, match="'one' is the only target; name others"):
        attack_table(
            [first], generator=source, attributes=source.attributes, faces=2, baselines=[], transfer=True, confirm=False
        )
    other = ModuleTarget(Bright(0.3), Classification(("a", "b")), "other")
    with pytest.raises(RequestError, match="'other' does not tell what 'one' tells"):
        attack_table(
            [first, other],
            generator=source,
            attributes=source.attributes,
            faces=2,
            baselines=[],
            transfer=True,
            confirm=False,
        )


def test_faces_are_drawn_once_where_that_is_asked_for_alone():
    drawn = []

    def render(spec):
        drawn.append(spec.values)
        return SimpleNamespace(images=torch.full((len(spec.values), 3, 4, 4), 0.3), landmarks=torch.ones(1, 68, 2))

    studio = DrawnOnce(SimpleNamespace(resolution=4, render=render))
    codes, edits = studio.sample([0, 1]), torch.zeros(2, len(NAMES))
    for _ in range(2):  # as attacks ask, and people as they are
        studio.render(codes, edits)
    assert (len(drawn), len(studio._drawn)) == (2, 0)
    for _ in range(2):
        with studio.keeping():
            studio.render(codes)
            images = studio.render(codes, edits + 1)
    assert (len(drawn), len(studio._drawn)) == (5, 1)
    assert torch.equal(images, quantise(torch.full((2, 3, 4, 4), 0.3)))
    assert studio.landmarks.max() == 0.25
