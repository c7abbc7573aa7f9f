"""People as a population has them: which factors go together, as tables over age and sex.

The shares are rough, as anybody can count them in a crowd: what is known of them exactly differs from country to
country and from year to year. Two are published: half of all men have lost hair at the age of 50 (Hamilton, Ann. N. Y.
Acad. Sci. 53, 1951; Norwood, South. Med. J. 68, 1975), and glasses or lenses are worn by a fifth of the young and by
most of the old.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import torch

from sia_gen.core.population import Population
from sia_gen.studio.factors import FACTORS, NAMES, Factor

AGES = (6.0, 14.0, 22.0, 35.0, 50.0, 65.0, 82.0)  # of the columns below
CLEARLY = (0.15, 0.85)  # how male the women and the men of the tables are
Row = tuple[float, ...]

# How old people in pictures are: the age that so many standard deviations of a normal number stand for.
AGED: tuple[Row, Row] = ((-2.6, -1.7, -1.2, -0.5, 0.0, 0.6, 1.2, 2.6), (5.5, 12.0, 19.0, 29.0, 38.0, 52.0, 66.0, 84.0))
# How male they are: all but a few are clearly one or the other.
SEXED: tuple[Row, Row] = ((-3.0, -0.6, -0.08, 0.08, 0.6, 3.0), (0.002, 0.04, 0.16, 0.84, 0.96, 0.998))
# How African or Asian: most are hardly, some wholly.
DESCENDED: tuple[Row, Row] = ((-3.0, 0.6, 0.9, 3.0), (-2.6, -0.7, 1.1, 2.6))

TYPICAL: dict[str, tuple[Row, Row, tuple[float, float]]] = {
    # factor: its middle at each age in women, in men, and its spread in both, in standard deviations of the factor
    "hair_length": (
        (0.50, 0.62, 0.62, 0.56, 0.46, 0.36, 0.30), (0.20, 0.20, 0.17, 0.14, 0.12, 0.11, 0.11), (0.70, 0.45)
    ),
    "hair_sides": ((0.75,) * 7, (0.45, 0.4, 0.25, 0.3, 0.4, 0.45, 0.5), (0.5, 0.8)),
    "hair_lift": ((0.15,) * 7, (0.2, 0.35, 0.45, 0.4, 0.35, 0.25, 0.2), (0.6, 1.0)),
    "hair_volume": ((0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.42), (0.45, 0.45, 0.42, 0.4, 0.36, 0.32, 0.3), (0.8, 0.8)),
    "fringe": ((0.4, 0.3, 0.25, 0.2, 0.2, 0.25, 0.25), (0.35, 0.25, 0.1, 0.05, 0.0, 0.0, 0.0), (0.9, 0.7)),
    "hairline": (
        (-0.2, -0.15, -0.1, -0.1, -0.05, 0.05, 0.15), (-0.2, -0.15, -0.05, 0.12, 0.3, 0.42, 0.5), (0.6, 0.9)
    ),
    "stubble": ((0.1,) * 7, (0.2, 0.2, 0.35, 0.4, 0.38, 0.35, 0.3), (0.5, 1.0)),
    "brow_thickness": ((0.42, 0.45, 0.45, 0.42, 0.38, 0.34, 0.3), (0.5, 0.55, 0.6, 0.6, 0.6, 0.62, 0.6), (0.8, 0.8)),
    "weight": ((-0.3, -0.25, -0.2, -0.05, 0.12, 0.15, -0.05), (-0.3, -0.25, -0.1, 0.1, 0.25, 0.2, -0.05), (0.9, 0.9)),
    "lens_tint": ((0.15,) * 7, (0.15,) * 7, (0.7, 0.7)),
    "smile": ((0.6, 0.6, 0.62, 0.6, 0.58, 0.55, 0.5), (0.55, 0.45, 0.45, 0.45, 0.42, 0.4, 0.4), (1.0, 1.0)),
    "mouth_open": ((0.1,) * 7, (0.1,) * 7, (0.7, 0.7)),
    "eye_closure": ((0.02,) * 7, (0.02,) * 7, (0.5, 0.5)),
    "brow_raise": ((0.0,) * 7, (0.0,) * 7, (0.7, 0.7)),
    "yaw": ((0.0,) * 7, (0.0,) * 7, (0.8, 0.8)),
    "pitch": ((0.0,) * 7, (0.0,) * 7, (0.8, 0.8)),
    "gaze_x": ((0.0,) * 7, (0.0,) * 7, (0.4, 0.4)),
    "gaze_y": ((0.0,) * 7, (0.0,) * 7, (0.4, 0.4)),
    "light_azimuth": ((0.0,) * 7, (0.0,) * 7, (0.75, 0.75)),
    "light_elevation": ((34.0,) * 7, (34.0,) * 7, (0.7, 0.7)),
    "light_strength": ((0.1,) * 7, (0.1,) * 7, (0.7, 0.7)),
    "ambient_strength": ((0.2,) * 7, (0.2,) * 7, (0.8, 0.8)),
    "light_softness": ((0.62,) * 7, (0.62,) * 7, (0.9, 0.9)),
    "light_warmth": ((0.0,) * 7, (0.0,) * 7, (0.7, 0.7)),
    "background_scene": ((0.6,) * 7, (0.6,) * 7, (1.0, 1.0)),
    "blur": ((0.08,) * 7, (0.08,) * 7, (0.6, 0.6)),
    "noise": ((1.2,) * 7, (1.2,) * 7, (0.7, 0.7)),
    "asymmetry_jaw": ((0.0,) * 7, (0.0,) * 7, (0.8, 0.8)),
}  # fmt: skip
CHANCES: dict[str, tuple[float, Row, Row, float]] = {
    # factor: the value that counts as having it, who has it at each age of women and of men, and its spread
    "baldness": (
        0.5, (0.001, 0.001, 0.001, 0.003, 0.01, 0.03, 0.06), (0.001, 0.002, 0.02, 0.14, 0.34, 0.46, 0.55), 1.0
    ),
    "beard": (0.3, (0.01,) * 7, (0.005, 0.01, 0.28, 0.38, 0.34, 0.26, 0.2), 1.0),
    "tied": (0.5, (0.4, 0.36, 0.3, 0.26, 0.2, 0.12, 0.12), (0.01, 0.02, 0.04, 0.03, 0.02, 0.01, 0.01), 1.0),
    "lip_colour": (0.35, (0.02, 0.25, 0.5, 0.52, 0.5, 0.42, 0.3), (0.005,) * 7, 0.9),
    "eye_makeup": (0.35, (0.01, 0.3, 0.55, 0.5, 0.42, 0.28, 0.15), (0.005,) * 7, 0.9),
    "glasses": (
        0.5, (0.07, 0.2, 0.22, 0.28, 0.42, 0.56, 0.62), (0.07, 0.18, 0.2, 0.26, 0.4, 0.55, 0.62), 1.0
    ),
}  # fmt: skip
PULLED: tuple[tuple[str, str, float], ...] = (
    # factor, what pulls it along, and how far: both in standard deviations
    ("skin_tone", "african", -0.72), ("skin_tone", "asian", -0.16),
    ("hair_colour", "african", -0.42), ("hair_colour", "asian", -0.42),
    ("hair_red", "african", -0.2), ("hair_red", "asian", -0.2),
    ("curl", "african", 0.5), ("curl", "asian", -0.3), ("frizz", "curl", 0.3),
    ("iris_colour", "african", -0.42), ("iris_colour", "asian", -0.42),
    ("freckles", "african", -0.25), ("freckles", "asian", -0.25),
    ("eye_fold", "asian", 0.3), ("nose_width", "african", 0.3), ("lip_fullness", "african", 0.35),
    ("gaze_x", "yaw", -1.4), ("gaze_y", "pitch", -1.0),  # most look at the camera
)  # fmt: skip
SHIFTED = {"skin_tone": (-0.55, 0.55), "hair_colour": (-1.1, 0.7), "iris_colour": (-1.0, 0.8), "hair_red": (-0.5, 0.8)}
"""Where the pulled ones start, and their spread, in standard deviations."""


def _factor(name: str) -> Factor:
    return FACTORS[NAMES.index(name)]


def _latent(factor: Factor, value: float) -> float:
    return round(float(factor.latent(torch.tensor(float(value), dtype=torch.float64))), 4)


@cache
def population() -> Population:
    """The description of people, over the latents in the order of `FACTORS`."""
    age, sex, african, asian = (NAMES.index(name) for name in ("age", "sex", "african", "asian"))
    roots = {
        age: (AGED[0], tuple(_latent(_factor("age"), value) for value in AGED[1])),
        sex: (SEXED[0], tuple(_latent(_factor("sex"), value) for value in SEXED[1])),
        african: DESCENDED,
        asian: DESCENDED,
    }
    at = (
        tuple(_latent(_factor("age"), value) for value in AGES),
        tuple(_latent(_factor("sex"), share) for share in CLEARLY),
    )
    tables = {}
    for name, (women, men, spreads) in TYPICAL.items():
        means = [tuple(_latent(_factor(name), value) for value in pair) for pair in zip(women, men, strict=True)]
        tables[NAMES.index(name)] = (tuple(means), (spreads,) * len(AGES))
    for name, (enough, women, men, spread) in CHANCES.items():
        has = _latent(_factor(name), enough)
        # A share p lies above what counts where the middle lies that many spreads from it.
        means = [
            tuple(round(has + spread * NormalDist().inv_cdf(share), 4) for share in pair)
            for pair in zip(women, men, strict=True)
        ]
        tables[NAMES.index(name)] = (tuple(means), ((spread, spread),) * len(AGES))
    for name, (start, spread) in SHIFTED.items():
        tables[NAMES.index(name)] = (((start, start),) * len(AGES), ((spread, spread),) * len(AGES))
    pulls = tuple((NAMES.index(name), NAMES.index(by), slope) for name, by, slope in PULLED)
    return Population(roots=roots, across=(age, sex), at=at, tables=tables, pulls=pulls)
