"""What is shipped in `pretrained/` does what its cards say."""

import json
import re

import pytest
import torch

import sia_gen
from sia_gen.attributes.ways.unlabelled import by_sefa
from sia_gen.audits.evidence.familiar import familiar
from sia_gen.core.files import pretrained_folder, shipped
from sia_gen.core.images import from_bytes, quantise
from sia_gen.generators.foreign.stylegan2 import StyleGAN2ADA, StyleGAN2ADAConfig
from sia_gen.service.runs import FIRST_RESULT
from sia_gen.studio.factors import NAMES
from sia_gen.studio.renders import PACKED, read_renders
from sia_gen.targets.points import normalised_error
from sia_gen.targets.target import classify
from sia_gen.targets.verifier import load_verifier
from sia_gen.training.attributes import ATTRIBUTES
from sia_gen.training.everything import TARGETS
from tests.contracts import GeneratorSuite

FACES = 12  # of tests in which every attribute moves


@pytest.fixture(scope="module")
def generator():
    return sia_gen.load_generator("faces-stylegan2")


@pytest.fixture(scope="module")
def space():
    return sia_gen.load_attributes("faces-stylegan2")


@pytest.fixture(scope="module")
def verifier():
    return load_verifier()


@pytest.fixture(scope="module")
def renders():
    return read_renders(pretrained_folder() / "faces-renders")


class TestShippedGenerator(GeneratorSuite):
    @pytest.fixture
    def generator(self):
        return sia_gen.load_generator("faces-stylegan2")


def test_every_kind_is_shipped():
    assert shipped("generator") == ["faces-ddpm", "faces-stylegan2"]
    assert shipped("verifier") == ["verifier"]
    assert shipped("identity") == ["identity"]
    assert shipped("target") == sorted([*TARGETS, "landmarks-68"])
    assert (pretrained_folder() / "faces-renders" / PACKED).is_file()


def test_what_is_shipped_keeps_to_its_size():
    sizes = [path.stat().st_size for path in pretrained_folder().rglob("*") if path.is_file()]
    assert max(sizes) <= 16e6
    assert sum(sizes) <= 72e6


def test_renders_are_shipped_with_labels_and_a_card(renders):
    folder = pretrained_folder() / "faces-renders"
    assert renders.images.shape == (5000, 3, 128, 128)
    assert renders.landmarks.shape == (5000, 68, 2)
    assert renders.values.shape == (5000, len(NAMES))
    assert "sia-gen studio pack --renders renders --faces 5000" in (folder / "README.md").read_text()
    assert (folder / "sheet.jpg").is_file()


def test_nothing_that_training_left_is_shipped():
    for kind in ("*.pt", "*.png", "parts"):
        assert {path.name for path in pretrained_folder().rglob(kind)} <= {"response.png", "audit.png"}


@pytest.mark.parametrize("name", ["faces-stylegan2", "faces-ddpm", "verifier", "identity", "landmarks-68", *TARGETS])
def test_every_model_has_a_card_with_its_recipe_and_figures(name):
    folder = pretrained_folder() / name
    card = (folder / "README.md").read_text()
    for picture in re.findall(r"\]\((\S+\.(?:jpg|png))\)", card):
        assert (folder / picture).is_file()
    for word in ("## Data", "## Recipe", "## Figures", "## Limits", "sia-gen train", "license: apache-2.0"):
        assert word in card
    figures = json.loads((folder / "training.json").read_text())
    assert f"{figures['settings']['steps']} steps" in card
    assert f"seed {figures['settings']['seed']}" in card


