"""Tiny diffusion models saved by diffusers itself, against its own pipelines. B faces."""

import json

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, LDMPipeline, UNet2DModel, VQModel

from sia_gen import load_generator
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.generators.foreign.diffusion import Diffusion, load_diffusion
from sia_gen.studio.factors import NAMES
from sia_gen.studio.sampling import sample_latents
from sia_gen.training.generators import diffusion as diffusion_recipe
from tests.contracts import GeneratorSuite


def unet(channels=3, side=16, **options):
    torch.manual_seed(0)
    made = UNet2DModel(
        sample_size=side, in_channels=channels, out_channels=channels, layers_per_block=1, block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4, attention_head_dim=4, **options,
    )  # fmt: skip
    return made.eval()


@pytest.fixture
def ddpm(tmp_path):
    DDPMPipeline(unet(), DDPMScheduler(num_train_timesteps=100)).save_pretrained(tmp_path / "tiny-ddpm")
    return tmp_path / "tiny-ddpm"


@pytest.fixture
def ldm(tmp_path):
    torch.manual_seed(1)
    decoder = VQModel(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=3, num_vq_embeddings=16, norm_num_groups=4,
        scaling_factor=0.5,
    )  # fmt: skip
    LDMPipeline(decoder, unet(), DDIMScheduler(num_train_timesteps=100)).save_pretrained(tmp_path / "tiny-ldm")
    return tmp_path / "tiny-ldm"


