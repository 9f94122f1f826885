"""Areas and shares with bootstrap intervals (Efron & Tibshirani 1993)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
COVERAGE = 95  # percent


@dataclass(frozen=True)
class Estimate:
    """A figure with the interval that holds `COVERAGE` percent of its bootstrap values."""

    value: float
    low: float
    high: float


def area_under_curve(higher: np.ndarray, lower: np.ndarray) -> float:
    """The chance that a value of `higher` [M] lies above one of `lower` [N], ties half: the area under the ROC curve.

    0.5 where the two cannot be told apart, 1 where all of `higher` lies above.
    """
    lower = np.sort(lower)
    below = np.searchsorted(lower, higher, side="left") + np.searchsorted(lower, higher, side="right")
    return float(below.mean() / (2 * len(lower)))


def area_estimate(higher: np.ndarray, lower: np.ndarray, seed: int = 0) -> Estimate:
    """`area_under_curve`, both samples drawn again for the interval."""
    random = np.random.default_rng(seed)
    return _estimate(
        area_under_curve(higher, lower),
        lambda: area_under_curve(random.choice(higher, len(higher)), random.choice(lower, len(lower))),
    )


def score_estimate(score: Callable[[np.ndarray], float], count: int, seed: int = 0) -> Estimate:
    """A score of `count` cases, given by their numbers, with the cases drawn again for the interval."""
    random = np.random.default_rng(seed)
    return _estimate(score(np.arange(count)), lambda: score(random.integers(0, count, count)))


def _estimate(value: float, again: Callable[[], float]) -> Estimate:
    outside = (100 - COVERAGE) / 2
    low, high = np.percentile([again() for _ in range(RESAMPLES)], (outside, 100 - outside))
    return Estimate(float(value), float(low), float(high))
