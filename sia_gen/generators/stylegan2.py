"""A StyleGAN2-style generator (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020).

What differs from the paper, for the sake of small networks learnt by paired regression on a CPU: the first 4 × 4
picture is a linear map of w instead of a constant; w also says where P landmarks lie, and a bump at each of them joins
the activations (as in He et al., "LatentKeypointGAN", arXiv 2103.15812), so that no layer learns pose by heart; the
mapping network has a linear path and a piecewise linear one beside its MLP, the latter for latents that switch
something on; z is not normalised, since its length carries meaning when every latent is a factor; where the resolution
doubles, the convolution comes before the filter, at a quarter of the cost; activations carry no gain of √2, as
demodulation keeps their scale.

Letters: B faces, Z latents, W width of w, L layers that a w steers, C channels, S numbers of a style, R resolution,
P landmarks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import read_json, read_tensors, write_json, write_tensors
from sia_gen.core.foreign import first_line
from sia_gen.core.images import Images
from sia_gen.core.population import Population
from sia_gen.core.seeds import normals
from sia_gen.generators.generator import Codes
from sia_gen.generators.mapping import Linear, Mapping

SPREAD = 0.1  # picture widths that a landmark moves per unit of what w says
FINEST_BUMPS = 64  # pixels: layers of a higher resolution get the landmarks through those before


@dataclass(frozen=True, kw_only=True)
class StyleGAN2Config:
    """Sizes: ``channels[i]`` at resolution 4·2ⁱ; ``noise`` adds a fixed, learnt-strength noise picture per layer.

    ``knots`` is at how many values of a latent its piecewise linear path bends, ``landmarks`` the number of points that
    w places; 0 leaves either out. ``population`` says how the latents of faces go together, see
    `sia_gen.core.population`; without it they are independent.
    """

    name: str
    latents: int
    width: int = 256
    channels: tuple[int, ...] = (224, 224, 160, 96, 48)
    mapping_layers: int = 3
    noise: bool = False
    knots: int = 0
    landmarks: int = 0
    population: dict[str, Any] | None = None

    @property
    def resolution(self) -> int:
        return 4 * 2 ** (len(self.channels) - 1)

    @property
    def layers(self) -> int:
        return 2 * len(self.channels)


class ModulatedConv(nn.Module):
    """A convolution whose input channels w scales, renormalised per output channel (sections 2.2 and B of the paper).

    Scaling the input and then the output equals scaling the weights, and keeps one convolution for the whole batch.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, width: int, demodulate: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.style = Linear(width, inputs, bias=1.0)
        self.scale = 1 / math.sqrt(inputs * kernel**2)
        self.demodulate, self.padding = demodulate, kernel // 2

    def forward(self, x: Tensor, w: Tensor, shift: Tensor | None = None) -> Tensor:
        style = self.style(w)  # [B, C]
        if shift is not None:
            style = style + shift
        weight = self.weight * self.scale
        x = F.conv2d(x * style[:, :, None, None], weight, padding=self.padding)
        if not self.demodulate:
            return x + self.bias[:, None, None]
        norm = torch.rsqrt(style.square() @ weight.square().sum((2, 3)).T + 1e-8)  # [B, C_out]
        bias, norm = self.bias.to(x.dtype), norm.to(x.dtype)  # in mixed precision half as much is moved
        return torch.addcmul(bias[:, None, None], x, norm[:, :, None, None])


