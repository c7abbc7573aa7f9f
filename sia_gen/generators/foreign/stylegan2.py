"""StyleGAN2 and StyleGAN2-ADA as they are trained on photographs (Karras et al., CVPR 2020; NeurIPS 2020).

A style scales activations before a convolution and its norm after it, which equals scaling the weights and keeps one
convolution for the whole batch.

Letters: B faces, W width of w, L layers that a w steers, C channels, S numbers of all styles, R resolution.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.errors import RequestError
from sia_gen.core.seeds import normals
from sia_gen.generators.foreign.mapped import GAIN, SLOPE, Mapped, MappedConfig
from sia_gen.generators.generator import Codes

ARCHITECTURE = "stylegan2-ada"


@dataclass(frozen=True, kw_only=True)
class StyleGAN2ADAConfig(MappedConfig):
    """Sizes: ``channels[i]`` at resolution 4·2ⁱ; and what `MappedConfig` has.

    architecture   how resolutions come together: "skip" sums pictures, "resnet" activations, "orig" neither
    clamp          where activations of convolutions end either way, None for nowhere
    noise          "const" adds each layer's fixed noise, "none" none, "random" noise of each face's own, which stays as
                   it is when the face is edited
    """

    channels: tuple[int, ...]
    architecture: Literal["skip", "resnet", "orig"] = "skip"
    clamp: float | None = None
    filter: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)
    noisy: bool = True
    noise: Literal["const", "random", "none"] = "const"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= len(self.channels) <= 10:
            raise RequestError(f"channels={self.channels} are of no StyleGAN2: give 2 to 10 resolutions")
        if self.architecture not in ("skip", "resnet", "orig") or self.noise not in ("const", "random", "none"):
            raise RequestError(
                f"architecture={self.architecture}, noise={self.noise}: choose skip, resnet or orig, and const, random "
                "or none"
            )

    @property
    def resolution(self) -> int:
        return 4 * 2 ** (len(self.channels) - 1)

    @property
    def layers(self) -> int:
        """How many of w's layers are read: a convolution each, and the last picture."""
        return 2 * len(self.channels)


class Modulated(nn.Module):
    """A convolution of activations that a style ``[B, C]`` scales; ``up`` doubles their resolution."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, width: int, *, up: bool = False, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.affine = nn.Linear(width, inputs)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.up, self.demodulate, self.kernel = up, demodulate, kernel

    def forward(
        self, x: Tensor, w: Tensor, shift: Tensor | None, taps: Tensor, bias: Tensor, gain: float = 1.0
    ) -> Tensor:
        """The result with a ``bias`` ``[C_out]`` added, all of it multiplied by ``gain``."""
        style = self.affine(w)
        if shift is not None:
            style = style + shift
        norm = None
        if self.demodulate:
            energy = self.weight.square().sum((2, 3))  # [C_out, C]
            norm = torch.rsqrt(style.square() @ energy.T + 1e-8) * gain
        else:
            style = style * gain
        x = Scaled.apply(x, style, None)
        weight = self.weight.to(x.dtype)
        if self.up:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = smoothed(x, taps * 2, len(taps) // 2 - 1 + (self.kernel - 3) // 2)
        else:
            x = F.conv2d(x, weight, padding=self.kernel // 2)
        bias = bias * gain
        return x + bias.to(x.dtype)[:, None, None] if norm is None else Scaled.apply(x, norm, bias)

    def lay_out(self) -> None:
        """Put weights into memory in the order in which a convolution reads them that doubles the resolution."""
        if self.up:
            turned = self.weight.data.transpose(0, 1).contiguous(memory_format=torch.channels_last)
            self.weight.data = turned.transpose(0, 1)


class Scaled(torch.autograd.Function):
    """``x`` ``[B, C, H, W]`` times a scale ``[B, C]``, and a bias ``[C]`` added where there is one, in the type of x.

    As autograd would do it, but the scale's gradient is summed along memory, in half of the time on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, scale)
        by = scale.to(x.dtype)[:, :, None, None]
        return x * by if bias is None else torch.addcmul(bias.to(x.dtype)[:, None, None], x, by)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (gradient,), (x, scale) = gradients, ctx.saved_tensors
        of_x, of_scale, of_bias = ctx.needs_input_grad
        return (
            gradient * scale.to(x.dtype)[:, :, None, None] if of_x else None,
            (gradient * x).permute(0, 2, 3, 1).flatten(1, 2).sum(dim=1, dtype=scale.dtype) if of_scale else None,
            gradient.sum((0, 2, 3), dtype=scale.dtype) if of_bias else None,
        )


