"""Usefulness of synthetic text: a classifier trained on it in place of real text, and tested on real text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from pipeline.evaluation.bootstrap import Estimate, score_estimate
from pipeline.runtime.errors import UserError

COLUMN = "label"


@dataclass(frozen=True)
class Labelled:
    """Texts with one label each.

    Raises:
        ValueError: the numbers of texts and labels differ.
    """

    texts: list[str]
    labels: list[str]

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise ValueError(f"{len(self.texts)} texts have {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.texts)

    def some(self, count: int, seed: int = 0) -> "Labelled":
        """Choose at most `count` random texts, in order."""
        numbers = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        return Labelled([self.texts[n] for n in numbers], [self.labels[n] for n in numbers])


@dataclass(frozen=True)
class Usefulness:
    """Accuracy and macro F1 of a classifier on real test text, both in [0, 1]."""

    accuracy: Estimate
    macro_f1: Estimate


def labelled_split(split: Dataset, decode: Callable[[list[list[int]]], list[str]]) -> Labelled | None:
    """Read the texts of a split that have a label.

    Args:
        split: token ids, with or without a column `label`.
        decode: function that turns token ids into texts.

    Returns:
        The texts, or None if no text has a label.
    """
    return _with_label(decode(split["input_ids"][:]), split[COLUMN]) if COLUMN in split.column_names else None


def labelled_samples(rows: Sequence[dict[str, Any]], real: Labelled) -> Labelled | None:
    """Read the samples that have a label.

    Args:
        rows: rows of `samples.jsonl`.
        real: training text with its labels.

    Returns:
        The samples, or None if no sample has a label.

    Raises:
        UserError: the real text has none of the samples' labels.
    """
    samples = _with_label([row["text"] for row in rows], [row.get(COLUMN) for row in rows])
    if samples is not None and not set(samples.labels) & set(real.labels):
        raise UserError(
            f"the samples have the labels {', '.join(sorted(set(samples.labels))[:5])}, of which the training text has "
            f"none (it has {', '.join(sorted(set(real.labels))[:5])}); generate them anew with sample.py"
        )
    return samples


def usefulness(train: Labelled, test: Labelled) -> Usefulness:
    """Train a classifier and test it: logistic regression on TF-IDF of words and pairs of words.

    Args:
        train: text that it learns from.
        test: real text. The intervals draw it again.
    """
    # Imported here: heavy, and only labelled data needs it.
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    if len(set(train.labels)) < 2:  # a classifier needs two labels
        return majority(train, test)
    # Every word counts, [UNK] included. A text without words is a row of zeros.
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")
    if not any(text.strip() for text in train.texts):
        return majority(train, test)
    classifier = make_pipeline(words, LogisticRegression(max_iter=1000)).fit(train.texts, train.labels)
    return _scored(classifier.predict(test.texts), test)


def majority(train: Labelled, test: Labelled) -> Usefulness:
    """Test the classifier that always answers the most common label of the training text."""
    names, counts = np.unique(train.labels, return_counts=True)
    return _scored(np.full(len(test), names[counts.argmax()]), test)


def _scored(predicted: np.ndarray, test: Labelled) -> Usefulness:
    """Score predicted labels against those of the test text."""
    names = np.unique(test.labels)
    truth, guess = (np.searchsorted(names, values) for values in (test.labels, predicted))
    guess = np.where(np.isin(predicted, names), guess, len(names))  # a label that the test text lacks
    confusion = truth * (len(names) + 1) + guess

    def accuracy(chosen: np.ndarray) -> float:
        return float((truth[chosen] == guess[chosen]).mean())

    def macro_f1(chosen: np.ndarray) -> float:
        counts = np.bincount(confusion[chosen], minlength=len(names) * (len(names) + 1)).reshape(len(names), -1)
        right = counts.diagonal()
        both = counts.sum(axis=1) + counts[:, :-1].sum(axis=0)
        return float((2 * right / np.maximum(both, 1))[counts.sum(axis=1) > 0].mean())

    return Usefulness(score_estimate(accuracy, len(test)), score_estimate(macro_f1, len(test)))


def _with_label(texts: Sequence[str], labels: Sequence[Any]) -> Labelled | None:
    """Pair texts with their labels and leave out those without one; None if none is left."""
    pairs = [(text, str(label)) for text, label in zip(texts, labels, strict=True) if label is not None]
    return Labelled([text for text, _ in pairs], [label for _, label in pairs]) if pairs else None