class Layer(nn.Module):
    """Modulated 3 × 3 convolution, filtered doubling of the resolution where asked, optional noise, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, resolution: int, config: StyleGAN2Config, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, config.width)
        self.up = up
        self.noise: Tensor | None
        if config.noise:
            self.register_buffer("noise", torch.randn(resolution, resolution))
            self.noise_strength = nn.Parameter(torch.zeros(()))
        else:
            self.noise = None

    def forward(self, x: Tensor, w: Tensor, shift: Tensor | None = None) -> Tensor:
        x = self.conv(x, w, shift)
        if self.up:
            x = _double(x)
        if self.noise is not None:
            x = x + self.noise_strength * self.noise
        return F.leaky_relu(x, 0.2, inplace=True)


class Synthesis(nn.Module):
    """w+ ``[B, L, W]`` → picture ``[B, 3, R, R]`` around 0, nominally −1…1; RGB skips summed over resolutions."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.start = Linear(config.width, config.channels[0] * 16)
        self.first = nn.ModuleList()
        self.second = nn.ModuleList()
        self.rgb = nn.ModuleList()
        before = config.channels[0]
        for index, channels in enumerate(config.channels):
            resolution = 4 * 2**index
            if index:
                self.first.append(Layer(before, channels, resolution, config, up=True))
            self.second.append(Layer(channels, channels, resolution, config))
            self.rgb.append(ModulatedConv(channels, 3, 1, config.width, demodulate=False))
            before = channels
        self.landmarks = config.landmarks
        if config.landmarks:
            self.points = Linear(config.width, 2 * config.landmarks)
            coarse = [channels for index, channels in enumerate(config.channels) if 4 * 2**index <= FINEST_BUMPS]
            self.bumps = nn.ParameterList(torch.randn(channels, config.landmarks, 1, 1) for channels in coarse)

    def place(self, w: Tensor, shift: Tensor | None = None) -> Tensor:
        """w ``[B, W]`` → landmarks ``[B, P, 2]`` in picture widths, 0…1 inside, x right and y down."""
        points = self.points(w) if shift is None else self.points(w) + shift
        points = points.to(torch.promote_types(points.dtype, torch.float32))  # a half is too coarse for places
        return 0.5 + SPREAD * points.view(len(w), -1, 2)

    def _bumps(self, points: Tensor, index: int) -> Tensor:
        """What Gaussians at the points, a pixel wide, add to the activations of resolution 4·2^index."""
        resolution, weight = 4 * 2**index, self.bumps[index] / math.sqrt(self.landmarks)
        centres = (torch.arange(resolution, device=points.device) + 0.5) / resolution
        along = torch.exp(-0.5 * ((points[..., None] - centres) * resolution).square())  # [B, P, 2, R]
        maps = along[:, :, 1, :, None] * along[:, :, 0, None, :]
        return F.conv2d(maps.contiguous(memory_format=torch.channels_last), weight.to(maps.dtype))

    def steered(self) -> list[tuple[Linear, int]]:
        """Every linear map out of w, in order, and which of the L layers of w it reads: together they make the style.

        What the first of them makes is no scale of channels but the 4 × 4 picture that all begins with, and what the
        last one makes, where there are landmarks, is their places.
        """
        found = [(self.start, 0), (self.second[0].conv.style, 1), (self.rgb[0].style, 1)]
        for index, (first, second, rgb) in enumerate(zip(self.first, self.second[1:], self.rgb[1:], strict=True), 1):
            found += [(first.conv.style, 2 * index), (second.conv.style, 2 * index + 1), (rgb.style, 2 * index + 1)]
        return [*found, (self.points, 0)] if self.landmarks else found

    def forward(self, w: Tensor, levels: int | None = None, shift: Tensor | None = None) -> Tensor:
        """``levels`` stops at the picture of resolution 4·2^(levels − 1), which is all there is without.

        ``shift`` ``[B, S]`` is added to the style, see `steered`.
        """
        shifts: list[Tensor | None] = [None] * (3 * len(self.rgb) + 1)
        if shift is not None:
            shifts = list(shift.split([linear.bias.numel() for linear, _ in self.steered()], dim=1))
        points = self.place(w[:, 0], shifts[-1]) if self.landmarks else None
        start = self.start(w[:, 0])
        x = (start if shifts[0] is None else start + shifts[0]).view(len(w), -1, 4, 4)
        x = self._marked(x, points, 0)
        x = self.second[0](x, w[:, 1], shifts[1])
        picture = self.rgb[0](x, w[:, 1], shifts[2])
        for index, (first, second, rgb) in enumerate(zip(self.first, self.second[1:], self.rgb[1:], strict=True), 1):
            if index == levels:
                break
            by_first, by_second, by_rgb = shifts[3 * index : 3 * index + 3]
            x = self._marked(first(x, w[:, 2 * index], by_first), points, index)
            x = second(x, w[:, 2 * index + 1], by_second)
            picture = _double(picture) + rgb(x, w[:, 2 * index + 1], by_rgb)
        return picture

    def _marked(self, x: Tensor, points: Tensor | None, index: int) -> Tensor:
        return x if points is None or index >= len(self.bumps) else x + self._bumps(points, index)


