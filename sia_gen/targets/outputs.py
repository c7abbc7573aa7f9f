"""What a network's outputs mean, by the config that transformers keeps beside its weights and on a module in hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.targets.target import Label
from sia_gen.targets.task import Classification, MultiLabel, Regression

SINGLE_LABEL, MULTI_LABEL, REGRESSION = "single_label_classification", "multi_label_classification", "regression"


def task_of(config: Mapping[str, Any], name: str) -> tuple[Classification | MultiLabel | Regression, Label | None]:
    """The task and the label of a network with this config.

    Its outputs are named by ``id2label``; ``problem_type`` says whether they are classes, one of which holds, labels
    that are each there or not, or values, whose ``tolerance`` stands under ``sia_gen``. A single output that is no
    value is the log-odds of its name, against the class that it is not. Raises `RequestError` for another problem and
    for values without a tolerance, `WorkError` where the config is damaged.
    """
    names, extra = output_names(config.get("id2label"), name), config.get("sia_gen") or {}
    problem = config.get("problem_type") or SINGLE_LABEL
    if problem == REGRESSION:
        return _regression(extra, name, names), _predicted(extra.get("label"), name)
    if problem == MULTI_LABEL:
        return MultiLabel(names), None
    if problem != SINGLE_LABEL or not names:
        raise RequestError(
            f"'{name}' is no classifier ({problem}, {len(names)} outputs); wrap it as module:callable that gives a "
            "target with its own task"
        )
    classes = (f"not {names[0]}", names[0]) if len(names) == 1 else names
    return Classification(classes), _label(extra.get("label"), name, len(classes))


def output_names(id2label: Any, name: str) -> tuple[str, ...]:
    """The names of the outputs in their order, from a mapping of numbers, which JSON spells as text, or from a list."""
    pairs = list(enumerate(id2label)) if isinstance(id2label, Sequence) and not isinstance(id2label, str) else None
    try:
        pairs = [(int(key), value) for key, value in id2label.items()] if pairs is None else pairs
    except (AttributeError, TypeError, ValueError):
        raise WorkError(f"id2label of '{name}' is no list of names by number; mend its config") from None
    wrong = [value for _, value in pairs if isinstance(value, bool) or not isinstance(value, (str, int, float))]
    if wrong:
        raise WorkError(f"id2label of '{name}' has {wrong[0]!r} for a name; mend its config")
    if sorted(key for key, _ in pairs) != list(range(len(pairs))):
        raise WorkError(f"id2label of '{name}' does not number its {len(pairs)} names from 0 on; mend its config")
    return tuple(str(value) for _, value in sorted(pairs))


def as_logits(output: Tensor, images: int) -> Tensor:
    """Logits ``[B, C]``; a single one ``[B]`` or ``[B, 1]`` is the log-odds of the second class of two."""
    if output.shape not in ((images,), (images, 1)):
        return output
    output = output.reshape(images, 1)
    return torch.cat([torch.zeros_like(output), output], dim=1)


def _regression(extra: Mapping[str, Any], name: str, values: tuple[str, ...]) -> Regression:
    tolerance = extra.get("tolerance")
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not 0 < tolerance < math.inf:
        raise RequestError(
            f"'{name}' gives values, but nothing says how far off is wrong; add "
            '"sia_gen": {"tolerance": 0.1} to its config.json, in the values\' unit'
        )
    return Regression(values, float(tolerance))


def _predicted(entry: Any, name: str) -> Label | None:
    """Of a regression: which attribute it predicts, without thresholds."""
    if entry is None:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("attribute"), str):
        raise WorkError(f"the label of '{name}' names no attribute; fetch its config.json again")
    return Label(entry["attribute"], ())


def _label(entry: Any, name: str, classes: int) -> Label | None:
    if entry is None:
        return None
    try:
        label = Label(entry["attribute"], tuple(float(value) for value in entry["thresholds"]))
        if not isinstance(label.attribute, str) or not all(map(math.isfinite, label.thresholds)):
            raise ValueError("no name and finite thresholds")
    except (KeyError, TypeError, ValueError) as error:
        raise WorkError(f"the label of '{name}' is damaged ({error!r}); fetch its config.json again") from None
    if len(label.thresholds) != classes - 1:
        given = len(label.thresholds)
        raise WorkError(f"'{name}' has {classes} classes but {given} thresholds; it needs {classes - 1}")
    return label
