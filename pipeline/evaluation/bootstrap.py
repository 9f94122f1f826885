"""Areas and shares with bootstrap intervals (Efron & Tibshirani 1993)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
COVERAGE = 95  # percent


@dataclass(frozen=True)
class Estimate:
    """A value with the interval that holds `COVERAGE` percent of its bootstrap values."""

    value: float
    low: float
    high: float


def area_under_curve(higher: np.ndarray, lower: np.ndarray) -> float:
    """Compute the area under the ROC curve.

    Args:
        higher: [M] scores of the positive cases.
        lower: [N] scores of the negative cases.

    Returns:
        The chance that a positive case scores higher than a negative one, ties counted half: 0.5 if the scores do not
        tell them apart, 1 if they always do.
    """
    lower = np.sort(lower)
    below = np.searchsorted(lower, higher, side="left") + np.searchsorted(lower, higher, side="right")
    return float(below.mean() / (2 * len(lower)))


def area_estimate(higher: np.ndarray, lower: np.ndarray, seed: int = 0) -> Estimate:
    """Estimate `area_under_curve` with an interval; each bootstrap value draws both samples again."""
    random = np.random.default_rng(seed)
    return _estimate(
        area_under_curve(higher, lower),
        lambda: area_under_curve(random.choice(higher, len(higher)), random.choice(lower, len(lower))),
    )


def score_estimate(score: Callable[[np.ndarray], float], count: int, seed: int = 0) -> Estimate:
    """Estimate a score with an interval; each bootstrap value draws the cases again.

    Args:
        score: score of cases, given by their numbers [count].
        count: number of cases.
        seed: seed of the draws.
    """
    random = np.random.default_rng(seed)
    return _estimate(score(np.arange(count)), lambda: score(random.integers(0, count, count)))


def _estimate(value: float, again: Callable[[], float]) -> Estimate:
    """Put a value between the percentiles of `RESAMPLES` bootstrap values."""
    outside = (100 - COVERAGE) / 2
    low, high = np.percentile([again() for _ in range(RESAMPLES)], (outside, 100 - outside))
    return Estimate(float(value), float(low), float(high))