def drawn(pipeline, codes, steps):
    """What a pipeline of diffusers draws of this start noise."""
    x = codes.clone()
    pipeline.scheduler.set_timesteps(steps)
    with torch.no_grad():
        for time in pipeline.scheduler.timesteps:
            x = pipeline.scheduler.step(pipeline.unet(x, time).sample, time, x).prev_sample
        if hasattr(pipeline, "vqvae"):
            x = pipeline.vqvae.decode(x / pipeline.vqvae.config.scaling_factor).sample
    return (x / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("clip", [True, False])
def test_draws_what_diffusers_draws(ddpm, kind, clip):
    path = ddpm / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": kind, "clip_sample": clip}))
    ours = load_generator(str(ddpm))
    theirs = DDIMPipeline(ours.unet, DDIMScheduler.from_pretrained(ddpm, subfolder="scheduler"))
    codes = ours.sample([3, 4])
    torch.testing.assert_close(ours.render(codes), drawn(theirs, codes, 10), atol=1e-5, rtol=0)


def test_a_latent_one_is_decoded_as_diffusers_does(ldm):
    ours = load_generator(str(ldm))
    assert (ours.resolution, ours.name) == (32, "tiny-ldm")
    theirs = LDMPipeline.from_pretrained(ldm)
    codes = ours.sample([3])
    torch.testing.assert_close(ours.render(codes), drawn(theirs, codes, 10), atol=1e-5, rtol=0)


class TestContract(GeneratorSuite):
    @pytest.fixture
    def generator(self, ddpm):
        return load_diffusion(ddpm, steps=3)


@pytest.fixture
def told(tmp_path, monkeypatch):
    """A model that is told the studio's latents, as its recipe saves it."""
    monkeypatch.setattr(diffusion_recipe, "CHANNELS", (8, 16))
    monkeypatch.setattr(diffusion_recipe, "GROUPS", 4)
    torch.manual_seed(0)
    diffusion_recipe.save(diffusion_recipe.make_unet(16), tmp_path / "told")
    return tmp_path / "told"


class TestContractOfAToldModel(GeneratorSuite):
    @pytest.fixture
    def generator(self, told):
        return load_diffusion(told, steps=3)


def test_a_told_model_draws_what_its_latents_say(told):
    made = load_generator(str(told))
    assert (made.latents, made.steps) == (len(NAMES), diffusion_recipe.STEPS)
    z, edit = sample_latents([5, 6]), torch.zeros(2, len(NAMES))
    edit[:, 3] = 1.5
    codes = made.sample([5, 6])
    torch.testing.assert_close(codes[:, : len(NAMES)], z)  # the studio's own people
    assert torch.equal(made.codes(z, [5, 6]), codes)
    torch.testing.assert_close(made.render(codes, edit, "z"), made.render(made.codes(z + edit, [5, 6])))
    with torch.no_grad():
        x, _ = made._apart(codes)
        theirs = made.unet(x, 99, class_labels=torch.nn.functional.pad(z, (0, 0))).sample
        torch.testing.assert_close(made._said(x, z, 99), theirs)


@pytest.mark.parametrize("harm", ["latents", "population", "acts"])
def test_a_damaged_note_beside_it_is_named(told, harm):
    path = told / "config.json"
    entries = json.loads(path.read_text())
    entries[harm] = {"latents": "many", "population": {}, "acts": [1]}[harm]
    path.write_text(json.dumps(entries))
    with pytest.raises((WorkError, RequestError)) as caught:
        load_generator(str(told))
    assert "\n" not in str(caught.value)


def test_a_model_of_classes_is_refused():
    with pytest.raises(RequestError, match="'x' is told classes besides noise"):
        Diffusion("x", unet(num_class_embeds=3), DDIMScheduler(num_train_timesteps=100))


class Unrounded(torch.nn.Module):
    def forward(self, latents):
        return latents, latents.new_zeros(()), None


class TestContractOfALatentModel(GeneratorSuite):
    @pytest.fixture
    def generator(self, ldm):
        made = load_diffusion(ldm, steps=3)
        made.decoder.quantize = Unrounded()  # a staircase has no slope
        return made


def test_gradients_go_straight_past_a_code_book(ldm):
    made = load_diffusion(ldm, steps=2)
    edits = torch.zeros(1, *made.edit_shapes["h"], requires_grad=True)
    made.render(made.sample([0]), edits, "h").square().sum().backward()
    assert edits.grad.isfinite().all()
    assert edits.grad.abs().max() > 0


def test_an_edit_is_felt_by_the_picture_alone_and_in_its_range(ddpm):
    made = load_diffusion(ddpm, steps=5)
    codes, edit = made.sample([0]), torch.randn(1, *made.edit_shapes["h"])
    time, here, there, _ = made.times[0]
    with torch.no_grad():
        said = made.unet(codes, time).sample
        hook = made.unet.mid_block.register_forward_hook(lambda block, given, output: output + edit)
        changed = made.unet(codes, time).sample
        hook.remove()
        beneath = ((codes - (1 - here) ** 0.5 * changed) / here**0.5).clamp(-1, 1)
        expected = there**0.5 * beneath + (1 - there) ** 0.5 * said
        torch.testing.assert_close(made._step(codes, None, time, here, there, edit), expected)
    assert [acts for *_, acts in made.times] == [True, True, True, False, False]
    assert not torch.equal(made.render(codes, edit, "h"), made.render(codes))


def test_memory_does_not_grow_with_steps(ddpm):
    """What a backward pass keeps of the forward one."""
    kept = {}
    for steps in (2, 8):
        made, seen = load_diffusion(ddpm, steps=steps), []
        edits = torch.zeros(2, *made.edit_shapes["h"], requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, seen=seen: (seen.append(t.numel()), t)[1], lambda t: t):
            made.render(made.sample([0, 1]), edits, "h").sum()
        kept[steps] = sum(seen)
    assert kept[8] < 2 * 4 * kept[2]
    plain = []
    made = load_diffusion(ddpm, steps=8)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (plain.append(t.numel()), t)[1], lambda t: t):
        x = made.sample([0, 1]).requires_grad_()
        for time, here, there, _ in made.times:
            x = made._step(x, None, time, here, there, None)
    assert kept[8] < sum(plain) / 3


@pytest.mark.parametrize("harm", ["class", "weights", "index", "truncated", "config"])
def test_another_folder_is_refused(ddpm, harm):
    weights = ddpm / "unet" / "diffusion_pytorch_model.safetensors"
    if harm == "class":
        (ddpm / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    elif harm == "weights":
        weights.rename(ddpm / "unet" / "diffusion_pytorch_model.bin")
    elif harm == "index":
        (ddpm / "model_index.json").write_text("[]")
    elif harm == "truncated":
        weights.write_bytes(weights.read_bytes()[:100])
    else:
        (ddpm / "unet" / "config.json").write_text("{")
    with pytest.raises((RequestError, WorkError)) as caught:
        load_generator(str(ddpm))
    assert "\n" not in str(caught.value)
    assert str(ddpm) in str(caught.value)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": 101}, {"acts": (0.2, 0.8)}, {"acts": (1.5, 0.0)}])
def test_steps_that_are_none_are_refused(wrong):
    with pytest.raises(RequestError, match=f"^{next(iter(wrong))}="):
        Diffusion("x", unet(), DDIMScheduler(num_train_timesteps=100), **wrong)
