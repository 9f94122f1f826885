"""Monitor posterior collapse: a decoder that ignores its latent, or a latent without information.

And its opposite: vectors that evaluation leaves out although the decoder reads them.
"""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from models.latent import Latent
from models.nonparametric import Nonparametric
from models.packing import Packing
from models.text_model import TextModel, UnsupportedError
from pipeline.data.batches import Batch
from pipeline.runtime.processes import gathered, rank, size
from pipeline.training.validation import scoring

ACTIVE_VARIANCE = 0.01  # Burda et al. 2016
GAP_SENTENCES = 1000
FEW_GAP_SENTENCES = 256  # the same around a pretrained model
LEAST_RATIO = 1.05  # perplexity with another sentence's latent over perplexity with the sentence's own
MOST_RATIO = 1.05  # perplexity without the vectors below the threshold over perplexity with them
NAMES = {  # latents, and the figures of their perplexities
    "own": "perplexity_own_latent",
    "other": "perplexity_other_latent",
    "prior": "perplexity_prior_latent",
    "all": "perplexity_all_vectors",
}


@torch.inference_mode()
def collapse_figures(
    model: TextModel,
    batches: Iterable[Batch],
    device: torch.device,
    compared: int | None = None,
    count: int | None = None,
    wanted: str = "auto",
) -> dict[str, float]:
    """Compute the figures that reveal posterior collapse.

    Args:
        model: any model. Without a latent no figure is returned.
        batches: this process's share of a split's batches. The figures cover the batches of all processes.
        device: device of the model.
        compared: number of batches, from the split's first on, over which the perplexities are taken; None for all.
        count: number of distinct batches of all processes; further ones are repetitions. None if none is repeated.
        wanted: precision, see `scoring`.

    Returns:
        `active_units`: dimensions of a model with Gaussians whose mean has a variance above 0.01 over all real vectors
        (Burda et al. 2016); `perplexity_own_latent`; `perplexity_other_latent`, with another sentence's latent in place
        of the sentence's own; `perplexity_gap`, their difference (0 if the decoder ignores the latent); and
        `perplexity_prior_latent`, with a draw of the prior, for models with a prior. It bounds from above the
        perplexity of the model as a generator, given the number of vectors. Models with a threshold of pseudo-counts
        have `perplexity_all_vectors` too, with the vectors below it, which training reads.
    """
    model.eval()
    parts = []
    for number, batch in zip(itertools.count(rank(), size()), batches, strict=False):
        batch = batch.to(device)
        try:
            encoding = model.encode(batch.source, batch.key_padding_mask)
        except UnsupportedError:
            parts.append({"tokens": 0})  # no return: another process may have no batch, and gathers
            continue
        part: dict[str, Any] = {"tokens": 0}
        if encoding.gaussians is not None:
            mu = encoding.gaussians.mu[~encoding.gaussians.key_padding_mask].double()  # [vectors, D]
            part |= {"vectors": len(mu), "sum": mu.sum(dim=0).tolist(), "squares": mu.square().sum(dim=0).tolist()}
        # Processes that share a sharded model compute together, whether or not their own batch counts.
        if compared is None or number - rank() < compared:
            others = model.encode(batch.source.roll(1, 0), batch.key_padding_mask.roll(1, 0))
            latents = {"own": encoding.latent, "other": others.latent} | _drawn(model, batch, number)
            if isinstance(model, Nonparametric):
                latents["all"] = model.read_all(encoding, batch.source)
            packing = Packing.of(batch.key_padding_mask)
            with scoring(model, device, wanted):
                nll = {
                    name: model.score(batch.target_input, latent, batch.source, packing).each.double().sum().item()
                    for name, latent in latents.items()
                }
            if (compared is None or number < compared) and len(batch.source) > 1:
                part |= nll | {"tokens": batch.tokens}
        parts.append(part)
    parts = gathered(parts)[:count]
    figures: dict[str, float] = {}
    if "sum" in parts[0]:
        vectors = sum(part["vectors"] for part in parts)
        total, squares = (np.sum([part[name] for part in parts], axis=0) / vectors for name in ("sum", "squares"))
        figures["active_units"] = int((squares - total**2 > ACTIVE_VARIANCE).sum())
    if tokens := sum(part["tokens"] for part in parts):
        for name, key in NAMES.items():
            if any(name in part for part in parts):
                nll = sum(part.get(name, 0.0) for part in parts) / tokens
                figures[key] = math.exp(min(nll, 700.0))
        figures["perplexity_gap"] = figures["perplexity_other_latent"] - figures["perplexity_own_latent"]
    return figures


def _drawn(model: TextModel, batch: Batch, number: int) -> dict[str, Latent | None]:
    """Draw latents of the prior for the texts of a batch, from a generator that its number seeds."""
    lengths = (~batch.key_padding_mask).sum(dim=-1)
    generator = torch.Generator(lengths.device).manual_seed(number)
    try:
        return {"prior": model.sample_prior(lengths, generator)}
    except UnsupportedError:
        return {}


def collapse_warning(figures: dict[str, float]) -> str | None:
    """Return a one-line warning if the figures of `collapse_figures` show a collapse, else None."""
    signs = []
    own, other = figures.get("perplexity_own_latent", 1.0), figures.get("perplexity_other_latent", math.inf)
    if other < LEAST_RATIO * own:
        signs.append(
            f"the decoder barely uses the latent (perplexity {own:.2f} with a sentence's own latent, {other:.2f} with "
            "another sentence's)"
        )
    if figures.get("active_units", 1) == 0:
        signs.append(f"no dimension of the latent's means has a variance above {ACTIVE_VARIANCE}")
    if not signs:
        return None
    return (
        f"warning: {'; '.join(signs)}: the latent may have collapsed; if this persists, try a lower KL weight, "
        "--KL_WARMUP, --FREE_BITS, --WORD_DROPOUT or --KL_ANNEALING_GAUSSIAN cyclic"
    )


def threshold_warning(figures: dict[str, float]) -> str | None:
    """Return a one-line warning if the decoder reads vectors that evaluation leaves out, else None."""
    own, everything = figures.get("perplexity_own_latent", 1.0), figures.get("perplexity_all_vectors", math.inf)
    if own < MOST_RATIO * everything:
        return None
    return (
        "warning: evaluation leaves out vectors whose pseudo-counts are below --ALPHA_THRESHOLD, and the decoder reads "
        f"them (perplexity {own:.2f} without them, {everything:.2f} with them): they count as dropped and are not; "
        "train with a lower --ALPHA_THRESHOLD"
    )
