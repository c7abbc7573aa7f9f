"""Transformers' ResNet without transformers, whose import takes longer than all else that a short command does.

The shipped models are such networks. Names, order and numbers are those of ``ResNetForImageClassification``, so that
weights, digests and answers are the same to the bit; folders of others are left to transformers.

Letters: B images, C channels, h and w of a feature map.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from sia_gen.core.errors import WorkError
from sia_gen.core.files import read_tensors, write_json, write_tensors

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def plain(config: Mapping[str, Any]) -> bool:
    """Whether a config is of the kind that this file builds: ReLU, and basic layers, which halve from stage 2 on."""
    wanted = {"model_type": "resnet", "layer_type": "basic", "hidden_act": "relu", "downsample_in_first_stage": False}
    return all(config.get(name) == value for name, value in wanted.items())


class ResNet(nn.Module):
    """Pixels ``[B, 3, H, W]`` → an object with ``logits`` ``[B, L]``."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.said = dict(config)
        self.resnet = Trunk(config)
        width, self.labels = config["hidden_sizes"][-1], len(config["id2label"])
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(width, self.labels))

    @property
    def config(self) -> Any:
        return SimpleNamespace(num_labels=self.labels, to_dict=lambda: dict(self.said))

    @property
    def base_model(self) -> Trunk:
        return self.resnet

    def forward(self, pixels: Tensor) -> Any:
        return SimpleNamespace(logits=self.classifier(self.resnet(pixels).pooler_output))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config and weights as transformers reads them."""
        write_json(Path(folder) / CONFIG, self.said | {"dtype": "float32"})
        write_tensors(Path(folder) / WEIGHTS, self.state_dict(), {"format": "pt"})


class Trunk(nn.Module):
    """Pixels → an object with ``pooler_output`` ``[B, C, 1, 1]``."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        first, sizes = config["embedding_size"], config["hidden_sizes"]
        pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        stem = _convolution(config["num_channels"], first, 7, stride=2, activated=True)
        self.embedder = nn.Sequential(OrderedDict(embedder=stem, pooler=pool))
        stages = [_Stage(first, sizes[0], 1, config["depths"][0])]
        stages += [
            _Stage(inputs, outputs, 2, depth)
            for (inputs, outputs), depth in zip(pairwise(sizes), config["depths"][1:], strict=True)
        ]
        self.encoder = nn.Module()
        self.encoder.stages = nn.ModuleList(stages)

    def forward(self, pixels: Tensor) -> Any:
        features = self.embedder(pixels)  # [B, C, h, w]
        for stage in self.encoder.stages:  # type: ignore[union-attr]
            features = stage(features)
        return SimpleNamespace(pooler_output=nn.functional.adaptive_avg_pool2d(features, (1, 1)))


class _Stage(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, depth: int) -> None:
        super().__init__()
        first, *rest = _Layer(inputs, outputs, stride), *(_Layer(outputs, outputs, 1) for _ in range(depth - 1))
        self.layers = nn.Sequential(first, *rest)

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


class _Layer(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        same = inputs == outputs and stride == 1
        self.shortcut: nn.Module = nn.Identity() if same else _convolution(inputs, outputs, 1, stride, activated=False)
        self.layer = nn.Sequential(
            _convolution(inputs, outputs, 3, stride, activated=True), _convolution(outputs, outputs, 3, 1, False)
        )

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.layer(features) + self.shortcut(features))


def _convolution(inputs: int, outputs: int, side: int, stride: int, activated: bool) -> nn.Sequential:
    parts: dict[str, nn.Module] = {
        "convolution": nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False),
        "normalization": nn.BatchNorm2d(outputs),
    }
    return nn.Sequential(OrderedDict(parts | ({"activation": nn.ReLU()} if activated else {})))


def load_resnet(folder: Path, config: Mapping[str, Any]) -> ResNet:
    """The network of a folder whose config is `plain`; raises `WorkError` for damaged or missing weights."""
    tensors, _ = read_tensors(folder / WEIGHTS)
    try:
        with torch.device("meta"):  # nothing is drawn that is overwritten anyway
            network = ResNet(config)
        network.load_state_dict({name: _single(values) for name, values in tensors.items()}, assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WorkError(f"cannot load '{folder}' ({reason}); fetch the files again") from None
    return network


def _single(values: Tensor) -> Tensor:
    return values.float() if values.is_floating_point() else values
