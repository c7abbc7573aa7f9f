"""Tiny Stable Diffusion, XL and latent consistency models saved by diffusers itself, against its own parts."""

import json
import logging

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)  # fmt: skip
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from sia_gen import load_generator
from sia_gen.attributes.ways.unlabelled import by_prompts
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.generators import offload
from sia_gen.generators.foreign.attention import attend
from tests.contracts import GeneratorSuite

WIDTH = 16


def tokenizer(folder):
    folder.mkdir(exist_ok=True)
    letters = [chr(number) for number in range(97, 123)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters), "!</w>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=8)


def encoder(family, seed):
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=60, hidden_size=WIDTH, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=8, projection_dim=12, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return family(config).eval()


def unet(**options):
    torch.manual_seed(2)
    made = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **{"cross_attention_dim": WIDTH, **options},
    )  # fmt: skip
    return made.eval()


def decoder():
    torch.manual_seed(3)
    return AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4, sample_size=16,
    ).eval()  # fmt: skip


def scheduler():
    return DDIMScheduler(num_train_timesteps=100, clip_sample=False, beta_schedule="scaled_linear", steps_offset=1)


@pytest.fixture
def plain(tmp_path):
    pipeline = StableDiffusionPipeline(
        decoder(), encoder(CLIPTextModel, 0), tokenizer(tmp_path / "words"), unet(), scheduler(), None, None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(tmp_path / "tiny-sd")
    return tmp_path / "tiny-sd"


@pytest.fixture
def large(tmp_path):
    words = tokenizer(tmp_path / "words")
    pipeline = StableDiffusionXLPipeline(
        decoder(), encoder(CLIPTextModel, 0), encoder(CLIPTextModelWithProjection, 1), words, words,
        unet(
            cross_attention_dim=2 * WIDTH, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=12 + 6 * 8,
        ),
        scheduler(),
    )  # fmt: skip
    pipeline.save_pretrained(tmp_path / "tiny-xl")
    return tmp_path / "tiny-xl"


@pytest.fixture
def consistent(tmp_path):
    pipeline = LatentConsistencyModelPipeline(
        decoder(), encoder(CLIPTextModel, 0), tokenizer(tmp_path / "words"), unet(time_cond_proj_dim=8),
        LCMScheduler(num_train_timesteps=100, original_inference_steps=50), None, None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(tmp_path / "tiny-lcm")
    return tmp_path / "tiny-lcm"


@pytest.mark.parametrize("guidance", [1, 4])
@pytest.mark.parametrize("kind", ["plain", "large"])
def test_draws_what_diffusers_draws(request, kind, guidance):
    folder = request.getfixturevalue(kind)
    ours = load_generator(f"{folder}?prompt=a man&guidance={guidance}&steps=3")
    family = StableDiffusionPipeline if kind == "plain" else StableDiffusionXLPipeline
    theirs = family.from_pretrained(folder)
    theirs.set_progress_bar_config(disable=True)
    codes = ours.sample([3, 4])
    drawn = theirs(
        ["a man"] * 2, negative_prompt=[""] * 2, latents=codes, num_inference_steps=3, guidance_scale=guidance,
        output_type="pt", height=16, width=16,
    ).images  # fmt: skip
    assert (ours.resolution, ours.name) == (16, folder.name)
    torch.testing.assert_close(ours.render(codes), drawn, atol=1e-4, rtol=0)


def test_a_consistent_model_is_told_its_guidance(consistent):
    ours = load_generator(f"{consistent}?prompt=a man&guidance=3&steps=2")
    theirs = LatentConsistencyModelPipeline.from_pretrained(consistent)
    told = theirs.get_guidance_scale_embedding(torch.tensor([2.0]), embedding_dim=8)
    x, time = torch.randn(1, 4, 8, 8), 50
    context, _ = theirs.encode_prompt("a man", "cpu", 1, False)
    with torch.no_grad():
        expected = theirs.unet(x, time, encoder_hidden_states=context, timestep_cond=told).sample
        torch.testing.assert_close(ours._said(x, ours.asked[None], time), expected, atol=1e-5, rtol=0)


class TestContract(GeneratorSuite):
    @pytest.fixture(params=["plain", "large", "consistent"])
    def generator(self, request):
        return load_generator(f"{request.getfixturevalue(request.param)}?prompt=a face&steps=2")


def test_an_edit_in_text_is_another_prompt(large):
    ours, other = (load_generator(f"{large}?prompt={prompt}&steps=2") for prompt in ("a man", "an old man"))
    codes = ours.sample([0])
    edit = other.encode(["an old man"]) - other.encode(["a man"])
    torch.testing.assert_close(ours.render(codes, edit, "text"), other.render(codes), atol=1e-5, rtol=0)


def test_a_single_step_is_edited(plain):
    made = load_generator(f"{plain}?steps=1")
    edits = torch.zeros(1, *made.edit_shapes["h"], requires_grad=True)
    made.render(made.sample([0]), edits, "h").square().sum().backward()
    assert edits.grad.abs().max() > 0


def test_prompts_are_attributes(plain):
    made = load_generator(f"{plain}?prompt=a face&steps=2")
    space = by_prompts(made, {"old": ("an old face", "a young face"), "smile": ("a smile", "no smile")})
    assert (space.space, space.names) == ("text", ["old", "smile"])
    wanted = (made.encode(["an old face"]) - made.encode(["a young face"]))[0]
    torch.testing.assert_close(space.directions[0], wanted)
    with pytest.raises(RequestError, match="has no prompt to edit"):
        by_prompts(load_generator("faces-stylegan2"), {"old": ("a", "b")})
    with pytest.raises(RequestError, match="'a face' and 'a face' are the same"):
        by_prompts(made, {"old": ("a face", "a face")})


@pytest.mark.parametrize("wish", ["sdpa", "math", "auto"])
def test_attention_is_as_wished_and_changes_nothing(plain, wish):
    made, usual = (load_generator(f"{plain}?steps=2{more}") for more in (f"&attention={wish}", ""))
    assert made.attention == ("sdpa" if wish == "auto" else wish)
    kinds = {type(processor).__name__ for processor in made.unet.attn_processors.values()}
    assert kinds == {"AttnProcessor" if wish == "math" else "AttnProcessor2_0"}
    codes = made.sample([0])
    torch.testing.assert_close(made.render(codes), usual.render(codes), atol=1e-4, rtol=0)


def test_layers_that_keep_their_own_attention_are_told_of(caplog):
    model = unet()
    kept = type("OwnProcessor", (), {})()
    model.set_attn_processor = lambda wished: None  # as where layers ignore it
    model.__class__ = type("Stubborn", (UNet2DConditionModel,), {"attn_processors": property(lambda self: {"a": kept})})
    with caplog.at_level(logging.WARNING):
        assert attend(model, "math") == "OwnProcessor"
    assert [record.getMessage() for record in caplog.records] == [
        "attention=math was wished, but layers attend by OwnProcessor"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("attention=xformers", "attention=xformers needs a GPU"),
        ("attention=flash", "attention=flash is none of auto, sdpa"),
        ("guidance=0.5", r"guidance=0.5 is outside 1…30"),
        ("guidance=nan", r"guidance=nan is outside 1…30"),
        ("guidance=x", "has guidance=x, which is no number"),
        ("steps=0", r"steps=0 is outside 1…100"),
        ("steps=101", r"steps=101 is outside 1…100"),
        ("psi=0.7", "has an option 'psi'; StableDiffusionPipeline has prompt, guidance, steps, attention"),
    ],
)
def test_options_that_are_none_are_refused(plain, options, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RequestError, match=message):
        load_generator(f"{plain}?{options}")


@pytest.mark.parametrize("harm", ["unet", "text_encoder", "truncated", "tokenizer"])
def test_a_folder_that_lacks_a_part_is_refused(plain, harm):
    weights = plain / "unet" / "diffusion_pytorch_model.safetensors"
    if harm == "unet":
        weights.rename(weights.with_suffix(".bin"))
    elif harm == "text_encoder":
        (plain / "text_encoder" / "model.safetensors").unlink()
    elif harm == "truncated":
        weights.write_bytes(weights.read_bytes()[:100])
    else:
        for path in (plain / "tokenizer").iterdir():
            path.unlink()
    with pytest.raises((RequestError, WorkError)) as caught:
        load_generator(str(plain))
    assert "\n" not in str(caught.value)
    assert str(plain) in str(caught.value)


def test_weights_that_do_not_fit_come_over_part_by_part(plain, monkeypatch, caplog):
    usual = load_generator(f"{plain}?steps=2")
    monkeypatch.setattr(offload, "fits", lambda model, device: False)
    with caplog.at_level(logging.WARNING):
        made = load_generator(f"{plain}?steps=2")
    assert "the weights of 'tiny-sd' do not fit on cpu and come over part by part" in caplog.text
    assert {weight.device.type for weight in made.unet.down_blocks.parameters()} == {"meta"}  # none is there to stay
    codes, gradients = made.sample([0]), []
    assert torch.equal(codes, usual.sample([0]))
    for generator in (usual, made):
        edits = torch.zeros(1, *made.edit_shapes["h"], requires_grad=True)
        generator.render(codes, edits, "h").square().sum().backward()
        gradients.append(edits.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 0
