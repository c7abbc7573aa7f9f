"""Image models in transformers' folder format: the network, its preprocessing and its config."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import is_file, pretrained_folder, read_config, read_json
from sia_gen.core.foreign import first_line, one_line, quiet_transformers
from sia_gen.core.images import Images, from_pil, to_pil
from sia_gen.core.modules import weights_digest
from sia_gen.core.seeds import uniforms
from sia_gen.targets.formats.preprocessing import Preprocessing, of_timm
from sia_gen.targets.formats.resnet import load_resnet, plain

CONFIG, PROCESSOR, NEW_PROCESSOR = "config.json", "preprocessor_config.json", "processor_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TIMM, TEXTUAL = "timm_wrapper", ("clip", "siglip")
TIMM_TAKES = {
    "class_token", "drop_path_rate", "drop_rate", "dynamic_img_size", "global_pool", "img_size", "in_chans",
    "num_classes", "output_stride", "patch_size", "window_size",
}  # fmt: skip
# Two 8-bit steps: processors round after each pass of resizing, a differentiable one cannot.
TOLERANCE = 2 / 255
SHARD = re.compile(r"[\w.-]+\.safetensors")
DEEPEST = 1000  # layers that a network may be said to have: building more would take for ever
DEEP, WIDE = re.compile("layer|depth|block|stage|repeat|attends"), re.compile("channel|size|dim")
LABELS = ("id2label", "label2id")


@dataclass(frozen=True)
class ImageModel:
    """A frozen network in eval mode; called with images ``[B, 3, H, W]`` in [0, 1], it gives its logits.

    ``config`` is what stands in the ``folder`` that it comes from. Where the ``preprocessing`` is an image processor's
    own, it passes no gradient.
    """

    network: nn.Module
    preprocessing: Preprocessing | Processed
    config: dict[str, Any]
    folder: Path

    @property
    def differentiable(self) -> bool:
        return isinstance(self.preprocessing, Preprocessing)

    def __call__(self, images: Images) -> Tensor:
        return self.network(self.preprocessing(images)).logits

    def digest(self) -> str:
        """Tells these weights from others."""
        return weights_digest(self.network)


class Processed:
    """A transformers image processor as it is: images ``[B, 3, H, W]`` in [0, 1] → what its network takes."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, images: Images) -> Tensor:
        pictures = [to_pil(image) for image in images]
        return self.processor(pictures, return_tensors="pt")["pixel_values"].to(images.device)


def load_image_model(folder: Path, device: torch.device | str = "cpu", *, exact: bool = True) -> ImageModel:
    """Load ``AutoModelForImageClassification`` weights (safetensors only) and the preprocessing beside them.

    Raises `RequestError` for a folder that is no such model, `WorkError` for damaged or incomplete weights and, if it
    is to be ``exact``, for preprocessing that would not be reproduced; else the processor itself is taken.
    """
    config = checked_config(folder)
    if folder.parent == pretrained_folder() and plain(config):
        shipped = load_resnet(folder, config).eval().requires_grad_(False)
        return ImageModel(shipped.to(device), Preprocessing(read_json(folder / PROCESSOR)).to(device), config, folder)
    from transformers import AutoModelForImageClassification

    kind = config.get("model_type")
    require_classifier(folder, config)
    require_files(folder, processor=kind != TIMM)
    network = load_network(folder, AutoModelForImageClassification, "an image classifier")
    preprocessing = of_timm(config) if kind == TIMM else load_preprocessing(folder, exact)
    network.eval().requires_grad_(False)
    if isinstance(preprocessing, Preprocessing):
        preprocessing = preprocessing.to(device)
    return ImageModel(network.to(device), preprocessing, config, folder)


def require_classifier(folder: Path, config: dict[str, Any]) -> None:
    """Raise `RequestError` where a config is of no image classifier, `WorkError` where building it could do harm."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as KNOWN

    kind = config.get("model_type")
    if kind in TEXTUAL:
        raise RequestError(f"'{folder}' holds a model of type '{kind}', which decides between texts; give --classes")
    if not isinstance(kind, str) or kind not in KNOWN:
        raise RequestError(f"'{folder}' holds a model of type {kind!r:.80}, no image classifier; name one that is")
    if kind == TIMM:
        _require_harmless(folder, config)


def _require_harmless(folder: Path, config: dict[str, Any]) -> None:
    """Raise `WorkError` where a timm model's config has it built with more than sizes and rates, or from elsewhere.

    timm takes weights as a pickle, too, from any path or hub that it is told.
    """
    name, given = config.get("architecture"), config.get("model_args") or {}
    strange = [key for key in given if key not in TIMM_TAKES] if isinstance(given, dict) else ["model_args"]
    if not isinstance(name, str) or not re.fullmatch(r"[\w.]+", name):
        raise WorkError(f"'{folder / CONFIG}' has architecture={str(name)[:60]!r}, no name of timm's; it is refused")
    if strange:
        known = ", ".join(sorted(TIMM_TAKES))
        raise WorkError(f"'{folder / CONFIG}' has model_args with '{strange[0]}', none of {known}; it is refused")


def checked_config(folder: Path) -> dict[str, Any]:
    """The config of a transformers model; raises `RequestError` where there is none, `WorkError` for a damaged one."""
    if not is_file(folder / CONFIG):
        raise RequestError(f"'{folder}' has no {CONFIG}; name the folder of a transformers image classifier")
    config = read_config(folder / CONFIG)
    for name, value in numbers(config):
        if value > DEEPEST and DEEP.search(name) and not WIDE.search(name):
            raise WorkError(f"'{folder / CONFIG}' has {name}={value!r:.20}, more than {DEEPEST}; fetch the file again")
    return config


def numbers(config: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a config, each with its name, those in its lists and nested configs, too; none of its labels."""
    left = [(name, value) for name, value in config.items() if name not in LABELS]
    while left:
        name, value = left.pop()
        if isinstance(value, dict):
            left += value.items()
        elif isinstance(value, list):
            left += [(name, each) for each in value]
        elif isinstance(value, int | float):
            yield name, value


