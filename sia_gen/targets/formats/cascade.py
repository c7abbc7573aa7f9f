"""OpenCV's Haar cascades as targets: detectors trained on photographs, which can only be asked.

Letters: B images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sia_gen.core.errors import RequestError, unknown
from sia_gen.core.images import Images, to_bytes
from sia_gen.targets.task import Detection

PREFIX = "opencv:"
SIDE, MARGIN = 320, 8  # pixels that a picture is brought to; an eighth of its edge is repeated around it
STEP, NEIGHBOURS, SMALLEST = 1.05, 3, 0.25  # between sizes tried; OpenCV's default; of the picture's side


@dataclass(frozen=True)
class Cascade:
    """The score ``[B]`` of what a cascade finds: how many windows agree on it, less 3.5: it takes more than 3."""

    name: str
    classifier: Any
    task: Detection = field(default_factory=Detection)
    label: None = None
    differentiable: bool = False

    def predict(self, images: Images) -> Tensor:
        return torch.tensor([self._score(image) for image in to_bytes(images).cpu()], device=images.device)

    def _score(self, image: Tensor) -> float:
        import cv2

        grey = cv2.cvtColor(image.permute(1, 2, 0).contiguous().numpy(), cv2.COLOR_RGB2GRAY)
        grey = cv2.copyMakeBorder(grey, *[len(grey) // MARGIN] * 4, cv2.BORDER_REPLICATE)  # faces fill the picture
        grey = cv2.resize(grey, (SIDE, SIDE))
        smallest = (round(SMALLEST * SIDE),) * 2
        _, agree = self.classifier.detectMultiScale2(grey, STEP, 1, minSize=smallest)
        return float(max(agree, default=0)) - NEIGHBOURS - 0.5


def load_cascade(name: str) -> Cascade:
    """The cascade ``opencv:NAME`` that OpenCV brings along; raises `RequestError` without OpenCV or the cascade."""
    try:
        import cv2
    except ImportError:
        raise RequestError(f"target '{name}' needs OpenCV; install it with pip install 'sia-gen[opencv]'") from None
    folder = Path(getattr(getattr(cv2, "data", None), "haarcascades", ""))
    known = sorted(path.stem for path in folder.glob("haarcascade_*.xml")) if folder.name else []
    wanted = name.removeprefix(PREFIX)
    if wanted not in known:
        raise unknown("cascade", wanted, known, "OpenCV before 5 brings them along")
    return Cascade(name, cv2.CascadeClassifier(str(folder / f"{wanted}.xml")))
