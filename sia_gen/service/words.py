"""Words for people: names, and what is said in several places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sia_gen.attributes.attribute_space import Attribute

GROUPS = {
    "Person": ("age", "sex", "skin_tone", "weight", "eye_spacing", "chin_height"),
    "Pose": ("yaw", "pitch", "roll"),
    "Expression": ("smile", "mouth_open", "brow_raise", "eye_closure", "gaze_x", "gaze_y"),
    "Light": ("light_", "ambient_", "rim_"),
    "Hair and make-up": ("hair_", "fringe", "beard", "stubble", "moustache", "lip_colour", "eye_makeup"),
    "Glasses and surroundings": ("glasses", "lens_", "frame_", "clothes_", "background_", "camera_"),
}
"""Names, or what they begin with."""
OTHER = "More"
HOW_READ = "readings move less than the truth, the changes are corrected for that"


def in_words(name: str) -> str:
    """``skin_tone`` as "skin tone"."""
    return name.replace("_", " ")


def grouped(attributes: Sequence[Attribute]) -> dict[str, list[Attribute]]:
    """Attributes by what they are of; what is of no group comes last."""
    found: dict[str, list[Attribute]] = {group: [] for group in (*GROUPS, OTHER)}
    for attribute in attributes:
        found[next((group for group, names in GROUPS.items() if attribute.name.startswith(names)), OTHER)] += [
            attribute
        ]
    return {group: members for group, members in found.items() if members}
