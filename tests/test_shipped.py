"""What is shipped in `pretrained/` does what its cards say."""

import json

import pytest
import torch

import sia_gen
from sia_gen.core.files import pretrained_folder, shipped
from sia_gen.core.images import quantise
from sia_gen.studio.factors import NAMES
from sia_gen.studio.renders import read_renders
from sia_gen.targets.verifier import load_verifier
from tests.contracts import GeneratorSuite

ATTRIBUTES = {
    "age", "sex", "skin_tone", "weight", "yaw", "pitch", "light_azimuth", "light_elevation", "light_strength", "smile",
    "mouth_open", "hair_colour",
}  # fmt: skip


@pytest.fixture(scope="module")
def generator():
    return sia_gen.load_generator("faces-stylegan2")


@pytest.fixture(scope="module")
def space():
    return sia_gen.load_attributes("faces-stylegan2")


@pytest.fixture(scope="module")
def verifier():
    return load_verifier()


class TestShippedGenerator(GeneratorSuite):
    @pytest.fixture
    def generator(self):
        return sia_gen.load_generator("faces-stylegan2")


def test_every_kind_is_shipped():
    assert shipped("generator") == ["faces-stylegan2"]
    assert shipped("verifier") == ["verifier"]
    assert shipped("target") == ["smile-classifier", "smile-classifier-planted"]


def test_renders_are_shipped_with_labels_and_a_card():
    folder = pretrained_folder() / "faces-renders"
    data = read_renders(folder)
    assert data.images.shape == (5000, 3, 128, 128)
    assert data.landmarks.shape == (5000, 68, 2)
    assert data.values.shape == (5000, len(NAMES))
    assert "sia-gen studio pack --renders renders --faces 5000" in (folder / "README.md").read_text()
    assert (folder / "sheet.jpg").is_file()


def test_what_is_shipped_keeps_to_its_size():
    sizes = [path.stat().st_size for path in pretrained_folder().rglob("*") if path.is_file()]
    assert max(sizes) <= 16e6
    assert sum(sizes) <= 48e6


@pytest.mark.parametrize("name", ["faces-stylegan2", "verifier", "smile-classifier", "smile-classifier-planted"])
def test_every_model_has_a_card_with_its_recipe_and_figures(name):
    folder = pretrained_folder() / name
    card = (folder / "README.md").read_text()
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
    assert set(space.names) >= ATTRIBUTES
    for attribute in space.attributes:
        assert attribute.low < 0 < attribute.high
        assert attribute.unit


def test_attributes_move_what_they_name_as_their_space_says_and_little_else(generator, space, verifier):
    codes = generator.sample(range(500, 548))
    names = [factor.name for factor in verifier.factors]
    columns = [names.index(name) for name in space.names]
    with torch.inference_mode():
        moved = []
        for attribute in space.attributes:
            ends = []
            for sign in (-1, 1):
                omega = space.omega({attribute.name: sign * attribute.sd}).expand(len(codes), -1)
                read = verifier.read(quantise(generator.render(codes, space.edits(omega), space.space)))
                ends.append((read / verifier.sd)[:, columns])
            moved.append((ends[1] - ends[0]).mean(0) / 2)
    response = torch.stack(moved)  # [K moved, K read] in sd per sd
    own = response.diagonal()
    others = (response - torch.diag(own)).abs().sum(1) / (len(own) - 1)
    stated = torch.tensor([attribute.slope for attribute in space.attributes])
    assert (own - stated).abs().max() < 0.2
    assert others.max() < 0.1
    readable = [index for index, name in enumerate(space.names) if name not in ("weight", "sex")]  # see the card
    assert own[readable].min() > 0.5


def test_the_planted_cause_is_found_by_a_small_audit():
    report = sia_gen.audit("faces-stylegan2", "smile-classifier-planted", ["hair_colour", "light_azimuth"], faces=24)
    first, second = report.histogram["attributes"]
    assert (first["name"], first["stands_out"], second["stands_out"]) == ("light_azimuth", True, False)
    assert first["output_change"] > 2 * second["output_change"]
    assert first["output_change"] > 2 * first["control"]["output_change"]
