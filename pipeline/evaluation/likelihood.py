"""Bounds of the likelihood, for models whose latent's densities are known."""

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
    """Lower bounds of the log likelihood of a text, given its number of vectors, on average.

    Args:
        model: in evaluation mode.
        batches: this process's share of a split; the bounds are those of all processes' batches.
        device: the model's.
        samples: draws of the latent for each text; more make the second bound tighter.
        seed: of the draws.

    Returns:
        `elbo`, the evidence lower bound, and `importance_weighted_bound` (Burda et al. 2016), both nats a sentence
        with its end token; the second is never lower.

    Raises:
        UnsupportedError: the model's densities are not known.
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
