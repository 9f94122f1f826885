"""Latents of new sentences: from the prior, near a sentence, or mixed from several sentences."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from models.declaration import is_unicode
from models.latent import Latent
from models.text_model import AS_TRAINED, Encoding, Noise, UnsupportedError
from pipeline.data.batches import collate
from pipeline.data.cleaning import CLEANERS, UNKNOWN
from pipeline.data.row_tokenizer import RowTokenizer
from pipeline.experiments.base import too_long
from pipeline.experiments.config import cleaning
from pipeline.experiments.load import Experiment
from pipeline.runtime.errors import UserError

MEAN = Noise(temperature=0.0)


@dataclass(frozen=True)
class Source:
    """Source of latents; `from_prior`, `near` and `mixture` make one.

    Args:
        draw: draws the latents of the sentences with the given numbers from a source of randomness, given their labels
            where the data has labels; None for a language model, which has no latent.
        made_from: returns the origin of the latent of a sentence with the given number, once it is drawn, for its row
            in the output.
        longest: largest number of tokens that a sentence needs, the end token included.
        before: largest number of positions that the decoder reads of a latent; see `TextModel.positions_before`.
    """

    draw: Callable[[Sequence[int], torch.Generator, Sequence[str] | None], Latent | None]
    made_from: Callable[[int], dict[str, Any]]
    longest: int = 0
    before: int = 0


@dataclass(frozen=True)
class LengthRange:
    """Range of the lengths that latents are drawn for.

    Args:
        distribution: `data`, the lengths of the training sentences, or `uniform`.
        low: shortest length in tokens, the end token included; that of the training sentences if None.
        high: longest length in tokens, the end token included; that of the training sentences if None.
    """

    distribution: str
    low: int | None = None
    high: int | None = None


@contextmanager
def unsupported_as_user_error() -> Iterator[None]:
    """Convert the `UnsupportedError` of a model to a `UserError`."""
    try:
        yield
    except UnsupportedError as error:
        raise UserError(str(error)) from None


def from_prior(experiment: Experiment, lengths: Sequence[int], noise: Noise = AS_TRAINED) -> Source:
    """Draw latents from the prior, one for each length.

    Args:
        experiment: trained model.
        lengths: lengths of the sentences, in tokens, the end token and a label included; at least one.
        noise: noise of the draws.

    Raises:
        UserError: the model has no prior, or the noise does not apply to it.
    """
    more = int(bool(experiment.data.statistics.get("labels")))  # the length of a row does not count the label
    return _of_prior(experiment, lengths, noise, lambda number: {"drawn_length": lengths[number] - more}, max(lengths))


def from_prior_with(experiment: Experiment, vectors: int, count: int, noise: Noise = AS_TRAINED) -> Source:
    """Draw latents with `vectors` vectors each from the prior, for `count` sentences.

    Raises:
        UserError: the model has no prior, the noise does not apply to it, or no latent has this number of vectors.
    """
    with unsupported_as_user_error():
        length = experiment.model.lengths_with(vectors, noise).start
    return _of_prior(experiment, [length] * count, noise, lambda _: {"vectors": vectors})


def near(
    experiment: Experiment, text: str, noise: Noise = AS_TRAINED, label: str | None = None, keep: float | None = None
) -> Source:
    """Draw latents from the posterior of a sentence; at temperature 0, the mean latent.

    Args:
        experiment: trained model.
        text: the sentence.
        noise: noise of the draws.
        label: label of the sentence, where the data has labels; the most frequent label if None.
        keep: share of the latent's vectors that the decoder sees, in (0, 1]; all if None.

    Raises:
        UserError: the model cannot encode, has no posterior, or the noise does not apply to it.
    """
    return _of_texts(experiment, [text], [1.0], noise, {"near": text}, label, keep)


def mixture(
    experiment: Experiment,
    texts: Sequence[str],
    weights: Sequence[float] | None = None,
    noise: Noise = MEAN,
    label: str | None = None,
    keep: float | None = None,
) -> Source:
    """Mix the latents of several sentences: an interpolation between any number of sentences.

    Args:
        experiment: trained model.
        texts: one or more sentences.
        weights: one for each text, not negative and not all 0; they are normalised to sum to 1. None weighs the texts
            equally.
        noise: noise of the draw of each latent before the latents are mixed; by default the mean latents are mixed.
        label: label of all texts, where the data has labels; the most frequent label if None.
        keep: share of the mixture's vectors that the decoder sees, in (0, 1]; all if None.

    Raises:
        UserError: the number of weights differs from the number of texts, a weight is negative or all are 0, the model
            cannot encode or mix, or the noise does not apply to it.
    """
    weights = [1.0] * len(texts) if weights is None else list(weights)
    if len(weights) != len(texts):
        raise UserError(f"there are {len(texts)} sentences to mix and {len(weights)} weights; give one for each")
    if min(weights) < 0 or not 0 < (total := sum(weights)) < float("inf"):
        raise UserError(f"weights must not be negative, and not all 0, got {' '.join(f'{w:g}' for w in weights)}")
    shares = [weight / total for weight in weights]
    return _of_texts(experiment, texts, weights, noise, {"mixed": list(texts), "weights": shares}, label, keep)


def encoded(experiment: Experiment, text: str, count: int = 1, label: str | None = None) -> Encoding:
    """Encode a batch of `count` copies of a text.

    Raises:
        UserError: the text is empty after cleaning, or the model cannot encode.
    """
    batch = collate([token_ids(experiment, text, label)] * count, experiment.data.tokenizer.pad_id).to(
        experiment.device
    )
    with unsupported_as_user_error():
        return experiment.model.encode(batch.source, batch.key_padding_mask)


def token_ids(experiment: Experiment, text: str, label: str | None = None) -> list[int]:
    """Clean a text like the training sentences and convert it to token ids, `[CLS] … [SEP]`.

    Args:
        experiment: tokenizer and cleaning.
        text: a sentence.
        label: its label, which precedes the text where the data has labels; the most frequent label if None.

    Raises:
        UserError: the text is empty after cleaning, has a character that a lossless tokenizer lacks, is no row of the
            table, or is longer than the pretrained model has positions for.
    """
    if not is_unicode(text):
        raise UserError(f"the sentence {text[:80]!r} holds bytes that are not UTF-8; write it in UTF-8")
    cleaned = CLEANERS[cleaning(experiment.config)](text)
    if not experiment.data.tokenizer.lossless:
        # Prepared sentences contain [UNK] as one token; cleaning would turn it into a word.
        cleaned = f" {UNKNOWN} ".join(map(CLEANERS[cleaning(experiment.config)], text.split(UNKNOWN))).strip()
    if not cleaned.strip():
        raise UserError(f"nothing is left of the sentence {text[:80]!r}, cleaned as the training data was")
    known = experiment.data.statistics.get("labels") or {}
    labels = [label if label is not None else max(known, key=known.__getitem__)] if known else None
    tokenizer = experiment.data.tokenizer
    (ids,) = tokenizer.encode([cleaned], labels)
    if isinstance(tokenizer, RowTokenizer) and (problem := tokenizer.problem(cleaned)):
        raise UserError(f"the sentence {text[:80]!r} {problem}")
    if tokenizer.lossless and tokenizer.unk_id in ids[1:-1]:
        raise UserError(f"the tokenizer has no token for a character of the sentence {text[:80]!r}; leave it out")
    if problem := too_long(experiment.model, len(ids) - 1):
        raise UserError(f"the sentence {text[:80]!r} is too long: {problem}; shorten it")
    return ids


def draw_lengths(distribution: dict[int, int], count: int, lengths: LengthRange, seed: int) -> list[int]:
    """Draw lengths for new sentences, in tokens, the end token included.

    Args:
        distribution: number of training sentences by length.
        count: number of lengths to draw.
        lengths: range to draw from.
        seed: seed of the draw.

    Raises:
        UserError: no length is within the range.
    """
    low = min(distribution) if lengths.low is None else lengths.low
    high = max(distribution) if lengths.high is None else lengths.high
    known = f"they have {min(distribution)} to {max(distribution)}"
    if low > high and None not in (lengths.low, lengths.high):
        raise UserError(f"--MIN_LENGTH {low} is above --MAX_LENGTH {high}; no length is left to draw")
    if low > high:
        given, value, other = ("MIN", low, "MAX") if lengths.high is None else ("MAX", high, "MIN")
        raise UserError(
            f"--{given}_LENGTH {value} is beyond all training sentences ({known}); move it, or "
            f"give --{other}_LENGTH too and take --SAMPLING_DISTRIBUTION uniform"
        )
    random = np.random.default_rng(seed)
    if lengths.distribution == "uniform":
        return random.integers(low, high, size=count, endpoint=True).tolist()
    values = np.array([length for length in sorted(distribution) if low <= length <= high])
    if not len(values):
        raise UserError(
            f"no training sentence has {low} to {high} tokens ({known}); widen --MIN_LENGTH and --MAX_LENGTH, "
            "or take --SAMPLING_DISTRIBUTION uniform"
        )
    weights = np.array([distribution[length] for length in values], dtype=float)
    return random.choice(values, size=count, p=weights / weights.sum()).tolist()


def _of_prior(
    experiment: Experiment,
    lengths: Sequence[int],
    noise: Noise,
    made_from: Callable[[int], dict[str, Any]],
    longest: int = 0,
) -> Source:
    """Make the source of `from_prior` and `from_prior_with`, after one draw that checks the model."""

    def draw(numbers: Sequence[int], generator: torch.Generator, labels: Sequence[str] | None = None) -> Latent | None:
        asked = torch.tensor([lengths[number] for number in numbers], device=experiment.device)
        return experiment.model.sample_prior(asked, generator, noise)

    with torch.inference_mode(), unsupported_as_user_error():  # fails before any work
        first = draw([lengths.index(max(lengths))], torch.Generator(experiment.device))
    return Source(draw, made_from, longest, experiment.model.positions_before(first))


def _of_texts(
    experiment: Experiment,
    texts: Sequence[str],
    weights: Sequence[float],
    noise: Noise,
    made_from: dict[str, Any],
    label: str | None,
    keep: float | None,
) -> Source:
    """Make the source of `near` and `mixture`, after one draw that checks the model."""
    model = experiment.model
    longest = max(len(token_ids(experiment, text, label)) - 1 for text in texts)

    def draw(numbers: Sequence[int], generator: torch.Generator, labels: Sequence[str] | None = None) -> Latent:
        encodings = (encoded(experiment, text, len(numbers), label) for text in texts)
        mixed = model.mix([model.sample_posterior(encoding, generator, noise) for encoding in encodings], weights)
        return mixed if keep is None else model.keep_some(mixed, keep, generator)

    with torch.inference_mode(), unsupported_as_user_error():  # fails before any work
        before = model.positions_before(draw([0], torch.Generator(experiment.device)))
    made_from = made_from | {name: value for name, value in (("keep", keep), ("reading", experiment.reading)) if value}
    return Source(draw, lambda _: made_from, longest, before)
