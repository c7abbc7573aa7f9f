"""The morphs of a head: which of MakeHuman's targets each factor moves, how far, and how much of each a face has.

Letters: B faces, V vertices.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from sia_gen.studio.blend import smooth
from sia_gen.studio.factors import ASYMMETRY, IDENTITY, FaceSpec
from sia_gen.studio.makehuman import MakeHuman
from sia_gen.studio.surface.skin import marks

ANCESTRIES = ("african", "asian", "caucasian")
SEXES = ("female", "male")
AGES = (("child", 11.0), ("young", 25.0), ("old", 80.0))  # the age in years that each target stands for
WEIGHTS = ("minweight", "averageweight", "maxweight")

IDENTITY_TARGETS: dict[str, tuple[tuple[str, ...], tuple[str, ...], float]] = {
    # factor:          (targets towards −1,  targets towards +1,  how far)
    "nose_width": (("nose/nose-scale-horiz-decr",), ("nose/nose-scale-horiz-incr",), 0.9),
    "nose_length": (("nose/nose-scale-vert-decr",), ("nose/nose-scale-vert-incr",), 0.8),
    "nose_projection": (("nose/nose-scale-depth-decr",), ("nose/nose-scale-depth-incr",), 0.8),
    "nose_bridge": (("nose/nose-hump-decr",), ("nose/nose-hump-incr",), 0.9),
    "nose_tip": (("nose/nose-point-down",), ("nose/nose-point-up",), 0.8),
    "nose_curve": (("nose/nose-curve-concave",), ("nose/nose-curve-convex",), 0.6),
    "nose_ridge": (
        ("nose/nose-width1-decr", "nose/nose-width2-decr"),
        ("nose/nose-width1-incr", "nose/nose-width2-incr"),
        0.8,
    ),
    "nostrils": (
        ("nose/nose-flaring-decr", "nose/nose-width3-decr"),
        ("nose/nose-flaring-incr", "nose/nose-width3-incr"),
        0.7,
    ),
    "jaw_width": (
        ("chin/chin-width-decr", "chin/chin-bones-decr"),
        ("chin/chin-width-incr", "chin/chin-bones-incr"),
        0.8,
    ),
    "jaw_drop": (("chin/chin-jaw-drop-decr",), ("chin/chin-jaw-drop-incr",), 0.2),
    "chin_height": (("chin/chin-height-decr",), ("chin/chin-height-incr",), 0.7),
    "chin_prominence": (("chin/chin-prominent-decr",), ("chin/chin-prominent-incr",), 0.8),
    "chin_cleft": (("chin/chin-cleft-decr",), ("chin/chin-cleft-incr",), 0.7),
    "prognathism": (("chin/chin-prognathism-decr",), ("chin/chin-prognathism-incr",), 0.4),
    "face_width": (("head/head-scale-horiz-decr",), ("head/head-scale-horiz-incr",), 0.6),
    "face_height": (("head/head-scale-vert-decr",), ("head/head-scale-vert-incr",), 0.6),
    "face_taper": (("head/head-triangular",), ("head/head-invertedtriangular",), 0.45),
    "face_square": (("head/head-round",), ("head/head-square",), 0.45),
    "temples": (("forehead/forehead-temple-decr",), ("forehead/forehead-temple-incr",), 0.8),
    "cheekbones": (("cheek/*-cheek-bones-decr",), ("cheek/*-cheek-bones-incr",), 0.9),
    "cheek_volume": (("cheek/*-cheek-volume-decr",), ("cheek/*-cheek-volume-incr",), 0.6),
    "cheek_hollow": (("cheek/*-cheek-inner-incr",), ("cheek/*-cheek-inner-decr",), 0.6),
    "eye_size": (("eyes/*-eye-scale-decr",), ("eyes/*-eye-scale-incr",), 0.7),
    "eye_spacing": (("eyes/*-eye-trans-in",), ("eyes/*-eye-trans-out",), 0.7),
    "eye_tilt": (("eyes/*-eye-corner1-down",), ("eyes/*-eye-corner1-up",), 0.8),
    "eye_height": (
        ("eyes/*-eye-height1-decr", "eyes/*-eye-height2-decr", "eyes/*-eye-height3-decr"),
        ("eyes/*-eye-height1-incr", "eyes/*-eye-height2-incr", "eyes/*-eye-height3-incr"),
        0.5,
    ),
    "eye_fold": (
        ("eyes/*-eye-epicanthus-out", "eyes/*-eye-eyefold-up"),
        ("eyes/*-eye-epicanthus-in", "eyes/*-eye-eyefold-down"),
        0.6,
    ),
    "eye_depth": (("eyes/*-eye-eyefold-convex",), ("eyes/*-eye-eyefold-concave",), 0.7),
    "eye_droop": (("eyes/*-eye-corner2-up",), ("eyes/*-eye-corner2-down",), 0.7),
    "brow_height": (("eyebrows/eyebrows-trans-down",), ("eyebrows/eyebrows-trans-up",), 0.7),
    "brow_angle": (("eyebrows/eyebrows-angle-down",), ("eyebrows/eyebrows-angle-up",), 0.6),
    "brow_ridge": (("eyebrows/eyebrows-trans-backward",), ("eyebrows/eyebrows-trans-forward",), 0.6),
    "mouth_width": (("mouth/mouth-scale-horiz-decr",), ("mouth/mouth-scale-horiz-incr",), 0.8),
    "mouth_height": (("mouth/mouth-trans-down",), ("mouth/mouth-trans-up",), 0.7),
    "lip_fullness": (
        ("mouth/mouth-upperlip-volume-decr", "mouth/mouth-lowerlip-volume-decr"),
        ("mouth/mouth-upperlip-volume-incr", "mouth/mouth-lowerlip-volume-incr"),
        0.8,
    ),
    "upper_lip": (
        ("mouth/mouth-upperlip-height-decr", "mouth/mouth-philtrum-volume-decr"),
        ("mouth/mouth-upperlip-height-incr", "mouth/mouth-philtrum-volume-incr"),
        0.6,
    ),
    "cupids_bow": (("mouth/mouth-cupidsbow-decr",), ("mouth/mouth-cupidsbow-incr",), 0.7),
    "forehead": (("forehead/forehead-nubian-decr",), ("forehead/forehead-nubian-incr",), 1.0),
    "ear_size": (("ears/*-ear-scale-decr",), ("ears/*-ear-scale-incr",), 0.8),
    "ear_wing": (("ears/*-ear-wing-decr",), ("ears/*-ear-wing-incr",), 0.9),
    "neck_width": (("neck/neck-scale-horiz-decr",), ("neck/neck-scale-horiz-incr",), 0.8),
}

ASYMMETRY_TARGETS: dict[str, tuple[str, ...]] = {
    # towards +1 the target of one side, towards −1 that of the other
    "asymmetry_jaw": ("asym/asym-jaw-1", "asym/asym-cheek-1"),
    "asymmetry_mouth": ("asym/asym-mouth-1", "asym/asym-mouth-2"),
    "asymmetry_eyes": ("asym/asym-eye-1", "asym/asym-eye-4"),
    "asymmetry_nose": ("asym/asym-nose-1", "asym/asym-nose-3"),
    "asymmetry_brows": ("asym/asym-brown-1", "asym/asym-brown-2"),
}

EXPRESSIONS: dict[str, tuple[tuple[str, float], ...]] = {
    # a smile is a whole-face expression: corners, cheeks and lids go together
    "smile": (
        ("mouth-corner-puller", 0.85), ("mouth-upward-retraction", 0.3), ("mouth-retraction", 0.15),
        ("eye-left-slit", 0.3), ("eye-right-slit", 0.3),
    ),
    "mouth_open": (("mouth-open", 0.8),),
    "brows_up": (("eyebrows-left-up", 1.0), ("eyebrows-right-up", 1.0)),
    "brows_down": (("eyebrows-left-down", 1.0), ("eyebrows-right-down", 1.0)),
    "eye_closure": (("eye-left-closure", 1.0), ("eye-right-closure", 1.0)),
}  # fmt: skip

EMPHASIS: dict[str, tuple[tuple[str, float], ...]] = {
    # MakeHuman's macro targets are made for whole bodies; these let a face alone show weight, sex and age
    "everyone": (
        ("mouth/mouth-upperlip-volume-decr", 0.45), ("mouth/mouth-lowerlip-volume-decr", 0.6),
        ("mouth/mouth-upperlip-height-decr", 0.4), ("mouth/mouth-lowerlip-height-decr", 0.6),
        ("eyes/*-eye-height2-incr", 0.3), ("eyes/*-eye-height3-incr", 0.2),
    ),
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
        ("chin/chin-prominent-incr", 0.3), ("head/head-square", 0.25),
        ("eyebrows/eyebrows-trans-down", 0.2), ("eyebrows/eyebrows-trans-forward", 0.6),
        ("eyebrows/eyebrows-angle-up", 0.15), ("forehead/forehead-trans-backward", 0.4),
        ("neck/neck-scale-horiz-incr", 0.9), ("nose/nose-scale-vert-incr", 0.3), ("nose/nose-scale-horiz-incr", 0.35),
        ("nose/nose-hump-incr", 0.4), ("eyes/*-eye-scale-decr", 0.15), ("mouth/mouth-upperlip-volume-decr", 0.35),
        ("mouth/mouth-lowerlip-volume-decr", 0.25), ("cheek/*-cheek-inner-decr", 0.3),
    ),
    "female": (
        ("chin/chin-bones-decr", 0.8), ("chin/chin-width-decr", 0.8), ("chin/chin-height-decr", 0.3),
        ("head/head-oval", 0.3), ("eyebrows/eyebrows-trans-up", 0.6), ("eyebrows/eyebrows-trans-backward", 0.5),
        ("eyebrows/eyebrows-angle-up", 0.4), ("neck/neck-scale-horiz-decr", 0.6),
        ("mouth/mouth-upperlip-volume-incr", 0.35), ("mouth/mouth-lowerlip-volume-incr", 0.35),
        ("eyes/*-eye-scale-incr", 0.45), ("eyes/*-eye-height2-incr", 0.35), ("nose/nose-scale-horiz-decr", 0.5),
        ("nose/nose-scale-vert-decr", 0.25), ("nose/nose-hump-decr", 0.4), ("nose/nose-point-width-decr", 0.4),
        ("cheek/*-cheek-bones-incr", 0.4),
    ),
    "child": (
        ("eyes/*-eye-scale-incr", 0.5), ("nose/nose-scale-vert-decr", 0.4), ("nose/nose-scale-depth-decr", 0.3),
        ("nose/nose-hump-decr", 0.4), ("nose/nose-curve-concave", 0.2), ("chin/chin-height-decr", 0.3),
        ("chin/chin-prominent-decr", 0.3), ("cheek/*-cheek-volume-incr", 0.4), ("mouth/mouth-scale-horiz-decr", 0.25),
        ("forehead/forehead-scale-vert-incr", 0.5), ("forehead/forehead-nubian-incr", 0.5), ("head/head-round", 0.5),
        ("mouth/mouth-upperlip-volume-decr", 0.2), ("mouth/mouth-lowerlip-volume-decr", 0.3),
        ("neck/neck-scale-horiz-decr", 0.7), ("eyebrows/eyebrows-trans-up", 0.4),
    ),
    "aged": (
        ("head/head-age-incr", 0.7), ("cheek/*-cheek-inner-decr", 0.6), ("forehead/forehead-temple-decr", 0.6),
        ("mouth/mouth-upperlip-volume-decr", 0.7), ("mouth/mouth-lowerlip-volume-decr", 0.6),
        ("nose/nose-scale-vert-incr", 0.35), ("nose/nose-point-down", 0.35), ("ears/*-ear-scale-incr", 0.5),
        ("eyes/*-eye-scale-decr", 0.2), ("eyebrows/eyebrows-trans-down", 0.2),
    ),
    "bags": (("eyes/*-eye-bag-incr", 0.9), ("eyes/*-eye-bag-height-incr", 0.4)),
    "sagging": (
        ("neck/neck-double-incr", 0.5), ("mouth/mouth-angles-down", 0.5), ("cheek/*-cheek-trans-down", 0.6),
        ("eyes/*-eye-eyefold-down", 0.7), ("eyes/*-eye-corner2-down", 0.6), ("chin/chin-width-incr", 0.35),
    ),
    "folds": (("mouth/mouth-laugh-lines-in", 0.7),),
}  # fmt: skip

SMILE_EXTRA = (("cheek/*-cheek-volume-incr", 0.45), ("cheek/*-cheek-trans-up", 0.5), ("mouth/mouth-angles-up", 0.6))


def morphs(makehuman: MakeHuman) -> dict[str, np.ndarray]:
    """Every morph by name: how far it moves MakeHuman's vertices, ``[V, 3]``."""

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
    for factor, names in ASYMMETRY_TARGETS.items():
        for sign, side in (("-", "r"), ("+", "l")):
            columns[factor + sign] = total(tuple((f"{name}-{side}", 1.0) for name in names))
    for name, units in EXPRESSIONS.items():
        for ancestry in ANCESTRIES:
            columns[f"{ancestry}-{name}"] = total(
                tuple((f"expression/units/{ancestry}/{unit}", weight) for unit, weight in units)
            )
    columns["smile-extra"] = total(SMILE_EXTRA)
    return columns | {name: total(parts) for name, parts in EMPHASIS.items()}


