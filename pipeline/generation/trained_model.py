"""A trained model in Python, with the work of the scripts as methods."""

import functools
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from models.declaration import SettingError
from models.sampling import SamplingSettings
from models.text_model import Encoding
from pipeline.data.batches import Batch, collate, in_order
from pipeline.experiments.load import Experiment, load_experiment_of
from pipeline.experiments.paths import ExperimentFiles
from pipeline.generation.generate import checked_label, decode, interpolated, reconstructed, require_latent
from pipeline.generation.known_texts import KnownTexts
from pipeline.generation.latents import token_ids, unsupported_as_user_error
from pipeline.generation.novel_samples import check_novel, draw_again
from pipeline.generation.pretrained import load_shared, save_shared
from pipeline.generation.sampler import sample_with
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_record

BATCH_SIZE = 128  # texts that are encoded or generated together, the default of the scripts


class TrainedModel:
    """A trained model with its tokenizer and the lengths of its training sentences.

        >>> nvae = load_experiment("outputs/demo/nvib")
        >>> nvae.generate(10, seed=1)
        >>> nvae.reconstruct(["the old king left the town."])
        >>> nvae.interpolate("the old king left the town.", "a cat saw the river.", steps=5)

    Texts are cleaned as the training sentences were. A method raises `UserError` for bad input, and where the model
    lacks what it needs: a vanilla Transformer has no prior, a language model no latent.

    Args:
        experiment: model, configuration, and data with at least a tokenizer and a length distribution.
        figures: figures of `summary.json` by key.
    """

    def __init__(self, experiment: Experiment, figures: dict[str, Any]) -> None:
        self.experiment = experiment
        self.model, self.device = experiment.model, experiment.device
        self.tokenizer = experiment.data.tokenizer
        self.config, self.figures = experiment.config, figures

    @classmethod
    def from_experiment(
        cls,
        folder: str | os.PathLike[str],
        data_dir: str | os.PathLike[str] = "data",
        reading: str | None = None,
    ) -> "TrainedModel":
        """Load a trained experiment, see `pipeline.load_experiment`."""
        files = ExperimentFiles(Path(folder))
        experiment = load_experiment_of(files, Path(data_dir), reading)
        remedy = "remove it, and run the steps that wrote it again"
        return cls(experiment, read_record(files.summary, remedy) if files.summary.exists() else {})

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], reading: str | None = None) -> "TrainedModel":
        """Load a shared model, see `pipeline.from_pretrained`."""
        return cls(*load_shared(name, reading))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder for the Hugging Face hub with all files that `from_pretrained` needs, whole or not at all.

        The files are `config.json` (settings, lengths, figures), `model.safetensors`, `tokenizer.json` and `README.md`
        (a model card).

        Args:
            folder: new folder, or one that this method wrote, which it replaces.

        Raises:
            UserError: if the folder contains anything else, or is the one that this process works in.
        """
        save_shared(self.experiment, self.figures, Path(folder))

    def generate(
        self,
        n: int,
        seed: int = 42,
        *,
        label: str | None = None,
        near: str | None = None,
        mix: Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
        latent_temperature: float | None = None,
        keep: float | None = None,
        kappa: int | None = None,
        prior: str = "plain",
        prior_top_p: float = 1.0,
        prior_temperature: float = 1.0,
        vectors: int | None = None,
        sampling_distribution: str | None = None,
        min_length: int | None = None,
        max_length: int | None = None,
        where: str | None = None,
        constraints: str | None = None,
        balance: str | None = None,
        impute: str | None = None,
        novel: bool = False,
        decoding: str = "greedy",
        temperature: float = 1.0,
        top_p: float = 1.0,
        beams: int | None = None,
        length_penalty: float | None = None,
    ) -> list[str]:
        """Generate new sentences, those of `sample.py` with the flags of the same names.

        Args:
            n: number of sentences.
            seed: seed of lengths, latents and tokens.
            label: label of all sentences, for data with labels; if None, drawn as in the training set.
            near: sentence around which latents are drawn; if None, latents are drawn from the prior.
            mix: two or more sentences whose latents are mixed.
            weights: share of each sentence of `mix`; if None, equal shares.
            latent_temperature: scale of the latent's noise; if None, 1, or for `mix` 0, the mean latent.
            keep: share of the vectors of `near` or `mix` that the decoder sees, in (0, 1]; if None, all.
            kappa: vectors drawn per component of a latent, for NVIB; if None, as in training.
            prior: `plain`, or `learned`, which `train_prior.py` fitted.
            prior_top_p: share of the most probable tokens that a learned prior draws each of its tokens from.
            prior_temperature: divides the logits of a learned prior.
            vectors: number of vectors of every latent of the prior; if None, as many as a sentence of the drawn length
                has.
            sampling_distribution: distribution of the lengths for which latents of the prior are drawn: `data`, that
                of the training set, or `uniform`; if None, `data`.
            min_length: smallest number of tokens of a sentence, the end token counted.
            max_length: largest number of tokens of a sentence, the end token counted.
            where: conditions that every row of a table satisfies, such as `age > 30 and sex = F`.
            constraints: path of a JSON file of constraints between the columns of a table.
            balance: column of categories or booleans of a table of whose members there are as many rows each.
            impute: path of a table of `n` rows that are completed: values that it has are kept.
            novel: draw again in place of sentences that repeat a training text or 8 of its words in a row, in at most
                10 rounds. A warning counts those that still do.
            decoding: `greedy` takes the most probable token, `sample` draws one, `beam` searches for the most probable
                sentence.
            temperature: divides the logits before a token is drawn; above 0.
            top_p: draw among the most probable tokens that make up this share, in (0, 1].
            beams: sentences that beam search follows; if None, 5.
            length_penalty: power of the number of tokens by which beam search divides log probabilities; if None, 1.

        Returns:
            `n` sentences.

        Raises:
            UserError: if the model has no prior or no such noise, the data has no such label, or an argument is out of
                range or contradicts another; or if `novel` is True and the training texts are absent.
        """
        try:
            settings = SamplingSettings(
                number_samples=n,
                seed=seed,
                label=label,
                near=near,
                mix=mix,
                weights=weights,
                latent_temperature=latent_temperature,
                keep=keep,
                kappa=kappa,
                prior=prior,
                prior_top_p=prior_top_p,
                prior_temperature=prior_temperature,
                vectors=vectors,
                sampling_distribution=sampling_distribution,
                min_length=min_length,
                max_length=max_length,
                where=where,
                constraints=constraints,
                balance=balance,
                impute=impute,
                novel=novel,
                decoding=decoding,
                temperature=temperature,
                top_p=top_p,
                beams=beams,
                length_penalty=length_penalty,
            )
        except SettingError as error:
            raise UserError(error.named(lambda name: "n" if name == "number_samples" else name)) from None
        if novel:
            check_novel(self.experiment, settings)
        rows = sample_with(self.experiment, settings, BATCH_SIZE)
        if novel:
            drawn = draw_again(self.experiment, settings, BATCH_SIZE, rows, self._known)
            rows = drawn.rows
            if drawn.left:
                warnings.warn(drawn.in_words(), stacklevel=2)
        return [row["text"] for row in rows]

    @functools.cached_property
    def _known(self) -> KnownTexts:
        """Training texts, which samples are compared with."""
        return KnownTexts.of(self.experiment.data)

    @torch.inference_mode()
    def encode(self, texts: Iterable[str], label: str | None = None) -> Encoding:
        """Encode B texts to their latents, the means and not draws.

        Args:
            texts: B texts.
            label: label of all texts, for data with labels; if None, the most frequent one.

        Returns:
            The encoding: `latent` (the argument of `decode`), `vectors_kept` and `vectors` [B], and those of
            `posterior` (whose `alpha` are the pseudo-counts), `gaussians`, `kl_gaussian` and `kl_dirichlet` that the
            model has.

        Raises:
            UserError: if the model has no latent, or there is no text.
        """
        ids = self.tokenize(texts, label)
        if not ids:
            raise UserError("there is no text to encode; give a list of one or more")
        batch = self._batch(ids)
        with unsupported_as_user_error():
            return self.model.encode(batch.source, batch.key_padding_mask)

    @torch.inference_mode()
    def decode(self, encoding: Encoding) -> list[str]:
        """Decode each latent greedily to a text."""
        return [text for text, _ in decode(self.experiment, encoding.latent, len(encoding.vectors))]

    def reconstruct(self, texts: Iterable[str], label: str | None = None) -> list[str]:
        """Encode every text to its mean latent and decode it greedily, as `reconstruction.py` does for a split.

        Args:
            texts: texts to reconstruct.
            label: label of all texts, for data with labels; if None, the most frequent one.

        Returns:
            One reconstruction for each text.

        Raises:
            UserError: if the model has no latent.
        """
        require_latent(self.experiment)
        ids = self.tokenize(texts, label)
        batches = (self._batch([ids[row] for row in rows]) for rows in in_order(len(ids), BATCH_SIZE))
        return [row["reconstruction"] for batch in batches for row in reconstructed(self.experiment, batch)]

    def interpolate(self, a: str, b: str, steps: int = 5, label: str | None = None) -> list[str]:
        """Interpolate between the latents of two texts and decode each step greedily.

        With 5 steps, the texts are the outputs of `interpolation_evaluation.py` for a pair. The first and the last are
        the reconstructions of `a` and `b`.

        Args:
            a: text at tau = 0.
            b: text at tau = 1.
            steps: number of taus, evenly spaced from 0 to 1; at least 2.
            label: label of both texts, for data with labels; if None, the most frequent one.

        Returns:
            `steps` texts.

        Raises:
            UserError: if the model cannot interpolate, or there are fewer than 2 steps.
        """
        if not isinstance(steps, int) or steps < 2:
            raise UserError(f"steps must be an integer of at least 2, its two ends, got {steps}")
        start, end = (self.encode([text], label).latent for text in (a, b))
        taus = [step / (steps - 1) for step in range(steps)]
        with unsupported_as_user_error():
            return [made[0][0] for made in interpolated(self.experiment, start, end, 1, taus)]

    def tokenize(self, texts: Iterable[str], label: str | None = None) -> list[list[int]]:
        """Clean texts as the training data was and return their token ids, `[CLS] … [SEP]`.

        Args:
            texts: texts to tokenize.
            label: label of all texts, for data with labels; if None, the most frequent one.

        Raises:
            UserError: if `texts` is not a list of texts, cleaning leaves nothing of one, or there is no such label.
        """
        if isinstance(texts, str):
            raise UserError(f"texts must be a list of texts, got the one text {texts[:80]!r}; put it into brackets")
        texts = list(texts)
        for number, text in enumerate(texts):
            if not isinstance(text, str):  # for example a missing value of a table
                raise UserError(f"text {number} is no text but {type(text).__name__}; leave it out or make it a text")
        checked_label(self.experiment, label)
        return [token_ids(self.experiment, text, label) for text in texts]

    def _batch(self, ids: Sequence[Sequence[int]]) -> Batch:
        return collate(ids, self.tokenizer.pad_id).to(self.device)
