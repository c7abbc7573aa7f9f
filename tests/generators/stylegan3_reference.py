"""StyleGAN3 written out as the paper states it: zeros put between samples, a weight per face, filters of its appendix.

Slow, and nothing is shared with ours. Modules are named, and pickle, as NVIDIA's do; see `stylegan2_reference`.
"""

import math

import numpy as np
import scipy.signal
import scipy.special
import torch
from torch import nn
from torch.nn import functional as F

from tests.generators.stylegan2_reference import FullyConnectedLayer, MappingNetwork, Persistent

FILTER = 6  # taps for each sample of the lower rate
SIZE, LAYERS, CRITICAL, MARGIN = 32, 6, 2, 4


def lowpass(taps, cutoff, half_width, rate, radial):
    """Kaiser's window on a sinc, or on a jinc around the middle."""
    if taps == 1:
        return None
    if not radial:
        made = scipy.signal.firwin(taps, cutoff, width=2 * half_width, fs=rate)
    else:
        place = (np.arange(taps) - (taps - 1) / 2) / rate
        radius = np.sqrt(place[:, None] ** 2 + place[None] ** 2)
        made = scipy.special.j1(2 * math.pi * cutoff * radius) / (math.pi * radius)
        beta = scipy.signal.kaiser_beta(scipy.signal.kaiser_atten(taps, 2 * half_width / (rate / 2)))
        made = made * np.outer(np.kaiser(taps, beta), np.kaiser(taps, beta))
        made = made / made.sum()
    return torch.tensor(made, dtype=torch.float32)


def filtered(x, taps, gain=1.0):
    if taps is None:
        return x
    kernel = torch.outer(taps, taps) if taps.ndim == 1 else taps
    return F.conv2d(x.flatten(0, 1)[:, None], kernel.flip(0, 1)[None, None] * gain).unflatten(0, x.shape[:2])[:, :, 0]


class SynthesisInput(Persistent):
    def __init__(self, width, channels, size, rate, band):
        super().__init__()
        self.size, self.sampling_rate, self.bandwidth = np.array([size, size]), rate, band
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.affine = FullyConnectedLayer(width, 4, bias=0.5)
        angle, radius = 2 * math.pi * torch.rand(channels), band * torch.rand(channels)
        self.register_buffer("freqs", torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1))
        self.register_buffer("phases", torch.rand(channels) - 0.5)
        self.register_buffer("transform", torch.tensor([[0.9, -0.2, 0.1], [0.2, 0.9, -0.05], [0.0, 0.0, 1.0]]))

    def forward(self, w):
        made = []
        for cosine, sine, across, down in self.affine(w).tolist():
            length = math.hypot(cosine, sine)
            c, s, x, y = cosine / length, sine / length, across / length, down / length
            turn = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
            move = torch.tensor([[1.0, 0.0, -x], [0.0, 1.0, -y], [0.0, 0.0, 1.0]])
            whole = turn @ move @ self.transform
            phases, frequencies = self.phases + self.freqs @ whole[:2, 2], self.freqs @ whole[:2, :2]
            loud = 1 - (frequencies.norm(dim=1) - self.bandwidth) / (self.sampling_rate / 2 - self.bandwidth)
            side = int(self.size[0])
            place = (torch.arange(side) - (side - 1) / 2) / self.sampling_rate
            y, x = torch.meshgrid(place, place, indexing="ij")
            waves = frequencies[:, 0, None, None] * x + frequencies[:, 1, None, None] * y + phases[:, None, None]
            waves = (2 * math.pi * waves).sin() * loud.clamp(0, 1)[:, None, None]
            made.append(torch.einsum("oc,chw->ohw", self.weight / math.sqrt(len(waves)), waves))
        return torch.stack(made)


