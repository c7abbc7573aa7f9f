"""The 68 landmarks of the iBUG 300-W mark-up as vertices of the head.

Source of the order: Sagonas et al., 300 Faces In-The-Wild Challenge, 2013. 0–16 jaw from image left to right, 17–26
brows, 27–35 nose, 36–47 eyes, 48–67 mouth. The points are given on the average face (eye distance 1, origin between the
eyes) and snapped to the nearest free vertex of the skin, so that they move with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sia_gen.studio.head import Head

_JAW = [(1.23, -0.10, -0.45), (1.22, -0.40, -0.42), (1.18, -0.72, -0.38), (1.10, -1.02, -0.30), (0.96, -1.30, -0.18),
        (0.77, -1.52, -0.02), (0.54, -1.70, 0.14), (0.28, -1.80, 0.25), (0.0, -1.83, 0.30)]  # fmt: skip
_BROW = [(0.90, 0.30, 0.15), (0.74, 0.41, 0.28), (0.56, 0.43, 0.38), (0.39, 0.39, 0.43), (0.22, 0.31, 0.46)]
_BRIDGE = [(0.0, 0.02, 0.43), (0.0, -0.20, 0.51), (0.0, -0.40, 0.62), (0.0, -0.60, 0.71)]
_NOSTRILS = [(0.24, -0.72, 0.46), (0.12, -0.76, 0.52), (0.0, -0.78, 0.53)]
_EYE = [(0.745, 0.03, 0.16), (0.61, 0.105, 0.24), (0.43, 0.105, 0.27), (0.29, -0.045, 0.23), (0.42, -0.10, 0.25),
        (0.60, -0.085, 0.22)]  # fmt: skip
_LIPS_OUT = [(0.40, -1.10, 0.35), (0.24, -0.99, 0.47), (0.09, -0.93, 0.54), (0.0, -0.95, 0.57)]
_LIPS_LOW = [(0.24, -1.24, 0.44), (0.12, -1.30, 0.49), (0.0, -1.31, 0.50)]
_LIPS_IN = [(0.34, -1.10, 0.38), (0.13, -1.085, 0.50), (0.0, -1.085, 0.52)]
_LIPS_IN_LOW = [(0.13, -1.12, 0.49), (0.0, -1.115, 0.49)]
UPPER_LIP = [*range(49, 54), *range(61, 64)]
LOWER_LIP = [*range(55, 60), *range(65, 68)]
MIRRORED = (
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1),
)  # fmt: skip
"""Which landmark each becomes in a mirror."""


def _mirror(points: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    return [(-x, y, z) for x, y, z in points]


def _positions() -> list[tuple[float, float, float]]:
    """Rest positions of all 68; image left is x < 0."""
    outer, upper_out, upper_in, inner, lower_in, lower_out = _EYE
    return [
        *_mirror(_JAW), *_JAW[-2::-1],
        *_mirror(_BROW), *_BROW[::-1],
        *_BRIDGE, *_mirror(_NOSTRILS), *_NOSTRILS[-2::-1],
        *_mirror(_EYE), inner, upper_in, upper_out, outer, lower_out, lower_in,
        *_mirror(_LIPS_OUT), *_LIPS_OUT[-2::-1], *_LIPS_LOW, *_mirror(_LIPS_LOW)[-2::-1],
        *_mirror(_LIPS_IN), *_LIPS_IN[-2::-1], *_LIPS_IN_LOW, *_mirror(_LIPS_IN_LOW)[-2::-1],
    ]  # fmt: skip


def in_a_mirror(points: Tensor) -> Tensor:
    """Landmarks ``[B, 68, 2]`` in picture widths as they are in the mirrored picture."""
    points = points[:, list(MIRRORED)]
    return torch.stack([1 - points[..., 0], points[..., 1]], dim=-1)


def landmark_vertices(head: Head) -> Tensor:
    """Index of the vertex of each landmark, int64 ``[68]``."""
    skin = (head.group == 0).nonzero().squeeze(1)
    wanted = head.rest.new_tensor(_positions())  # [68, 3]
    apart = torch.cdist(wanted, head.rest[skin])
    falls = head.falls_with_the_jaw[skin]
    apart[LOWER_LIP] += 10.0 * ~falls  # in a closed mouth the lips touch: what opens tells them apart
    apart[UPPER_LIP] += 10.0 * falls
    chosen: list[int] = []
    for index in range(len(wanted)):  # a vertex serves one landmark
        apart[index, chosen] = torch.inf
        chosen.append(int(apart[index].argmin()))
    return skin[chosen]