class StyleGAN2(nn.Module):
    """The generator; its codes are w+ ``[B, L, W]``.

    It is edited in ``"w"`` (an edit per layer, added to w+) or in ``"s"``, the StyleSpace (Wu et al., "StyleSpace
    Analysis", CVPR 2021): what w is turned to in each layer, where single channels can be moved.
    """

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        self.name = config.name
        self.resolution = config.resolution
        self.latents = config.latents
        self._population = None if config.population is None else Population.from_json(config.population)
        self.edit_shapes = {"w": torch.Size((config.layers, config.width))}
        self.mapping = Mapping(config.latents, config.width, config.mapping_layers, config.knots)
        self.synthesis = Synthesis(config)
        self.edit_shapes["s"] = torch.Size((sum(linear.bias.numel() for linear, _ in self.synthesis.steered()),))

    def sample(self, seeds: Sequence[int]) -> Codes:
        """One face per seed, on this generator's device. A shipped generator draws its latents as the studio draws
        people, so that the same seed is the same person in both."""
        z = normals(seeds, (self.config.latents,), "face")
        if self._population is not None:
            z = self._population.draw(z)
        return self.codes(z.to(self.synthesis.start.weight.device))

    def codes(self, z: Tensor, seeds: Sequence[int] | None = None) -> Codes:
        """Latents ``[B, Z]`` → w+ ``[B, L, W]``, in double precision first: rounding then hides the batch's size.

        Nothing is left to the faces' ``seeds``.
        """
        double = {name: parameter.double() for name, parameter in self.mapping.named_parameters()}
        with torch.no_grad():
            w = torch.func.functional_call(self.mapping, double, (z.double(),)).to(self.synthesis.start.weight.dtype)
        return w[:, None].repeat(1, self.config.layers, 1)

    def render(self, codes: Codes, edits: Tensor | None = None, space: str | None = None) -> Images:
        """Images in [0, 1]; raises `RequestError` for an edit space that it does not have."""
        if edits is not None and space not in self.edit_shapes:
            raise RequestError(f"'{self.name}' cannot be edited in '{space}'; it has {', '.join(self.edit_shapes)}")
        if edits is not None and space == "w":
            codes = codes + edits
        picture = self.synthesis(codes, shift=edits if space == "s" else None)
        return (picture * 0.5 + 0.5).clamp(0, 1)

    def carry(self, edits: Tensor) -> Tensor:
        """Edits in w ``[..., L, W]`` → the edits in s ``[..., S]`` that do the same."""
        return torch.cat(
            [edits[..., layer, :] @ (linear.weight * linear.scale).T for linear, layer in self.synthesis.steered()],
            dim=-1,
        )

    def save(self, folder: str | Path) -> None:
        """Write ``config.json`` and half-precision ``model.safetensors``."""
        config: dict[str, Any] = {"sia_gen": {"kind": "generator", "architecture": "stylegan2"}}
        write_json(Path(folder) / "config.json", config | asdict(self.config))
        write_tensors(
            Path(folder) / "model.safetensors", {name: value.half() for name, value in self.state_dict().items()}
        )

    @classmethod
    def load(cls, folder: str | Path) -> StyleGAN2:
        """Read what `save` wrote, as float32; raises `WorkError` if the files are damaged or do not fit together."""
        folder = Path(folder)
        entries = read_json(folder / "config.json")
        tensors, _ = read_tensors(folder / "model.safetensors")
        try:
            entries.pop("sia_gen")
            model = cls(StyleGAN2Config(**entries | {"channels": tuple(entries["channels"])}))
            model.load_state_dict({name: value.float() for name, value in tensors.items()})
        except (KeyError, TypeError, RuntimeError) as error:
            reason = first_line(error)
            raise WorkError(f"'{folder}' is no StyleGAN2 generator ({reason}); fetch it again") from None
        # The layout in which a CPU's convolutions are fastest, and a GPU's in half precision.
        return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _double(x: Tensor) -> Tensor:
    """Twice the resolution, filtered with [1, 3, 3, 1] / 4 along both axes: the paper's kernel, which is bilinear."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
