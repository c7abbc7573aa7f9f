"""The morphable head: factor values → vertices, linear in the morphs and then scaled to the eyes.

Units of the result: the distance between the eye centres is 1, the point between them the origin; x to image right,
y up, z towards the camera.

Letters: B faces, V vertices, T triangles, C morph columns.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sia_gen.studio.blend import smooth
from sia_gen.studio.factors import FaceSpec
from sia_gen.studio.makehuman import GROUPS, MakeHuman, subdivide
from sia_gen.studio.morphs import morphs, shares
from sia_gen.studio.surface.appearance import beard_shown, moustache_shown
from sia_gen.studio.surface.hair import beard_region

TEETH = {"upper": (0.0, -0.07, -0.01), "lower": (0.0, 0.0, -0.06)}
"""Decimetres that teeth are moved: so that a smile shows the upper ones, and closed lips none."""


class Head:
    """Vertices, triangles and rest geometry of a head; ``subdivisions`` Catmull–Clark steps refine all of it."""

    def __init__(self, makehuman: MakeHuman, subdivisions: int = 0) -> None:
        columns = morphs(makehuman)
        self._names = list(columns)
        self._steps, self._coarse = subdivisions, makehuman.mesh.quads
        mesh = makehuman.mesh
        group = np.eye(len(GROUPS), dtype=np.float32)[mesh.group]
        quads, stack = self._refine(np.concatenate([mesh.vertices, group, *columns.values()], axis=1))
        base, group, moves = stack.split([3, len(GROUPS), 3 * len(columns)], dim=1)
        for row, moved in TEETH.items():
            base[group.argmax(dim=1) == GROUPS.index(f"helper-{row}-teeth")] += base.new_tensor(moved)
        # In double precision, so that a face's picture does not depend on how many are rendered with it.
        self._base = base.double()  # [V, 3]
        self._basis = moves.unflatten(1, (-1, 3)).movedim(1, 0).flatten(1).double()  # [C, V * 3]
        opened = self._basis[self._names.index("caucasian-mouth_open")].view(-1, 3)
        self.falls_with_the_jaw = opened[:, 1] < 0.3 * opened[:, 1].min()  # [V]
        self.group = group.argmax(dim=1)  # [V]
        self.quads = torch.from_numpy(quads)
        self.triangles = self.quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)  # [T, 3]
        self._eyes = [self.group == GROUPS.index(name) for name in ("helper-r-eye", "helper-l-eye")]
        self.rest = self._to_eyes(self._base[None])[0].float()  # [V, 3] where on the average face each vertex is
        self.around = _faces_around(self.quads, len(self._base))  # [V, 8] quads beside each vertex
        jaw, lip = (region * (self.group == 0) for region in beard_region(self.rest.T))
        normals = self.normals(self.rest[None])[0]
        self._beard, self._moustache = jaw[:, None] * normals, lip[:, None] * normals  # [V, 3] offsets
        chin = jaw * smooth(-1.35, -1.8, self.rest[:, 1]) * smooth(-0.3, 0.1, self.rest[:, 2])
        self._hangs = chin[:, None] * self.rest.new_tensor([0.0, -1.0, 0.15])  # [V, 3] what a long one adds

    def refine(self, values: np.ndarray) -> Tensor:
        """Values on MakeHuman's vertices ``[V₀, C]`` → on this head's, ``[V, C]``."""
        return self._refine(values)[1]

    def _refine(self, values: np.ndarray) -> tuple[np.ndarray, Tensor]:
        quads = self._coarse
        for _ in range(self._steps):
            quads, values = subdivide(quads, values)
        return quads, torch.from_numpy(np.ascontiguousarray(values, np.float32))

    def to(self, device: torch.device | str) -> Head:
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        self._eyes = [mask.to(device) for mask in self._eyes]
        return self

    def vertices(self, spec: FaceSpec) -> Tensor:
        """Vertices ``[B, V, 3]`` of each face, before the head is turned."""
        coefficients = shares(spec)
        weights = torch.stack([coefficients[name] for name in self._names], dim=1)  # [B, C]
        moved = (weights.double() @ self._basis).reshape(len(spec), -1, 3) + self._base
        moved = self._to_eyes(moved).float()
        beard, moustache = beard_shown(spec)[:, None, None], moustache_shown(spec)[:, None, None]
        long = spec["beard_length"][:, None, None]
        grown = (0.03 + 0.16 * long) * beard * self._beard + 0.06 * moustache * self._moustache
        return moved + grown + 0.55 * long.square() * beard * self._hangs

    def normals(self, vertices: Tensor) -> Tensor:
        """Unit vertex normals ``[B, V, 3]``, the mean of the quads around weighted by their area."""
        a, b, c, d = (vertices[:, self.quads[:, i]] for i in range(4))
        quad_normals = torch.linalg.cross(c - a, d - b)  # [B, Q, 3]
        padded = torch.cat([quad_normals, torch.zeros_like(quad_normals[:, :1])], dim=1)
        total = sum(padded[:, self.around[:, i]] for i in range(self.around.shape[1]))
        return torch.nn.functional.normalize(total, dim=-1)

    def _to_eyes(self, vertices: Tensor) -> Tensor:
        right, left = (vertices[:, mask].mean(dim=1) for mask in self._eyes)  # [B, 3]
        apart = (left - right).norm(dim=-1)[:, None, None]
        return (vertices - ((left + right) / 2)[:, None]) / apart


def _faces_around(quads: Tensor, vertices: int, widest: int = 8) -> Tensor:
    """The quads beside each vertex ``[V, 8]``, padded with Q; fixed order, so that sums of normals repeat exactly."""
    corner = quads.reshape(-1)
    order = torch.argsort(corner, stable=True)
    counts = torch.bincount(corner, minlength=vertices)
    slot = torch.arange(len(corner)) - (counts.cumsum(0) - counts)[corner[order]]
    around = torch.full((vertices, widest), len(quads))
    fits = slot < widest
    around[corner[order][fits], slot[fits]] = order[fits] // 4
    return around
