"""What the verifier says of audited faces: which class they are of, how far an edit moved them, whether they pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from sia_gen.attack.result import AttackResult
from sia_gen.audits.evidence.familiar import ENOUGH, familiar
from sia_gen.audits.evidence.reference import (
    VERIFIER,
    Followed,
    VerifiedLabel,
    followed,
    reference_name,
    verified_label,
    verifier_named,
)
from sia_gen.audits.evidence.rendered import taught
from sia_gen.audits.evidence.validity import Gate, identity_for, unedited
from sia_gen.core.images import from_bytes
from sia_gen.generators.generator import Generator
from sia_gen.targets.identity import Identity
from sia_gen.targets.target import Target
from sia_gen.targets.verifier import Verifier
from sia_gen.training.groups import SUBGROUPS

UNEDITED = "unedited.safetensors"
LABEL_KEPT = "label_kept"  # where a verifier looked: on all faces, at the worst point
VALID, MEASURED = "valid", ("likeness", "distance", "drift")  # and on those that failed there
Once: TypeAlias = Callable[[str, Callable[[], Mapping[str, Tensor]]], dict[str, Tensor]]
"""Gives the tensors that a run keeps under a name, made once."""


@dataclass(frozen=True)
class Witness:
    """``target`` is the audited one, its landmarks beside those that the verifier reads where it gives any.

    ``verifier`` is None where it knows no audited attribute and no label; ``kept`` are the factors of which its
    readings are kept.
    """

    target: Target
    verified: VerifiedLabel | None
    verifier: Verifier | None
    kept: Sequence[str]
    identity: Identity | None
    said: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        target: Target,
        attributes: Sequence[str],
        device: torch.device,
        generator: Generator | None = None,
        by: str = VERIFIER,
    ) -> Witness:
        """Raises `RequestError` for points that the verifier does not read.

        What the shipped verifier says of a ``generator`` whose pictures are not such as it was taught on is left out,
        and said; one that is named (``by``) is believed. Whether persons stay the same is judged of renders alone then.
        """
        target, verified = followed(target, device, by), verified_label(target, device, by)
        if verified is not None:
            verifier: Verifier | None = verified.verifier
        else:
            verifier = target.verifier if isinstance(target, Followed) else verifier_named(by, device)
        kept = read_names(verifier, attributes)
        verifier = verifier if kept or verified is not None else None
        if by == VERIFIER and verifier is not None and not isinstance(target, Followed) and generator is not None:
            said = unfamiliar(generator, verifier)
            if said:
                return cls(target, None, None, (), None, said)
        known = by == VERIFIER or generator is None or taught(generator)
        person = identity_for(target, device) if verifier is not None and known else None
        return cls(target, verified, verifier, kept, person)

    def settings(self) -> dict[str, Any]:
        """What counts as wrong, and as valid: faces judged by different criteria must not end up in one run."""
        settings: dict[str, Any] = {"reference": reference_name(self.target, self.verified)}
        settings["task"] = re.sub(r" at 0x[0-9a-f]+", "", repr(self.target.task))  # another address in each process
        settings["classes"] = list(getattr(self.target.task, "classes", ()))
        digest = None if self.verifier is None else self.verifier.digest()
        if isinstance(self.target, Followed) or self.verified is not None:
            settings["verifier"] = digest
        if self.verified is not None:
            settings["thresholds"] = self.verified.thresholds
        settings["readings"] = {"of": list(self.kept), "by": digest}
        settings["gate"] = None
        if self.verifier is not None:
            person = self.identity
            settings["gate"] = {
                "label": None if self.verified is None else self.verifier.factors[self.verified.factor].name,
                "same_person": person and person.threshold,
                "identity": person and person.model.digest(),
            }
        return settings

    def gate(self, once: Once, generator: Generator, seed: int, device: torch.device) -> Gate | None:
        """What tells valid faces, from unedited ones that are looked at once in a run and kept."""
        if self.verifier is None:
            return None
        verifier = self.verifier
        kept = once(UNEDITED, lambda: {"features": unedited(generator, verifier, seed).cpu()})
        return Gate.of(verifier, self.identity, kept["features"].to(device))

    def statement(
        self, result: AttackResult, gate: Gate | None, device: torch.device, known: Tensor | None = None
    ) -> dict[str, Tensor]:
        """What is kept of a chunk's faces ``[N]`` besides the target's answers; nothing without a verifier.

        It reads faces at the worst point, without the pixel residual: in the pixel arm the face as sampled. Where a
        label is not kept, the truth moved with the face. ``known`` ``[N]`` are the classes asked of the generator,
        where its codes say so: a face that was meant to be of another class than the verifier reads is not valid.
        """
        if self.verifier is None:
            return {}
        with torch.no_grad():
            values = self.verifier.read(from_bytes(result.semantic).to(device))
        names = [factor.name for factor in self.verifier.factors]
        part = {"read": values[:, [names.index(name) for name in self.kept]].float().cpu()}
        if self.verified is not None:
            before = from_bytes(result.original).to(device)
            with torch.no_grad():
                part[LABEL_KEPT] = self.verified.kept(before, values, result.reference).cpu()
        if gate is not None:
            part |= self._judged(result, gate)
            part[VALID] &= part.get(LABEL_KEPT, part[VALID])
            if known is not None:
                part[VALID] &= known == result.reference
        return part

    @torch.no_grad()
    def _judged(self, result: AttackResult, gate: Gate) -> dict[str, Tensor]:
        """What the gate says of the faces that failed ``[N]``: NaN and False for the others."""
        rows = result.success.nonzero().flatten()
        part = {name: torch.full(result.success.shape, torch.nan) for name in MEASURED}
        part[VALID] = torch.zeros_like(result.success)
        if len(rows):
            found = gate.judge(result.original[rows], result.semantic[rows])
            part["likeness"][rows], part["distance"][rows] = found["likeness"], found["distance"]
            part[VALID][rows] = found["passed"]
            if self.verified is not None and self.verified.thresholds:
                drift = self.verified.drift(from_bytes(result.original[rows]).to(gate.mean.device), found["read"]).cpu()
                part["drift"][rows] = drift
                part[VALID][rows] &= drift <= 1
        return part


def read_names(verifier: Verifier | None, attributes: Sequence[str]) -> list[str]:
    """The factors whose readings an audit keeps: its attributes, and what subgroups are cut by."""
    if verifier is None:
        return []
    known = [factor.name for factor in verifier.factors]
    kept = [name for name in attributes if name in known]
    return [*kept, *(name for name in SUBGROUPS if name in known and name not in kept)] if kept else []


def unfamiliar(generator: Generator, verifier: Verifier) -> list[str]:
    """What is to be said of a generator whose faces are not such as the verifier was taught on."""
    share = 1.0 if taught(generator) else familiar(generator, verifier)
    if share >= ENOUGH:
        return []
    return [
        f"the verifier was taught on renders, and {share:.0%} of the faces of '{generator.name}' look so to it: "
        "what it reads is left out, nothing is called valid, and what is right is said by the target's first answer; "
        "name one that was taught on such faces with --verifier"
    ]
