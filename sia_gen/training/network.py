"""Small transformers networks on renders: how they are built, what their images go through, how they are saved.

Letters: B images, R resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.files import write_json
from sia_gen.core.foreign import quiet_transformers
from sia_gen.core.images import Images, from_bytes, to_bytes
from sia_gen.studio.renders import RenderSet

SIDE = 128  # pixels that they see
SIZES = (24, 48, 96, 192)  # channels of a ResNet's stages, the first at a quarter of the side
NOISE = 0.03  # of the range, the most that is added
SMALLEST = 1e-3  # picture widths that a coordinate varies by, at the least


def make_resnet(
    labels: Sequence[str],
    sizes: Sequence[int],
    regression: bool,
    extra: dict[str, Any],
    depths: Sequence[int] | None = None,
) -> nn.Module:
    """A ResNet of basic blocks of these channel ``sizes``, two in each stage or as many as ``depths`` says.

    ``extra`` is kept in its config.
    """
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=sizes[0],
        hidden_sizes=list(sizes),
        depths=list(depths or [2] * len(sizes)),
        layer_type="basic",
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type="regression" if regression else "single_label_classification",
        sia_gen=extra,
    )
    return ResNetForImageClassification(config)


def make_vit(labels: Sequence[str], side: int, regression: bool, extra: dict[str, Any]) -> nn.Module:
    """A vision transformer of four blocks on 4 × 4 patches; ``extra`` is kept in its config.

    With more patches, or with weights that start as small as wide ones', a few thousand steps teach it nothing.
    """
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=side,
        patch_size=side // 4,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=384,
        initializer_range=0.08,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type="regression" if regression else "single_label_classification",
        sia_gen=extra,
    )
    return ViTForImageClassification(config)


def keep_outputs(model: nn.Module, labels: Sequence[str]) -> nn.Module:
    """The same network with its first outputs only, which ``labels`` name."""
    head = [part for part in model.modules() if isinstance(part, nn.Linear)][-1]
    head.weight = nn.Parameter(head.weight.detach()[: len(labels)].clone())
    head.bias = nn.Parameter(head.bias.detach()[: len(labels)].clone())
    head.out_features = len(labels)
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: index for index, label in enumerate(labels)}
    return model


def save_network(model: nn.Module, out: Path, side: int) -> None:
    """Write the folder that transformers' ``from_pretrained`` reads: images are resized to ``side`` and centred."""
    save_with_processor(model, out, side, image_processor_type="ViTImageProcessor", do_resize=True, resample=2)


def save_with_processor(model: nn.Module, out: Path, side: int, **settings: Any) -> None:
    """The same for a network of any kind, with further ``settings`` of its image processor."""
    with quiet_transformers():
        model.half().save_pretrained(out)
    settings |= {"size": {"height": side, "width": side}, "do_rescale": True, "rescale_factor": 1 / 255}
    settings |= {"do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    write_json(out / "preprocessor_config.json", settings)


def network_input(images: Images, side: int) -> Tensor:
    """Images in [0, 1] → what the network was built for: ``side`` pixels, values −1…1."""
    if images.shape[-1] != side:
        images = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
    return images * 2 - 1


def shrunk(data: RenderSet, side: int) -> RenderSet:
    """Renders no larger than ``side``."""
    if data.images.shape[-1] <= side:
        return data
    small = [to_bytes((network_input(from_bytes(part), side) + 1) / 2) for part in data.images.split(64)]
    return replace(data, images=torch.cat(small))


def coordinates(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``[2 · 68]`` over landmarks ``[N, 68, 2]``, to learn them in equal measure."""
    flat = landmarks.flatten(1)
    return flat.mean(0), flat.std(0).clamp(min=SMALLEST)


def mirrored_at_random(images: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images ``[B, 3, R, R]``, each mirrored or not, and which are ``[B]``."""
    flip = torch.rand(len(images), generator=random, device=images.device) < 0.5
    return torch.where(flip[:, None, None, None], images.flip(3), images), flip


def either(flip: Tensor, mirrored: Tensor, straight: Tensor) -> Tensor:
    """Row by row ``[B, ...]`` what is true in the mirror, or straight."""
    return torch.where(flip.view(-1, *[1] * (straight.ndim - 1)), mirrored, straight)


def augment(images: Tensor, random: torch.Generator) -> Images:
    """uint8 renders ``[B, 3, R, R]`` → images in [0, 1] blurred, exposed and noised at random.

    The blur spans what a softer camera, or a generator, does to a face; a third of the images keep their sharpness, in
    which age shows. The noise keeps networks from living on differences that an eye cannot see.
    """

    def drawn(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(images), 1, 1, 1, generator=random, device=images.device)

    images = from_bytes(images)
    soft = F.interpolate(F.avg_pool2d(images, 2), images.shape[-2:], mode="bilinear", align_corners=False)
    share, gain, strength = drawn(-0.5, 1).clamp(min=0), drawn(0.9, 1.1), drawn(0, NOISE)
    noise = torch.randn(images.shape, generator=random, device=images.device)
    return ((images + share * (soft - images)) * gain + strength * noise).clamp(0, 1)
