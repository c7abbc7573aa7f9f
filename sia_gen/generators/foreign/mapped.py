"""What StyleGAN2 and StyleGAN3 share: a mapping from z to w, truncated, and edits of w or of the styles it becomes.

Weights are kept as they are used: gains and learning-rate multipliers are multiplied in when a checkpoint is converted.

Letters: B faces, Z latents, W width of w, L layers that a w steers, S numbers of all styles, R resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import read_config, read_tensors, write_json, write_tensors
from sia_gen.core.foreign import first_line
from sia_gen.core.images import Images
from sia_gen.core.seeds import normals
from sia_gen.generators.generator import Codes

SLOPE, GAIN = 0.2, math.sqrt(2.0)  # of the leaky ReLU


@dataclass(frozen=True, kw_only=True)
class MappedConfig:
    """Sizes of the mapping network, and how its faces are drawn.

    c_dim, label   numbers of a condition, 0 for none, and the ones that all faces are drawn with, by default zeros
    psi, cutoff    truncation: how far w goes from its mean (1: all the way), in the first layers up to the cutoff
    source         what it was converted from: its SHA-256 and its licence
    """

    name: str
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0
    mapping: tuple[int, ...] = (512,) * 8
    embed: int = 0
    label: tuple[float, ...] | None = None
    psi: float = 1.0
    cutoff: int | None = None
    source: dict[str, str] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.psi <= 2:
            raise RequestError(f"psi={self.psi:g} is outside 0…2; choose a truncation in that range")
        if self.label is not None and len(self.label) != self.c_dim:
            raise RequestError(f"label has {len(self.label)} numbers, not c_dim={self.c_dim}; give as many")

    @property
    def resolution(self) -> int:
        raise NotImplementedError

    @property
    def layers(self) -> int:
        """L, how many of w's layers are read."""
        raise NotImplementedError


class Mapping(nn.Module):
    """z ``[B, Z]``, and a condition ``[B, c]`` where there is one, → w ``[B, W]``."""

    def __init__(self, config: MappedConfig) -> None:
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


class Mapped(nn.Module):
    """A generator whose codes are w+ ``[B, L, W]``, truncated as its config says.

    It is edited in "w" (an edit per layer, added to w+) or in "s", the StyleSpace (Wu et al., CVPR 2021): the styles of
    all convolutions, where single channels can be moved. A family says what is ``steered`` and how it draws.
    """

    architecture: ClassVar[str]
    settings: ClassVar[type[MappedConfig]]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, self.name, self.resolution = config, config.name, config.resolution
        self.mapping = Mapping(config)
        self.register_buffer("mean", torch.zeros(config.w_dim))
        self.edit_shapes: dict[str, torch.Size] = {"w": torch.Size((config.layers, config.w_dim))}

    def steered(self) -> list[tuple[Any, int]]:
        """Every part with an ``affine`` from w to its style, in order, and which of the L layers of w it reads."""
        raise NotImplementedError

    def draw(self, w: Tensor, shifts: Sequence[Tensor | None], own: Codes) -> Tensor:
        """w+ ``[B, L, W]`` → pictures ``[B, 3, R, R]``, nominally −1…1; ``shifts`` are added to the styles in order.

        ``own`` are the codes before any edit: what else belongs to a face is drawn from them.
        """
        raise NotImplementedError

    def still(self) -> Self:
        """This network, no longer to be trained, in the layout in which a CPU's convolutions are fastest."""
        return self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def open_styles(self) -> None:
        """Open the edit space "s", once all that is steered stands."""
        self.edit_shapes["s"] = torch.Size((sum(part.affine.out_features for part, _ in self.steered()),))

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
        w = codes + edits if edits is not None and space == "w" else codes
        return (self.synthesis(w, edits if space == "s" else None, codes) * 0.5 + 0.5).clamp(0, 1)

    def synthesis(self, w: Tensor, shift: Tensor | None = None, own: Codes | None = None) -> Tensor:
        """w+ ``[B, L, W]`` → pictures ``[B, 3, R, R]`` around 0, nominally −1…1; ``shift`` ``[B, S]``: to styles.

        ``own`` are the unedited codes, by default ``w``.
        """
        widths = [part.affine.out_features for part, _ in self.steered()]
        shifts = [None] * len(widths) if shift is None else shift.split(widths, dim=1)
        return self.draw(w, shifts, w if own is None else own)

    def carry(self, edits: Tensor) -> Tensor:
        """Edits in w ``[..., L, W]`` → the edits in s ``[..., S]`` that do the same."""
        return torch.cat([edits[..., layer, :] @ part.affine.weight.T for part, layer in self.steered()], dim=-1)

    def save(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        config: dict[str, Any] = {"sia_gen": {"kind": "generator", "architecture": self.architecture}}
        write_json(Path(folder) / "config.json", config | asdict(self.config))
        write_tensors(Path(folder) / "model.safetensors", self.state_dict())

    @classmethod
    def load(cls, folder: str | Path, **drawn: Any) -> Any:
        """Read what `save` wrote, as float32; ``drawn`` are settings in place of its own, as ``psi=0.7``.

        Raises `WorkError` if the files are damaged or do not fit together.
        """
        folder = Path(folder)
        entries = {name: value for name, value in read_config(folder / "config.json").items() if name != "sia_gen"}
        tensors, _ = read_tensors(folder / "model.safetensors")
        try:
            lists = {name: tuple(value) for name, value in entries.items() if isinstance(value, list)}
            model = cls(cls.settings(**entries | lists | drawn))
            model.load_state_dict({name: value.float() for name, value in tensors.items()})
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            if drawn and isinstance(error, RequestError):
                raise
            raise WorkError(
                f"'{folder}' is no {cls.architecture} generator ({first_line(error)}); convert it again"
            ) from None
        return model.still()
