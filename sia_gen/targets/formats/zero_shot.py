"""A CLIP or SigLIP model as a classifier between classes that are given as text.

Letters: B images, C classes, E numbers of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.errors import RequestError
from sia_gen.core.foreign import one_line, quiet_transformers
from sia_gen.core.images import Images
from sia_gen.targets.formats.preprocessing import Preprocessing
from sia_gen.targets.formats.pretrained import (
    TEXTUAL,
    Processed,
    checked_config,
    load_network,
    load_preprocessing,
    require_files,
)
from sia_gen.targets.task import Classification


@dataclass(frozen=True)
class ZeroShot:
    """Logits ``[B, C]``: how well each class's text goes with an image, as the model itself scores it."""

    name: str
    network: nn.Module
    preprocessing: Preprocessing | Processed
    texts: Tensor  # [C, E], of length one
    task: Classification
    label: None = None

    @property
    def differentiable(self) -> bool:
        return isinstance(self.preprocessing, Preprocessing)

    def predict(self, images: Images) -> Tensor:
        found = _embedding(self.network.get_image_features(pixel_values=self.preprocessing(images)))  # [B, E]
        logits = found @ self.texts.T * self.network.logit_scale.exp()
        bias = getattr(self.network, "logit_bias", None)
        return logits if bias is None else logits + bias


def load_zero_shot(folder: Path, name: str, classes: tuple[str, ...], device: torch.device) -> ZeroShot:
    """The model in a transformers folder, with its tokenizer, between ``classes``, two or more texts.

    Raises `RequestError` for a folder of another kind of model, `WorkError` for damaged files.
    """
    kind = checked_config(folder).get("model_type")
    if kind not in TEXTUAL:
        raise RequestError(f"'{folder}' holds a model of type {kind!r}, which takes no classes as text; leave them out")
    if len(set(classes)) < max(2, len(classes)) or not all(classes):
        raise RequestError(f"classes={','.join(classes)} are not two different texts or more; write them as 'a,b'")
    require_files(folder)
    from transformers import AutoModel, AutoTokenizer

    network: Any = load_network(folder, AutoModel, "a model of pictures and texts")
    network = network.eval().requires_grad_(False).to(device)
    with one_line(f"the tokenizer of '{folder}'"), quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        padding = "max_length" if kind == "siglip" else True  # as it was trained
        longest = network.config.text_config.max_position_embeddings
        tokens = tokenizer(list(classes), padding=padding, max_length=longest, truncation=True, return_tensors="pt")
        with torch.no_grad():
            texts = _embedding(network.get_text_features(**tokens.to(device)))
    preprocessing = load_preprocessing(folder, exact=False)
    if isinstance(preprocessing, Preprocessing):
        preprocessing = preprocessing.to(device)
    return ZeroShot(name, network, preprocessing, texts, Classification(classes))


def _embedding(output: Any) -> Tensor:
    """Embeddings of length one, whether a network gives them in an output class or as they are."""
    return F.normalize(getattr(output, "pooler_output", output), dim=-1)