def shares(spec: FaceSpec) -> dict[str, Tensor]:
    """How much ``[B]`` of every morph faces have. Macro targets blend as products of shares that each add up to one."""
    logits = torch.stack([spec["african"], spec["asian"], torch.zeros_like(spec["asian"])])
    ancestry = dict(zip(ANCESTRIES, torch.softmax(1.3 * logits, dim=0), strict=True))
    sex = dict(zip(SEXES, (1 - spec["sex"], spec["sex"]), strict=True))
    (child, at_child), (young, at_young), (old, at_old) = AGES
    grown = ((spec["age"] - at_child) / (at_young - at_child)).clamp(-0.4, 1)  # the youngest are beyond the child
    aged = ((spec["age"] - at_young) / (at_old - at_young)).clamp(0, 1)
    age = {child: 1 - grown, young: grown * (1 - aged), old: aged}
    heavy = spec["weight"]
    weight = dict(zip(WEIGHTS, ((-heavy).clamp(min=0), 1 - heavy.abs(), heavy.clamp(min=0)), strict=True))
    found = {}
    for s, a in itertools.product(SEXES, age):
        found |= {f"{name}-{s}-{a}": share * sex[s] * age[a] for name, share in (ancestry | weight).items()}
    for name in (*IDENTITY, *ASYMMETRY):
        found[f"{name}-"], found[f"{name}+"] = (-spec[name]).clamp(min=0), spec[name].clamp(min=0)
    raised = spec["brow_raise"]
    units = {
        "smile": spec["smile"],
        "mouth_open": spec["mouth_open"],
        "brows_up": raised.clamp(min=0),
        "brows_down": (-raised).clamp(min=0),
        # Lids follow the eyes down, and are never quite as far open as they could be.
        "eye_closure": (0.06 + 0.94 * spec["eye_closure"] - 0.015 * spec["gaze_y"].clamp(max=0)).clamp(max=1),
    }
    for name, value in units.items():
        found |= {f"{which}-{name}": share * value for which, share in ancestry.items()}
    shown = marks(spec)
    emphasis = {
        "everyone": torch.ones_like(heavy),
        "heavy": heavy.clamp(min=0),
        "thin": (-heavy).clamp(min=0),
        "male": (2 * spec["sex"] - 1).clamp(min=0) * (0.2 + 0.8 * grown.clamp(min=0)),
        "female": (1 - 2 * spec["sex"]).clamp(min=0) * (0.2 + 0.8 * grown.clamp(min=0)),
        "child": 1 - smooth(6.0, 20.0, spec["age"]),
        "aged": shown.aged,
        "bags": shown.bags,
        "sagging": shown.sagging,
        "folds": shown.folds,
    }
    return found | emphasis | {"smile-extra": spec["smile"]}
