"""StyleGAN2 written out as the papers state it, a weight per face and layer: slow, and nothing is shared with ours.

Its modules carry the names and attributes that NVIDIA's checkpoints have, and pickle as those do: by a function's name
and a dictionary that holds the class's source, which here leaves a trace if anything runs it.
"""

import math
import pickle
import sys
import types

import torch
from torch import nn
from torch.nn import functional as F

FIR = torch.tensor([1.0, 3.0, 3.0, 1.0])


def reconstruct(meta):
    raise AssertionError("a reader looked the function up and ran it")


def persist(obj, path, source):
    """Pickle as NVIDIA's ``torch_utils.persistence`` does."""
    package, module = types.ModuleType("torch_utils"), types.ModuleType("torch_utils.persistence")
    reconstruct.__module__, reconstruct.__qualname__ = "torch_utils.persistence", "_reconstruct_persistent_obj"
    reconstruct.__name__ = "_reconstruct_persistent_obj"
    module._reconstruct_persistent_obj = reconstruct
    Persistent.source = source
    known = {"torch_utils": package, "torch_utils.persistence": module}
    sys.modules.update(known)
    try:
        path.write_bytes(pickle.dumps(obj))
    finally:
        for name in known:
            del sys.modules[name]


class Persistent(nn.Module):
    source = ""

    def __reduce__(self):
        meta = {"type": "class", "version": 6, "module_src": self.source, "class_name": type(self).__name__}
        return reconstruct, (meta | {"state": self.__dict__},), None


def spread(x):
    """Zeros between the pixels, then the filter with a gain of 4."""
    wide = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    wide[..., ::2, ::2] = x
    kernel = torch.outer(FIR, FIR) / FIR.sum() ** 2 * 4
    return F.conv2d(F.pad(wide, (2, 1, 2, 1)), kernel.expand(x.shape[1], 1, 4, 4).to(x), groups=x.shape[1])


class FullyConnectedLayer(Persistent):
    def __init__(self, inputs, outputs, rate=1.0, bias=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias) + 0.1 * torch.randn(outputs))
        self.weight_gain, self.bias_gain = rate / math.sqrt(inputs), rate

    def forward(self, x):
        return x @ (self.weight * self.weight_gain).T + self.bias * self.bias_gain


class SynthesisLayer(Persistent):
    def __init__(self, inputs, outputs, width, resolution, clamp, up=1):
        super().__init__()
        self.up, self.conv_clamp, self.use_noise = up, clamp, True
        self.affine = FullyConnectedLayer(width, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(0.1 * torch.randn(outputs))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.noise_strength = nn.Parameter(torch.tensor(0.3))

    def forward(self, x, w, gain=1.0):
        made = []
        for picture, style in zip(x, self.affine(w), strict=True):
            weight = self.weight * style[None, :, None, None]
            weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
            if self.up == 2:  # zeros between, the 3 × 3 kernel about each pixel, then the filter
                side = picture.shape[-1]
                wide = picture.new_zeros(picture.shape[0], 2 * side + 3, 2 * side + 3)
                wide[:, 2 : 2 * side + 2 : 2, 2 : 2 * side + 2 : 2] = picture
                wide = F.conv2d(wide[None], weight.flip(2, 3))  # 2 · side + 1
                kernel = (torch.outer(FIR, FIR) / FIR.sum() ** 2 * 4).expand(len(weight), 1, 4, 4)
                made.append(F.conv2d(F.pad(wide, (1, 1, 1, 1)), kernel, groups=len(weight))[0])
            else:
                made.append(F.conv2d(picture[None], weight, padding=1)[0])
        x = torch.stack(made) + self.noise_const * self.noise_strength + self.bias[:, None, None]
        x = torch.where(x > 0, x, 0.2 * x) * math.sqrt(2) * gain
        return x if self.conv_clamp is None else x.clamp(-self.conv_clamp * gain, self.conv_clamp * gain)


class ToRGBLayer(Persistent):
    def __init__(self, inputs, width, clamp):
        super().__init__()
        self.conv_clamp = clamp
        self.affine = FullyConnectedLayer(width, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(0.1 * torch.randn(3))

    def forward(self, x, w):
        style = self.affine(w) / math.sqrt(x.shape[1])
        x = torch.einsum("bchw,oc,bc->bohw", x, self.weight[:, :, 0, 0], style) + self.bias[:, None, None]
        return x if self.conv_clamp is None else x.clamp(-self.conv_clamp, self.conv_clamp)


class Conv2dLayer(Persistent):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))

    def forward(self, x):
        return spread(F.conv2d(x, self.weight / math.sqrt(x.shape[1])))


