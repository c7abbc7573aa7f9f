"""StyleGAN2 and StyleGAN2-ADA as they are trained on photographs (Karras et al., CVPR 2020; NeurIPS 2020).

Weights are kept as they are used: gains and learning-rate multipliers are multiplied in when a checkpoint is converted.
A style scales activations before a convolution and its norm after it, which equals scaling the weights and keeps one
convolution for the whole batch.

Letters: B faces, Z latents, W width of w, L layers that a w steers, C channels, S numbers of all styles, R resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import read_config, read_tensors, write_json, write_tensors
from sia_gen.core.foreign import first_line
from sia_gen.core.images import Images
from sia_gen.core.seeds import normals
from sia_gen.generators.generator import Codes

ARCHITECTURE = "stylegan2-ada"
SLOPE, GAIN = 0.2, math.sqrt(2.0)  # of the leaky ReLU


@dataclass(frozen=True, kw_only=True)
class StyleGAN2ADAConfig:
    """Sizes: ``channels[i]`` at resolution 4·2ⁱ.

    architecture   how resolutions come together: "skip" sums pictures, "resnet" activations, "orig" neither
    clamp          where activations of convolutions end either way, None for nowhere
    c_dim, label   numbers of a condition, 0 for none, and the ones that all faces are drawn with, by default zeros
    psi, cutoff    truncation: how far w goes from its mean (1: all the way), in the first layers up to the cutoff
    noise          "const" adds each layer's fixed noise, "none" none
    source         what it was converted from: its SHA-256 and its licence
    """

    name: str
    channels: tuple[int, ...]
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0
    mapping: tuple[int, ...] = (512,) * 8
    embed: int = 0
    architecture: Literal["skip", "resnet", "orig"] = "skip"
    clamp: float | None = None
    filter: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)
    noisy: bool = True
    label: tuple[float, ...] | None = None
    psi: float = 1.0
    cutoff: int | None = None
    noise: Literal["const", "none"] = "const"
    source: dict[str, str] | None = None

    def __post_init__(self) -> None:
        if not 2 <= len(self.channels) <= 10 or not 0 <= self.psi <= 2:
            raise RequestError(
                f"channels={self.channels} with psi={self.psi:g} is no StyleGAN2: 2 to 10 resolutions and psi 0…2"
            )
        if self.architecture not in ("skip", "resnet", "orig") or self.noise not in ("const", "none"):
            raise RequestError(
                f"architecture={self.architecture}, noise={self.noise}: choose skip, resnet or orig, and const or none"
            )
        if self.label is not None and len(self.label) != self.c_dim:
            raise RequestError(f"label has {len(self.label)} numbers, not c_dim={self.c_dim}; give as many")

    @property
    def resolution(self) -> int:
        return 4 * 2 ** (len(self.channels) - 1)

    @property
    def layers(self) -> int:
        """How many of w's layers are read: a convolution each, and the last picture."""
        return 2 * len(self.channels)


class Mapping(nn.Module):
    """z ``[B, Z]``, and a condition ``[B, c]`` where there is one, → w ``[B, W]``."""

    def __init__(self, config: StyleGAN2ADAConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(config.c_dim, config.embed) if config.c_dim else None
        sizes = [config.z_dim + (config.embed if config.c_dim else 0), *config.mapping]
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes))

    def forward(self, z: Tensor, condition: Tensor | None) -> Tensor:
        x = _unit(z) if z.shape[1] else z
        if self.embed is not None and condition is not None:
            x = torch.cat([x, _unit(self.embed(condition))], dim=1)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE) * GAIN
        return x


