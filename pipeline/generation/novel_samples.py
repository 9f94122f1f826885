"""Samples that repeat no training text: those that do are drawn again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.autoencoder import TextAutoencoder
from models.sampling import LONG_RUN, ROUNDS, SamplingSettings
from pipeline.experiments.load import Experiment
from pipeline.generation.known_texts import KnownTexts
from pipeline.generation.sampler import sample_with
from pipeline.runtime.errors import UserError


@dataclass(frozen=True)
class Novel:
    """Samples after the rounds.

    Args:
        rows: a row for each sample, as `sample_with` returns them.
        redrawn: number of samples that were drawn again.
        rounds: number of rounds, at most `ROUNDS`.
        left: number of samples that still repeat a training text.
    """

    rows: list[dict[str, Any]]
    redrawn: int
    rounds: int
    left: int

    def in_words(self) -> str:
        """Say how many samples were drawn again, and how many of them still repeat a training text."""
        if not self.redrawn:
            return f"no sample repeats a training text or {LONG_RUN} of its words in a row, and none was drawn again"
        rounds = "1 round" if self.rounds == 1 else f"{self.rounds} rounds"
        left = "none" if not self.left else f"{self.left:,}"
        verb = "repeats" if self.left == 1 else "repeat"
        return (
            f"{self.redrawn:,} of {len(self.rows):,} samples drawn again in {rounds}; {left} of them still {verb} a "
            f"training text or {LONG_RUN} of its words in a row"
        )


def check_novel(experiment: Experiment, settings: SamplingSettings) -> None:
    """Check that samples can be drawn again in place of others.

    Raises:
        UserError: the training texts are absent, as they are for a shared model; or neither latents nor tokens are
            drawn, so that every round would give the same texts.
    """
    if "train" not in experiment.data.splits:
        raise UserError(
            "novel compares samples with the training texts, which a shared model does not hold; load the experiment "
            "with load_experiment, or leave novel out"
        )
    latents = isinstance(experiment.model, TextAutoencoder) and settings.draws_latents
    if settings.decoding != "sample" and not latents:
        raise UserError(
            "--NOVEL draws samples again, and here neither latents nor tokens are drawn, so that they would be the "
            "same; take --DECODING sample"
        )


def draw_again(
    experiment: Experiment,
    settings: SamplingSettings,
    batch_size: int,
    rows: Sequence[Mapping[str, Any]],
    known: KnownTexts,
) -> Novel:
    """Draw samples again in place of those that repeat a training text, in at most `ROUNDS` rounds.

    A sample keeps its label and the length drawn for its latent, so that their distributions stay. Its latent and its
    tokens are drawn anew, with seeds that derive from the run's seed, its number and the round. A table's row has an
    identifier and keys that no other sample has. All processes share the work.

    Args:
        experiment: model and data.
        settings: settings that the samples were drawn with.
        batch_size: sentences that are generated together.
        rows: samples, of all processes.
        known: training texts.
    """
    novel = [dict(row) for row in rows]
    numbers = known.repeats([row["text"] for row in novel]).numbers
    redrawn, rounds = len(numbers), 0
    while numbers and rounds < ROUNDS:
        rounds += 1
        replaced = set(numbers)
        kept = [row["text"] for number, row in enumerate(novel) if number not in replaced]
        again = sample_with(experiment, settings, batch_size, numbers=numbers, attempt=rounds, kept=kept)
        for number, row in zip(numbers, again, strict=True):
            novel[number] = row
        numbers = [numbers[copy] for copy in known.repeats([row["text"] for row in again]).numbers]
    return Novel(novel, redrawn, rounds, len(numbers))
