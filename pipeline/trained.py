"""A trained model in Python: what the scripts do, as methods."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from models.decoding import greedy, nucleus
from models.text_model import Encoding
from pipeline import kinds
from pipeline.batching import Batch, collate, in_order
from pipeline.errors import UserError
from pipeline.experiments import Experiment, ExperimentFiles, cleaning, load_experiment_of
from pipeline.files import read_record
from pipeline.generation import (
    LengthRange,
    decode,
    interpolated,
    reconstructed,
    require_latent,
    sample,
    unsupported_told,
)
from pipeline.preprocessing import CLEANERS, UNKNOWN

TOGETHER = 128  # texts that are encoded or generated together, the scripts' default


class TrainedModel:
    """A trained model with its tokenizer and the lengths of its training sentences.

        >>> nvae = load_experiment("outputs/demo/nvib")
        >>> nvae.generate(10, seed=1)
        >>> nvae.reconstruct(["the old king left the town."])
        >>> nvae.interpolate("the old king left the town.", "a cat saw the river.", steps=5)

    Texts are cleaned as the sentences that the model was trained on. What a model cannot do (a vanilla Transformer has
    no prior, a language model no latent) raises `UserError`, as all bad input does.

    Args:
        experiment: the model, its configuration, and of its data at least tokenizer and length distribution.
        figures: its summary, flat.
    """

    def __init__(self, experiment: Experiment, figures: dict[str, Any]) -> None:
        self.experiment = experiment
        self.model, self.device = experiment.model, experiment.device
        self.tokenizer = experiment.data.tokenizer
        self.config, self.figures = experiment.config, figures

    @classmethod
    def from_experiment(cls, folder: str | os.PathLike, data_dir: str | os.PathLike = "data") -> "TrainedModel":
        """See `models.load_experiment`."""
        files = ExperimentFiles(Path(folder))
        experiment = load_experiment_of(files, Path(data_dir))
        remedy = "remove it, and run the steps that wrote it again"
        return cls(experiment, read_record(files.summary, remedy) if files.summary.exists() else {})

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike) -> "TrainedModel":
        """See `models.from_pretrained`."""
        from pipeline.sharing import load_shared

        return cls(*load_shared(name))

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write all that others need to use the model, in the format of the Hugging Face hub, whole or not at all.

        `config.json` (settings, lengths, figures), `model.safetensors`, `tokenizer.json`, `README.md` (a model card).

        Args:
            folder: new, or one that this method wrote, which it replaces.

        Raises:
            UserError: the folder holds anything else.
        """
        from pipeline.sharing import save_shared

        save_shared(self.experiment, self.figures, Path(folder))

    def generate(
        self,
        n: int,
        seed: int = 42,
        *,
        sampling_distribution: str = "data",
        min_length: int | None = None,
        max_length: int | None = None,
        decoding: str = "greedy",
        temperature: float = 1.0,
        top_p: float = 1.0,
    ) -> list[str]:
        """Sentences from the prior: those of `sample.py` with the flags of the same names.

        Args:
            n: how many.
            seed: of lengths, latents and tokens.
            sampling_distribution: where lengths are drawn from: `data`, the training set's, or `uniform`.
            min_length: shortest length drawn, in tokens with the end token; the training set's if None.
            max_length: longest length drawn; the training set's if None.
            decoding: `greedy`, the most probable token, or `sample`, a drawn one.
            temperature: divides the logits before a token is drawn, above 0.
            top_p: draw among the most probable tokens that make up this share, in (0, 1].

        Raises:
            UserError: the model has no prior, an argument is out of its range, or no training length is within theirs.
        """
        for name, value, kind in (
            ("n", n, kinds.integer(1)),
            ("seed", seed, kinds.integer(0, 2**32 - 1)),
            ("min_length", min_length, kinds.integer(1)),
            ("max_length", max_length, kinds.integer(1)),
            ("temperature", temperature, kinds.number(above=0)),
            ("top_p", top_p, kinds.number(above=0, high=1)),
        ):
            if value is not None:
                _check(name, value, kind)
        for name, value, choices in (
            ("sampling_distribution", sampling_distribution, ("data", "uniform")),
            ("decoding", decoding, ("greedy", "sample")),
        ):
            if value not in choices:
                raise UserError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
        lengths = LengthRange(sampling_distribution, min_length, max_length)

        def choose_with(generator: torch.Generator):
            return nucleus(temperature, top_p, generator) if decoding == "sample" else greedy

        return [row["text"] for row in sample(self.experiment, n, lengths, seed, choose_with, TOGETHER)]

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Encoding:
        """The latents of B texts, means and no draws.

        Returns:
            `latent` (what `decode` takes), `vectors_kept` and `vectors` [B], and what the model has of `posterior`
            (whose `alpha` are the pseudo-counts), `gaussians`, `kl_gaussian`, `kl_dirichlet`.

        Raises:
            UserError: the model has no latent, or there is no text.
        """
        ids = self.tokenize(texts)
        if not ids:
            raise UserError("there is no text to encode; give a list of one or more")
        batch = self._batch(ids)
        with unsupported_told():
            return self.model.encode(batch.source, batch.key_padding_mask)

    @torch.inference_mode()
    def decode(self, encoding: Encoding) -> list[str]:
        """The text of each latent, greedily."""
        return [text for text, _ in decode(self.experiment, encoding.latent, len(encoding.vectors))]

    def reconstruct(self, texts: Sequence[str]) -> list[str]:
        """Encode and decode every text, greedily, from the mean latent: what `reconstruction.py` makes of a split.

        Raises:
            UserError: the model has no latent.
        """
        require_latent(self.experiment)
        ids = self.tokenize(texts)
        batches = (self._batch([ids[row] for row in rows]) for rows in in_order(len(ids), TOGETHER))
        return [row["reconstruction"] for batch in batches for row in reconstructed(self.experiment, batch)]

    def interpolate(self, a: str, b: str, steps: int = 5) -> list[str]:
        """Texts on the way from one to another, their reconstructions at both ends.

        With 5 steps, the outputs of `interpolation_evaluation.py` for a pair.

        Args:
            a: where tau is 0.
            b: where tau is 1.
            steps: how many taus, evenly from 0 to 1; 2 or more.

        Raises:
            UserError: the model cannot interpolate, or the steps are fewer than 2.
        """
        if steps < 2:
            raise UserError(f"steps must be at least 2, its two ends, got {steps}")
        latents = [self.encode([text]).latent for text in (a, b)]
        taus = [step / (steps - 1) for step in range(steps)]
        with unsupported_told():
            return [texts[0] for texts in interpolated(self.experiment, *latents, 1, taus)]

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts, `[CLS] … [SEP]`, cleaned as the data was."""
        if isinstance(texts, str):
            raise UserError(f"texts must be a list of texts, got the one text {texts[:80]!r}; put it into brackets")
        clean = CLEANERS[cleaning(self.config)]
        # A prepared sentence holds [UNK] as one token, of which cleaning would make a word.
        return self.tokenizer.encode([f" {UNKNOWN} ".join(map(clean, text.split(UNKNOWN))) for text in texts])

    def _batch(self, ids: Sequence[Sequence[int]]) -> Batch:
        return collate(ids, self.tokenizer.pad_id).to(self.device)


def _check(name: str, value: object, kind: Callable[[str], object]) -> None:
    try:
        kind(str(value))
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{name} {error}") from None
