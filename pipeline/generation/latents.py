"""Where the latents of new sentences come from: a model's prior, the neighbourhood of a sentence, several mixed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from models.text_model import AS_TRAINED, Encoding, Noise, UnsupportedError
from pipeline.data.batches import collate
from pipeline.data.cleaning import CLEANERS, UNKNOWN
from pipeline.experiments.config import cleaning
from pipeline.experiments.load import Experiment
from pipeline.runtime.errors import UserError

MEAN = Noise(temperature=0.0)


@dataclass(frozen=True)
class Source:
    """Where latents come from; `from_prior`, `near` and `mixture` make it.

    Args:
        draw: makes the latents of sentences with these numbers, by a source of randomness.
        made_from: what the row of a sentence with this number says of its latent.
        longest: tokens that a sentence may need, the end token counted.
    """

    draw: Callable[[Sequence[int], torch.Generator], Any]
    made_from: Callable[[int], dict[str, Any]]
    longest: int = 0


@dataclass(frozen=True)
class LengthRange:
    """Lengths that latents are drawn for: `distribution` data or uniform, within [low, high] tokens."""

    distribution: str
    low: int | None = None
    high: int | None = None


@contextmanager
def unsupported_told() -> Iterator[None]:
    """Turn a model's word that it cannot do something into a `UserError`."""
    try:
        yield
    except UnsupportedError as error:
        raise UserError(str(error)) from None


def from_prior(experiment: Experiment, lengths: Sequence[int], noise: Noise = AS_TRAINED) -> Source:
    """Latents of the prior, for each sentence one of its length.

    Args:
        experiment: whose model.
        lengths: of the sentences, in tokens, the end token counted; at least one (see `draw_lengths`).
        noise: how they are drawn.

    Raises:
        UserError: the model has no prior, or no such noise.
    """
    return _of_prior(experiment, lengths, noise, lambda number: {"drawn_length": lengths[number]}, max(lengths))


def from_prior_with(experiment: Experiment, vectors: int, count: int, noise: Noise = AS_TRAINED) -> Source:
    """Latents of the prior that have so many vectors each, for `count` sentences.

    Raises:
        UserError: the model has no prior, no such noise, or no latents with so many vectors.
    """
    with unsupported_told():
        length = experiment.model.length_with(vectors, noise)
    return _of_prior(experiment, [length] * count, noise, lambda _: {"vectors": vectors})


def near(experiment: Experiment, text: str, noise: Noise = AS_TRAINED, label: str | None = None) -> Source:
    """Latents around that of a sentence: draws from its posterior, at temperature 0 its mean latent.

    Its label, where the data has any, is the given one or the most frequent.

    Raises:
        UserError: the model cannot encode, or has no posterior or no such noise.
    """
    return _of_texts(experiment, [text], [1.0], noise, {"near": text}, label)


def mixture(
    experiment: Experiment,
    texts: Sequence[str],
    weights: Sequence[float] | None = None,
    noise: Noise = MEAN,
    label: str | None = None,
) -> Source:
    """Latents of several sentences, mixed: what lies between two of them, for any number.

    Args:
        experiment: whose model.
        texts: at least one.
        weights: a share each, not negative, whose sum is made 1; equal ones if None.
        noise: how each latent is drawn before they are mixed; by default they are the mean latents.
        label: of all texts, where the data has any; the most frequent if None.

    Raises:
        UserError: the weights fit neither the texts nor each other; the model cannot encode or mix, or has no such
            noise.
    """
    weights = [1.0] * len(texts) if weights is None else list(weights)
    if len(weights) != len(texts):
        raise UserError(f"there are {len(texts)} sentences to mix and {len(weights)} weights; give one for each")
    if min(weights) < 0 or not 0 < (total := sum(weights)) < float("inf"):
        raise UserError(f"weights must not be negative, and not all 0, got {' '.join(f'{w:g}' for w in weights)}")
    shares = [weight / total for weight in weights]
    return _of_texts(experiment, texts, weights, noise, {"mixed": list(texts), "weights": shares}, label)


def encoded(experiment: Experiment, text: str, count: int = 1, label: str | None = None) -> Encoding:
    """The encoding of a text, `count` times.

    Raises:
        UserError: cleaning leaves nothing of the text, or the model cannot encode.
    """
    batch = collate([token_ids(experiment, text, label)] * count, experiment.data.tokenizer.pad_id).to(
        experiment.device
    )
    with unsupported_told():
        return experiment.model.encode(batch.source, batch.key_padding_mask)


def token_ids(experiment: Experiment, text: str, label: str | None = None) -> list[int]:
    """The ids of a text, `[CLS] … [SEP]`, cleaned as the sentences that the model was trained on.

    Where these have labels, the given one or else the most frequent stands in front.

    Raises:
        UserError: cleaning leaves nothing of it.
    """
    clean = CLEANERS[cleaning(experiment.config)]
    # A prepared sentence holds [UNK] as one token, of which cleaning would make a word.
    cleaned = f" {UNKNOWN} ".join(map(clean, text.split(UNKNOWN))).strip()
    if not cleaned:
        raise UserError(f"nothing is left of the sentence {text[:80]!r}, cleaned as the training data was")
    known = experiment.data.statistics.get("labels") or {}
    labels = [label if label is not None else max(known, key=known.__getitem__)] if known else None
    return experiment.data.tokenizer.encode([cleaned], labels)[0]


def draw_lengths(distribution: dict[int, int], count: int, lengths: LengthRange, seed: int) -> list[int]:
    """Lengths for new sentences, in tokens, the end token counted.

    Args:
        distribution: how many training sentences have each length.
        count: how many to draw.
        lengths: which.
        seed: of the draw.

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
    def draw(numbers: Sequence[int], generator: torch.Generator) -> Any:
        asked = torch.tensor([lengths[number] for number in numbers], device=experiment.device)
        return experiment.model.sample_prior(asked, generator, noise)

    with torch.inference_mode(), unsupported_told():  # before any work
        draw([0], torch.Generator(experiment.device))
    return Source(draw, made_from, longest)


def _of_texts(
    experiment: Experiment,
    texts: Sequence[str],
    weights: Sequence[float],
    noise: Noise,
    made_from: dict[str, Any],
    label: str | None,
) -> Source:
    model = experiment.model
    longest = max(len(token_ids(experiment, text, label)) - 1 for text in texts)

    def draw(numbers: Sequence[int], generator: torch.Generator) -> Any:
        encodings = (encoded(experiment, text, len(numbers), label) for text in texts)
        return model.mix([model.sample_posterior(encoding, generator, noise) for encoding in encodings], weights)

    with torch.inference_mode(), unsupported_told():  # before any work
        draw([0], torch.Generator(experiment.device))
    return Source(draw, lambda _: made_from, longest)
