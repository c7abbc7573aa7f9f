"""The morphable head: factor values → vertices, linear in MakeHuman's targets and then scaled to the eyes.

Units of the result: the distance between the eye centres is 1, the point between them the origin; x to image right,
y up, z towards the camera.

Letters: B faces, V vertices, T triangles, C morph columns.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from sia_gen.studio.factors import IDENTITY, FaceSpec
from sia_gen.studio.makehuman import GROUPS, MakeHuman, subdivide

ANCESTRIES = ("african", "asian", "caucasian")
SEXES = ("female", "male")
AGES = (("child", 11.0), ("young", 25.0), ("old", 80.0))  # the age in years that each target stands for
WEIGHTS = ("minweight", "averageweight", "maxweight")

IDENTITY_TARGETS: dict[str, tuple[tuple[str, ...], tuple[str, ...], float]] = {
    # factor:          (targets towards −1,  targets towards +1,  how far)
    "nose_width": (("nose/nose-scale-horiz-decr",), ("nose/nose-scale-horiz-incr",), 1.0),
    "nose_length": (("nose/nose-scale-vert-decr",), ("nose/nose-scale-vert-incr",), 1.0),
    "nose_projection": (("nose/nose-scale-depth-decr",), ("nose/nose-scale-depth-incr",), 1.0),
    "nose_bridge": (("nose/nose-hump-decr",), ("nose/nose-hump-incr",), 1.0),
    "jaw_width": (
        ("chin/chin-width-decr", "chin/chin-bones-decr"),
        ("chin/chin-width-incr", "chin/chin-bones-incr"),
        1.0,
    ),
    "chin_height": (("chin/chin-height-decr",), ("chin/chin-height-incr",), 0.8),
    "chin_prominence": (("chin/chin-prominent-decr",), ("chin/chin-prominent-incr",), 1.0),
    "face_width": (("head/head-scale-horiz-decr",), ("head/head-scale-horiz-incr",), 0.6),
    "face_height": (("head/head-scale-vert-decr",), ("head/head-scale-vert-incr",), 0.6),
    "cheekbones": (("cheek/*-cheek-bones-decr",), ("cheek/*-cheek-bones-incr",), 1.0),
    "cheek_volume": (("cheek/*-cheek-volume-decr",), ("cheek/*-cheek-volume-incr",), 1.0),
    "eye_size": (("eyes/*-eye-scale-decr",), ("eyes/*-eye-scale-incr",), 0.8),
    "eye_spacing": (("eyes/*-eye-trans-in",), ("eyes/*-eye-trans-out",), 0.6),
    "eye_tilt": (("eyes/*-eye-corner1-down",), ("eyes/*-eye-corner1-up",), 1.0),
    "mouth_width": (("mouth/mouth-scale-horiz-decr",), ("mouth/mouth-scale-horiz-incr",), 0.8),
    "lip_fullness": (
        ("mouth/mouth-upperlip-volume-decr", "mouth/mouth-lowerlip-volume-decr"),
        ("mouth/mouth-upperlip-volume-incr", "mouth/mouth-lowerlip-volume-incr"),
        1.0,
    ),
    "forehead": (("forehead/forehead-nubian-decr",), ("forehead/forehead-nubian-incr",), 1.0),
    "ear_size": (("ears/*-ear-scale-decr",), ("ears/*-ear-scale-incr",), 0.8),
}

EXPRESSIONS: dict[str, tuple[tuple[str, float], ...]] = {
    # a smile is a whole-face expression: corners, cheeks and lids go together
    "smile": (
        ("mouth-corner-puller", 1.0), ("mouth-upward-retraction", 0.35), ("mouth-retraction", 0.35),
        ("eye-left-slit", 0.5), ("eye-right-slit", 0.5),
    ),
    "mouth_open": (("mouth-open", 0.8),),
    "brows_up": (("eyebrows-left-up", 1.0), ("eyebrows-right-up", 1.0)),
    "brows_down": (("eyebrows-left-down", 1.0), ("eyebrows-right-down", 1.0)),
    "eye_closure": (("eye-left-closure", 1.0), ("eye-right-closure", 1.0)),
}  # fmt: skip

EMPHASIS: dict[str, tuple[tuple[str, float], ...]] = {
    # MakeHuman's macro targets are made for whole bodies; these let a face alone show weight, sex and age
    "heavy": (
        ("head/head-fat-incr", 0.9), ("neck/neck-double-incr", 0.9), ("cheek/*-cheek-volume-incr", 0.6),
        ("neck/neck-scale-horiz-incr", 0.7), ("chin/chin-width-incr", 0.5),
    ),
    "thin": (
        ("head/head-fat-decr", 0.9), ("neck/neck-double-decr", 0.6), ("cheek/*-cheek-volume-decr", 1.0),
        ("neck/neck-scale-horiz-decr", 0.7), ("cheek/*-cheek-inner-decr", 0.8),
    ),
    "male": (
        ("chin/chin-bones-incr", 0.8), ("chin/chin-width-incr", 0.5), ("chin/chin-height-incr", 0.4),
        ("eyebrows/eyebrows-trans-down", 0.6), ("neck/neck-scale-horiz-incr", 0.5), ("nose/nose-scale-vert-incr", 0.3),
    ),
    "female": (
        ("chin/chin-bones-decr", 0.6), ("chin/chin-width-decr", 0.6), ("eyebrows/eyebrows-trans-up", 0.4),
        ("neck/neck-scale-horiz-decr", 0.4), ("mouth/mouth-upperlip-volume-incr", 0.5),
        ("mouth/mouth-lowerlip-volume-incr", 0.5), ("eyes/*-eye-scale-incr", 0.3), ("nose/nose-scale-horiz-decr", 0.4),
    ),
    "aged": (("head/head-age-incr", 0.6), ("eyes/*-eye-bag-incr", 0.6)),
}  # fmt: skip

SMILE_EXTRA = (("cheek/*-cheek-volume-incr", 0.6), ("cheek/*-cheek-trans-up", 0.6), ("mouth/mouth-angles-up", 0.7))


class Head:
    """Vertices, triangles and rest geometry of a head; ``subdivisions`` Catmull–Clark steps refine all of it."""

    def __init__(self, makehuman: MakeHuman, subdivisions: int = 0) -> None:
        columns = _columns(makehuman)
        self._names = list(columns)
        self._steps, self._coarse = subdivisions, makehuman.mesh.quads
        mesh = makehuman.mesh
        self.scalp, hair = _scalp(mesh.vertices)  # [V₀, 1], 1 on the crown, 0 on the face
        self.mane, fall = _mane(mesh.vertices, mesh.group)  # [V₀, 1], 1 where long hair hides ears, neck and nape
        group = np.eye(len(GROUPS), dtype=np.float32)[mesh.group]
        quads, stack = self._refine(np.concatenate([mesh.vertices, hair, fall, group, *columns.values()], axis=1))
        base, hair, fall, group, morphs = stack.split([3, 3, 3, len(GROUPS), 3 * len(columns)], dim=1)
        # In double precision, so that a face's picture does not depend on how many are rendered with it.
        self._base = base.double()  # [V, 3]
        self._hair, self._fall = hair.contiguous(), fall.contiguous()  # [V, 3] offsets of full and of long hair
        self._basis = morphs.unflatten(1, (-1, 3)).movedim(1, 0).flatten(1).double()  # [C, V * 3]
        opened = self._basis[self._names.index("caucasian-mouth_open")].view(-1, 3)
        self.falls_with_the_jaw = opened[:, 1] < 0.3 * opened[:, 1].min()  # [V]
        self.group = group.argmax(dim=1)  # [V]
        self.quads = torch.from_numpy(quads)
        self.triangles = self.quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)  # [T, 3]
        self._eyes = [self.group == GROUPS.index(name) for name in ("helper-r-eye", "helper-l-eye")]
        self.rest = self._to_eyes(self._base[None])[0].float()  # [V, 3] where on the average face each vertex is
        self.around = _faces_around(self.quads, len(self._base))  # [V, 8] quads beside each vertex

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
        coefficients = _coefficients(spec)
        weights = torch.stack([coefficients[name] for name in self._names], dim=1)  # [B, C]
        moved = (weights.double() @ self._basis).reshape(len(spec), -1, 3) + self._base
        moved = self._to_eyes(moved).float()
        moved = moved + (0.04 + 0.3 * spec["hair_volume"])[:, None, None] * self._hair
        length = spec["hair_length"][:, None]
        above = self.rest[:, 1] - hair_ends(length)  # [B, V]
        return moved + ((above / 0.3).clamp(0, 1) * (length / 0.4).clamp(max=1))[..., None] * self._fall

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


def hair_ends(length: Tensor) -> Tensor:
    """How low hair of a length ``[B]`` (0 above the ears, 1 on the shoulders) hangs, as y on the average face."""
    return 0.8 - 3.05 * length


def _columns(makehuman: MakeHuman) -> dict[str, np.ndarray]:
    """Every morph column by name, ``[V, 3]`` each."""

    def total(parts: tuple[tuple[str, float], ...]) -> np.ndarray:
        names = [(part.replace("*", side), weight) for part, weight in parts for side in ("l", "r")]
        return sum(weight * makehuman.target(name) for name, weight in dict.fromkeys(names))

    columns = {}
    for sex, (age, _) in itertools.product(SEXES, AGES):
        for ancestry in ANCESTRIES:
            columns[f"{ancestry}-{sex}-{age}"] = makehuman.target(f"macrodetails/{ancestry}-{sex}-{age}")
        for weight in WEIGHTS:
            name = f"universal-{sex}-{age}-averagemuscle-{weight}"
            columns[f"{weight}-{sex}-{age}"] = makehuman.target(f"macrodetails/{name}")
    for factor, (down, up, far) in IDENTITY_TARGETS.items():
        columns[f"{factor}-"] = total(tuple((name, far) for name in down))
        columns[f"{factor}+"] = total(tuple((name, far) for name in up))
    for name, units in EXPRESSIONS.items():
        for ancestry in ANCESTRIES:
            columns[f"{ancestry}-{name}"] = total(
                tuple((f"expression/units/{ancestry}/{unit}", weight) for unit, weight in units)
            )
    columns["smile-extra"] = total(SMILE_EXTRA)
    return columns | {name: total(parts) for name, parts in EMPHASIS.items()}


def _coefficients(spec: FaceSpec) -> dict[str, Tensor]:
    """Weight ``[B]`` of every morph column. Macro targets blend as products of shares that each add up to one."""
    logits = torch.stack([spec["african"], spec["asian"], torch.zeros_like(spec["asian"])])
    ancestry = dict(zip(ANCESTRIES, torch.softmax(1.3 * logits, dim=0), strict=True))
    sex = dict(zip(SEXES, (1 - spec["sex"], spec["sex"]), strict=True))
    (child, at_child), (young, at_young), (old, at_old) = AGES
    grown = ((spec["age"] - at_child) / (at_young - at_child)).clamp(0, 1)
    aged = ((spec["age"] - at_young) / (at_old - at_young)).clamp(0, 1)
    age = {child: 1 - grown, young: grown * (1 - aged), old: aged}
    heavy = spec["weight"]
    weight = dict(zip(WEIGHTS, ((-heavy).clamp(min=0), 1 - heavy.abs(), heavy.clamp(min=0)), strict=True))
    found = {}
    for s, a in itertools.product(SEXES, age):
        found |= {f"{name}-{s}-{a}": share * sex[s] * age[a] for name, share in (ancestry | weight).items()}
    for name in IDENTITY:
        found[f"{name}-"], found[f"{name}+"] = (-spec[name]).clamp(min=0), spec[name].clamp(min=0)
    raised = spec["brow_raise"]
    units = {
        "smile": spec["smile"],
        "mouth_open": spec["mouth_open"],
        "brows_up": raised.clamp(min=0),
        "brows_down": (-raised).clamp(min=0),
        "eye_closure": spec["eye_closure"],
    }
    for name, value in units.items():
        found |= {f"{which}-{name}": share * value for which, share in ancestry.items()}
    emphasis = {
        "heavy": heavy.clamp(min=0),
        "thin": (-heavy).clamp(min=0),
        "male": (2 * spec["sex"] - 1).clamp(min=0) * (0.3 + 0.7 * grown),
        "female": (1 - 2 * spec["sex"]).clamp(min=0) * (0.3 + 0.7 * grown),
        "aged": aged,
    }
    return found | emphasis | {"smile-extra": spec["smile"]}


def _scalp(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much each vertex is scalp ``[V, 1]``, and the outward offset of full hair ``[V, 3]`` in eye distances.

    The hairline is a curve on the base mesh: high over the forehead, down in front of the ears, to the nape.
    """
    x, y, z = vertices.T
    front = np.clip((z - 0.2) / 0.9, 0, 1)  # 0 above the ears, 1 at the forehead
    line = 6.75 + 1.25 * front**0.7 - 0.25 * np.abs(x) * front
    scalp = np.clip((y - line) / 0.22, 0, 1)
    scalp[(np.abs(x) > 0.78) & (y < 7.35) & (z > -0.15)] = 0  # ears
    centre = np.array([0, 7.2, 0.35], np.float32)
    outward = vertices - centre
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    return scalp[:, None].astype(np.float32), (scalp[:, None] * outward).astype(np.float32)