class SynthesisBlock(Persistent):
    def __init__(self, inputs, outputs, width, resolution, last, architecture, clamp):
        super().__init__()
        self.architecture = architecture
        self.register_buffer("resample_filter", torch.outer(FIR, FIR) / FIR.sum() ** 2)
        if not inputs:
            self.const = nn.Parameter(torch.randn(outputs, 4, 4))
        else:
            self.conv0 = SynthesisLayer(inputs, outputs, width, resolution, clamp, up=2)
        self.conv1 = SynthesisLayer(outputs, outputs, width, resolution, clamp)
        if last or architecture == "skip":
            self.torgb = ToRGBLayer(outputs, width, clamp)
        if inputs and architecture == "resnet":
            self.skip = Conv2dLayer(inputs, outputs)

    def forward(self, x, picture, ws):
        ws, gain = iter(ws), math.sqrt(0.5) if hasattr(self, "skip") else 1.0
        if hasattr(self, "const"):
            first = next(ws)
            x = self.conv1(self.const.expand(len(first), -1, -1, -1), first)
        else:
            beside = self.skip(x) * gain if hasattr(self, "skip") else 0
            x = beside + self.conv1(self.conv0(x, next(ws)), next(ws), gain)
        picture = None if picture is None else spread(picture)
        if hasattr(self, "torgb"):
            shown = self.torgb(x, next(ws))
            picture = shown if picture is None else picture + shown
        return x, picture


class SynthesisNetwork(Persistent):
    def __init__(self, channels, width, architecture, clamp):
        super().__init__()
        self.sizes = [4 * 2**index for index in range(len(channels))]
        for index, size in enumerate(self.sizes):
            before = channels[index - 1] if index else 0
            last = index == len(channels) - 1
            block = SynthesisBlock(before, channels[index], width, size, last, architecture, clamp)
            setattr(self, f"b{size}", block)

    def forward(self, ws):
        x = picture = None
        layer = 0
        for size in self.sizes:
            block = getattr(self, f"b{size}")
            convs = 1 if size == 4 else 2
            x, picture = block(x, picture, ws[:, layer : layer + convs + 1].unbind(1))
            layer += convs
        return picture


class MappingNetwork(Persistent):
    def __init__(self, z_dim, c_dim, width, layers):
        super().__init__()
        if c_dim:
            self.embed = FullyConnectedLayer(c_dim, width)
        for index in range(layers):
            inputs = width if index else z_dim + (width if c_dim else 0)
            setattr(self, f"fc{index}", FullyConnectedLayer(inputs, width, rate=0.01))
        self.layers = layers
        self.register_buffer("w_avg", torch.randn(width))

    def forward(self, z, c, psi=1.0):
        x = z / (z.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
        if hasattr(self, "embed"):
            y = self.embed(c)
            x = torch.cat([x, y / (y.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()], dim=1)
        for index in range(self.layers):
            x = getattr(self, f"fc{index}")(x)
            x = torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)
        return self.w_avg + psi * (x - self.w_avg)


class Generator(Persistent):
    def __init__(
        self, channels=(16, 16, 12, 8), z_dim=10, c_dim=0, width=12, layers=3, architecture="skip", clamp=None
    ):
        super().__init__()
        torch.manual_seed(0)
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, width
        self.mapping = MappingNetwork(z_dim, c_dim, width, layers)
        self.synthesis = SynthesisNetwork(channels, width, architecture, clamp)
