"""Editing faces by attribute, and what the verifier reads off them.

Letters: B faces, K attributes, F factors that are attributes, R resolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sia_gen.attack.edit import edit
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.load import load_attributes
from sia_gen.core.executors import Precision, autocast
from sia_gen.core.files import shipped
from sia_gen.core.images import from_bytes, to_bytes
from sia_gen.generators.generator import Codes, Generator
from sia_gen.generators.load import load_generator
from sia_gen.targets.verifier import Verifier, load_verifier

VERIFIER = "verifier"
SWEEP_SDS = 2.0


@dataclass(frozen=True)
class Reading:
    """One factor of one face as the verifier reads it, in ``unit``.

    ``change`` is how far the truth went: readings follow it less than one to one, and their difference is stretched.
    """

    name: str
    unit: str
    before: float
    after: float
    change: float


@dataclass(frozen=True)
class Edits:
    """Faces before and after the same changes, uint8 ``[B, 3, R, R]``.

    ``readings`` are, per face, of the attributes that the verifier knows, in their order; none without a verifier.
    """

    before: Tensor
    after: Tensor
    readings: tuple[tuple[Reading, ...], ...]


@dataclass(frozen=True)
class Sweep:
    """One attribute of one face from low to high: ω asked, images uint8 ``[5, 3, R, R]``, the values read (if any)."""

    asked: tuple[float, ...]
    images: Tensor
    read: tuple[float, ...]


@dataclass(frozen=True)
class Editor:
    """A generator with its attributes, and the verifier where one is shipped; faces are drawn in ``precision``."""

    generator: Generator
    space: AttributeSpace
    verifier: Verifier | None
    precision: Precision = "no"

    @torch.inference_mode()
    def change(self, seeds: Sequence[int], changes: Mapping[str, float]) -> Edits:
        """Each face before and after ``changes`` (in units); raises `RequestError` outside a safe range."""
        omega = self.space.omega(dict(changes)).expand(len(seeds), -1)  # [B, K]
        codes = self.generator.sample(seeds)
        before = self._drawn(self.space, codes)
        after = self._drawn(self.space, codes, omega)
        return Edits(before, after, self._compare(before, after))

    @torch.inference_mode()
    def sweep(self, seed: int, name: str) -> Sweep:
        """One face at five values of one attribute, ±2 sd within the safe range; the third is the face as sampled."""
        space = self.space.select([name])
        attribute = space.attributes[0]
        low, high = max(attribute.low, -SWEEP_SDS * attribute.sd), min(attribute.high, SWEEP_SDS * attribute.sd)
        asked = (low, low / 2, 0.0, high / 2, high)
        omega = torch.tensor(asked, device=space.directions.device)[:, None]  # [5, 1]
        codes = self.generator.sample([seed] * len(asked))
        images = self._drawn(space, codes, omega)
        factor = self._known().get(name)
        read = () if factor is None else tuple(self.verifier.read(from_bytes(images))[:, factor].tolist())
        return Sweep(asked, images, read)

    def _drawn(self, space: AttributeSpace, codes: Codes, omega: Tensor | None = None) -> Tensor:
        with autocast(codes.device, self.precision):
            images = edit(self.generator, space, codes, omega)
        return to_bytes(images.float())

    def _known(self) -> dict[str, int]:
        """The attributes that the verifier reads: name → place among its factors."""
        factors = {} if self.verifier is None else {f.name: i for i, f in enumerate(self.verifier.factors)}
        return {name: factors[name] for name in self.space.names if name in factors}

    def _compare(self, before: Tensor, after: Tensor) -> tuple[tuple[Reading, ...], ...]:
        known = self._known()
        if not known:
            return ()
        pair = [self.verifier.read(from_bytes(images))[:, list(known.values())] for images in (before, after)]
        values = torch.stack(pair, dim=2).tolist()  # [B, F, 2]
        factors = [self.verifier.factors[place] for place in known.values()]
        return tuple(
            tuple(Reading(f.name, f.unit, *both, f.change(*both)) for f, both in zip(factors, face, strict=True))
            for face in values
        )


def load_editor(name: str, device: str = "cpu", precision: Precision = "no") -> Editor:
    """The editor of a generator, by the names that `load_generator` takes."""
    verifier = load_verifier(VERIFIER, device) if VERIFIER in shipped("verifier") else None
    made = load_generator(name, device)
    return Editor(made, load_attributes(name, device, made), verifier, precision)