def require_files(folder: Path, *, processor: bool = True) -> None:
    """Raise `RequestError` unless weights as safetensors, and an image processor, lie in a model's folder."""
    if is_file(folder / INDEX) and not is_file(folder / WEIGHTS):
        index = read_json(folder / INDEX)
        parts = index.get("weight_map", {}) if isinstance(index, dict) else {}
        names = set(parts.values()) if isinstance(parts, dict) else set()
        strange = [name for name in names if not isinstance(name, str) or not SHARD.fullmatch(name)]
        if strange or not names:
            raise WorkError(
                f"'{folder / INDEX}' names {(strange or ['nothing'])[0]!r}, no safetensors file; save it again"
            )
    elif not is_file(folder / WEIGHTS):
        raise RequestError(f"'{folder}' has no {WEIGHTS}; save the model with save_pretrained")
    if processor and not any(is_file(folder / name) for name in (PROCESSOR, NEW_PROCESSOR)):
        raise RequestError(f"'{folder}' has no {PROCESSOR}; save the model's image processor beside it")


def load_network(folder: Path, kind: Any, trained_as: str) -> nn.Module:
    """The network of a transformers class ``kind`` in a folder, from its safetensors alone; none of its code is run.

    Raises `WorkError` for damaged weights and for those that lack some of the network's tensors.
    """
    try:
        with quiet_transformers():
            network, report = kind.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except ImportError as error:  # of a package that transformers needs for it
        raise WorkError(f"cannot load '{folder}' ({first_line(error)}); mend what is installed") from None
    except Exception as error:  # every reader beneath (safetensors, JSON, torch, transformers) has its own
        raise WorkError(f"cannot load '{folder}' ({first_line(error).rstrip('.')}); fetch the files again") from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise WorkError(
            f"the weights in '{folder}' lack {len(missing)} of the network's tensors ({missing[0]} …); "
            f"name a model that was trained as {trained_as}"
        )
    return network


def load_processor(folder: Path) -> Any:
    """Transformers' image processor in a folder; raises `WorkError` for a damaged one."""
    from transformers import AutoImageProcessor

    try:
        with quiet_transformers():
            return AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise WorkError(
            f"cannot load '{folder / PROCESSOR}' ({first_line(error).rstrip('.')}); fetch the file again"
        ) from None


def load_preprocessing(folder: Path, exact: bool) -> Preprocessing | Processed:
    """What an image processor does, differentiably, else unless it is to be ``exact`` the processor itself."""
    processor = load_processor(folder)
    try:
        preprocessing = Preprocessing(processor.to_dict())
        if _same(processor, preprocessing):
            return preprocessing
    except RequestError:  # it asks for something that is not reproduced
        if exact:
            raise
    if exact:
        raise not_reproduced(folder, processor)
    with one_line(f"the image processor of '{folder}'"):
        Processed(processor)(probe(48, 48)[None])
    return Processed(processor)


def _same(processor: Any, preprocessing: Preprocessing) -> bool:
    """Whether both make the same of a picture: an audit must not run on images that the model never saw."""
    for side in (48, 320):
        image = to_pil(probe(side, side))
        try:
            theirs = processor(image, return_tensors="pt")["pixel_values"]  # [1, 3, h, w]
        except Exception:  # of another kind, or with settings that fit no picture
            return False
        ours = preprocessing(from_pil(image)[None])
        if ours.shape != theirs.shape or not ((ours - theirs) / preprocessing.scale).abs().max() <= TOLERANCE:
            return False
    return True


def not_reproduced(folder: Path, processor: Any) -> WorkError:
    name = type(processor).__name__
    return WorkError(f"the preprocessing of '{folder}' ({name}) is not reproduced; wrap the model as module:callable")


def probe(height: int, width: int) -> Tensor:
    """A smooth, colourful image without symmetry, ``[3, height, width]``."""
    coarse = uniforms([0], (3, 6, 6), "preprocessing probe")
    return nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)[0]
