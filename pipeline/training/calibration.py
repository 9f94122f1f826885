"""The last part of a controlled run: posteriors a little wider or narrower, so that they have the rate asked for."""

import math
from collections.abc import Callable

import torch

from models.gaussian import logvar_layers, widen
from models.text_model import TextModel

LIMIT = 0.2  # largest part of the way to the prior: what control has missed by more stays missed
NEAR = 0.005  # relative distance from the target that is near enough
TRIES = 6


def calibrate(model: TextModel, target: float, rate: Callable[[], float]) -> float:
    """Bring the log variances of the posterior nearer to the prior, or away from it, until the rate is the target.

    Control ends some per cent beside its target, because the rate follows a price with a delay. The change is small for
    a decoder that has learnt to read noisy vectors: a tenth of the way changes a standard deviation of e^-1 by 10 %.

    Args:
        model: model with Gaussians, changed in place.
        target: rate that is asked for, nats a vector.
        rate: measures the rate of validation sentences, nats a vector.

    Returns:
        The part of the way to the prior, at most `LIMIT` in size.

    Raises:
        Exception: `rate` raised it. The model is as before.
    """
    prior_var: float = getattr(model.settings, "prior_var", 1.0)
    total, found = 0.0, rate()
    slope = -1.0  # of the log rate by the part of the way; measured once there are two points
    before = [(value, value.detach().clone()) for layer in logvar_layers(model) for value in layer.parameters()]
    try:
        for _ in range(TRIES):
            if not 0.0 < found < math.inf or abs(error := math.log(target / found)) <= NEAR:
                break
            goal = max(-LIMIT, min(LIMIT, total + error / slope))
            if goal == total:
                break
            widen(model, 1.0 - (1.0 - goal) / (1.0 - total), prior_var)
            earlier, found = found, rate()
            measured = math.log(found / earlier) / (goal - total) if found > 0.0 else 0.0
            slope = measured if measured < 0.0 else slope
            total = goal
    except BaseException:  # a checkpoint of a calibration that is cut short would be calibrated twice
        with torch.no_grad():
            for value, copied in before:
                value.copy_(copied)
        raise
    return total
