import json

import pytest

from sia_gen.core.errors import RequestError
from sia_gen.generators.load import load_generator
from sia_gen.generators.stylegan2 import StyleGAN2
from tests.generators.test_stylegan2 import tiny


def test_loads_a_folder(tmp_path):
    tiny().save(tmp_path)
    generator = load_generator(tmp_path)
    assert isinstance(generator, StyleGAN2)
    assert generator.resolution == 16
    assert not any(parameter.requires_grad for parameter in generator.parameters())


def test_loads_a_callable():
    assert load_generator("tests.standins:colours", device="cpu").resolution > 0


def test_refuses_what_is_no_generator():
    with pytest.raises(RequestError, match=r"^generator 'builtins:dict' gave a dict; return an object with name, res"):
        load_generator("builtins:dict")


def test_an_unknown_name_lists_what_exists():
    with pytest.raises(RequestError, match=r"unknown generator 'nobody': there are .*faces-stylegan2"):
        load_generator("nobody")


def test_an_unknown_architecture_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"sia_gen": {"architecture": "vae"}}))
    with pytest.raises(RequestError, match="holds a vae, not one of stylegan2, stylegan2-ada, stylegan3, DDPMPipeline"):
        load_generator(tmp_path)


@pytest.mark.parametrize("kind", [None, ["StableDiffusionPipeline"], {"a": 1}, 3], ids=str)
def test_a_family_that_is_no_name_is_refused(tmp_path, kind):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(RequestError, match="holds what names no family, not one of stylegan2, "):
        load_generator(tmp_path)
