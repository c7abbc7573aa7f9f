"""How good a classifier is on all classes alike, by torchmetrics.

Letters: N pictures, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sia_gen.core.executors import Batches
from sia_gen.core.images import Images, from_bytes
from sia_gen.core.seeds import stream
from sia_gen.hardening.labelled import LabelledImages
from sia_gen.rebalancing.meaning import Meant

BATCH, BINS = 64, 15
HELD_OUT, FEWEST = 5, 5  # one in so many pictures is measured on, of classes with no fewer
MEASURES = {
    "balanced": "balanced accuracy", "worst": "worst class", "f1": "macro F1", "ece": "calibration error",
    "auroc": "area under ROC",
}  # fmt: skip


@torch.no_grad()
def answers(predict: Callable[[Images], Tensor], pictures: Tensor, device: torch.device) -> Tensor:
    """Probabilities ``[N, C]`` on the CPU, for pictures uint8 ``[N, 3, R, R]``."""
    parts = Batches(BATCH)(len(pictures), lambda part: predict(from_bytes(pictures[part]).to(device)).float())
    return torch.cat(list(parts)).softmax(1).cpu()


def measured(probabilities: Tensor, labels: Tensor) -> dict[str, Any]:
    """`MEASURES` of probabilities ``[N, C]`` for labels ``[N]``, "recalls" of the classes, None for those absent, how
    many "pictures" there are, and "sizes" of the classes.

    The calibration error is over 15 bins of the highest probability (Guo et al., ICML 2017).
    """
    from torchmetrics.functional.classification import (
        multiclass_accuracy,
        multiclass_auroc,
        multiclass_calibration_error,
        multiclass_f1_score,
    )

    classes = probabilities.shape[1]
    sizes = torch.bincount(labels, minlength=classes)
    there = sizes > 0
    recalls = multiclass_accuracy(probabilities, labels, classes, average="none")
    known = recalls[there]
    found = {
        "balanced": known.mean(),
        "worst": known.amin(),
        "f1": multiclass_f1_score(probabilities, labels, classes, average="none")[there].mean(),
        "ece": multiclass_calibration_error(probabilities, labels, classes, n_bins=BINS),
    }
    rounded: dict[str, Any] = {name: round(float(value), 4) for name, value in found.items()}
    rounded["auroc"] = None
    if there.all():
        rounded["auroc"] = round(float(multiclass_auroc(probabilities, labels, classes)), 4)
    rounded["recalls"] = [
        round(float(recall), 4) if present else None for recall, present in zip(recalls, there.tolist(), strict=True)
    ]
    return rounded | {"pictures": len(labels), "sizes": sizes.tolist()}


def compared(
    classes: Sequence[str], before: Mapping[str, Any], after: Mapping[str, Any]
) -> list[tuple[str, float, float]]:  # fmt: skip
    """`MEASURES`, and what of each class that has pictures is read right, in words, `measured` before and after.

    Results of an older version do not say how many pictures that is of.
    """
    found = [(words, before[key], after[key]) for key, words in MEASURES.items() if before[key] is not None]
    sizes = [f" (of {size})" for size in before.get("sizes", ())] or [""] * len(classes)
    rows = zip(classes, sizes, before["recalls"], after["recalls"], strict=True)
    return found + [(f"'{name}' read right{size}", a, b) for name, size, a, b in rows if a is not None]


def of_each(probabilities: Tensor, labels: Tensor, meant: Meant) -> dict[str, float]:
    """The balanced accuracy of each attribute that classes are cut from, whatever the others are.

    Probabilities ``[N, C]`` are added up over the classes that are alike in it.
    """
    found = {}
    for label, parts in zip(meant.labels, torch.tensor(meant.parts).T, strict=True):
        alone = probabilities.new_zeros(len(probabilities), len(label.thresholds) + 1)
        found[label.attribute] = float(measured(alone.index_add(1, parts, probabilities), parts[labels])["balanced"])
    return found


def held_out(labels: Tensor, seed: int) -> Tensor:
    """Which of N images, bool ``[N]``, are kept from training: a fifth of each class that has five or more."""
    held = torch.zeros(len(labels), dtype=torch.bool)
    random = stream(seed, "held out")
    for each in labels.unique():
        rows = (labels == each).nonzero().flatten()
        order = torch.from_numpy(random.permutation(len(rows)))
        if len(rows) >= FEWEST:
            held[rows[order[: len(rows) // HELD_OUT]]] = True
    return held


def not_held_out(images: LabelledImages) -> list[str]:
    """What is to be said of classes that figures of held-out pictures leave out."""
    few = [name for name, count in zip(images.classes, images.counts, strict=True) if count < FEWEST]
    why = f"of fewer than {FEWEST} pictures none is held out"
    return [f"figures of held-out pictures are without {', '.join(map(repr, few))}: {why}"] if few else []