class SynthesisLayer(Persistent):
    def __init__(self, width, channels, sizes, rates, cutoffs, half_widths, *, kernel, shown, radial, clamp):
        super().__init__()
        self.is_torgb, self.conv_clamp = shown, clamp
        self.out_size = np.array([sizes[1], sizes[1]])
        self.affine = FullyConnectedLayer(width, channels[0], bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels[1], channels[0], kernel, kernel))
        self.bias = nn.Parameter(0.1 * torch.randn(channels[1]))
        self.register_buffer("magnitude_ema", torch.rand(()) + 0.5)
        rate = max(rates) * (1 if shown else 2)
        self.up_factor, self.down_factor = rate // rates[0], rate // rates[1]
        up = FILTER * self.up_factor if self.up_factor > 1 and not shown else 1
        down = FILTER * self.down_factor if self.down_factor > 1 and not shown else 1
        self.register_buffer("up_filter", lowpass(up, cutoffs[0], half_widths[0], rate, False))
        self.register_buffer("down_filter", lowpass(down, cutoffs[1], half_widths[1], rate, radial))
        total = (sizes[1] - 1) * self.down_factor + 1 - (sizes[0] + kernel - 1) * self.up_factor + up + down - 2
        before = (total + self.up_factor) // 2
        self.padding = [before, total - before] * 2

    def forward(self, x, w):
        made = []
        for picture, style in zip(x, self.affine(w), strict=True):
            weight = self.weight
            if self.is_torgb:
                weight = weight * style[None, :, None, None] / math.sqrt(weight[0].numel())
            else:
                weight = weight / weight.square().mean((1, 2, 3), keepdim=True).sqrt() * style[None, :, None, None]
                weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
            weight = weight / self.magnitude_ema.sqrt()
            made.append(F.conv2d(picture[None], weight, self.bias, padding=weight.shape[-1] - 1)[0])
        x = torch.stack(made)
        wide = x.new_zeros(*x.shape[:2], *(side * self.up_factor for side in x.shape[2:]))
        wide[..., :: self.up_factor, :: self.up_factor] = x
        x = filtered(F.pad(wide, self.padding), self.up_filter, self.up_factor**2)
        if not self.is_torgb:
            x = torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)
        x = x if self.conv_clamp is None else x.clamp(-self.conv_clamp, self.conv_clamp)
        return filtered(x, self.down_filter)[..., :: self.down_factor, :: self.down_factor]


class SynthesisNetwork(Persistent):
    def __init__(self, width, base, most, kernel, radial, clamp):
        super().__init__()
        self.output_scale = 0.25
        share = np.minimum(np.arange(LAYERS + 1) / (LAYERS - CRITICAL), 1)
        cutoffs = 2.0 * (SIZE / 2 / 2.0) ** share
        stops = 2**2.1 * (SIZE / 2 * 2**0.3 / 2**2.1) ** share
        rates = (2 ** np.ceil(np.log2(np.minimum(2 * stops, SIZE)))).astype(int).tolist()
        half_widths = np.maximum(stops, np.array(rates) / 2) - cutoffs
        sizes = [rate + 2 * MARGIN for rate in rates[:-2]] + [SIZE, SIZE]
        channels = [round(min(base / 2 / cutoff, most)) for cutoff in cutoffs[:-1]] + [3]
        self.input = SynthesisInput(width, channels[0], sizes[0], rates[0], float(cutoffs[0]))
        self.names = []
        for index in range(LAYERS + 1):
            pair = slice(max(index - 1, 0), index + 1) if index else [0, 0]
            both = [np.array(values)[pair].tolist() for values in (channels, sizes, rates, cutoffs, half_widths)]
            shown, critical = index == LAYERS, index >= LAYERS - CRITICAL
            layer = SynthesisLayer(
                width, *both, kernel=1 if shown else kernel, shown=shown, radial=radial and not critical, clamp=clamp
            )
            self.names.append(f"L{index}_{sizes[index]}_{channels[index]}")
            setattr(self, self.names[-1], layer)

    def forward(self, ws):
        x = self.input(ws[:, 0])
        for index, name in enumerate(self.names, 1):
            x = getattr(self, name)(x, ws[:, index])
        return x * self.output_scale


class Generator(Persistent):
    def __init__(self, c_dim=0, kernel=3, radial=False, clamp=256.0, base=256, most=16):
        super().__init__()
        torch.manual_seed(0)
        self.z_dim, self.c_dim, self.w_dim = 10, c_dim, 12
        self.mapping = MappingNetwork(10, c_dim, 12, 2)
        self.synthesis = SynthesisNetwork(12, base, most, kernel, radial, clamp)
