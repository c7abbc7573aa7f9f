"""Where on MakeHuman's mesh the mouth is: the red of its lips, and its inside.

Letters: V₀ vertices of that mesh.
"""

from __future__ import annotations

import numpy as np

from sia_gen.studio.makehuman import MakeHuman


def lips(source: MakeHuman) -> np.ndarray:
    """Where the red of the lips lies ``[V₀, 1]``: what MakeHuman's lip-volume targets move."""
    mask = np.zeros(len(source.mesh.vertices), np.float32)
    for lip in ("upperlip", "lowerlip"):
        moved = np.linalg.norm(source.target(f"mouth/mouth-{lip}-volume-incr"), axis=1)
        mask = np.maximum(mask, np.clip((moved / moved.max() - 0.2) / 0.4, 0, 1))
    return mask[:, None]


def cavities(source: MakeHuman) -> np.ndarray:
    """The inside of the mouth ``[V₀, 1]``: skin around the lips with other skin close in front of it."""
    x, y, z = source.mesh.vertices.T
    near = (source.mesh.group == 0) & (np.abs(x) < 0.38) & (y > 6.40 + 0.4 * np.abs(x)) & (y < 6.95) & (z > 0.4)
    near &= (y < 6.76) | (z < 1.47)  # not the nostrils
    index = np.flatnonzero(near)
    apart = np.hypot(x[index, None] - x[None, index], y[index, None] - y[None, index])
    in_front = np.where(apart < 0.035, z[None, index], -np.inf).max(axis=1)
    mask = np.zeros((len(x), 1), np.float32)
    mask[index, 0] = in_front - z[index] > 0.045
    return mask
