"""Measure a nonparametric bottleneck: vectors kept against sentence length, and pseudo-counts by token."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from models.text_model import TextModel
from pipeline.data.batches import Batch

LEAST_OCCURRENCES = 20  # smallest number of occurrences of a token that is listed


@dataclass(frozen=True)
class Bottleneck:
    """Vectors kept and pseudo-counts of M sentences with T tokens in total.

    Args:
        lengths: [M], number of tokens, end token included.
        kept: [M], number of vectors kept, the prior's included.
        tokens: [T], token ids, sentence after sentence.
        log_alpha: [T], natural logarithm of each token's pseudo-count; -inf is a count of zero.
    """

    lengths: np.ndarray
    kept: np.ndarray
    tokens: np.ndarray
    log_alpha: np.ndarray


@torch.inference_mode()
def read_bottleneck(model: TextModel, batches: Iterable[Batch]) -> Bottleneck:
    """Encode sentences and read vectors kept and pseudo-counts.

    Args:
        model: a model whose encodings have a posterior; it is left in evaluation mode.
        batches: batches of a split on the model's device.
    """
    model.eval()
    parts: dict[str, list[np.ndarray]] = {"lengths": [], "kept": [], "tokens": [], "log_alpha": []}
    for batch in batches:
        encoding = model.encode(batch.source, batch.key_padding_mask)
        posterior = encoding.posterior
        assert posterior is not None, "the model has no posterior"
        real = ~batch.key_padding_mask
        for name, value in (
            ("lengths", real.sum(dim=-1)),
            ("kept", encoding.vectors_kept),
            ("tokens", batch.source[real]),
            ("log_alpha", posterior.log_alpha[:, 1:][real]),
        ):
            parts[name].append(value.cpu().numpy())
    return Bottleneck(**{name: np.concatenate(values) for name, values in parts.items()})


def regularisation_figures(bottleneck: Bottleneck, frequency: np.ndarray) -> dict[str, float]:
    """Summarise vectors kept and pseudo-counts of a split.

    Args:
        bottleneck: measurements of the split.
        frequency: [V], occurrences of each token in the training split.

    Returns:
        `vectors_kept` and `vectors_kept_deviation`, mean and standard deviation over sentences;
        `length_correlation`, Pearson's correlation of the vectors kept with the length;
        `unexplained_by_length`, see the function of this name;
        `alpha_frequency_correlation`, Spearman's correlation of a token's pseudo-count with its frequency.
        A correlation or share is left out if one of its quantities does not vary.
    """
    kept, lengths = bottleneck.kept.astype(float), bottleneck.lengths.astype(float)
    figures = {"vectors_kept": kept.mean(), "vectors_kept_deviation": kept.std()}
    if kept.std() > 0 and lengths.std() > 0:
        figures["length_correlation"] = np.corrcoef(kept, lengths)[0, 1]
    unexplained = unexplained_by_length(bottleneck.kept, bottleneck.lengths)
    if unexplained is not None:
        figures["unexplained_by_length"] = unexplained
    by_frequency, by_alpha = (_ranks(values) for values in (frequency[bottleneck.tokens], bottleneck.log_alpha))
    if by_frequency.std() > 0 and by_alpha.std() > 0:
        figures["alpha_frequency_correlation"] = np.corrcoef(by_frequency, by_alpha)[0, 1]
    return {name: float(value) for name, value in figures.items()}


def unexplained_by_length(kept: np.ndarray, lengths: np.ndarray) -> float | None:
    """Share of the variance of the vectors kept that no function of the length explains.

    It is the variance within sentences of equal length over the total variance. Both are unbiased, so that rare lengths
    do not appear to explain anything.

    Args:
        kept: [M], number of vectors kept.
        lengths: [M], number of tokens.

    Returns:
        0 if the length determines the number kept, about 1 if it has no influence; None if the number kept does not
        vary or no two sentences have the same length.
    """
    kept = kept.astype(float)
    _, groups = np.unique(lengths, return_inverse=True)
    counts = np.bincount(groups)
    free = len(kept) - len(counts)
    if free == 0 or kept.var() == 0:
        return None
    means = np.bincount(groups, kept) / counts
    within = np.square(kept - means[groups]).sum() / free
    return float(within / kept.var(ddof=1))


def alpha_by_token(bottleneck: Bottleneck) -> list[tuple[int, int, float]]:
    """List the tokens that occur at least `LEAST_OCCURRENCES` times.

    Returns:
        Id, number of occurrences and mean pseudo-count of each token, the largest pseudo-count first.
    """
    counts = np.bincount(bottleneck.tokens)
    means = np.bincount(bottleneck.tokens, np.exp(bottleneck.log_alpha)) / np.maximum(counts, 1)
    ids = np.flatnonzero(counts >= LEAST_OCCURRENCES)
    ids = ids[np.argsort(-means[ids], kind="stable")]
    return [(int(index), int(counts[index]), float(means[index])) for index in ids]


def _ranks(values: np.ndarray) -> np.ndarray:
    """Rank values from 0; equal values share their mean rank."""
    _, groups, counts = np.unique(values, return_inverse=True, return_counts=True)
    first = np.cumsum(counts) - counts
    return (first + (counts - 1) / 2)[groups]
