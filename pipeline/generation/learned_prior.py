"""The learned prior of an autoencoder: posteriors of texts that a language model imagines."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from models.autoencoder import TextAutoencoder
from models.decoding import Decoding
from models.latent import Latent
from models.settings import LanguageModelSettings
from models.text_model import Noise
from pipeline.data.batches import collate
from pipeline.data.dataset import difference
from pipeline.experiments.base import build_model
from pipeline.experiments.config import read_config, settings_from_json, settings_to_json
from pipeline.experiments.language_model_prior import WITHOUT_POSTERIOR
from pipeline.experiments.load import Experiment
from pipeline.experiments.weights import load_checkpoint, load_weights
from pipeline.generation.generate import decode
from pipeline.generation.latents import Source, unsupported_as_user_error
from pipeline.runtime.errors import UserError

SHARED = "prior.safetensors"  # weights of the language model in the folder of a shared model
REMEDY = "fit it anew with train_prior.py --RESTART True"


@dataclass(frozen=True)
class LearnedPrior:
    """Prior of an autoencoder's latents, fitted after the autoencoder, which it leaves as it is.

    The prior is `p(z) = sum_x p(x) q(z | x)`: a language model imagines a text x of n tokens, and the latent is a draw
    from the posterior of x. Each token chooses one of the components that the posteriors of the training set have, as
    in a mixture, and their order is forgotten, so that given n the vectors are an exchangeable set. With the
    distribution of the data as `p(x)` it is the aggregate posterior, the prior with the highest evidence lower bound
    (Hoffman & Johnson 2016); with a finite list of texts it is the VampPrior (Tomczak & Welling 2018).

    Args:
        experiment: the autoencoder.
        writer: the language model, with the same data.
    """

    experiment: Experiment
    writer: Experiment

    @staticmethod
    def of(experiment: Experiment) -> "LearnedPrior":
        """Load the learned prior of an experiment, or of a shared model.

        Raises:
            UserError: the experiment has no learned prior, or it is damaged or was fitted to other data.
        """
        kind = experiment.model.settings.name
        if not isinstance(experiment.model, TextAutoencoder):
            raise UserError(f"{kind} has no latent, and so no prior; leave --PRIOR out")
        if kind in WITHOUT_POSTERIOR:
            raise UserError(f"{kind} has no posterior, and so no prior; leave --PRIOR out")
        if "writer" not in experiment.parts:
            experiment.parts["writer"] = _writer(experiment)
        return LearnedPrior(experiment, experiment.parts["writer"])

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the data; none where it has none."""
        return tuple(self.experiment.data.statistics.get("labels") or ())

    def lengths_with(self, vectors: int, noise: Noise) -> tuple[int, int | None]:
        """Return the fewest and the most tokens of the texts whose latents have this many vectors; see `source`.

        Raises:
            UserError: no text has this many vectors, or the noise does not apply to the model.
        """
        with unsupported_as_user_error():
            lengths = self.experiment.model.lengths_with(vectors, noise)
        more = int(bool(self.labels))  # these lengths count the label
        if lengths[-1] <= more:
            raise UserError(f"--VECTORS {vectors}: the label and the end of a text have more already; ask for more")
        longest = max(*self.experiment.data.length_distribution, lengths.start)
        return max(1, lengths.start - more), min(lengths[-1], longest) - more

    def source(self, noise: Noise, decoding: Decoding, fewest: int, most: int | None) -> Source:
        """Draw latents of imagined texts, given their labels where the data has labels.

        Args:
            noise: noise of the draw from the posterior of each text.
            decoding: how the tokens of a text are drawn.
            fewest: smallest number of tokens of a text, the end token included.
            most: largest number of tokens of a text, the end token included; if None, that of the training texts, or
                `fewest` where these are shorter.

        Raises:
            UserError: the model has no posterior, or the noise does not apply to it.
        """
        source = _Imagined(self, noise, decoding, max(1, fewest - 1), most)
        shortest = _Imagined(self, noise, decoding, 1, 2)
        with torch.inference_mode(), unsupported_as_user_error():  # fails before any work
            shortest.draw([0], torch.Generator(self.experiment.device), self.labels[:1] or None)
        longest = source.limit(int(bool(self.labels))) + 1  # with the label and the end
        before = self.experiment.model.positions_of(longest) - longest
        return Source(source.draw, lambda number: source.rows[number], most or 0, before)


@dataclass
class _Imagined:
    """Draws of a learned prior, and the origin of each."""

    prior: LearnedPrior
    noise: Noise
    decoding: Decoding
    least: int
    most: int | None
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)

    def limit(self, more: int) -> int:
        """Return the largest number of tokens, without the end; `more` is 1 if texts have a label, which counts."""
        if self.most is not None:
            return self.most - 1 + more  # a length that is asked for does not count the label
        return max(max(self.prior.experiment.data.length_distribution) - 1, self.least + more)

    def draw(self, numbers: Sequence[int], generator: torch.Generator, labels: Sequence[str] | None) -> Latent:
        """Draw the latents of the sentences with these numbers."""
        experiment, tokenizer = self.prior.experiment, self.prior.experiment.data.tokenizer
        more = int(labels is not None)  # the label's token is not one of the text
        limit, least = self.limit(more), self.least + more
        made = decode(self.prior.writer, None, len(numbers), self.decoding, limit, least, generator, labels)
        texts = [[tokenizer.cls_id, *ids, tokenizer.sep_id] for _, ids in made]
        for number, (text, ids) in zip(numbers, made, strict=True):
            self.rows[number] = {"drawn_length": len(ids) - more + 1, "imagined": text}
        batch = collate(texts, tokenizer.pad_id).to(experiment.device)
        encoding = experiment.model.encode(batch.source, batch.key_padding_mask)
        return experiment.model.sample_posterior(encoding, generator, self.noise)


def writer_weights(experiment: Experiment) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Return the settings and the weights of the language model of a learned prior; None without one.

    Raises:
        UserError: the prior is damaged, or was fitted to other data.
    """
    if not (_is_shared(experiment) or experiment.files.prior.best.exists()):
        return None
    writer = LearnedPrior.of(experiment).writer
    return settings_to_json(writer.model.settings), writer.model.state_dict()


def _is_shared(experiment: Experiment) -> bool:
    return "prior" in experiment.config and (experiment.files.folder / SHARED).exists()


def _writer(experiment: Experiment) -> Experiment:
    """Load the language model of an experiment's learned prior."""
    shared, own = experiment.files.folder / SHARED, experiment.files.prior
    name = experiment.files.folder.name
    if _is_shared(experiment):
        settings, weights = experiment.config["prior"], shared
        remedy = "save the model again with save_pretrained"
    elif own.best.exists():
        config = read_config(own)
        if differs := difference(config["data"], experiment.data.identity):
            raise UserError(f"the prior of {name!r} was fitted to other data ({differs}); {REMEDY}")
        settings, weights, remedy = config["model"], own.best, REMEDY
    else:
        raise UserError(
            f"{name!r} has no learned prior; fit one with train_prior.py --EXPERIMENT_NAME {name}, or leave --PRIOR out"
        )
    kind = settings_from_json(settings, weights.parent / "config.json", remedy)
    if not isinstance(kind, LanguageModelSettings):
        raise UserError(f"the prior of {name!r} is of the model {kind.name}, which imagines no texts; {remedy}")
    tensors, _ = load_checkpoint(weights, remedy)
    model = build_model(kind)
    load_weights(model, tensors, weights)
    return Experiment(own, experiment.config, model.to(experiment.device).eval(), experiment.data, experiment.device)
