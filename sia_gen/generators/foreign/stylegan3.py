"""StyleGAN3, config-t and config-r (Karras et al., "Alias-Free Generative Adversarial Networks", NeurIPS 2021).

All begins with sines, whose frequencies w turns and shifts. Each layer's picture is a sampled signal with a margin: it
is brought to a higher rate with a low-pass filter, bent there, and brought down with another one. The filters come with
the weights, as they were designed. A layer's input is scaled by how large it was in training.

Letters: B faces, W width of w, L layers that a w steers, C channels, H side of a layer's picture, R resolution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.errors import RequestError
from sia_gen.generators.foreign.mapped import GAIN, SLOPE, Mapped, MappedConfig
from sia_gen.generators.generator import Codes

ARCHITECTURE = "stylegan3"


@dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """A layer: its channels and sides of pictures, and how it is sampled up and down in between.

    ``up`` and ``down`` are factors of the rate, ``taps`` the lengths of the filters (of which the second may be square:
    ``radial``), ``padding`` what is put before and after, less what is cut off. The last layer, ``shown``, is linear.
    """

    inputs: int
    outputs: int
    kernel: int
    side: int
    up: int
    down: int
    taps: tuple[int, int]
    padding: tuple[int, int]
    radial: bool = False
    shown: bool = False
    clamp: float | None = None


@dataclass(frozen=True, kw_only=True)
class StyleGAN3Config(MappedConfig):
    """The sines (``side`` of their picture, its sampling ``rate``, the ``band`` they lie in), and each layer.

    ``scale`` is what the last picture is multiplied by.
    """

    side: int
    rate: float
    band: float
    synthesis: tuple[Any, ...]
    scale: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = [part if isinstance(part, LayerConfig) else _layer(part) for part in self.synthesis]
        object.__setattr__(self, "synthesis", tuple(parts))
        if not parts or not parts[-1].shown or parts[-1].outputs != 3:
            raise RequestError("the last of the layers draws no colour picture; convert another checkpoint")

    @property
    def resolution(self) -> int:
        return self.synthesis[-1].side

    @property
    def layers(self) -> int:
        """One for the sines and one for each layer."""
        return 1 + len(self.synthesis)


def _layer(entries: Mapping[str, Any]) -> LayerConfig:
    """A layer as a file states it."""
    pairs = {name: tuple(entries[name]) for name in ("taps", "padding")}
    return LayerConfig(**{**entries, **pairs})


class Sines(nn.Module):
    """w ``[B, W]`` → C pictures ``[B, C, H, H]``: sines that w turns and shifts, mixed."""

    def __init__(self, config: StyleGAN3Config) -> None:
        super().__init__()
        channels = config.synthesis[0].inputs
        self.affine = nn.Linear(config.w_dim, 4)  # cosine and sine of the turn, and the shift, all at any scale
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.register_buffer("frequencies", torch.randn(channels, 2))
        self.register_buffer("phases", torch.rand(channels))
        self.register_buffer("transform", torch.eye(3))  # of the picture, by whoever trained it
        self.side, self.rate, self.band = config.side, config.rate, config.band

    def forward(self, w: Tensor, shift: Tensor | None) -> Tensor:
        turn = self.affine(w) if shift is None else self.affine(w) + shift
        turn = turn / turn[:, :2].norm(dim=1, keepdim=True)
        cosine, sine, across, down = turn.unbind(1)
        rotation = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)  # [B, 2, 2]
        moved = -(rotation @ torch.stack([across, down], 1)[:, :, None])  # [B, 2, 1]
        linear = rotation @ self.transform[:2, :2]
        offset = rotation @ self.transform[:2, 2:] + moved
        phases = self.phases + (self.frequencies @ offset)[..., 0]  # [B, C]
        frequencies = self.frequencies @ linear  # [B, C, 2]
        # What the turn takes out of the band fades until it would alias.
        over = (frequencies.norm(dim=2) - self.band) / (self.rate / 2 - self.band)
        place = (torch.arange(self.side, device=w.device) + 0.5 - self.side / 2) / self.rate
        sideways = place[None, None, None, :] * frequencies[..., 0, None, None]  # [B, C, 1, H]
        downwards = place[None, None, :, None] * frequencies[..., 1, None, None]  # [B, C, H, 1]
        waves = torch.sin(2 * math.pi * (sideways + downwards + phases[..., None, None]))
        waves = waves * (1 - over).clamp(0, 1)[..., None, None]
        return F.conv2d(waves, self.weight[:, :, None, None])


class Layer(nn.Module):
    """A modulated convolution, and what is bent at a higher rate."""

    def __init__(self, config: LayerConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.affine = nn.Linear(width, config.inputs)
        self.weight = nn.Parameter(torch.randn(config.outputs, config.inputs, config.kernel, config.kernel))
        self.bias = nn.Parameter(torch.zeros(config.outputs))
        up, down = config.taps
        self.register_buffer("gain", torch.ones(()))  # of the input
        self.register_buffer("raised", torch.full((up,), 1 / up))
        self.register_buffer("lowered", torch.full((down, down) if config.radial else (down,), 1 / down))

    def forward(self, x: Tensor, w: Tensor, shift: Tensor | None) -> Tensor:
        config, style = self.config, self.affine(w)
        if shift is not None:
            style = style + shift
        gain = self.gain
        if not config.shown:
            energy = self.weight.square().sum((2, 3))  # [C_out, C]
            gain = gain * torch.rsqrt(style.square() @ energy.T + 1e-8)[:, :, None, None]
        x = x * style.to(x.dtype)[:, :, None, None]
        x = F.conv2d(x, self.weight.to(x.dtype), padding=config.kernel - 1)
        x = x * gain.to(x.dtype) + self.bias.to(x.dtype)[:, None, None]
        x = raised(x, self.raised, config.up, config.padding)
        if not config.shown:
            x = F.leaky_relu(x, SLOPE, inplace=True) * GAIN
        if config.clamp is not None:
            x = x.clamp(-config.clamp, config.clamp)
        return lowered(x, self.lowered, config.down)


def raised(x: Tensor, taps: Tensor, factor: int, padding: tuple[int, int]) -> Tensor:
    """``x`` ``[B, C, H, W]`` at ``factor`` times the rate: zeros in between, ``padding`` around, filtered."""
    before, after = padding
    shape, size, taps = x.shape[:2], len(taps), (taps * factor).to(x.dtype)
    x = x.flatten(0, 1)[:, None]  # each channel by itself
    if size > 1 or factor > 1:
        x = F.conv_transpose2d(x, taps.view(1, 1, size, 1), stride=(factor, 1))
        x = F.conv_transpose2d(x, taps.view(1, 1, 1, size), stride=(1, factor))
    # Of all that the filter reaches, what lies where it finds all of its inputs; padding counts as zeros.
    ends = (before - size + 1, after - size + factor)
    return F.pad(x, (*ends, *ends)).unflatten(0, shape).squeeze(2)


def lowered(x: Tensor, taps: Tensor, factor: int) -> Tensor:
    """``x`` ``[B, C, H, W]`` filtered, by taps along both axes or a square of them, and every ``factor``-th kept."""
    if taps.numel() == 1 and factor == 1:
        return x
    shape, taps, size = x.shape[:2], taps.to(x.dtype), len(taps)
    x = x.flatten(0, 1)[:, None]
    if taps.ndim == 2:
        x = F.conv2d(x, taps[None, None], stride=factor)
    else:
        x = F.conv2d(x, taps.view(1, 1, size, 1), stride=(factor, 1))
        x = F.conv2d(x, taps.view(1, 1, 1, size), stride=(1, factor))
    return x.unflatten(0, shape).squeeze(2)


class StyleGAN3(Mapped):
    """The generator, see `Mapped`; the first of the styles are the turn and shift of the sines."""

    architecture, settings = ARCHITECTURE, StyleGAN3Config

    def __init__(self, config: StyleGAN3Config) -> None:
        super().__init__(config)
        self.sines = Sines(config)
        self.layers = nn.ModuleList(Layer(part, config.w_dim) for part in config.synthesis)
        self.open_styles()

    def steered(self) -> list[tuple[Any, int]]:
        return [(part, index) for index, part in enumerate((self.sines, *self.layers))]

    def draw(self, w: Tensor, shifts: Sequence[Tensor | None], own: Codes) -> Tensor:
        x = self.sines(w[:, 0], shifts[0])
        for index, layer in enumerate(self.layers, 1):
            x = layer(x, w[:, index], shifts[index])
        return x.to(torch.promote_types(x.dtype, torch.float32)) * self.config.scale
