"""The shipped networks are those that transformers loads, to the bit."""

import shutil

import pytest
import torch

from sia_gen.core.errors import WorkError
from sia_gen.core.files import pretrained_folder, read_config, shipped
from sia_gen.targets.formats.pretrained import Processed, load_image_model
from sia_gen.targets.formats.resnet import ResNet, load_resnet, plain

NAMES = [name for kind in ("target", "verifier", "identity") for name in shipped(kind)]
RESNETS = [name for name in NAMES if plain(read_config(pretrained_folder() / name / "config.json"))]


@pytest.fixture
def elsewhere(tmp_path):
    """A copy of a shipped folder, which is left to transformers."""
    return lambda name: shutil.copytree(pretrained_folder() / name, tmp_path / name)


def test_most_of_what_is_shipped_is_one():
    assert {"verifier", "identity", "smile-classifier", "age-classifier-planted"} <= set(RESNETS)


@pytest.mark.parametrize("name", ["verifier", "identity", "age-classifier"])
def test_answers_as_transformers_network_does(name, elsewhere):
    ours, theirs = load_image_model(pretrained_folder() / name), load_image_model(elsewhere(name), exact=False)
    assert isinstance(ours.network, ResNet)
    assert type(theirs.network).__name__ == "ResNetForImageClassification"
    assert not isinstance(theirs.preprocessing, Processed)
    assert ours.digest() == theirs.digest()
    assert ours.network.config.num_labels == theirs.network.config.num_labels
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(images), theirs(images))
    hidden = [model.network.base_model(model.preprocessing(images)).pooler_output for model in (ours, theirs)]
    assert torch.equal(*hidden)


def test_transformers_reads_what_it_saves(tmp_path):
    made = load_image_model(pretrained_folder() / "smile-classifier")
    made.network.save_pretrained(tmp_path)
    shutil.copyfile(
        pretrained_folder() / "smile-classifier" / "preprocessor_config.json", tmp_path / "preprocessor_config.json"
    )
    again = load_image_model(tmp_path, exact=False)
    assert again.digest() == made.digest()
    assert again.config["sia_gen"] == made.config["sia_gen"]


def test_damaged_weights_are_one_line(elsewhere):
    folder = elsewhere("smile-classifier")
    config = read_config(folder / "config.json")
    with pytest.raises(WorkError, match=r"^cannot load '.*' \(Error\(s\) in loading state_dict for ResNet:\); fetch"):
        load_resnet(folder, config | {"hidden_sizes": [32, 64, 128, 128]})
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(WorkError, match="cannot read weights"):
        load_resnet(folder, config)
