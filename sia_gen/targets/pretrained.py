"""Image models in transformers' folder format: the network, its preprocessing and its config."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import is_file, read_json
from sia_gen.core.foreign import first_line
from sia_gen.core.images import Images, from_pil, to_pil
from sia_gen.core.seeds import uniforms
from sia_gen.targets.preprocessing import Preprocessing

PROCESSOR = "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
# Two 8-bit steps: processors round after each pass of resizing, a differentiable one cannot.
TOLERANCE = 2 / 255


@dataclass(frozen=True)
class ImageModel:
    """A frozen network in eval mode; called with images ``[B, 3, H, W]`` in [0, 1], it gives its logits."""

    network: nn.Module
    preprocessing: Preprocessing
    config: dict[str, Any]

    def __call__(self, images: Images) -> Tensor:
        return self.network(self.preprocessing(images)).logits

    def digest(self) -> str:
        """Tells these weights from others."""
        found = hashlib.sha256()
        for name, values in self.network.state_dict().items():
            found.update(name.encode())
            found.update(values.cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:16]


def load_image_model(folder: Path, device: torch.device | str = "cpu") -> ImageModel:
    """Load ``AutoModelForImageClassification`` weights (safetensors only) and the preprocessing beside them.

    Raises `RequestError` for a folder that is no such model, `WorkError` for damaged or incomplete weights and for
    preprocessing that would not be reproduced.
    """
    if not is_file(folder / "config.json"):
        raise RequestError(f"'{folder}' has no config.json; name the folder of a transformers image classifier")
    if not any(is_file(folder / name) for name in WEIGHTS):
        raise RequestError(f"'{folder}' has no {WEIGHTS[0]}; save the model with save_pretrained")
    if not is_file(folder / PROCESSOR):
        raise RequestError(f"'{folder}' has no {PROCESSOR}; save the model's image processor beside it")
    config = read_json(folder / "config.json")
    from transformers import AutoModelForImageClassification

    network = load_network(folder, AutoModelForImageClassification, "an image classifier")
    preprocessing = _load_preprocessing(folder)
    network.eval().requires_grad_(False)
    return ImageModel(network.to(device), preprocessing.to(device), config)


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


def _load_preprocessing(folder: Path) -> Preprocessing:
    processor = load_processor(folder)
    preprocessing = Preprocessing(processor.to_dict())
    # Processors differ in more than their settings; an audit must not run on images that the model never saw.
    for side in (48, 320):
        image = to_pil(probe(side, side))
        theirs = processor(image, return_tensors="pt")["pixel_values"]  # [1, 3, h, w]
        ours = preprocessing(from_pil(image)[None])
        same = ours.shape == theirs.shape and ((ours - theirs) / preprocessing.scale).abs().max() <= TOLERANCE
        if not same:
            raise not_reproduced(folder, processor)
    return preprocessing


def not_reproduced(folder: Path, processor: Any) -> WorkError:
    name = type(processor).__name__
    return WorkError(f"the preprocessing of '{folder}' ({name}) is not reproduced; wrap the model as module:callable")


def probe(height: int, width: int) -> Tensor:
    """A smooth, colourful image without symmetry, ``[3, height, width]``."""
    coarse = uniforms([0], (3, 6, 6), "preprocessing probe")
    return nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)[0]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' log and bars: what they tell of is said in one line of our own, or not worth one."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
