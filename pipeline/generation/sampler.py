"""Sample from a trained experiment with `SamplingSettings`: the work of `sample.py` and `TrainedModel.generate`."""

from collections.abc import Sequence
from typing import Any

from models.autoencoder import TextAutoencoder
from models.decoding import Decoding
from models.sampling import SamplingSettings
from models.text_model import Noise
from pipeline.experiments.load import Experiment
from pipeline.generation import latents
from pipeline.generation.generate import checked_label, sample
from pipeline.generation.incomplete_rows import IncompleteRows, counted
from pipeline.generation.learned_prior import LearnedPrior
from pipeline.generation.row_samples import RowDraws, drawn_again
from pipeline.runtime.errors import UserError


def sample_with(
    experiment: Experiment,
    settings: SamplingSettings,
    batch_size: int,
    again: int | None = None,
    numbers: Sequence[int] | None = None,
    attempt: int = 0,
    kept: Sequence[str] = (),
    as_drawn: bool = False,
) -> list[dict[str, Any]]:
    """Generate sentences, each drawn once, whether they are novel or not (see `novel_samples.draw_again`).

    Args:
        experiment: model and data.
        settings: source of the latents, their noise, lengths, and the choice of tokens.
        batch_size: sentences that are generated together.
        again: if given, decode the first `again` of the same draws a second time, with other randomness of the tokens.
        numbers: if given, generate only the sentences with these numbers.
        attempt: number of earlier draws of these sentences, which makes their latents and tokens others.
        kept: samples drawn before whose identifiers and keys the rows of a table may not have.
        as_drawn: True leaves the rows of a table as they were drawn: no other takes the place of one that is no row or
            breaks a constraint.

    Returns:
        One row for each sentence, of all processes; see `pipeline.generation.generate.sample`.

    Raises:
        UserError: if the data has no such label, or the model cannot sample with these settings.
    """
    settings = counted(experiment, settings)
    label = checked_label(experiment, settings.label)
    decoding = Decoding(
        settings.decoding, settings.temperature, settings.top_p, settings.beam_width, settings.beam_length_penalty
    )
    draws = RowDraws.of(experiment, settings, attempt)
    labels = None if draws is None or draws.incomplete is None else _labels(experiment, draws.incomplete, settings)
    if settings.prior == "learned" and draws is not None and draws.conditions:
        raise UserError(
            "--CONSTRAINTS has conditions, which rows that a learned prior imagines need not satisfy; leave --PRIOR out"
        )
    source = source_of(experiment, settings)

    def draw(numbers: Sequence[int] | None, attempt: int) -> list[dict[str, Any]]:
        return sample(
            experiment,
            source,
            settings.count,
            settings.seed,
            decoding,
            batch_size,
            settings.min_length or 1,
            settings.max_length,
            label if labels is None else labels,
            again,
            numbers,
            attempt,
            draws,
        )

    rows = draw(numbers, attempt)
    if draws is None or again is not None or as_drawn:
        return rows
    chosen = range(settings.count) if numbers is None else numbers
    # The attempts of one call of this function are apart from those of another.
    return drawn_again(rows, draws, chosen, lambda wrong, round: draw(wrong, attempt + 1000 * round), kept)


def _labels(experiment: Experiment, incomplete: IncompleteRows, settings: SamplingSettings) -> tuple[str, ...] | None:
    """Return the label of each incomplete row; None if the data have none, or all have that of `settings`.

    Raises:
        UserError: the model has latents, of which those of the given values are not known, or the labels are unknown.
    """
    if isinstance(experiment.model, TextAutoencoder):
        raise UserError(
            "--IMPUTE is for a language model of rows, for the latents of the prior know nothing of the given values; "
            "train one with train.py --MODEL LM"
        )
    if incomplete.labels is not None and settings.label is not None:
        raise UserError("--LABEL: the file of --IMPUTE has the label of each row; leave --LABEL out")
    if incomplete.labels is None and settings.label is None and experiment.data.tokenizer.labels:
        column = experiment.data.statistics["source"]["label_column"]
        raise UserError(
            f"--IMPUTE: the label of a row is not drawn given the rest; add the column {column!r} to the file, or name "
            "the label of all rows with --LABEL"
        )
    return incomplete.labels


def draws_from_prior(experiment: Experiment, settings: SamplingSettings) -> bool:
    """True if each sentence has a latent of its own, drawn from the prior; a language model has no latent."""
    of_text = settings.near is not None or settings.mix is not None
    return isinstance(experiment.model, TextAutoencoder) and not of_text and settings.draws_latents


def source_of(experiment: Experiment, settings: SamplingSettings) -> latents.Source:
    """Source of the latents: one sentence, several mixed sentences, or the prior.

    Raises:
        UserError: if the model cannot draw such latents, or no training sentence has a length within the range.
    """
    noise = Noise(settings.noise_scale, settings.kappa)
    if settings.near is not None:
        return latents.near(experiment, settings.near, noise, settings.label, settings.keep)
    if settings.mix is not None:
        return latents.mixture(experiment, settings.mix, settings.weights, noise, settings.label, settings.keep)
    if settings.prior == "learned":
        drawn = Decoding("sample", settings.prior_temperature, settings.prior_top_p)
        prior = LearnedPrior.of(experiment)
        fewest, most = settings.min_length or 1, settings.max_length
        if settings.vectors is not None:
            fewest, most = prior.lengths_with(settings.vectors, noise)
        return prior.source(noise, drawn, fewest, most)
    if settings.vectors is not None:
        return latents.from_prior_with(experiment, settings.vectors, settings.count, noise)
    lengths = latents.LengthRange(settings.distribution, settings.min_length, settings.max_length)
    # The lengths of labelled data count the label, and those that are asked for do not.
    more = int(bool(experiment.data.statistics.get("labels")))
    known = {length - more: number for length, number in experiment.data.length_distribution.items()}
    drawn = latents.draw_lengths(known, settings.count, lengths, settings.seed)
    return latents.from_prior(experiment, [length + more for length in drawn], noise)
