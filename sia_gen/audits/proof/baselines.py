"""Pixel attacks of adversarial-robustness-toolbox, as peers to measure ours against: each adapted once, here.

Letters: N faces, R resolution.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sia_gen.attack.balls import Norm
from sia_gen.core.errors import RequestError
from sia_gen.core.images import Images
from sia_gen.core.modules import one_seed
from sia_gen.targets.target import Target, ask
from sia_gen.targets.task import Classification

LIBRARY = "art"
BATCH = 32
QUERIES = 500  # of Square, which only asks
BASELINES: dict[str, str] = {
    "FGSM": "one step along the sign (Goodfellow et al., 2015)",
    "PGD": "steps along the sign (Madry et al., 2018)",
    "MI-FGSM": "the same with momentum (Dong et al., 2018)",
    "APGD-CE": "steps that adapt, cross-entropy (Croce & Hein, 2020)",
    "APGD-DLR": "the same, difference of logits ratio: three classes or more",
    "DeepFool": "to the nearest linear boundary, cut at the radius (Moosavi-Dezfooli et al., 2016)",
    "C&W": "least l2 change (Carlini & Wagner, 2017), cut at the radius",
    "Square": "random squares, asks only (Andriushchenko et al., 2020)",
}


ENSEMBLE = ("APGD-CE", "APGD-DLR", "DeepFool", "Square")
"""Of AutoAttack's standard ensemble what the library has; FAB it lacks, in whose place DeepFool stands."""


class Logits(nn.Module):
    """A target as a module of logits, frozen."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target

    def forward(self, images: Images) -> Tensor:
        return ask(self.target, images).float()


def require_library() -> None:
    """Raise `RequestError` where the extra is not installed."""
    if find_spec(LIBRARY) is None:
        raise RequestError("the baselines need adversarial-robustness-toolbox; pip install 'sia-gen[baselines]'")


def names(target: Target) -> list[str]:
    """The baselines that a classifier can be attacked by: one of two classes has no third logit."""
    assert isinstance(target.task, Classification)
    return [name for name in BASELINES if name != "APGD-DLR" or len(target.task.classes) > 2]


def pixel_attack(
    name: str, target: Target, images: Images, labels: Tensor, *, epsilon: float, norm: Norm = "linf", steps: int = 10,
    seed: int = 0, random_start: bool = True,
) -> Images:  # fmt: skip
    """Images ``[N, 3, R, R]`` in [0, 1] changed by one of `BASELINES` against ``labels`` ``[N]``, within the radius.

    Raises `RequestError` for another name, `WorkError` where the target fails.
    """
    require_library()
    from art.estimators.classification import PyTorchClassifier

    if name not in BASELINES:
        raise RequestError(f"no baseline '{name}': there are {', '.join(BASELINES)}")
    assert isinstance(target.task, Classification)
    with _quiet(), one_seed(seed), _numpy_seed(seed), torch.enable_grad():
        model = PyTorchClassifier(
            Logits(target), nn.CrossEntropyLoss(), tuple(images.shape[1:]), len(target.task.classes),
            clip_values=(0.0, 1.0), device_type="gpu" if images.is_cuda else "cpu",
        )  # fmt: skip
        attack = _made(name, model, epsilon, np.inf if norm == "linf" else 2, steps, random_start)
        given: Any = images.cpu().numpy().astype(np.float32)
        changed = attack.generate(given, labels.cpu().numpy())
    delta = torch.from_numpy(np.asarray(changed, dtype=np.float32) - given)
    if norm == "linf":
        delta = delta.clamp(-epsilon, epsilon)
    else:
        size = delta.flatten(1).norm(dim=1).clamp(min=1e-12)
        delta = delta * (epsilon / size).clamp(max=1)[:, None, None, None]
    return (images + delta.to(images)).clamp(0, 1)


def _made(name: str, model: Any, epsilon: float, norm: float, steps: int, random_start: bool) -> Any:
    from art.attacks import evasion

    bounds: dict[str, Any] = {"norm": norm, "eps": epsilon, "batch_size": BATCH}
    iterated = bounds | {"eps_step": epsilon / 4, "max_iter": steps, "verbose": False}
    starts = int(random_start)
    makers: dict[str, Callable[[], Any]] = {
        "FGSM": lambda: evasion.FastGradientMethod(model, **bounds),
        "PGD": lambda: evasion.ProjectedGradientDescentPyTorch(model, **iterated, num_random_init=starts),
        "MI-FGSM": lambda: evasion.MomentumIterativeMethod(model, **iterated),
        "APGD-CE": lambda: _adaptive(model, iterated, "cross_entropy"),
        "APGD-DLR": lambda: _adaptive(model, iterated, "difference_logits_ratio"),
        "DeepFool": lambda: evasion.DeepFool(model, max_iter=steps, batch_size=BATCH, verbose=False),
        "C&W": lambda: evasion.CarliniL2Method(
            model, max_iter=steps, binary_search_steps=5, batch_size=BATCH, verbose=False
        ),
        "Square": lambda: evasion.SquareAttack(model, norm=norm, eps=epsilon, max_iter=QUERIES, verbose=False),
    }  # fmt: skip
    return makers[name]()


def _adaptive(model: Any, iterated: dict[str, Any], loss: str) -> Any:
    from art.attacks.evasion import AutoProjectedGradientDescent

    return AutoProjectedGradientDescent(model, **{**iterated, "eps_step": 2 * iterated["eps"]}, loss_type=loss)


@contextmanager
def _quiet() -> Iterator[None]:
    log = logging.getLogger(LIBRARY)
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """The library draws from numpy's global stream."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def every(wanted: Sequence[str] | None, target: Target) -> list[str]:
    """The baselines asked for, all by default; raises `RequestError` for one that is none."""
    known = names(target)
    for name in wanted or ():
        if name not in BASELINES:
            raise RequestError(f"no baseline '{name}': there are {', '.join(BASELINES)}")
    return known if wanted is None else [name for name in wanted if name in known]
