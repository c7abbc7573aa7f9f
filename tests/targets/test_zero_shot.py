"""Tiny CLIP and SigLIP models saved by transformers, against their own forward pass. B images, C classes."""

import json

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from sia_gen import load_target
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.images import from_pil, to_pil
from sia_gen.targets.task import Classification

WORDS = ["<pad>", "<end>", "a", "face", "smiling", "neutral"]
TEXTS = ("a smiling face", "a neutral face")
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(params=["clip", "siglip"])
def folder(request, tmp_path):
    text = {
        **SMALL,
        "vocab_size": len(WORDS),
        "max_position_embeddings": 8,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 0,
    }
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    if request.param == "clip":
        network = CLIPModel(
            CLIPConfig(
                text_config={**text, "projection_dim": 8},
                vision_config={**vision, "projection_dim": 8},
                projection_dim=8,
            )
        )
        processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    else:
        network = SiglipModel(SiglipConfig(text_config={**text, "projection_size": 16}, vision_config=vision))
        processor = SiglipImageProcessor(size={"height": 32, "width": 32})
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tokens = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<end>"))
    tokens.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token="<pad>", eos_token="<end>", unk_token="<end>"
    )
    for part in (network, processor, tokenizer):
        part.save_pretrained(tmp_path / request.param)
    return tmp_path / request.param


def test_scores_texts_as_the_model_does(folder):
    target = load_target(f"{folder}?classes={','.join(TEXTS)}")
    assert target.task == Classification(TEXTS)
    image = to_pil(torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(0)))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    padding = "max_length" if folder.name == "siglip" else True
    tokens = tokenizer(list(TEXTS), padding=padding, max_length=8, truncation=True, return_tensors="pt")
    kind = CLIPImageProcessor if folder.name == "clip" else SiglipImageProcessor
    pixels = kind.from_pretrained(folder)(image, return_tensors="pt")["pixel_values"]
    given = {"input_ids": tokens["input_ids"], "pixel_values": pixels}
    if folder.name == "clip":
        given["attention_mask"] = tokens["attention_mask"]
    with torch.no_grad():
        theirs = AutoModel.from_pretrained(folder).eval()(**given).logits_per_image
    torch.testing.assert_close(target.predict(from_pil(image)[None]), theirs, atol=0.05, rtol=0.01)


def test_passes_gradients_to_the_picture(folder):
    target = load_target(f"{folder}?classes={','.join(TEXTS)}")
    images = torch.full((2, 3, 40, 40), 0.5, requires_grad=True)
    target.predict(images)[:, 0].sum().backward()
    assert target.differentiable
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("classes", ["a", "a,a", "a,", ","])
def test_fewer_than_two_texts_are_refused(folder, classes):
    with pytest.raises(RequestError, match="are not two different texts or more; write them as"):
        load_target(f"{folder}?classes={classes}")


def test_without_classes_it_is_no_classifier(folder):
    with pytest.raises(
        RequestError, match=r"holds a model of type '(clip|siglip)', which decides between texts; give --classes"
    ):
        load_target(folder)


def test_a_damaged_tokenizer_is_one_line(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(WorkError, match=r"the tokenizer of '.*' fails"):
        load_target(f"{folder}?classes={','.join(TEXTS)}")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "sia_gen": None}))
    with pytest.raises(WorkError, match="has sia_gen=None"):
        load_target(f"{folder}?classes={','.join(TEXTS)}")
