import math

import pytest
import torch
from torch.nn import functional as F

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.modules import one_seed
from sia_gen.core.seeds import normals
from sia_gen.generators.mapping import tents
from sia_gen.generators.stylegan2 import ModulatedConv, StyleGAN2, StyleGAN2Config
from sia_gen.studio.factors import NAMES
from sia_gen.studio.people import population
from sia_gen.studio.sampling import sample_latents
from tests.contracts import GeneratorSuite


def tiny(**changes):
    settings = {"name": "tiny", "latents": 5, "width": 12, "channels": (8, 8, 6)} | changes
    with one_seed(3):
        return StyleGAN2(StyleGAN2Config(**settings)).eval().requires_grad_(False)


class TestStyleGAN2(GeneratorSuite):
    @pytest.fixture
    def generator(self):
        return tiny()


class TestStyleGAN2WithNoise(GeneratorSuite):
    @pytest.fixture
    def generator(self):
        model = tiny(noise=True)
        for layer in (*model.synthesis.first, *model.synthesis.second):
            layer.noise_strength.fill_(0.3)
        return model


class TestStyleGAN2WithLandmarks(GeneratorSuite):
    @pytest.fixture
    def generator(self):
        return tiny(knots=4, landmarks=3)


def test_modulating_activations_equals_modulating_weights():
    with one_seed(0):
        layer = ModulatedConv(4, 6, 3, 5)
        x, w = torch.randn(2, 4, 7, 7), torch.randn(2, 5)
    made = layer(x, w)
    for face in range(2):
        weight = layer.weight * layer.scale * layer.style(w[face : face + 1])[0][:, None, None]
        weight = weight / weight.square().sum((1, 2, 3), keepdim=True).add(1e-8).sqrt()  # equations 1 and 3
        torch.testing.assert_close(made[face : face + 1], F.conv2d(x[face : face + 1], weight, layer.bias, padding=1))


def test_demodulated_outputs_have_unit_variance():
    with one_seed(0):
        layer = ModulatedConv(64, 32, 3, 8)
        made = layer(torch.randn(4, 64, 16, 16), 3 * torch.randn(4, 8))
    assert made[:, :, 1:-1, 1:-1].var().item() == pytest.approx(1, abs=0.1)


def test_fewer_levels_give_the_smaller_picture():
    model = tiny()
    codes = model.sample([0])
    assert model.synthesis(codes).shape == (1, 3, 16, 16)
    assert model.synthesis(codes, 2).shape == (1, 3, 8, 8)
    assert torch.equal(model.synthesis(codes, 3), model.synthesis(codes))


def test_where_landmarks_lie_is_seen_in_the_picture():
    model = tiny(knots=4, landmarks=3)
    codes = model.sample([0])
    points = model.synthesis.place(codes[:, 0])
    assert points.shape == (1, 3, 2)
    start = model.edit_shapes["s"].numel() - 6
    moved = torch.zeros(1, *model.edit_shapes["s"])
    moved[0, start:] = 1.0  # the last of the style
    torch.testing.assert_close(
        model.synthesis.place(codes[:, 0], moved[:, start:]) - points, torch.full((1, 3, 2), 0.1)
    )
    assert (model.render(codes, moved, "s") - model.render(codes)).abs().max() > 0.01


def test_a_piecewise_path_bends_where_the_latent_does():
    found = tents(torch.tensor([[-9.0], [0.0], [0.3], [9.0]], dtype=torch.double), 4)
    assert found.shape == (4, 4)
    near = found / (2 * math.sqrt(4)) + 1 / 4
    torch.testing.assert_close(near.sum(1), torch.ones(4, dtype=torch.double))
    assert near[0].argmax() == 0
    assert near[3].argmax() == 3
    torch.testing.assert_close(near[1], torch.tensor([0, 0.5, 0.5, 0], dtype=torch.double))


def test_noise_changes_the_picture_and_is_fixed():
    model = tiny(noise=True)
    codes = model.sample([0])
    without = model.render(codes)
    for layer in (*model.synthesis.first, *model.synthesis.second):
        layer.noise_strength.fill_(0.3)
    assert (model.render(codes) - without).abs().max() > 1e-3
    assert torch.equal(model.render(codes), model.render(codes))


def test_a_seed_is_the_same_person_as_in_the_studio():
    model = tiny(latents=len(NAMES), population=population().to_json())
    assert torch.equal(model.sample([7]), model.codes(sample_latents([7])))


def test_without_a_population_latents_are_independent():
    model = tiny(latents=5)
    assert torch.equal(model.sample([7]), model.codes(normals([7], (5,), "face")))


def test_saves_and_loads(tmp_path):
    model = tiny(noise=True)
    model.save(tmp_path)
    again = StyleGAN2.load(tmp_path)
    assert again.config == model.config
    codes = model.sample([1, 2])
    torch.testing.assert_close(again.render(codes), model.render(codes), rtol=0, atol=5e-3)  # weights are fp16
    again.save(tmp_path / "..")
    torch.testing.assert_close(StyleGAN2.load(tmp_path / "..").render(codes), again.render(codes), rtol=0, atol=0)


def test_an_edit_in_w_is_the_same_carried_into_s():
    model = tiny(noise=True)
    codes = model.sample(range(3))
    edits = 0.3 * torch.randn(3, *model.edit_shapes["w"], generator=torch.Generator().manual_seed(1))
    carried = model.carry(edits)
    assert carried.shape == (3, *model.edit_shapes["s"])
    here, there = model.render(codes, edits, "w"), model.render(codes, carried, "s")
    torch.testing.assert_close(here, there, rtol=0, atol=1e-5)
    assert (here - model.render(codes)).abs().max() > 0.01


def test_each_number_of_the_style_matters():
    model = tiny()
    codes = model.sample([0])
    edit = torch.zeros(1, *model.edit_shapes["s"], requires_grad=True)
    picture = model.synthesis(codes, shift=edit)
    weights = torch.randn(picture.shape, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((picture * weights).sum(), edit)
    assert (gradient != 0).float().mean() > 0.99


def test_an_unknown_edit_space_is_named():
    model = tiny()
    codes = model.sample([0])
    with pytest.raises(RequestError, match="'tiny' cannot be edited in 'h'; it has w, s"):
        model.render(codes, torch.zeros_like(codes), "h")


def test_truncated_weights_are_named(tmp_path):
    tiny().save(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WorkError, match=r"cannot read weights '.*model.safetensors'.*fetch the file again"):
        StyleGAN2.load(tmp_path)


def test_weights_of_another_size_are_refused(tmp_path):
    tiny().save(tmp_path)
    config = (tmp_path / "config.json").read_text().replace('"width": 12', '"width": 16')
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(WorkError, match=r"is no StyleGAN2 generator .*; fetch it again"):
        StyleGAN2.load(tmp_path)
