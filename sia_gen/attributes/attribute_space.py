"""The ordered set of attributes that one audit may move: data, not behaviour.

Letters: B faces, K attributes, E one face's edit shape.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sia_gen.core.errors import RequestError, WorkError, unknown
from sia_gen.core.files import read_tensors, write_tensors


@dataclass(frozen=True)
class Attribute:
    """A named axis; ω is a *change* in ``unit``, safe within ``low`` … ``high`` (low ≤ 0 ≤ high).

    ``sd`` is the attribute's standard deviation over faces, in its unit; ``slope`` the measured response in units per
    unit asked over the safe range, ``leakage`` the mean size, over faces, of the others' movement in their sd per sd
    asked, both as the verifier reads them; ``negative`` and ``positive`` say what going down and up means. ``curve`` is
    the mean change of the reading, in ``unit``, at points evenly spaced from ``low`` to ``high``; ``monotony`` is
    Spearman's correlation between reading and ω, mean over faces. ``identity`` is the cosine, as the identity model
    sees it, between a face and the same moved by one sd down or up, mean over faces. All three may be missing.
    """

    name: str
    unit: str
    low: float
    high: float
    sd: float
    slope: float
    leakage: float
    negative: str = "less"
    positive: str = "more"
    curve: tuple[float, ...] = ()
    monotony: float | None = None
    identity: float | None = None

    def within(self, box: float) -> tuple[float, float]:
        """The ends of the share ``box`` of its safe range, which is what an attack may use of it."""
        return box * self.low, box * self.high


@dataclass(frozen=True)
class AttributeSpace:
    """K attributes of one edit space of one generator; ``directions`` ``[K, E]`` are the edit per unit of each.

    ``weights`` is the digest of those that they were found in, None where that is not known.
    """

    generator: str
    space: str
    attributes: tuple[Attribute, ...]
    directions: Tensor
    weights: str | None = None

    def __post_init__(self) -> None:
        if len(self.attributes) != len(self.directions):
            raise WorkError(
                f"{len(self.attributes)} attributes but {len(self.directions)} directions; they must pair one to one"
            )

    @property
    def names(self) -> list[str]:
        return [attribute.name for attribute in self.attributes]

    @property
    def low(self) -> Tensor:
        """Lower bounds of ω, float32 ``[K]``."""
        return torch.tensor([a.low for a in self.attributes], device=self.directions.device)

    @property
    def high(self) -> Tensor:
        """Upper bounds of ω, float32 ``[K]``."""
        return torch.tensor([a.high for a in self.attributes], device=self.directions.device)

    def edits(self, omega: Tensor) -> Tensor:
        """ω ``[B, K]`` in units → edits ``[B, E]``; linear, so ω = 0 is exactly no edit."""
        return torch.einsum("bk,k...->b...", omega, self.directions)  # [B, E]

    def select(self, names: Sequence[str]) -> AttributeSpace:
        """The space of just these attributes, each once, in this order; raises `RequestError` on an unknown name."""
        for name in names:
            if name not in self.names:
                raise unknown(f"attribute of '{self.generator}'", name, self.names)
        index = [self.names.index(name) for name in dict.fromkeys(names)]
        return replace(self, attributes=tuple(self.attributes[i] for i in index), directions=self.directions[index])

    def without(self, name: str) -> AttributeSpace:
        """The space less one attribute (the same space where it has none of that name)."""
        return self.select([other for other in self.names if other != name])

    def to(self, device: torch.device | str) -> AttributeSpace:
        return replace(self, directions=self.directions.to(device))

    def omega(self, changes: dict[str, float]) -> Tensor:
        """One face's ω ``[1, K]`` from changes by name; raises `RequestError` outside an attribute's safe range."""
        self.select(list(changes))
        omega = torch.zeros(1, len(self.attributes), device=self.directions.device)
        for index, attribute in enumerate(self.attributes):
            value = changes.get(attribute.name, 0.0)
            if not attribute.low <= value <= attribute.high:
                side = "lower" if value > attribute.high else "raise"
                raise RequestError(
                    f"{attribute.name}={value:+g} is outside the safe range {attribute.low:+g}…{attribute.high:+g} "
                    f"{attribute.unit} of '{self.generator}'; {side} it"
                )
            omega[0, index] = value
        return omega

    def save(self, path: str | Path) -> None:
        """Write as one safetensors file with the attributes as its JSON header."""
        header = {
            "generator": self.generator,
            "space": self.space,
            "attributes": json.dumps([asdict(attribute) for attribute in self.attributes]),
        }
        if self.weights is not None:
            header["weights"] = self.weights
        write_tensors(path, {"directions": self.directions}, header)

    @classmethod
    def load(cls, path: str | Path) -> AttributeSpace:
        """Read what `save` wrote; raises `WorkError` on a damaged or foreign file."""
        tensors, header = read_tensors(path)
        try:
            entries = [entry | {"curve": tuple(entry.get("curve", ()))} for entry in json.loads(header["attributes"])]
            attributes = tuple(Attribute(**entry) for entry in entries)
            return cls(header["generator"], header["space"], attributes, tensors["directions"], header.get("weights"))
        except (KeyError, TypeError, ValueError) as error:
            raise WorkError(f"'{path}' is no attribute space ({error!r}); fetch the file again") from None
