"""Tiny models in the folder format of the shipped ones, saved by transformers itself."""

import json
import logging

import pytest
import torch
from transformers import (
    ConvNextImageProcessor,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

SMILE = {"kind": "target", "label": {"attribute": "smile", "thresholds": [0.5]}}
FACTORS = [
    {"name": "age", "unit": "years", "mean": 40.0, "sd": 18.0},
    {"name": "yaw", "unit": "degrees", "mean": 0.0, "sd": 12.0},
    {"name": "smile", "unit": "smiles", "mean": 0.4, "sd": 0.25},
]


def resnet(classes, **config):
    names = dict(enumerate(classes))
    torch.manual_seed(0)
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 16],
            depths=[1, 1],
            layer_type="basic",
            id2label=names,
            label2id={name: index for index, name in names.items()},
            **config,
        )
    )


def vit(classes):
    names = dict(enumerate(classes))
    torch.manual_seed(0)
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=32,
            patch_size=8,
            id2label=names,
            label2id={name: index for index, name in names.items()},
        )
    )


def save(folder, network, processor, extra=None):
    logging.getLogger("transformers").setLevel(logging.CRITICAL)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    if extra is not None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "sia_gen": extra}))
    return folder


@pytest.fixture
def resnet_folder(tmp_path):
    statistics = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}
    processor = ConvNextImageProcessor(size={"shortest_edge": 32}, **statistics)
    return save(tmp_path / "tiny-resnet", resnet(["neutral", "smile"]), processor, SMILE)


@pytest.fixture
def vit_folder(tmp_path):
    processor = ViTImageProcessor(size={"height": 32, "width": 32}, resample=2)
    return save(tmp_path / "tiny-vit", vit(["a", "b", "c"]), processor)


@pytest.fixture
def verifier_folder(tmp_path):
    network = resnet([factor["name"] for factor in FACTORS], problem_type="regression")
    processor = ViTImageProcessor(size={"height": 32, "width": 32}, do_normalize=False)
    return save(tmp_path / "tiny-verifier", network, processor, {"kind": "verifier", "factors": FACTORS})


@pytest.fixture
def edit_config():
    def edit(folder, **changes):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit
