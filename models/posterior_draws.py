"""Posterior samples for evaluation: those of a text depend on the text alone, not on its batch or its process."""

import math
import zlib
from array import array
from typing import Any, cast

import torch
from torch import Tensor

from models.latent import Draws
from nvib import DiscreteMixture, Posterior


def draw_each(posterior: Posterior, mask: Tensor, source: Tensor, count: int, kappa: int) -> Draws:
    """Draw several mixtures from the posterior of each text, from a generator that the text's tokens seed.

    Args:
        posterior: of B texts, N + 1 components each.
        mask: [B, N+1], bool, True at padding and at every component that is dropped.
        source: [B, N], token ids of the texts; a checksum of the real ones is the seed.
        count: number of draws of each text.
        kappa: vectors drawn per component.

    Returns:
        `count` mixtures of kappa (N + 1) vectors, -inf the log weight of those that are dropped.
    """
    texts, width = mask.shape[0], kappa * mask.shape[1]
    z = posterior.mu.new_zeros(count, texts, width, posterior.mu.shape[-1])
    log_pi = posterior.log_alpha.new_full((count, texts, width), -math.inf)
    lengths, tokens = _listed(posterior.lengths), _listed(source)
    for row, (length, ids) in enumerate(zip(lengths, tokens, strict=True)):
        # The components of this text alone, `count` times: padding would change what the generator yields.
        mu, logvar, log_alpha, hidden = (
            values[row, : length + 1].expand(count, *values[row, : length + 1].shape)
            for values in (posterior.mu, posterior.logvar, posterior.log_alpha, mask)
        )
        seed = zlib.crc32(array("q", ids[:length]).tobytes())
        generator = torch.Generator(z.device).manual_seed(seed)
        drawn = Posterior(mu, logvar, log_alpha, hidden).sample(kappa, generator)
        own = slice(0, kappa * (length + 1))
        z[:, row, own], log_pi[:, row, own] = drawn.z, drawn.log_pi
    spread = mask.repeat_interleave(kappa, dim=1)
    return Draws(tuple(DiscreteMixture(*parts, spread) for parts in zip(z.unbind(), log_pi.unbind(), strict=True)))


def _listed(values: Tensor) -> list[Any]:
    """Values as nested lists. The annotation of `Tensor.tolist` does not say of what."""
    return cast(list[Any], cast(Any, values).tolist())