def _mane(vertices: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where long hair hangs ``[V, 1]`` (ears, neck and nape), and its offset ``[V, 3]`` in eye distances.

    Hair falls straight from the widest part of the head: what lies inside an upright elliptic cylinder behind the face
    is pushed out to it.
    """
    x, y, z = vertices.T
    front = 0.62 + 0.18 * np.clip((y - 6.6) / 0.6, 0, 1)
    mask = np.clip((front - z) / 0.16, 0, 1) * np.clip((y - 5.7) / 0.2, 0, 1) * (group == 0)
    from_axis = np.stack([x, z - 0.3], axis=1)
    distance = np.maximum(np.linalg.norm(from_axis, axis=1), 1e-3)
    across, along = (from_axis / distance[:, None]).T
    flare = 1 + 0.08 * np.clip(7.0 - y, 0, 1.2)
    radius = flare / np.hypot(across / 0.96, along / 0.80)
    mask *= np.clip((radius + 0.25 - distance) / 0.2, 0, 1)  # not the shoulders
    out = np.clip(radius - distance, 0, None) * mask
    offset = np.stack([across * out, np.zeros_like(out), along * out], axis=1)
    eyes = [vertices[group == GROUPS.index(name)].mean(axis=0) for name in ("helper-r-eye", "helper-l-eye")]
    return mask[:, None].astype(np.float32), (offset / np.linalg.norm(eyes[0] - eyes[1])).astype(np.float32)


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
