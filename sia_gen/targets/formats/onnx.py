"""An ONNX file as a target, through onnxruntime: it can only be asked, and none of its bytes is a program of Python's.

Letters: B images, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.foreign import first_line
from sia_gen.core.images import Images, to_bytes
from sia_gen.targets.adapted import Form
from sia_gen.targets.outputs import as_logits
from sia_gen.targets.task import Classification

SUFFIX = ".onnx"
KINDS = (np.float32, np.float16, np.float64, np.uint8)
SIDE = 224  # of a network that takes any size
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}


@dataclass(frozen=True)
class OnnxModel:
    """Logits ``[B, C]`` of a network's first output; pictures are resized to what it takes, values are 0 to 1.

    One that takes whole bytes is given 0 to 255.
    """

    name: str
    session: Any
    side: int | None
    last: bool  # whether channels come last
    fixed: int | None  # how many pictures it takes at once, None for any number
    kind: type
    task: Classification
    label: None = None
    differentiable: bool = False

    def predict(self, images: Images) -> Tensor:
        shown = Form(size=self.side)(images.detach())
        values = to_bytes(shown).cpu().numpy() if self.kind is np.uint8 else shown.cpu().numpy().astype(self.kind)
        if self.last:
            values = values.transpose(0, 2, 3, 1)
        values = np.ascontiguousarray(values)
        count = self.fixed or len(values)
        given = [self._asked(values[start : start + count], count) for start in range(0, len(values), count)]
        return as_logits(torch.from_numpy(np.concatenate(given)).float().to(images.device), len(images))

    def _asked(self, part: np.ndarray, count: int) -> np.ndarray:
        """What it says of up to as many pictures as it takes at once."""
        filled = np.concatenate([part, np.repeat(part[-1:], count - len(part), axis=0)])
        return np.asarray(self.session.run(None, {self.session.get_inputs()[0].name: filled})[0])[: len(part)]


def load_onnx(path: Path, name: str, device: torch.device) -> OnnxModel:
    """The classifier in an ONNX file, a class for each column of its first output.

    Raises `RequestError` without onnxruntime and for a network that takes no pictures, `WorkError` for a damaged file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise RequestError(f"'{name}' needs onnxruntime; install it with pip install 'sia-gen[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    wanted = ["CUDAExecutionProvider"] * (device.type == "cuda") + ["CPUExecutionProvider"]
    providers = [each for each in wanted if each in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # the runtime has a type of its own for every reader beneath
        raise WorkError(f"cannot load '{path}' ({first_line(error)}); fetch the file again") from None
    given = session.get_inputs()[0]
    shape, kind = list(given.shape), TYPES.get(given.type)
    if kind is None or len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise RequestError(f"'{name}' takes {given.type} of shape {shape}, not pictures [B, 3, H, W]; wrap it yourself")
    last = shape[1] != 3
    sides = shape[1:3] if last else shape[2:4]
    side = next((side for side in sides if isinstance(side, int)), SIDE)
    fixed = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None
    made = OnnxModel(name, session, side, last, fixed, kind, Classification(()))
    try:
        with torch.no_grad():
            said = made.predict(torch.full((2, 3, side, side), 0.5))
    except Exception as error:
        raise WorkError(f"'{name}' fails on a grey picture ({first_line(error)}); mend it") from None
    if said.ndim != 2 or len(said) != 2 or said.shape[1] < 2:
        raise RequestError(f"'{name}' gives shape {list(said.shape)} for 2 pictures, not logits [2, C]; wrap it")
    classes = tuple(f"class {index}" for index in range(said.shape[1]))
    return OnnxModel(name, session, side, last, fixed, kind, Classification(classes))
