"""A trained model in Python: what the scripts do, as methods."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.text_model import Encoding
from pipeline.cli import sampling_flags as sampling_options
from pipeline.data.batches import Batch, collate, in_order
from pipeline.experiments.load import Experiment, load_experiment_of
from pipeline.experiments.paths import ExperimentFiles
from pipeline.generation.generate import checked_label, decode, interpolated, reconstructed, require_latent
from pipeline.generation.latents import token_ids, unsupported_as_user_error
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_record

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
        """See `pipeline.load_experiment`."""
        files = ExperimentFiles(Path(folder))
        experiment = load_experiment_of(files, Path(data_dir))
        remedy = "remove it, and run the steps that wrote it again"
        return cls(experiment, read_record(files.summary, remedy) if files.summary.exists() else {})

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike) -> "TrainedModel":
        """See `pipeline.from_pretrained`."""
        from pipeline.generation.pretrained import load_shared

        return cls(*load_shared(name))

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write all that others need to use the model, in the format of the Hugging Face hub, whole or not at all.

        `config.json` (settings, lengths, figures), `model.safetensors`, `tokenizer.json`, `README.md` (a model card).

        Args:
            folder: new, or one that this method wrote, which it replaces.

        Raises:
            UserError: the folder holds anything else.
        """
        from pipeline.generation.pretrained import save_shared

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
        kappa: int | None = None,
        vectors: int | None = None,
        sampling_distribution: str | None = None,
        min_length: int | None = None,
        max_length: int | None = None,
        decoding: str = "greedy",
        temperature: float = 1.0,
        top_p: float = 1.0,
        beams: int | None = None,
        length_penalty: float | None = None,
    ) -> list[str]:
        """New sentences: those of `sample.py` with the flags of the same names, where `--help` says more.

        Args:
            n: how many.
            seed: of lengths, latents and tokens.
            label: of all sentences, where the data has labels; drawn as in the training set if None.
            near: a sentence around which latents are drawn; from the prior if None.
            mix: two or more sentences whose latents are mixed.
            weights: the share of each sentence of `mix`; equal if None.
            latent_temperature: scale of the latent's noise; 1 if None, and 0, the mean latent, for `mix`.
            kappa: vectors drawn per component of a latent, of NVIB; as in training if None.
            vectors: of every latent of the prior; as many as a sentence of the drawn length has if None.
            sampling_distribution: where the prior's lengths are drawn from: `data`, the training set's, or `uniform`.
            min_length: fewest tokens of a sentence, the end token counted.
            max_length: most tokens of a sentence, the end token counted.
            decoding: `greedy`, the most probable token, `sample`, a drawn one, or `beam`, the most probable sentence.
            temperature: divides the logits before a token is drawn, above 0.
            top_p: draw among the most probable tokens that make up this share, in (0, 1].
            beams: sentences that beam search follows; 5 if None.
            length_penalty: power of the number of tokens that beam search divides by; 1 if None.

        Raises:
            UserError: the model has no prior or no such noise, the data no such label, or an argument is out of its
                range or contradicts another.
        """
        arguments = sampling_options.of_values(
            NUMBER_SAMPLES=n,
            SEED=seed,
            LABEL=label,
            NEAR=near,
            MIX=mix,
            WEIGHTS=weights,
            LATENT_TEMPERATURE=latent_temperature,
            KAPPA=kappa,
            VECTORS=vectors,
            SAMPLING_DISTRIBUTION=sampling_distribution,
            MIN_LENGTH=min_length,
            MAX_LENGTH=max_length,
            DECODING=decoding,
            TEMPERATURE=temperature,
            TOP_P=top_p,
            BEAMS=beams,
            LENGTH_PENALTY=length_penalty,
        )
        return [row["text"] for row in sampling_options.sampled(arguments, self.experiment)]

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], label: str | None = None) -> Encoding:
        """The latents of B texts, means and no draws.

        Args:
            texts: B of them.
            label: of all, where the data has labels; the most frequent if None.

        Returns:
            `latent` (what `decode` takes), `vectors_kept` and `vectors` [B], and what the model has of `posterior`
            (whose `alpha` are the pseudo-counts), `gaussians`, `kl_gaussian`, `kl_dirichlet`.

        Raises:
            UserError: the model has no latent, or there is no text.
        """
        ids = self.tokenize(texts, label)
        if not ids:
            raise UserError("there is no text to encode; give a list of one or more")
        batch = self._batch(ids)
        with unsupported_as_user_error():
            return self.model.encode(batch.source, batch.key_padding_mask)

    @torch.inference_mode()
    def decode(self, encoding: Encoding) -> list[str]:
        """The text of each latent, greedily."""
        return [text for text, _ in decode(self.experiment, encoding.latent, len(encoding.vectors))]

    def reconstruct(self, texts: Sequence[str], label: str | None = None) -> list[str]:
        """Encode and decode every text, greedily, from the mean latent: what `reconstruction.py` makes of a split.

        Raises:
            UserError: the model has no latent.
        """
        require_latent(self.experiment)
        ids = self.tokenize(texts, label)
        batches = (self._batch([ids[row] for row in rows]) for rows in in_order(len(ids), TOGETHER))
        return [row["reconstruction"] for batch in batches for row in reconstructed(self.experiment, batch)]

    def interpolate(self, a: str, b: str, steps: int = 5, label: str | None = None) -> list[str]:
        """Texts on the way from one to another, their reconstructions at both ends.

        With 5 steps, the outputs of `interpolation_evaluation.py` for a pair.

        Args:
            a: where tau is 0.
            b: where tau is 1.
            steps: how many taus, evenly from 0 to 1; 2 or more.
            label: of both, where the data has labels; the most frequent if None.

        Raises:
            UserError: the model cannot interpolate, or the steps are fewer than 2.
        """
        if not isinstance(steps, int) or steps < 2:
            raise UserError(f"steps must be an integer of at least 2, its two ends, got {steps}")
        latents = [self.encode([text], label).latent for text in (a, b)]
        taus = [step / (steps - 1) for step in range(steps)]
        with unsupported_as_user_error():
            return [made[0][0] for made in interpolated(self.experiment, *latents, 1, taus)]

    def tokenize(self, texts: Sequence[str], label: str | None = None) -> list[list[int]]:
        """The ids of texts, `[CLS] … [SEP]`, cleaned as the data was; for the label see `encode`."""
        if isinstance(texts, str):
            raise UserError(f"texts must be a list of texts, got the one text {texts[:80]!r}; put it into brackets")
        for number, text in enumerate(texts):
            if not isinstance(text, str):  # a missing value of a table, for one
                raise UserError(f"text {number} is no text but {type(text).__name__}; leave it out or make it one")
        checked_label(self.experiment, label)
        return [token_ids(self.experiment, text, label) for text in texts]

    def _batch(self, ids: Sequence[Sequence[int]]) -> Batch:
        return collate(ids, self.tokenizer.pad_id).to(self.device)
