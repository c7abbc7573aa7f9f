"""Context managers and small questions about torch modules."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def eval_mode(*modules: nn.Module) -> Iterator[None]:
    """Put modules in eval mode with frozen parameters, and give each its own modes and flags back."""
    training = [(part, part.training) for module in modules for part in module.modules()]
    grads = [(parameter, parameter.requires_grad) for module in modules for parameter in module.parameters()]
    try:
        for module in modules:
            module.eval()
        for parameter, _ in grads:
            parameter.requires_grad_(False)
        yield
    finally:
        for part, mode in training:
            part.training = mode
        for parameter, flag in grads:
            parameter.requires_grad_(flag)


@contextmanager
def one_seed(seed: int) -> Iterator[None]:
    """Seed torch's global generator inside the block and restore its state after."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def weights_digest(module: nn.Module) -> str:
    """Tells a module's weights from others."""
    found = hashlib.sha256()
    for name, values in module.state_dict().items():
        found.update(name.encode())
        found.update(values.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())  # of any type
    return found.hexdigest()[:16]


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's first parameter or buffer; the CPU where it has none."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")
