"""Puts a model on its device, or where it does not fit there, its weights part by part as each is asked."""

from __future__ import annotations

import logging
from typing import TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)
SHARE = 0.6  # of the free memory of a device that weights may take; the rest is for what they compute


def onto(model: Model, device: torch.device) -> Model:
    """The model on ``device``. Where its weights would take most of a GPU's memory, they stay on the CPU.

    Each part of it then comes over while it computes (accelerate's offloading), which is slow, and a warning says so.
    """
    if fits(model, device):
        return model.to(device)
    from accelerate import cpu_offload

    logging.getLogger(__name__).warning(
        "the weights of '%s' do not fit on %s and come over part by part: slower", getattr(model, "name", "it"), device
    )
    for child in model.children():
        for part in child if isinstance(child, nn.ModuleList) else [child]:
            cpu_offload(part, execution_device=device)
    for name, buffer in model.named_buffers(recurse=False):  # its own, which no part brings over
        setattr(model, name, buffer.to(device))
    return model


def fits(model: nn.Module, device: torch.device) -> bool:
    """Whether a device has room for the model's weights; a CPU is taken to have."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return sum(weight.numel() * weight.element_size() for weight in model.parameters()) <= SHARE * free
