"""A transformers image classifier, or a regression in the same format, as a target."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.images import Images
from sia_gen.targets.pretrained import ImageModel, load_image_model
from sia_gen.targets.target import Label
from sia_gen.targets.task import Classification, MultiLabel, Regression

SINGLE_LABEL, MULTI_LABEL, REGRESSION = "single_label_classification", "multi_label_classification", "regression"


@dataclass(frozen=True)
class Classifier:
    """Logits ``[B, C]``, or values, of a frozen network that resizes and normalises for itself."""

    name: str
    model: ImageModel
    task: Classification | MultiLabel | Regression
    label: Label | None
    differentiable: bool = True

    def predict(self, images: Images) -> Tensor:
        return self.model(images)  # [B, C]


def load_classifier(folder: Path, name: str, device: torch.device | str = "cpu") -> Classifier:
    """The classifier in a transformers model folder, its classes named by the config's ``id2label``.

    For a regression, the values are; its config says under ``sia_gen`` what ``tolerance`` it fails beyond.
    Raises `RequestError` for a folder that holds something else, `WorkError` for damaged files.
    """
    model = load_image_model(folder, device)
    extra = model.config.get("sia_gen", {})
    kind = extra.get("kind", "target")
    if kind != "target":
        raise RequestError(f"'{name}' is a {kind}, not a target; see 'sia-gen list targets'")
    problem = model.config.get("problem_type") or SINGLE_LABEL
    classes = tuple(label for _, label in sorted(model.network.config.id2label.items()))
    if problem == REGRESSION:
        return Classifier(name, model, _regression(extra, name, classes), _predicted(extra.get("label"), name))
    if problem == MULTI_LABEL:
        return Classifier(name, model, MultiLabel(classes), None)
    if problem != SINGLE_LABEL or len(classes) < 2:
        raise RequestError(
            f"'{name}' is no classifier of two or more classes ({problem}, {len(classes)} outputs); "
            "wrap it as module:callable that gives a target with its own task"
        )
    return Classifier(name, model, Classification(classes), _label(extra.get("label"), name, len(classes)))


def _regression(extra: dict, name: str, values: tuple[str, ...]) -> Regression:
    tolerance = extra.get("tolerance")
    if not isinstance(tolerance, (int, float)) or not 0 < tolerance < math.inf:
        raise RequestError(
            f"'{name}' gives values, but nothing says how far off is wrong; add "
            '"sia_gen": {"tolerance": 0.1} to its config.json, in the values\' unit'
        )
    return Regression(values, float(tolerance))


def _predicted(entry: dict | None, name: str) -> Label | None:
    """Of a regression: which attribute it predicts, without thresholds."""
    if entry is None:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("attribute"), str):
        raise WorkError(f"the label of '{name}' names no attribute; fetch its config.json again")
    return Label(entry["attribute"], ())


def _label(entry: dict | None, name: str, classes: int) -> Label | None:
    if entry is None:
        return None
    try:
        label = Label(entry["attribute"], tuple(float(value) for value in entry["thresholds"]))
    except (KeyError, TypeError, ValueError) as error:
        raise WorkError(f"the label of '{name}' is damaged ({error!r}); fetch its config.json again") from None
    if len(label.thresholds) != classes - 1:
        given = len(label.thresholds)
        raise WorkError(f"'{name}' has {classes} classes but {given} thresholds; it needs {classes - 1}")
    return label