def test_the_ten_lines_of_the_readme_run(tmp_path, capsys):
    readme = (pretrained_folder().parent / "README.md").read_text()
    code = readme.split("```python\n")[1].split("```")[0]
    assert "faces=32" in code
    code = code.replace("faces=32", "faces=3").replace("runs/mine", str(tmp_path / "mine"))
    exec(compile(code, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_the_attributes_are_there_with_units_and_ranges(space):
    assert space.names == list(ATTRIBUTES)
    for attribute in space.attributes:
        assert attribute.low < 0 < attribute.high
        assert attribute.unit


def test_attributes_move_what_they_name_as_their_space_says_and_little_else(generator, space, verifier):
    codes = generator.sample(range(500, 500 + FACES))
    names = [factor.name for factor in verifier.factors]
    columns = [names.index(name) for name in space.names]
    follows = torch.tensor([verifier.factors[column].follows for column in columns])

    def moved(attribute, low, high):
        """Change of each reading in sd ``[N, K]`` from ``low`` to ``high``, per sd asked."""
        ends = []
        for value in (low, high):
            omega = space.omega({attribute.name: value}).expand(len(codes), -1)
            read = verifier.read(quantise(generator.render(codes, space.edits(omega), space.space)))
            ends.append((read / verifier.sd)[:, columns] / follows)
        return (ends[1] - ends[0]) * attribute.sd / (high - low)

    with torch.inference_mode():  # a slope is over the whole safe range, leakage about the face as it is
        own = torch.stack([moved(a, a.low, a.high) for a in space.attributes]).mean(1).diagonal()
        response = torch.stack([moved(a, -a.sd, a.sd) for a in space.attributes])  # [K moved, N, K read]
    others = response.abs().mean(1).fill_diagonal_(0).sum(1) / (len(own) - 1)
    stated = {key: torch.tensor([getattr(a, key) for a in space.attributes]) for key in ("slope", "leakage")}
    assert ((stated["slope"] - 1).abs() <= 0.15).all()
    assert (own - stated["slope"]).abs().max() < 0.2
    assert (others - stated["leakage"]).abs().max() < 0.05
    assert others.mean() < 0.12


@pytest.mark.parametrize("name", TARGETS)
def test_classifiers_do_on_shipped_renders_what_their_card_says(renders, name):
    target = sia_gen.load_target(name)
    index = torch.arange(0, len(renders), 10)
    with torch.inference_mode():
        told = target.predict(from_bytes(renders.images[index])).argmax(1)
    truth = classify(renders.value(target.label.attribute)[index], target.label.thresholds)
    shares = [(told[truth == label] == label).float().mean() for label in truth.unique()]
    figures = json.loads((pretrained_folder() / name / "training.json").read_text())["figures"]
    stated, held_out = figures["accuracy"], figures["held_out"]
    error = (stated * (1 - stated) * (1 / held_out + 1 / len(index))) ** 0.5  # both are shares of so many faces
    assert torch.stack(shares).mean().item() == pytest.approx(stated, abs=3 * error)


def test_landmarks_lie_on_shipped_renders_where_the_card_says(renders):
    index = torch.arange(0, len(renders), 20)
    with torch.inference_mode():
        found = sia_gen.load_target("landmarks-68").predict(from_bytes(renders.images[index]))
    assert normalised_error(found, renders.landmarks[index]).mean() < 0.04


def test_the_picture_of_the_readme_is_that_of_the_first_result():
    picture = pretrained_folder() / "smile-classifier-planted" / "audit.png"
    assert picture.read_bytes() == (FIRST_RESULT / "histogram.png").read_bytes()


def test_the_planted_cause_is_found_by_a_small_audit():
    report = sia_gen.audit("faces-stylegan2", "smile-classifier-planted", ["hair_colour", "light_azimuth"], faces=24)
    first, second = report.histogram["attributes"]
    assert (first["name"], first["stands_out"], second["stands_out"]) == ("light_azimuth", True, False)
    assert first["output_change"] > 2 * second["output_change"]
    assert first["output_change"] > 2 * first["control"]["output_change"]


def test_the_verifier_knows_the_embedded_faces_and_no_others(generator, verifier, tmp_path, caplog):
    torch.manual_seed(0)
    sizes = {"channels": (16, 16, 8, 8, 8), "z_dim": 16, "w_dim": 16, "mapping": (16, 16)}
    foreign = StyleGAN2ADA(StyleGAN2ADAConfig(name="foreign", **sizes)).eval().requires_grad_(False)
    assert familiar(generator, verifier) > 0.9
    assert familiar(foreign, verifier) < 0.1
    report = sia_gen.audit(foreign, "smile-classifier", by_sefa(foreign, 2), faces=2, out=tmp_path / "run")
    assert report.histogram["gate"] is None
    assert report.histogram["reference"] == "target's own prediction"
    assert "0% of the faces of 'foreign' look so to it: what it reads is left out" in " ".join(
        report.histogram["checks"]
    )
