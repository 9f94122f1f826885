"""Judging texts by a language model: its perplexity on them, and its perplexity after learning from them."""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch

from models.declaration import text_problem
from models.text_model import TextModel
from pipeline.data.base_models import BUNDLED
from pipeline.data.batches import in_order, loader
from pipeline.data.dataset import PreparedData, difference
from pipeline.evaluation.bleu import novel
from pipeline.experiments.base import build_model, too_long
from pipeline.experiments.config import read_config
from pipeline.experiments.load import Experiment, load_experiment
from pipeline.experiments.metric_types import AUTOENCODER
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.tracker import Tracker
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.experiments.weights import fingerprint_of_weights, load_checkpoint, load_weights
from pipeline.runtime.errors import UserError
from pipeline.runtime.processes import is_first, share
from pipeline.runtime.progress import bar
from pipeline.runtime.signals import Interrupted
from pipeline.training.epoch_orders import EpochOrders
from pipeline.training.validation import evaluate


def load_judge(output_dir: Path, project: str, name: str, data_dir: Path, judged: dict[str, Any]) -> Experiment:
    """Load the experiment that judges.

    Args:
        output_dir: folder of all projects.
        project: project of the judge and of the judged experiment.
        name: name of the judge.
        data_dir: folder of all prepared datasets.
        judged: `config.json` of the experiment whose texts are judged.

    Raises:
        UserError: there is no such experiment, or it was trained on other data.
    """
    files = ExperimentFiles.of(output_dir, project, name)
    own, other = read_config(files)["data"], judged["data"]
    # An earlier version may lack a setting of the preparation, and the first ones lack the fingerprint.
    if own != other and (own.get("fingerprint") is None or difference(own, other)):
        raise UserError(
            f"--LANGUAGE_MODEL {name} was trained on {own['name']!r}, the experiment on {other['name']!r}, or the data "
            "was prepared anew between the two: a judge must know the same tokens; train one with --MODEL LM on the "
            "experiment's data"
        )
    return load_experiment(output_dir, project, name, data_dir)


def is_experiment(output_dir: Path, project: str, name: str) -> bool:
    """True if a judge's name is that of an experiment of the project, which has precedence over a pretrained model."""
    return text_problem(name, "name") is None and ExperimentFiles.of(output_dir, project, name).config.exists()


def require_experiment(output_dir: Path, project: str, name: str, reason: str) -> None:
    """Check that a judge is not a pretrained model, where only an experiment can judge.

    Args:
        output_dir: folder of all projects.
        project: project of the judge.
        name: name of the judge.
        reason: reason why a pretrained model cannot judge.

    Raises:
        UserError: the name is that of no experiment, and means a pretrained model.
    """
    pretrained = name == BUNDLED or text_problem(name, "name") is not None or Path(name).is_dir()
    if pretrained and not is_experiment(output_dir, project, name):
        raise UserError(
            f"--LANGUAGE_MODEL {name} is a pretrained model, and {reason}; name an experiment that train.py --MODEL LM "
            "trained on the experiment's data"
        )


def figure_name(judge: Experiment, name: str) -> str:
    """Name a figure by its judge: the prefix `AUTOENCODER` marks a judge that has seen the text that it scores."""
    return AUTOENCODER + name if judge.model.settings.sees_target else name


def judged_by(judge: Experiment, key: str) -> dict[str, str]:
    """Name the judge of a figure and identify its weights, so that a report tells the figures of two judges apart.

    Args:
        judge: experiment of the judge.
        key: key of the figure.
    """
    return {f"{key}_judge": judge.files.folder.name, f"{key}_weights": fingerprint_of_weights(judge.files.best)}


def tokenized(texts: Sequence[str], data: PreparedData, labels: Sequence[str | None] | None = None) -> datasets.Dataset:
    """Tokenize texts as a split of prepared data.

    Args:
        texts: the texts.
        data: prepared data, whose tokenizer is used.
        labels: labels whose tokens are put in front of the texts; none if None.

    Returns:
        `input_ids`, `[CLS] … [SEP]`, and `length` of each text.
    """
    return as_split(data.tokenizer.encode(texts, labels))


def tokenized_samples(rows: Sequence[Mapping[str, Any]], data: PreparedData) -> datasets.Dataset:
    """Tokenize samples as a split of prepared data, each with its label in front if that is a label of the data.

    Rank 0 says how many have none, where the data has labels.

    Args:
        rows: rows of `samples.jsonl`.
        data: prepared data, whose tokenizer is used.
    """
    known = data.tokenizer.labels
    labels = [label if isinstance(label := row.get("label"), str) and label in known else None for row in rows]
    if known and None in labels and is_first():
        print(f"{labels.count(None)} of {len(rows)} samples have no label of the data, and are read without one")
    return tokenized([row["text"] for row in rows], data, labels)