def smoothed(x: Tensor, taps: Tensor, padding: int) -> Tensor:
    """``x`` ``[B, C, H, W]`` filtered with the same taps along both axes, each channel by itself."""
    kernel = torch.outer(taps, taps).to(x.dtype).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(x, kernel, padding=padding, groups=x.shape[1])


def doubled(x: Tensor, taps: Tensor) -> Tensor:
    """``x`` ``[B, C, H, W]`` at twice the resolution, zeros put in between and filtered."""
    taps = taps.flip(0) * 2
    kernel = torch.outer(taps, taps).to(x.dtype).expand(x.shape[1], 1, -1, -1)
    x = F.conv_transpose2d(x, kernel, stride=2, groups=x.shape[1])
    before, after = (len(taps) - 2) // 2, (len(taps) - 1) // 2  # what lies outside of the picture
    return F.pad(x, (-before, -after, -before, -after))


class Layer(nn.Module):
    """A modulated 3 × 3 convolution, noise, bias and leaky ReLU; its result is multiplied by ``gain`` and clamped."""

    def __init__(self, inputs: int, outputs: int, resolution: int, config: StyleGAN2ADAConfig, up: bool) -> None:
        super().__init__()
        self.place = f"{resolution} {int(up)}"  # two layers a resolution, of which the first comes up to it
        self.conv = Modulated(inputs, outputs, 3, config.w_dim, up=up)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noisy = config.noisy and config.noise != "none"
        if config.noisy:
            self.register_buffer("noise", torch.zeros(resolution, resolution))
            self.strength = nn.Parameter(torch.zeros(()))
        self.clamp = config.clamp

    def forward(
        self, x: Tensor, w: Tensor, shift: Tensor | None, taps: Tensor, streams: Sequence[int], gain: float = 1.0
    ) -> Tensor:
        """``streams`` say where the noise of each face is drawn from; without any it is the fixed one."""
        early = GAIN * gain  # a leaky ReLU lets it pass
        x = self.conv(x, w, shift, taps, self.bias, early)
        if self.noisy:
            noise = self.noise
            if streams:
                drawn = normals(streams, noise.shape, f"noise {self.place}")
                noise = drawn[:, None].to(noise)  # [B, 1, H, W]
            x = x.add_((self.strength * early * noise).to(x.dtype))
        x = F.leaky_relu(x, SLOPE, inplace=True)
        return x if self.clamp is None else x.clamp(-self.clamp * gain, self.clamp * gain)


class Picture(nn.Module):
    """A modulated 1 × 1 convolution to red, green and blue."""

    def __init__(self, inputs: int, config: StyleGAN2ADAConfig) -> None:
        super().__init__()
        self.conv = Modulated(inputs, 3, 1, config.w_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))
        self.clamp = config.clamp

    def forward(self, x: Tensor, w: Tensor, shift: Tensor | None, taps: Tensor) -> Tensor:
        x = self.conv(x, w, shift, taps, self.bias)
        x = x if self.clamp is None else x.clamp(-self.clamp, self.clamp)
        return x.to(torch.promote_types(x.dtype, torch.float32))


