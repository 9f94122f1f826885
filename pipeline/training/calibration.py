"""The last part of a controlled run: posteriors a little wider or narrower, so that they have the rate asked for."""

import math
from collections.abc import Callable

from models.gaussian import widen
from models.text_model import TextModel

LIMIT = 0.25  # largest change of the log variances: what control has missed by more stays missed
NEAR = 0.005  # relative distance from the target that is near enough
TRIES = 6


def calibrate(model: TextModel, target: float, rate: Callable[[], float]) -> float:
    """Add a constant to all log variances of the posterior, so that the rate is that of the target.

    Control ends some per cent beside its target, because the rate follows a price with a delay. The change is small for
    a decoder that has learnt to read noisy vectors: at 256 dimensions, 0.1 changes the rate by some 10 nats a vector
    at most.

    Args:
        model: model with Gaussians, changed in place.
        target: rate that is asked for, nats a vector.
        rate: measures the rate of validation sentences, nats a vector.

    Returns:
        The constant, at most `LIMIT` in size.
    """
    total, found = 0.0, rate()
    slope = -1.0  # of the log rate by the log variances; measured once there are two points
    for _ in range(TRIES):
        error = math.log(target / found)
        if abs(error) <= NEAR or found <= 0.0:
            break
        goal = max(-LIMIT, min(LIMIT, total + error / slope))
        if goal == total:
            break
        widen(model, goal - total)
        before, found = found, rate()
        measured = math.log(found / before) / (goal - total)
        slope = measured if measured < 0.0 else slope
        total = goal
    return total
