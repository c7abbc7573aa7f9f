"""What is asked of an audit, checked and loaded: the first of its steps, which nothing after it has to doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from sia_gen.attack.sia import SINGLE_STEPS, SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.load import known_attributes
from sia_gen.audits.evidence.checks import in_training_mode
from sia_gen.audits.evidence.control import EACH
from sia_gen.audits.evidence.reference import NONE, VERIFIER, require_told
from sia_gen.audits.evidence.rendered import Rendered, taught
from sia_gen.audits.evidence.witness import Witness
from sia_gen.audits.run.pairs import Pair, arm_of, checked
from sia_gen.audits.run.results import ARMS, CONTROL, UNEDITED, is_control
from sia_gen.audits.run.run_folder import GIVEN, fingerprint
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import resolve_device
from sia_gen.core.locate import lasting
from sia_gen.core.seeds import face_seeds
from sia_gen.generators.generator import Generator
from sia_gen.generators.load import load_generator
from sia_gen.studio.makehuman import installed
from sia_gen.targets.load import load_target
from sia_gen.targets.target import Target, configured


@dataclass(frozen=True)
class Request:
    """An audit that can be made: ``known`` are the generator's attributes, ``audited`` those that are moved.

    ``settings`` tell this audit from others, ``made_of`` where its models are found again, ``said`` what is to be said
    of the target already. ``rendered`` is None where no studio confirms failures.
    """

    generator: Generator
    witness: Witness
    rendered: Rendered | None
    known: AttributeSpace
    audited: AttributeSpace
    attack: SemanticImageAttack
    seeds: Sequence[int]
    seed: int
    pairs: Sequence[Pair]
    quick: bool
    device: torch.device
    settings: dict[str, Any]
    made_of: dict[str, str | None]
    said: Sequence[str]

    @property
    def modules(self) -> list[nn.Module]:
        """The networks that an audit puts into eval mode; a target is whenever it is asked."""
        return [part for part in (self.generator,) if isinstance(part, nn.Module)]


def resolve(
    generator: str | Path | Generator,
    target: str | Path | Target,
    attributes: Sequence[str] | AttributeSpace | None,
    *,
    faces: int,
    seed: int,
    attack: SemanticImageAttack | None,
    towards: str | None,
    label: str | None,
    pairs: Sequence[Pair],
    quick: bool,
    confirm: bool | Literal["auto"],
    verifier: str | Path | None,
    device: str,
) -> Request:
    """Load and check what `audit` is given, see there; raises `RequestError`."""
    _require("generator", generator, "a name, a folder or a generator", isinstance(generator, str | Path | Generator))
    modelled = isinstance(target, str | Path | nn.Module | Target)
    _require("target", target, "a name, a folder, a module or a target; wrap it as ModuleTarget(it, task)", modelled)
    named = attributes is None or isinstance(attributes, AttributeSpace) or _texts(attributes)
    _require("attributes", attributes, "names or an attribute space", named)
    _require("attack", attack, "a SemanticImageAttack", attack is None or isinstance(attack, SemanticImageAttack))
    _require("towards", towards, "the name of a class", towards is None or isinstance(towards, str))
    _require("label", label, "text, as 'smile:0.5'", label is None or isinstance(label, str))
    paired = isinstance(pairs, Sequence) and not isinstance(pairs, str | bytes) and all(map(_texts, pairs))
    _require("pairs", pairs, "pairs of names", paired)
    _require("quick", quick, "True or False", isinstance(quick, bool))
    _require("confirm", confirm, "True, False or 'auto'", confirm in (True, False, "auto"))
    named = verifier is None or isinstance(verifier, str | Path)
    _require("verifier", verifier, "a name, a folder or None", named)
    _require("device", device, "the name of a device", isinstance(device, str))
    attack = attack or SemanticImageAttack()
    made_of = {
        "generator": None if isinstance(generator, Generator) else lasting("generator", generator),
        "target": lasting("target", target) if isinstance(target, str | Path) else None,
    }
    by = NONE if verifier is None else lasting("verifier", verifier)
    if by != VERIFIER:
        made_of["verifier"] = by
    seeds = face_seeds(seed, faces)
    where = resolve_device(device)
    source = generator if isinstance(generator, Generator) else load_generator(generator, device)
    known, audited = _spaces(generator, attributes, source, where)
    generator = source
    target = configured(target if isinstance(target, Target) else load_target(target, device), label, towards)
    if label is not None:
        require_told(target, known.names, where, by)
    attack = attack.suited(target)
    left_out = [name for name in audited.names if target.label is not None and name == target.label.attribute]
    audited = audited.select([name for name in audited.names if name not in left_out])
    _require_work(attack, audited, left_out)
    pairs = checked(pairs, audited)
    witness = Witness.of(target, audited.names, where, generator, by)
    said = [*in_training_mode(target), *witness.said]
    rendered = _confirmer(confirm, quick, generator, witness.target, where)
    settings = {
        "generator": generator.name,
        "target": witness.target.name,
        "attributes": audited.names,
        "left_out": left_out,
        "faces": faces,
        "seed": seed,
        "device": where.type,
        "attack": asdict(attack),
        "single": {"step": "sweep", "steps": SINGLE_STEPS, "directions": EACH},
        "towards": towards,
        "label": label,
        "confirmed_by": None if rendered is None else f"studio, mesh {rendered.mesh}",
        "pairs": [arm_of(pair) for pair in pairs],
        **({"quick": True} if quick else {}),
        **({GIVEN: known.names} if isinstance(attributes, AttributeSpace) else {}),
        **witness.settings(),
        "edits": fingerprint(known, audited),
    }
    return Request(
        generator, witness, rendered, known, audited, attack, seeds, seed, pairs, quick, where, settings, made_of, said
    )


def _texts(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes) and all(isinstance(v, str) for v in value)


def _require(name: str, value: Any, wanted: str, fine: bool) -> None:
    """Raise `RequestError` for an argument of another kind, where Python would fail somewhere within."""
    if not fine:
        raise RequestError(f"{name}={value!r} is not {wanted}{'' if ';' in wanted else '; give that'}")


def _spaces(
    generator: str | Path | Generator,
    attributes: Sequence[str] | AttributeSpace | None,
    source: Generator,
    device: torch.device,
) -> tuple[AttributeSpace, AttributeSpace]:
    """All attributes that are known of the generator, which ``source`` is, and those that are asked for."""
    known = known_attributes(generator, source, attributes, str(device)).to(device)
    if attributes is None or isinstance(attributes, AttributeSpace):
        return known, known
    return known, known.select(attributes)


def _confirmer(
    confirm: bool | Literal["auto"], quick: bool, generator: Generator, target: Target, device: torch.device
) -> Rendered | None:
    """Who confirms failures, where that is asked for, or can be done anyway and need not be quick."""
    if confirm is False or (confirm == "auto" and (quick or not taught(generator) or installed() is None)):
        return None
    return Rendered.of(target, generator, device)


def _require_work(attack: SemanticImageAttack, audited: AttributeSpace, left_out: Sequence[str]) -> None:
    if attack.box == 0:
        raise RequestError("box=0 leaves no attribute to move; give an attack with a box above 0")
    if attack.step == "sweep":
        raise RequestError(
            "step='sweep' follows no loss, which an audit's first arms do; choose 'sign' or 'normalised'"
        )
    if not audited.attributes:
        reason = f"'{left_out[0]}' is what the target predicts" if left_out else "none was named"
        raise RequestError(f"no attribute is left to audit: {reason}; name others")
    for name in audited.names:
        if name in (*ARMS, UNEDITED) or is_control(name):
            taken = ", ".join((*ARMS, UNEDITED, CONTROL))
            raise RequestError(f"attribute '{name}' has the name of an arm ({taken}); rename it")