class Block(nn.Module):
    """All layers of one resolution."""

    def __init__(self, inputs: int, outputs: int, index: int, config: StyleGAN2ADAConfig) -> None:
        super().__init__()
        resolution, last = 4 * 2**index, index == len(config.channels) - 1
        self.start = nn.Parameter(torch.randn(outputs, 4, 4)) if not index else None
        self.first = Layer(inputs, outputs, resolution, config, up=True) if index else None
        self.second = Layer(outputs, outputs, resolution, config, up=False)
        self.picture = Picture(outputs, config) if last or config.architecture == "skip" else None
        residual = index and config.architecture == "resnet"
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False) if residual else None

    def steered(self) -> list[Modulated]:
        """What styles steer, in order."""
        parts = (self.first, self.second, self.picture)
        return [part.conv for part in parts if part is not None]

    def forward(
        self,
        x: Tensor | None,
        picture: Tensor | None,
        w: Tensor,
        shifts: Sequence[Tensor | None],
        taps: Tensor,
        streams: Sequence[int],
    ) -> tuple[Tensor, Tensor | None]:
        """``w`` ``[B, n, W]`` are the layers that the block reads, ``shifts`` are added to the styles, in order."""
        ws, by = iter(w.unbind(1)), iter(shifts)
        if self.start is not None:
            x = self.start.expand(len(w), -1, -1, -1).contiguous(memory_format=torch.channels_last)
            x = self.second(x, next(ws), next(by), taps, streams)
        elif self.first is not None and x is not None:
            gain = math.sqrt(0.5) if self.skip is not None else 1.0
            beside = None if self.skip is None else doubled(self.skip(x), taps) * gain
            x = self.first(x, next(ws), next(by), taps, streams)
            x = self.second(x, next(ws), next(by), taps, streams, gain)
            x = x if beside is None else beside + x
        if picture is not None:
            picture = doubled(picture, taps)
        if self.picture is not None:
            shown = self.picture(x, next(ws), next(by), taps)
            picture = shown if picture is None else picture + shown
        return x, picture  # type: ignore[return-value]


class StyleGAN2ADA(Mapped):
    """The generator, see `Mapped`."""

    architecture, settings = ARCHITECTURE, StyleGAN2ADAConfig

    def __init__(self, config: StyleGAN2ADAConfig) -> None:
        super().__init__(config)
        taps = torch.tensor(config.filter)
        self.register_buffer("taps", taps / taps.sum(), persistent=False)
        before = (0, *config.channels)
        self.blocks = nn.ModuleList(
            Block(inputs, outputs, index, config) for index, (inputs, outputs) in enumerate(pairwise(before))
        )
        self.open_styles()

    def still(self) -> Self:
        super().still()
        for part, _ in self.steered():
            part.lay_out()
        return self

    def steered(self) -> list[tuple[Modulated, int]]:
        """Every modulated convolution in order, and which of the L layers of w it reads."""
        found, layer = [], 0
        for block in self.blocks:
            parts = block.steered()
            found += [(part, layer + place) for place, part in enumerate(parts)]
            layer += len(parts) - (block.picture is not None)  # the next block's first layer reads what a picture does
        return found

    def draw(self, w: Tensor, shifts: Sequence[Tensor | None], own: Codes) -> Tensor:
        x = picture = None
        streams = _streams(own) if self.config.noise == "random" else ()
        layer = place = 0
        for block in self.blocks:
            count = len(block.steered())
            x, picture = block(
                x, picture, w[:, layer : layer + count], shifts[place : place + count], self.taps, streams
            )
            layer, place = layer + count - (block.picture is not None), place + count
        return picture  # type: ignore[return-value]


def _streams(codes: Codes) -> list[int]:
    """A seed for each of the faces' ``codes`` ``[B, L, W]``: made of its w's bits, so that it goes where they go."""
    rows = codes[:, 0].detach().float().cpu().contiguous().numpy()
    return [int.from_bytes(hashlib.sha256(row.tobytes()).digest()[:7], "big") for row in rows]
