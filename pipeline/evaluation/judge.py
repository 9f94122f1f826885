"""Texts judged by a language model: how probable they are to it, and what it learns from them."""

import dataclasses
import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models import build
from models.text_model import TextModel
from pipeline.data.batches import in_order, loader
from pipeline.evaluation.bleu import novel
from pipeline.experiments.config import read_config
from pipeline.experiments.load import Experiment, load_experiment
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.tracker import Tracker
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.experiments.weights import load_checkpoint, load_weights
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_records, write_records
from pipeline.runtime.locks import turn
from pipeline.runtime.processes import share
from pipeline.runtime.progress import bar
from pipeline.runtime.signals import Interrupted
from pipeline.training.trainer import Trainer
from pipeline.training.validation import evaluate

if TYPE_CHECKING:
    from datasets import Dataset

    from pipeline.data.dataset import PreparedData


def load_judge(output_dir: Path, project: str, name: str, data_dir: Path, judged: dict[str, Any]) -> Experiment:
    """Load the experiment that judges.

    Args:
        output_dir: folder of all projects.
        project: its and the judged experiment's.
        name: the judge's.
        data_dir: folder of all prepared datasets.
        judged: `config.json` of the experiment whose texts are judged.

    Raises:
        UserError: there is no such experiment, or it was trained on other data.
    """
    files = ExperimentFiles.of(output_dir, project, name)
    own, other = read_config(files)["data"], judged["data"]
    if own != other:
        raise UserError(
            f"--LANGUAGE_MODEL {name} was trained on {own['name']!r}, the experiment on {other['name']!r}, or the data "
            "was prepared anew between the two: a judge must know the same tokens; train one with --MODEL LM on the "
            "experiment's data"
        )
    return load_experiment(output_dir, project, name, data_dir)


def figure_name(judge: Experiment, name: str) -> str:
    """The name of a judge's figure: one that has seen the text that it scores says so."""
    return f"autoencoder_{name}" if judge.model.settings.sees_target else name


def fingerprint(texts: Sequence[str]) -> str:
    """What tells texts from others, so that a figure is known to be theirs: 16 digits of their SHA-256."""
    return hashlib.sha256("\0".join(texts).encode(errors="surrogatepass")).hexdigest()[:16]


def tokenized(texts: Sequence[str], data: "PreparedData", labels: Sequence[str | None] | None = None) -> "Dataset":
    """Texts as a split of the data: `[CLS] … [SEP]` by its own tokenizer, with lengths, and their labels in front."""
    return as_split(data.tokenizer.encode(texts, labels))


def tokenized_samples(rows: Sequence[Mapping[str, Any]], data: "PreparedData") -> "Dataset":
    """Samples as a split of the data, with their labels in front where they have any that the data has."""
    labels = [row.get("label") for row in rows]
    known = bool(data.tokenizer.labels) and set(labels) <= data.tokenizer.labels.keys()
    return tokenized([row["text"] for row in rows], data, labels if known else None)


def as_split(sentences: Sequence[Sequence[int]]) -> "Dataset":
    """Sentences of ids, `[CLS] … [SEP]`, as a split of prepared data."""
    import datasets

    sentences = [list(ids) for ids in sentences]
    return datasets.Dataset.from_dict({"input_ids": sentences, "length": [len(ids) - 1 for ids in sentences]})


def perplexity(model: TextModel, split: "Dataset", data: "PreparedData", batch_size: int, description: str) -> float:
    """`exp` of the summed cross-entropy over the number of tokens, end tokens included; shared among processes."""
    device = model.output.weight.device
    batches = share(in_order(len(split), batch_size))
    loaded = loader(split, batches, data.tokenizer.pad_id, device)
    shown = bar(loaded, total=len(batches), desc=description, unit="batch")
    return evaluate(model, shown, device, data.tokenizer.sep_id)["perplexity"]


def novel_perplexity(judge: Experiment, rows: Sequence[dict[str, Any]], batch_size: int) -> dict[str, float]:
    """Perplexity of the interpolations that equal neither end, for each tau that has any.

    Args:
        judge: the language model.
        rows: as `pipeline.generation.generate.interpolations` returns them.
        batch_size: sentences scored together.

    Returns:
        `interpolation/tau_<tau>/novel_forward_perplexity`.
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
    """How a second model of the judge's settings is trained: as the judge was, but for what is given.

    Args:
        judge: whose settings are taken.
        max_steps: optimizer steps at most; the judge's own budget if None.
        patience: epochs without a better validation loss after which it stops, -1 for none.
        seed: the judge's if None.
    """
    own = TrainingSettings(**judge.config["training"])
    if max_steps is None:
        max_steps = own.total_steps(-(-len(judge.data.splits["train"]) // (own.batch_size * own.accumulation_steps)))
    seed = own.seed if seed is None else seed
    return dataclasses.replace(own, epochs=-1, max_steps=max_steps, patience=patience, seed=seed)


def train_judge(judge: Experiment, sentences: "Dataset", training: TrainingSettings) -> TextModel:
    """Train a model of the judge's settings on other sentences; the epoch is chosen on real validation text.

    Nothing of it stays on disk.
    """
    data = dataclasses.replace(judge.data, splits={"train": sentences, "validation": judge.data.splits["validation"]})
    torch.manual_seed(training.seed)
    model = build(judge.model.settings)
    with tempfile.TemporaryDirectory() as folder:
        files = ExperimentFiles(Path(folder))
        try:
            Trainer(model, data, training, files, Tracker(files, run=None, offline=True)).train()
        except Interrupted as stop:
            raise Interrupted(stop.number) from None  # what it saved does not stay
        weights, _ = load_checkpoint(files.best, "run the evaluation again")
        load_weights(model, weights, files.best)
    return model.eval()


def real_text_control(
    judge: Experiment, count: int, training: TrainingSettings, batch_size: int
) -> dict[str, float | int]:
    """Perplexities of held-out text under a model trained on `count` real sentences: what good is.

    It depends on the judge alone, so it is kept in the judge's folder and computed once; of two processes that want it
    at the same time, the second waits for it.

    Returns:
        `validation` and `test` perplexity, and `count`, of the sentences it was trained on.
    """
    path = judge.files.folder / "reverse_controls.jsonl"
    train = judge.data.splits["train"]
    count = min(count, len(train))
    key = {"count": count, "training": dataclasses.asdict(training)}
    with turn(judge.files.folder.parent / f".{judge.files.folder.name}.controls.lock"):
        rows = read_records(path, "remove it, and run the evaluation again") if path.exists() else []
        for row in rows:
            if row["key"] == key:
                return row["figures"]
        chosen = np.sort(np.random.default_rng(training.seed).permutation(len(train))[:count])
        model = train_judge(judge, as_split(train[chosen.tolist()]["input_ids"]), training)
        figures: dict[str, float | int] = {
            subset: perplexity(model, judge.data.splits[subset], judge.data, batch_size, f"control on {subset}")
            for subset in ("validation", "test")
        }
        figures["count"] = count
        write_records(path, [*rows, {"key": key, "figures": figures}])
        return figures
