"""Pixel attacks of other libraries, as peers to measure ours against: each adapted once, here.

Letters: N faces, R resolution.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
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

LIBRARY, MORE_LIBRARY = "art", "torchattacks"
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

MORE: dict[str, str] = {
    "DI²-FGSM": "MI-FGSM on pictures resized at random (Xie et al., 2019)",
    "TI-FGSM": "the same with gradients blurred (Dong et al., 2019)",
    "APGD-T": "APGD towards each other class: four classes or more (Croce & Hein, 2020)",
    "FAB-T": "to the nearest boundary of each other class (Croce & Hein, 2020), cut at the radius",
}
"""Where torchattacks is installed, which pins an old requests: ``pip install --no-deps torchattacks``."""
LINF_ALONE = ("DI²-FGSM", "TI-FGSM")


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


def warm_up(target: Target, images: Images, labels: Tensor) -> None:
    """Attack once and drop what comes of it: what is called first loads a library, and would take its time."""
    pixel_attack("FGSM", target, images, labels, epsilon=1 / 255, norm="linf", steps=1, seed=0)
    if find_spec(MORE_LIBRARY) is not None:
        import_module(MORE_LIBRARY)


def names(target: Target, norm: Norm = "linf", *, more: bool | None = None) -> list[str]:
    """The baselines that a classifier can be attacked by here: one of two classes has no third logit.

    ``more``: whether `MORE` are among them, by default where they are installed.
    """
    assert isinstance(target.task, Classification)
    least = {"APGD-DLR": 3, "APGD-T": 4}
    more = find_spec(MORE_LIBRARY) is not None if more is None else more
    there = [name for name in (*BASELINES, *(MORE if more else ())) if norm == "linf" or name not in LINF_ALONE]
    return [name for name in there if len(target.task.classes) >= least.get(name, 2)]


def ensemble(target: Target, *, more: bool | None = None) -> list[str]:
    """AutoAttack's standard ensemble (Croce & Hein, 2020) within linf, as far as it is at hand; ``more``: see `names`.

    In place of APGD-T stands APGD-DLR, in that of FAB-T DeepFool.
    """
    there = names(target, more=more)
    wanted = ("APGD-CE", "APGD-T" if "APGD-T" in there else "APGD-DLR", "FAB-T" if "FAB-T" in there else "DeepFool")
    return [name for name in (*wanted, "Square") if name in there]


def pixel_attack(
    name: str, target: Target, images: Images, labels: Tensor, *, epsilon: float, norm: Norm = "linf", steps: int = 10,
    seed: int = 0, random_start: bool = True,
) -> Images:  # fmt: skip
    """Images ``[N, 3, R, R]`` in [0, 1] changed by one of `names` against ``labels`` ``[N]``, within the radius.

    Raises `RequestError` for another name, `WorkError` where the target fails.
    """
    require_library()
    _require(name, norm)
    make = _by_torchattacks if name in MORE else _by_art
    with _quiet(), one_seed(seed), _numpy_seed(seed), torch.enable_grad():
        delta = make(name, target, images, labels, epsilon, norm, steps, random_start) - images
    if norm == "linf":
        delta = delta.clamp(-epsilon, epsilon)
    else:
        size = delta.flatten(1).norm(dim=1).clamp(min=1e-12)
        delta = delta * (epsilon / size).clamp(max=1)[:, None, None, None]
    return (images + delta).clamp(0, 1)


def _by_art(
    name: str, target: Target, images: Images, labels: Tensor, epsilon: float, norm: Norm, steps: int,
    random_start: bool,
) -> Images:  # fmt: skip
    from art.estimators.classification import PyTorchClassifier

    assert isinstance(target.task, Classification)
    model = PyTorchClassifier(
        Logits(target), nn.CrossEntropyLoss(), tuple(images.shape[1:]), len(target.task.classes),
        clip_values=(0.0, 1.0), device_type="gpu" if images.is_cuda else "cpu",
    )  # fmt: skip
    attack = _made(name, model, epsilon, np.inf if norm == "linf" else 2, steps, random_start)
    changed = attack.generate(images.cpu().numpy().astype(np.float32), labels.cpu().numpy())
    return torch.from_numpy(np.asarray(changed, dtype=np.float32)).to(images)


def _by_torchattacks(
    name: str, target: Target, images: Images, labels: Tensor, epsilon: float, norm: Norm, steps: int,
    random_start: bool,
) -> Images:  # fmt: skip
    import torchattacks

    assert isinstance(target.task, Classification)
    model, bounds = Logits(target).eval(), {"eps": epsilon, "steps": steps}
    signed = bounds | {"alpha": epsilon / 4, "decay": 1.0, "random_start": random_start}
    classes = bounds | {"norm": "Linf" if norm == "linf" else "L2", "n_classes": len(target.task.classes)}
    makers: dict[str, Callable[[], Any]] = {
        "DI²-FGSM": lambda: torchattacks.DIFGSM(model, **signed),
        "TI-FGSM": lambda: torchattacks.TIFGSM(model, **signed),
        "APGD-T": lambda: torchattacks.APGDT(model, **classes),
        "FAB-T": lambda: torchattacks.FAB(model, **classes, multi_targeted=True),
    }
    with redirect_stdout(StringIO()):  # it prints that a model without parameters has no device
        attack = makers[name]()
    attack.set_device(images.device)
    parts = zip(images.contiguous().split(BATCH), labels.split(BATCH), strict=True)  # FAB views them as vectors
    return torch.cat([attack(part, right).detach() for part, right in parts])


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


def every(wanted: Sequence[str] | None, target: Target, norm: Norm = "linf") -> list[str]:
    """The baselines asked for, all by default; raises `RequestError` for one that is none, or not of this ``norm``."""
    known = names(target, norm)
    for name in wanted or ():
        _require(name, norm)
    return known if wanted is None else [name for name in wanted if name in known]


def _require(name: str, norm: Norm) -> None:
    if name in LINF_ALONE and norm != "linf":
        raise RequestError(f"'{name}' is for linf alone; leave it out with --norm {norm}")
    if name in MORE and find_spec(MORE_LIBRARY) is None:
        raise RequestError(f"the baseline '{name}' needs torchattacks; pip install --no-deps torchattacks")
    if name not in BASELINES and name not in MORE:
        raise RequestError(f"no baseline '{name}': there are {', '.join((*BASELINES, *MORE))}")
