"""Controls of figures of samples: real text, and unigrams, which have the words of real text without coherence."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from datasets import Dataset

from pipeline.data.dataset import PreparedData
from pipeline.data.row_tokenizer import RowTokenizer
from pipeline.evaluation.judge import as_split, perplexity, train_judge
from pipeline.evaluation.ngrams import Sentences
from pipeline.experiments.load import Experiment
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.runtime.files import read_records, write_records
from pipeline.runtime.locks import turn


def unigrams_are_texts(data: PreparedData) -> bool:
    """Return whether independent tokens make a text; of a table they make no row, which has each column once."""
    return not isinstance(data.tokenizer, RowTokenizer)


def unigram_sentences(data: PreparedData, count: int, seed: int = 0) -> Dataset:
    """Draw sentences of tokens that are independent of each other.

    Lengths have the distribution of the training split, tokens its frequencies. Where the data has labels, each
    sentence begins with one, as samples do, drawn with the training split's frequencies.

    Args:
        data: prepared data.
        count: number of sentences.
        seed: seed of all draws.

    Returns:
        A split with `input_ids`, `[CLS] … [SEP]`, and `length` of each sentence.
    """
    tokenizer = data.tokenizer
    counts = np.bincount(Sentences.of(data.splits["train"]).ids, minlength=tokenizer.vocabulary_size)
    random = np.random.default_rng(seed)
    lengths = np.array(sorted(data.length_distribution))
    of_length = np.array([data.length_distribution[length] for length in lengths], dtype=float)
    labels = np.array(tokenizer.label_ids, dtype=np.int64)
    first = _drawn(random, labels, counts[labels], count)[:, None] if counts[labels].any() else np.empty((count, 0))
    sizes = np.maximum(_drawn(random, lengths, of_length, count) - 1 - first.shape[1], 0)  # without end token and label
    counts[[tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, *tokenizer.label_ids]] = 0
    words = np.split(_drawn(random, np.arange(len(counts)), counts, int(sizes.sum())), np.cumsum(sizes)[:-1])
    return as_split(
        [
            [tokenizer.cls_id, *map(int, label), *own.tolist(), tokenizer.sep_id]
            for label, own in zip(first, words, strict=True)
        ]
    )


def _drawn(random: np.random.Generator, values: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Draw `count` of the values, with these weights."""
    return random.choice(values, size=count, p=weights / weights.sum())


def real_text_control(
    judge: Experiment, count: int, training: TrainingSettings, batch_size: int
) -> dict[str, float | int]:
    """Compute perplexities of held-out text under a model trained on real sentences, for comparison with samples.

    The result depends on the judge alone. It is computed once and kept in the judge's folder, in
    `reverse_controls.jsonl`; a process that needs it at the same time waits.

    Args:
        judge: experiment of the judge.
        count: number of training sentences, at most all.
        training: training settings.
        batch_size: sentences that go through the model together.

    Returns:
        Perplexities of the splits `validation` and `test`, and `count`, the number of sentences trained on.
    """
    train = judge.data.splits["train"]
    count = min(count, len(train))

    def sentences() -> Dataset:
        chosen = np.sort(np.random.default_rng(training.seed).permutation(len(train))[:count])
        return as_split(train[chosen.tolist()]["input_ids"])

    return _kept({"count": count}, judge, sentences, training, batch_size)


def unigram_control(
    judge: Experiment, count: int, training: TrainingSettings, batch_size: int
) -> dict[str, float | int]:
    """Compute perplexities of held-out text under a model trained on unigrams; see `real_text_control`.

    Args:
        judge: experiment of the judge.
        count: number of sentences of `unigram_sentences`.
        training: training settings.
        batch_size: sentences that go through the model together.
    """
    key = {"count": count, "text": "unigrams"}
    return _kept(key, judge, lambda: unigram_sentences(judge.data, count), training, batch_size)


def _kept(
    key: dict[str, Any],
    judge: Experiment,
    sentences: Callable[[], Dataset],
    training: TrainingSettings,
    batch_size: int,
) -> dict[str, float | int]:
    """Return the figures of a control that the judge's folder holds, or train on its sentences and keep its figures."""
    path = judge.files.folder / "reverse_controls.jsonl"
    key = {**key, "training": dataclasses.asdict(training)}
    with turn(judge.files.folder.parent / f".{judge.files.folder.name}.controls.lock"):
        rows = read_records(path, "remove it, and run the evaluation again") if path.exists() else []
        for row in rows:
            if row["key"] == key:
                return row["figures"]
        model = train_judge(judge, sentences(), training)
        figures: dict[str, float | int] = {
            subset: perplexity(model, judge.data.splits[subset], judge.data, batch_size, f"control on {subset}")
            for subset in ("validation", "test")
        }
        figures["count"] = key["count"]
        write_records(path, [*rows, {"key": key, "figures": figures}])
        return figures
