"""Rates, intervals and the test against the control.

Letters: N faces, E random directions of each, M groups of faces that share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sia_gen.core.seeds import stream

Floats: TypeAlias = NDArray[np.floating]
Groups: TypeAlias = NDArray[np.integer]

CONFIDENCE = 0.95
SHUFFLES = 100_000
BLOCK = 1_000_000  # numbers drawn at a time
ROUNDING = 1e-9
SPANNING = 6  # draws, between the smallest and largest of which the mean lies in 97 % of cases, where nothing is skewed


def wilson(successes: int, attempted: int, draws: int | None = None) -> list[float]:
    """Wilson's score interval for a rate; [0, 1] where nothing was attempted.

    ``draws`` counts those attempts that are independent, where they are fewer: the rate is then held to be theirs.
    """
    if not attempted:
        return [0.0, 1.0]
    rate, count = successes / attempted, min(draws or attempted, attempted)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * (rate * (1 - rate) / count + (z / (2 * count)) ** 2) ** 0.5
    return [max(0.0, middle - half), min(1.0, middle + half)]


def rate_difference(first: Floats, second: Floats, draws: int | None = None) -> list[float] | None:
    """Newcombe's score interval of the difference of two rates, ``second`` less ``first``, over the same faces ``[N]``.

    Values are 0 or 1. It is method 10 of "Improved confidence intervals for the difference between binomial
    proportions based on paired data" (Statistics in Medicine 17, 1998); unlike a bootstrap's it has a width where all
    faces do alike. None without faces; ``draws`` as in `wilson`.
    """
    if not len(first):
        return None
    a, b = first.mean(), second.mean()
    (low_a, high_a), (low_b, high_b) = (wilson(int(rate.sum()), len(rate), draws) for rate in (first, second))
    spread = first.std() * second.std()
    together = ((first - a) * (second - b)).mean()  # (ad − bc) / N² of the table of both
    if together > 0:
        together = max(together - 1 / (2 * len(first)), 0.0)
    alike = together / spread if spread else 0.0
    down = (b - low_b) ** 2 - 2 * alike * (b - low_b) * (high_a - a) + (high_a - a) ** 2
    up = (high_b - b) ** 2 - 2 * alike * (high_b - b) * (a - low_a) + (a - low_a) ** 2
    return [float(b - a - max(down, 0.0) ** 0.5), float(b - a + max(up, 0.0) ** 0.5)]


def mean_interval(values: Floats, groups: Groups) -> list[float] | None:
    """Interval of the mean of ``values`` ``[N]``, whose groups ``[N]``, not they, are independent; None for one group.

    Student's, with the skewness taken out by Hall's cubic transformation ("On the removal of skewness by
    transformation", Journal of the Royal Statistical Society B 54, 1992): most faces change little and a few much. Of a
    dozen numbers from a beta distribution of 0.3 and 2, which looks alike, a bootstrap's percentiles held the mean in
    83 % of trials, this in 95 %. Groups count by their size. From six groups on the interval goes no further than the
    values do.
    """
    from scipy.stats import t

    _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    draws, mean = len(counts), float(values.mean()) if len(values) else 0.0
    if draws < 2:
        return None
    away = np.bincount(index, values - mean) * draws / len(values)  # how far each group moves the mean, times them all
    spread = float(away.std())
    if spread <= ROUNDING * abs(mean):
        return [mean, mean]
    error, skewness = spread / (draws - 1) ** 0.5, float(((away / spread) ** 3).mean()) / draws**0.5
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, draws - 1))
    low, high = (mean - error * _skewed(end, skewness) for end in (quantile, -quantile))
    if draws >= SPANNING:
        low, high = max(low, float(values.min())), min(high, float(values.max()))
    return [low, high]


def over_runs(values: Sequence[float]) -> list[float] | None:
    """Student's interval of the mean of a few runs, which differ by their seed; None for one."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    mean = float(np.mean(values))
    half = float(np.std(values, ddof=1) / len(values) ** 0.5 * t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return [mean - half, mean + half]


def _skewed(quantile: float, skewness: float) -> float:
    """Where a mean's t lies when it would be at a quantile of Student's, were nothing skewed: Hall's inverse.

    ``skewness`` is that of one draw, divided by the root of their number.
    """
    if abs(skewness) < ROUNDING:
        return quantile
    return float(3 / skewness * (np.cbrt(1 + skewness * (quantile - skewness / 6)) - 1))


def permutation(own: Floats, chance: Floats, groups: Groups, seed: int) -> float:
    """One-sided p-value of "``own`` ``[N]`` is larger than ``chance`` ``[N, E]``, E random draws on the same faces".

    A permutation test: were it no more than these, any of a face's E + 1 values could as well be ``own``. The statistic
    is the mean of ``own`` less that of the others; faces that share a group ``[N]`` (here random directions) are not
    independent and change places together. Nothing is assumed of the distribution, which flipping the signs of
    differences would need to be symmetric: most random directions do little and a few do much. Of all (E + 1)**M ways
    100 000 are drawn, that which was seen being one of them, so that p is never below 1e-5.
    """
    _, index = np.unique(groups, return_inverse=True)
    values = np.column_stack([own, chance])  # [N, E + 1]
    ways = values.shape[1]
    excess = values - (values.sum(axis=1, keepdims=True) - values) / (ways - 1)  # were each of them `own`
    sums = np.stack([np.bincount(index, column) for column in excess.T])  # [E + 1, M]
    seen = sums[0].sum() - 1e-9 * np.abs(sums).sum()
    random, group = stream(seed, "permutation"), np.arange(sums.shape[1])
    block, reached = max(1, BLOCK // len(group)), 1
    for start in range(1, SHUFFLES, block):
        places = random.integers(ways, size=(min(block, SHUFFLES - start), len(group)))
        reached += int((sums[places, group].sum(axis=1) >= seen).sum())
    return reached / SHUFFLES


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """q-values: the expected share of false finds among all with a q at least as small."""
    from scipy.stats import false_discovery_control

    return [float(q) for q in false_discovery_control(p_values, method="bh")]
