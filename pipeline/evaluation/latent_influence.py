"""Influence of the latent on samples: two decodings of one draw against decodings of different draws."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.sampling import SamplingSettings
from pipeline.evaluation.bleu import corpus_bleus
from pipeline.experiments.load import Experiment
from pipeline.generation.row_samples import RowDraws
from pipeline.generation.sampler import draws_from_prior, sample_with

DRAWS = 100  # draws that are decoded twice
# A decoder ignores its draws if the BLEU of one draw is at most this many times that of different draws, and if what
# different draws lack to 100 is hardly less for one draw: rows of a table share the words of their template.
FACTOR, SHARE = 2.0, 0.1
NAMES = ("same_draw_bleu", "different_draws_bleu")


def two_decodings(
    experiment: Experiment, settings: SamplingSettings, batch_size: int, rows: Sequence[Mapping[str, Any]]
) -> tuple[list[str], list[str]] | None:
    """Decode the first `DRAWS` draws of the prior a second time, with other randomness of the tokens.

    Args:
        experiment: model and data.
        settings: settings that the samples were drawn with.
        batch_size: sentences that were generated together.
        rows: the samples, none of which was drawn again because it was not novel.

    Returns:
        Texts of both decodings, of all processes. Those of a table are rows as they were drawn, without the columns
        whose values are not the model's: new identifiers. None if the latents are not drawn from the prior, if the
        tokens are not drawn, if there is only one draw, or if each decoding chooses among latents: that of rows under
        conditions, or balanced ones.
    """
    if settings.decoding != "sample" or settings.count < 2 or not draws_from_prior(experiment, settings):
        return None
    draws = RowDraws.of(experiment, settings)
    if draws is not None and (draws.grammar.permitted or draws.balance is not None):
        return None
    again = sample_with(experiment, settings, batch_size, again=DRAWS)
    if draws is None:
        return [row["text"] for row in rows[: len(again)]], [row["text"] for row in again]
    count = min(settings.count, -(-DRAWS // batch_size) * batch_size)  # draws depend on the size of their batch
    first = sample_with(experiment, settings, batch_size, numbers=range(count), as_drawn=True)[: len(again)]
    return _drawn_columns(draws, first), _drawn_columns(draws, again)


def _drawn_columns(draws: RowDraws, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the texts of rows with the columns alone whose values the model draws."""
    template = draws.grammar.tokenizer.template
    given = dict.fromkeys(draws.makers, "")
    texts = (row["text"] for row in rows)
    return [text if (values := template.values(text)) is None else template.text(values | given) for text in texts]


def influence(first: Sequence[str], second: Sequence[str]) -> dict[str, float]:
    """Measure how much of a text its latent decides.

    Args:
        first: texts of M >= 2 different draws.
        second: M texts of the same draws, decoded with other randomness.

    Returns:
        `same_draw_bleu`: corpus BLEU of the second decodings against the first ones of the same draws, in [0, 100];
        `different_draws_bleu`: of the second decodings against the first ones of the next draws.
    """
    following = [*first[1:], first[0]]
    scores = corpus_bleus([(second, first), (second, following)])
    return {name: bleu for name, (bleu, _) in zip(NAMES, scores, strict=True)}


def in_words(figures: Mapping[str, float]) -> str:
    """Say both figures of `influence`, and that the decoder ignores its draws where they differ little."""
    same, different = (figures[name] for name in NAMES)
    said = f"two decodings of one draw: BLEU {same:.2f}; of different draws: {different:.2f}"
    ignored = "the decoder ignores its draws, as a language model does"
    little = same <= FACTOR * different and same - different <= SHARE * (100.0 - different)
    return f"{said}: {ignored}" if little else said
