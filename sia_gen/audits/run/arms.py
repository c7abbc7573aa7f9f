"""The arms of an audit: which attack runs on which attributes, and what is kept of it.

Letters: N faces of a chunk, K attributes, M random directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.evidence.control import EACH
from sia_gen.audits.run.pairs import Pair, arm_of
from sia_gen.audits.run.results import UNEDITED, control_arm


@dataclass(frozen=True)
class Arm:
    """One attack of the audit; ``columns`` are its attributes' places among the columns of ω.

    ``number`` says along which of its random directions a face is moved, where it is.
    """

    name: str
    attack: SemanticImageAttack
    space: AttributeSpace
    columns: tuple[int, ...]
    number: int = 0


def arms(
    attack: SemanticImageAttack,
    space: AttributeSpace,
    control: AttributeSpace,
    pairs: Sequence[Pair] = (),
    quick: bool = False,
) -> list[Arm]:
    """Every attribute alone, joint, semantic, pixel, random directions in the column after the attributes, and pairs.

    ``control`` are all random directions, a few of which each face is moved along. A ``quick`` look has one arm in
    place of joint, semantic and pixel, in which nothing is moved: what edited faces are held against is read there.
    """
    count = len(space.attributes)
    single = attack.alone()  # a random direction's range is searched in the same way
    both = replace(attack, epsilon=0.0, stop="never", restarts=attack.restarts + (attack.step != "evolve"))
    whole = [
        Arm("joint", attack, space, tuple(range(count))),
        Arm("semantic", replace(attack, epsilon=0.0), space, tuple(range(count))),
        Arm("pixel", replace(attack, box=0.0), space, ()),
    ]
    return [
        *(Arm(name, single, space.select([name]), (index,)) for index, name in enumerate(space.names)),
        *([Arm(UNEDITED, replace(attack, box=0.0, epsilon=0.0), space, ())] if quick else whole),
        *(Arm(control_arm(number), single, control, (count,), number) for number in range(EACH)),
        *(
            Arm(arm_of(pair), both, space.select(pair), tuple(space.names.index(name) for name in pair))
            for pair in pairs
        ),
    ]
