"""Influence of the latent on samples: two decodings of one draw against decodings of different draws."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.sampling import SamplingSettings
from pipeline.evaluation.bleu import corpus_bleus
from pipeline.experiments.load import Experiment
from pipeline.generation.sampler import draws_from_prior, sample_with

DRAWS = 100  # draws that are decoded twice
FACTOR = 2.0  # a decoder whose BLEU of one draw is at most this many times that of different draws ignores its draws
NAMES = ("same_draw_bleu", "different_draws_bleu")


def second_decoding(experiment: Experiment, settings: SamplingSettings, batch_size: int) -> list[dict[str, Any]] | None:
    """Decode the first `DRAWS` draws of the prior a second time, with other randomness of the tokens.

    Args:
        experiment: model and data.
        settings: settings that the samples were drawn with.
        batch_size: sentences that were generated together.

    Returns:
        Rows as `sample_with` returns them, of all processes; None if the latents are not drawn from the prior, if the
        tokens are not drawn, or if there is only one draw.
    """
    if settings.decoding != "sample" or settings.count < 2 or not draws_from_prior(experiment, settings):
        return None
    return sample_with(experiment, settings, batch_size, again=DRAWS)


def influence(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Measure how much of a text its latent decides.

    Args:
        first: rows of M >= 2 different draws.
        second: M rows of the same draws, decoded with other randomness.

    Returns:
        `same_draw_bleu`: corpus BLEU of the second decodings against the first ones of the same draws, in [0, 100];
        `different_draws_bleu`: of the second decodings against the first ones of the next draws.
    """
    texts, references = ([row["text"] for row in rows] for rows in (second, first))
    following = [*references[1:], references[0]]
    scores = corpus_bleus([(texts, references), (texts, following)])
    return {name: bleu for name, (bleu, _) in zip(NAMES, scores, strict=True)}


def in_words(figures: Mapping[str, float]) -> str:
    """Say both figures of `influence`, and that the decoder ignores its draws where they differ little."""
    same, different = (figures[name] for name in NAMES)
    said = f"two decodings of one draw: BLEU {same:.2f}; of different draws: {different:.2f}"
    ignored = "the decoder ignores its draws, as a language model does"
    return f"{said}: {ignored}" if same <= FACTOR * different else said