def as_split(sentences: Sequence[Sequence[int]]) -> datasets.Dataset:
    """Turn token ids of sentences, `[CLS] … [SEP]`, into a split of prepared data."""
    sentences = [list(ids) for ids in sentences]
    return datasets.Dataset.from_dict({"input_ids": sentences, "length": [len(ids) - 1 for ids in sentences]})


def perplexity(
    model: TextModel, split: datasets.Dataset, data: PreparedData, batch_size: int, description: str
) -> float:
    """Compute the perplexity of a model on a split, shared among all processes.

    Args:
        model: any; it is left in evaluation mode.
        split: token ids of the sentences.
        data: prepared data of the tokenizer.
        batch_size: sentences that go through the model together.
        description: label of the progress bar.

    Returns:
        exp(summed cross-entropy / number of tokens), end tokens included.

    Raises:
        UserError: a sentence is longer than a judge around a pretrained model has positions for.
    """
    if problem := too_long(model, max(split["length"], default=0)):
        raise UserError(f"--LANGUAGE_MODEL cannot judge the longest text: {problem}; take another judge")
    device = model.device
    batches = share(in_order(len(split), batch_size))
    loaded = loader(split, batches, data.tokenizer.pad_id, device)
    shown = bar(loaded, total=len(batches), desc=description, unit="batch")
    return evaluate(model, shown, device, data.tokenizer.sep_id)["perplexity"]


def novel_perplexity(judge: Experiment, rows: Sequence[dict[str, Any]], batch_size: int) -> dict[str, float]:
    """Compute the perplexity of the interpolations that equal neither end.

    Args:
        judge: experiment of the judge.
        rows: as `pipeline.generation.generate.interpolations` returns them.
        batch_size: sentences that go through the judge together.

    Returns:
        `interpolation/tau_<tau>/novel_forward_perplexity` of each tau with such interpolations.
    """
    figures = {}
    for tau in rows[0]["outputs"]:
        some = novel(rows, tau)
        if some:
            name = figure_name(judge, "novel_forward_perplexity")
            known = judge.data.tokenizer.labels
            labels = [label if (label := row.get("labels", {}).get(tau)) in known else None for row in some]
            split = tokenized([row["outputs"][tau] for row in some], judge.data, labels)
            figures[f"interpolation/tau_{tau}/{name}"] = perplexity(
                judge.model, split, judge.data, batch_size, f"tau {tau}"
            )
    return figures


def judge_settings(judge: Experiment, max_steps: int | None, patience: int, seed: int | None) -> TrainingSettings:
    """Settings to train a second model like the judge.

    Args:
        judge: experiment of the judge.
        max_steps: largest number of optimizer steps; as many as the judge's training has if None.
        patience: epochs without a better validation loss after which training stops, -1 for no limit.
        seed: seed of the training; the judge's if None.
    """
    own = TrainingSettings(**judge.config["training"])
    if max_steps is None:
        max_steps = own.total_steps(EpochOrders(own, judge.data.splits["train"]).steps())
    seed = own.seed if seed is None else seed
    return dataclasses.replace(own, epochs=-1, max_steps=max_steps, patience=patience, seed=seed)


def train_judge(judge: Experiment, sentences: datasets.Dataset, training: TrainingSettings) -> TextModel:
    """Train a second model of the judge's settings on other sentences.

    Real validation text chooses the best epoch. Checkpoints go into a temporary folder.

    Args:
        judge: experiment of the judge.
        sentences: token ids to train on.
        training: training settings.

    Returns:
        The model of the best epoch, in evaluation mode.
    """
    # Imported here: heavy (distributed checkpoints), and most evaluations only score.
    from pipeline.training.trainer import Trainer

    data = dataclasses.replace(judge.data, splits={"train": sentences, "validation": judge.data.splits["validation"]})
    torch.manual_seed(training.seed)
    model = build_model(judge.model.settings)
    with tempfile.TemporaryDirectory() as folder:
        files = ExperimentFiles(Path(folder))
        try:
            Trainer(model, data, training, files, Tracker(files, run=None, offline=True)).train()
        except Interrupted as stop:
            raise Interrupted(stop.number) from None  # without its message: the checkpoints are removed
        weights, _ = load_checkpoint(files.best, "run the evaluation again")
        load_weights(model, weights, files.best)
    return model.eval()
