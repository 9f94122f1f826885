"""Lower bounds of the log likelihood, for models whose latent has known densities."""

import itertools
import math
from collections.abc import Iterable

import torch

from models.text_model import TextModel
from pipeline.data.batches import Batch
from pipeline.runtime.processes import gathered, rank, size
from pipeline.runtime.seeds import mixed


@torch.inference_mode()
def likelihood_bounds(
    model: TextModel, batches: Iterable[Batch], device: torch.device, samples: int, seed: int = 0
) -> dict[str, float]:
    """Estimate lower bounds of the log likelihood of a text, given its number of vectors, averaged over texts.

    Args:
        model: any; it is left in evaluation mode.
        batches: this process's share of a split. The bounds are averages over the batches of all processes.
        device: device of the model.
        samples: draws of the latent for each text. More draws make the second bound tighter.
        seed: seed of the draws.

    Returns:
        `elbo`, the evidence lower bound, and `importance_weighted_bound` (Burda et al. 2016), both in nats a sentence
        with its end token. The second is never lower.

    Raises:
        UnsupportedError: the densities of the model are not known.
    """
    model.eval()
    parts = []
    for number, batch in zip(itertools.count(rank(), size()), batches, strict=False):
        batch = batch.to(device)
        generator = torch.Generator(device).manual_seed(mixed(seed, number))
        inputs = batch.source, batch.key_padding_mask, batch.target_input
        weights = torch.stack(
            [model.log_importance_weights(*inputs, generator).double() for _ in range(samples)]
        )  # [S, B]
        elbo = weights.mean(dim=0).sum().item()
        weighted = (weights.logsumexp(dim=0) - math.log(samples)).sum().item()
        parts.append((elbo, weighted, len(batch.source)))
    elbo, weighted, sentences = (sum(values) for values in zip(*gathered(parts), strict=True))
    return {"elbo": elbo / sentences, "importance_weighted_bound": weighted / sentences}
