"""Judges of the comparison of priors: a language model of the project, or an untouched pretrained one."""

from dataclasses import dataclass
from typing import Any, Protocol

from datasets import Dataset

from pipeline.evaluation.base_judge import BaseJudge
from pipeline.evaluation.judge import judge_settings, perplexity, train_judge
from pipeline.evaluation.mauve import SEMANTIC, mauve_figures, semantic_mauve_figures
from pipeline.evaluation.sentence_encoder import ABSENT, load_encoder
from pipeline.experiments.load import Experiment
from pipeline.experiments.metric_types import REAL_TEXT
from pipeline.runtime.errors import UserError

PATIENCE = 3  # epochs of the model of R-PPL without a better validation loss


class Judge(Protocol):
    """Judge of texts, which are token ids by the tokenizer of the data."""

    def perplexity(self, texts: Dataset, batch_size: int) -> float:
        """Compute the perplexity a token of texts."""
        ...

    def mauve(self, texts: Dataset, batch_size: int) -> dict[str, Any]:
        """Compare texts with training texts: `mauve`, `mauve_deviation` and `mauve_of_real_text`."""
        ...


@dataclass(frozen=True)
class TrainedJudge:
    """Language model of the project; its own tokens count, the end token too.

    Args:
        experiment: the language model.
    """

    experiment: Experiment

    def perplexity(self, texts: Dataset, batch_size: int) -> float:
        """Compute the perplexity a token of texts."""
        return perplexity(self.experiment.model, texts, self.experiment.data, batch_size, "judge")

    def mauve(self, texts: Dataset, batch_size: int) -> dict[str, Any]:
        """Compute MAUVE over the features of the language model; see `Judge.mauve`."""
        return _named(mauve_figures(self.experiment, texts, "mauve", batch_size), "mauve")


class UntouchedJudge:
    """Pretrained language model that no run trained; MAUVE is over the vectors of a sentence encoder.

    Args:
        name: `bundled`, a folder, or a name on the hub.
        experiment: an experiment with the data of the texts.

    Raises:
        UserError: there is no such model, or no sentence encoder.
    """

    def __init__(self, name: str, experiment: Experiment) -> None:
        encoder = load_encoder()
        if encoder is None:
            raise UserError(f"--JUDGE {name} has no MAUVE: {ABSENT}")
        self.encoder, self.data, self.model = encoder, experiment.data, BaseJudge.load(name)

    def perplexity(self, texts: Dataset, batch_size: int) -> float:
        """Compute the perplexity a token of the judge's tokenizer; the ends of texts do not count."""
        written = self.data.tokenizer.decode_batch(texts["input_ids"])
        found = self.model.score(written, batch_size, "judge").figures()["pretrained_forward_perplexity"]
        if found is None:
            raise UserError(f"--JUDGE {self.model.name} can score none of the texts: all are empty or too long")
        return found

    def mauve(self, texts: Dataset, batch_size: int) -> dict[str, Any]:
        """Compute MAUVE over the vectors of the sentence encoder; see `Judge.mauve`."""
        return _named(semantic_mauve_figures(self.encoder, self.data, texts, batch_size), SEMANTIC)


def reverse_perplexity(
    like: Experiment, texts: Dataset, real: Dataset, steps: int, seed: int, batch_size: int
) -> float:
    """Train a language model on texts alone, and compute its perplexity on real text.

    Args:
        like: language model whose settings it has.
        texts: token ids to learn from.
        real: token ids of the real text.
        steps: largest number of optimizer steps.
        seed: seed of the training.
        batch_size: texts that go through the model together.
    """
    model = train_judge(like, texts, judge_settings(like, steps, PATIENCE, seed))
    return perplexity(model, real, like.data, batch_size, "R-PPL")


def _named(found: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the figures of a key of MAUVE under their names in the comparison."""
    return {
        "mauve": found[key],
        "mauve_deviation": found[f"{key}_deviation"],
        "mauve" + REAL_TEXT: found[key + REAL_TEXT],
    }
