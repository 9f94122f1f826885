"""The loss by which training chooses its best epoch, and stops when it no longer falls."""

import math
from collections.abc import Mapping

from models import ModelSettings
from pipeline.training.rate_control import NEAR, RateControl


def compared_loss(
    validation: Mapping[str, float], model: ModelSettings, control: RateControl, step: int, patience: int
) -> float | None:
    """Return the loss that is compared between epochs, in nats a token; None if the latest epoch is the best.

    It is the validation loss. Under a controlled rate, the price of the rate differs between epochs, so that the
    cross-entropy alone is compared, once the target no longer falls. An epoch whose rate misses the target by more than
    a twentieth is charged the logarithm of what lies beyond, so that a run that stops by itself ends near its target.
    Where training shows the decoder draws of the prior, for a share of the texts, the cross-entropy given a draw has
    that share: it rises when a decoder begins to repeat its training texts.

    Args:
        validation: figures of the validation split.
        model: settings of the model.
        control: controller of the rate.
        step: optimizer steps so far.
        patience: epochs without a lower loss after which training stops; -1 for no limit.
    """
    if not control.active:
        loss = validation["loss"]
    elif patience < 0 or not control.settled(step):
        return None
    else:
        loss = validation["cross_entropy"]
    share = getattr(model, "prior_texts", 0.0)
    drawn = validation.get("perplexity_prior_latent")
    loss = loss if not share or drawn is None else (1.0 - share) * loss + share * math.log(drawn)
    target, rate = control.settings.target_rate, validation.get("rate")
    if target is not None and rate:
        loss += max(0.0, abs(math.log(rate / target)) - math.log(NEAR))
    return loss