def _unit(x: Tensor) -> Tensor:
    """Each row scaled to numbers of mean square 1."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class Modulated(nn.Module):
    """A convolution of activations that a style ``[B, C]`` scales; ``up`` doubles their resolution."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, width: int, *, up: bool = False, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.affine = nn.Linear(width, inputs)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.up, self.demodulate, self.kernel = up, demodulate, kernel

    def forward(self, x: Tensor, w: Tensor, shift: Tensor | None, taps: Tensor) -> Tensor:
        style = self.affine(w)
        if shift is not None:
            style = style + shift
        norm = None
        if self.demodulate:
            energy = self.weight.square().sum((2, 3))  # [C_out, C]
            norm = torch.rsqrt(style.square() @ energy.T + 1e-8).to(x.dtype)
        x = x * style.to(x.dtype)[:, :, None, None]
        weight = self.weight.to(x.dtype)
        if self.up:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = smoothed(x, taps * 2, len(taps) // 2 - 1 + (self.kernel - 3) // 2)
        else:
            x = F.conv2d(x, weight, padding=self.kernel // 2)
        return x if norm is None else x * norm[:, :, None, None]


def smoothed(x: Tensor, taps: Tensor, padding: int) -> Tensor:
    """``x`` ``[B, C, H, W]`` filtered with the same taps along both axes, each channel by itself."""
    channels, taps = x.shape[1], taps.to(x.dtype)
    across, down = (taps.view(shape).expand(channels, 1, *shape) for shape in ((1, -1), (-1, 1)))
    x = F.conv2d(x, across, padding=(0, padding), groups=channels)
    return F.conv2d(x, down, padding=(padding, 0), groups=channels)


def doubled(x: Tensor, taps: Tensor) -> Tensor:
    """``x`` ``[B, C, H, W]`` at twice the resolution, zeros put in between and filtered."""
    channels = x.shape[1]
    kernel = (torch.outer(taps, taps) * 4).to(x.dtype).expand(channels, 1, -1, -1)
    spread = F.conv_transpose2d(
        x, torch.ones(channels, 1, 1, 1, dtype=x.dtype, device=x.device), stride=2, groups=channels
    )
    first = (len(taps) + 1) // 2
    spread = F.pad(spread, (first, len(taps) - first, first, len(taps) - first))
    return F.conv2d(spread, kernel, groups=channels)


class Layer(nn.Module):
    """A modulated 3 × 3 convolution, noise, bias and leaky ReLU; its result is multiplied by ``gain`` and clamped."""

    def __init__(self, inputs: int, outputs: int, resolution: int, config: StyleGAN2ADAConfig, up: bool) -> None:
        super().__init__()
        self.conv = Modulated(inputs, outputs, 3, config.w_dim, up=up)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noisy = config.noisy and config.noise == "const"
        if config.noisy:
            self.register_buffer("noise", torch.zeros(resolution, resolution))
            self.strength = nn.Parameter(torch.zeros(()))
        self.clamp = config.clamp

    def forward(self, x: Tensor, w: Tensor, shift: Tensor | None, taps: Tensor, gain: float = 1.0) -> Tensor:
        x = self.conv(x, w, shift, taps)
        if self.noisy:
            x = x + (self.strength * self.noise).to(x.dtype)
        x = F.leaky_relu(x + self.bias.to(x.dtype)[:, None, None], SLOPE, inplace=True) * (GAIN * gain)
        return x if self.clamp is None else x.clamp(-self.clamp * gain, self.clamp * gain)


class Picture(nn.Module):
    """A modulated 1 × 1 convolution to red, green and blue."""

    def __init__(self, inputs: int, config: StyleGAN2ADAConfig) -> None:
        super().__init__()
        self.conv = Modulated(inputs, 3, 1, config.w_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))
        self.clamp = config.clamp

    def forward(self, x: Tensor, w: Tensor, shift: Tensor | None, taps: Tensor) -> Tensor:
        x = self.conv(x, w, shift, taps) + self.bias.to(x.dtype)[:, None, None]
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
        self, x: Tensor | None, picture: Tensor | None, w: Tensor, shifts: Sequence[Tensor | None], taps: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """``w`` ``[B, n, W]`` are the layers that the block reads, ``shifts`` are added to the styles, in order."""
        ws, by = iter(w.unbind(1)), iter(shifts)
        if self.start is not None:
            x = self.start.expand(len(w), -1, -1, -1).contiguous(memory_format=torch.channels_last)
            x = self.second(x, next(ws), next(by), taps)
        elif self.first is not None and x is not None:
            gain = math.sqrt(0.5) if self.skip is not None else 1.0
            beside = None if self.skip is None else doubled(self.skip(x), taps) * gain
            x = self.first(x, next(ws), next(by), taps)
            x = self.second(x, next(ws), next(by), taps, gain)
            x = x if beside is None else beside + x
        if picture is not None:
            picture = doubled(picture, taps)
        if self.picture is not None:
            shown = self.picture(x, next(ws), next(by), taps)
            picture = shown if picture is None else picture + shown
        return x, picture  # type: ignore[return-value]


class StyleGAN2ADA(nn.Module):
    """The generator; its codes are w+ ``[B, L, W]``, truncated as its config says.

    It is edited in "w" (an edit per layer, added to w+) or in "s", the StyleSpace (Wu et al., CVPR 2021): the styles of
    all convolutions, where single channels can be moved.
    """

    def __init__(self, config: StyleGAN2ADAConfig) -> None:
        super().__init__()
        self.config, self.name, self.resolution = config, config.name, config.resolution
        self.mapping = Mapping(config)
        self.register_buffer("mean", torch.zeros(config.w_dim))
        taps = torch.tensor(config.filter)
        self.register_buffer("taps", taps / taps.sum(), persistent=False)
        before = (0, *config.channels)
        self.blocks = nn.ModuleList(
            Block(inputs, outputs, index, config) for index, (inputs, outputs) in enumerate(pairwise(before))
        )
        self.edit_shapes = {
            "w": torch.Size((config.layers, config.w_dim)),
            "s": torch.Size((sum(conv.affine.out_features for conv, _ in self.steered()),)),
        }

    def steered(self) -> list[tuple[Modulated, int]]:
        """Every modulated convolution in order, and which of the L layers of w it reads."""
        found, layer = [], 0
        for block in self.blocks:
            parts = block.steered()
            found += [(part, layer + place) for place, part in enumerate(parts)]
            layer += len(parts) - (block.picture is not None)  # the next block's first layer reads what a picture does
        return found

    def sample(self, seeds: Sequence[int]) -> Codes:
        """One face per seed, on this generator's device."""
        return self.codes(normals(seeds, (self.config.z_dim,), "face").to(self.mean.device))

    def codes(self, z: Tensor) -> Codes:
        """Latents ``[B, Z]`` → w+ ``[B, L, W]``, in double precision first: rounding then hides the batch's size."""
        label = torch.tensor(self.config.label or (0.0,) * self.config.c_dim, dtype=torch.float64, device=z.device)
        double = {name: parameter.double() for name, parameter in self.mapping.named_parameters()}
        given = (z.double(), label.expand(len(z), -1) if self.config.c_dim else None)
        with torch.no_grad():
            w = torch.func.functional_call(self.mapping, double, given)
            every = w[:, None].repeat(1, self.config.layers, 1)
            cutoff = self.config.layers if self.config.cutoff is None else self.config.cutoff
            mean = self.mean.double()
            every[:, :cutoff] = mean + self.config.psi * (every[:, :cutoff] - mean)
        return every.to(self.mean.dtype)

    def render(self, codes: Codes, edits: Tensor | None = None, space: str | None = None) -> Images:
        """Images in [0, 1]; raises `RequestError` for an edit space that it does not have."""
        if edits is not None and space not in self.edit_shapes:
            raise RequestError(f"'{self.name}' cannot be edited in '{space}'; it has {', '.join(self.edit_shapes)}")
        if edits is not None and space == "w":
            codes = codes + edits
        return (self.synthesis(codes, edits if space == "s" else None) * 0.5 + 0.5).clamp(0, 1)

    def synthesis(self, w: Tensor, shift: Tensor | None = None) -> Tensor:
        """w+ ``[B, L, W]`` → pictures ``[B, 3, R, R]`` around 0, nominally −1…1; ``shift`` ``[B, S]``: to styles."""
        widths = [conv.affine.out_features for conv, _ in self.steered()]
        shifts: list[Tensor | None] = [None] * len(widths) if shift is None else list(shift.split(widths, dim=1))
        x = picture = None
        layer = place = 0
        for block in self.blocks:
            count = len(block.steered())
            x, picture = block(x, picture, w[:, layer : layer + count], shifts[place : place + count], self.taps)
            layer, place = layer + count - (block.picture is not None), place + count
        return picture  # type: ignore[return-value]

    def carry(self, edits: Tensor) -> Tensor:
        """Edits in w ``[..., L, W]`` → the edits in s ``[..., S]`` that do the same."""
        return torch.cat([edits[..., layer, :] @ conv.affine.weight.T for conv, layer in self.steered()], dim=-1)

    def save(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        config: dict[str, Any] = {"sia_gen": {"kind": "generator", "architecture": ARCHITECTURE}}
        write_json(Path(folder) / "config.json", config | asdict(self.config))
        write_tensors(Path(folder) / "model.safetensors", self.state_dict())

    @classmethod
    def load(cls, folder: str | Path) -> StyleGAN2ADA:
        """Read what `save` wrote, as float32; raises `WorkError` if the files are damaged or do not fit together."""
        folder = Path(folder)
        entries = {name: value for name, value in read_config(folder / "config.json").items() if name != "sia_gen"}
        tensors, _ = read_tensors(folder / "model.safetensors")
        try:
            lists = {name: tuple(value) for name, value in entries.items() if isinstance(value, list)}
            model = cls(StyleGAN2ADAConfig(**entries | lists))
            model.load_state_dict({name: value.float() for name, value in tensors.items()})
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise WorkError(f"'{folder}' is no StyleGAN2 generator ({first_line(error)}); convert it again") from None
        return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
