"""Copy check: the training sentences that are nearest to other sentences.

It finds copies and near copies of single sentences, and no paraphrases. It does not guarantee privacy.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import extractOne

from pipeline.evaluation.ngrams import Index, Sentences
from pipeline.runtime.errors import UserError

OVERLAP = 3  # tokens of the n-grams whose overlap is measured
FURTHEST = 0.5  # largest distance up to which the index finds every near sentence
BESIDE = 32  # training sentences compared beyond those that can be near
INDEXED = 200_000  # training sentences in an index at once, which bounds the memory
SLACK = 1e-9  # tolerance in comparing distances, which are fractions


@dataclass(frozen=True)
class Nearest:
    """The training sentences nearest to M sentences, by edit distance and by overlap.

    Args:
        distance: [M], smallest number of edited tokens over the tokens of the longer sentence, in [0, 1]. It is exact
            up to the threshold of the search, and never too small.
        by_distance: [M], number of that training sentence; -1 if none shares a bigram.
        overlap: [M], largest share of the sentence's 3-grams that one training sentence has, in [0, 1].
        by_overlap: [M], number of that training sentence; -1 if none shares a 3-gram.
    """

    distance: np.ndarray
    by_distance: np.ndarray
    overlap: np.ndarray
    by_overlap: np.ndarray

    @property
    def exact(self) -> np.ndarray:
        """[M], bool: True if the sentence is a training sentence word for word."""
        return self.distance == 0.0

    def edited(self, threshold: float) -> np.ndarray:
        """[M], bool: True if the edit distance is at most the threshold, exact copies included."""
        return self.distance <= threshold + SLACK

    def contained(self, threshold: float) -> np.ndarray:
        """[M], bool: True if one training sentence has all but this share of its 3-grams, exact copies included."""
        return (self.overlap >= 1.0 - threshold - SLACK) | self.exact

    def copies(self, threshold: float) -> np.ndarray:
        """[M], bool: True if the sentence is a near copy in either sense, exact copies included."""
        return self.edited(threshold) | self.contained(threshold)


def nearest(split: Dataset, train: Dataset, vocabulary: int, threshold: float, labels: Collection[int] = ()) -> Nearest:
    """Find the training sentences nearest to the sentences of a split.

    If the longer of two sentences has L tokens and k edits separate them, they share at least `L + 1 - 2k` bigrams,
    start and end included (Ukkonen 1992). So an index of bigrams finds every sentence that can be within the threshold.
    The search compares these, and the `BESIDE` sentences that share the largest part of their bigrams.

    Args:
        split: token ids of M sentences, by the tokenizer of the data.
        train: training split.
        vocabulary: size of the tokenizer's vocabulary.
        threshold: distance in [0, `FURTHEST`] up to which no training sentence is missed.
        labels: ids of label tokens, which are ignored: a copy under another label is a copy.

    Raises:
        UserError: the threshold is out of range.
    """
    if not 0.0 <= threshold <= FURTHEST:
        raise UserError(f"near copies can be found up to a distance of {FURTHEST}, got {threshold}")
    own, count = Sentences.of(split, labels), len(split)
    best = Nearest(np.ones(count), np.full(count, -1), np.zeros(count), np.full(count, -1))
    for start in range(0, len(train), INDEXED):
        known = Sentences.of(train.select(range(start, min(start + INDEXED, len(train)))), labels)
        distance, by_distance = _by_distance(own, known, vocabulary, threshold)
        overlap, by_overlap = _by_overlap(own, known, vocabulary)
        nearer = (by_distance >= 0) & ((best.by_distance < 0) | (distance < best.distance))
        more = overlap > best.overlap
        best = Nearest(
            np.where(nearer, distance, best.distance),
            np.where(nearer, by_distance + start, best.by_distance),
            np.where(more, overlap, best.overlap),
            np.where(more, by_overlap + start, best.by_overlap),
        )
    return best


def _by_distance(own: Sentences, known: Sentences, vocabulary: int, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest edit distance of each sentence [M], and the number of that known sentence [M]."""
    distance, which = np.ones(len(own)), np.full(len(own), -1)
    lengths, others = own.words, known.words
    for number, found, shared in Index(known, 2, vocabulary).shared(own):
        if not len(found):
            continue
        longer = np.maximum(lengths[number], others[found])
        edits = np.floor(threshold * longer + SLACK)
        can_be_near = (shared >= longer + 1 - 2 * edits) & (np.abs(lengths[number] - others[found]) <= edits)
        # Lower bound of the distance, from the shared bigrams.
        least = np.maximum(longer + 1 - shared, 0) / (2 * np.maximum(longer, 1))
        if len(found) > BESIDE:
            can_be_near[np.argpartition(least, BESIDE)[:BESIDE]] = True
        else:
            can_be_near[:] = True
        compared = np.sort(found[can_be_near])  # in order: the first of several equally near ones wins
        texts = [known.text(candidate) for candidate in compared]
        _, distance[number], place = extractOne(own.text(number), texts, scorer=Levenshtein.normalized_distance)
        which[number] = compared[place]
    return distance, which


def _by_overlap(own: Sentences, known: Sentences, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest overlap of each sentence [M], and the number of that known sentence [M]."""
    overlap, which = np.zeros(len(own)), np.full(len(own), -1)
    counts = np.maximum(own.words + 2 - OVERLAP + 1, 1)
    for number, found, shared in Index(known, OVERLAP, vocabulary).shared(own):
        if len(found):
            most = shared.max()
            overlap[number], which[number] = most / counts[number], found[shared == most].min()
    return overlap, which


def copy_figures(found: Nearest, threshold: float) -> dict[str, float]:
    """Summarise the nearest training sentences of a text.

    Args:
        found: nearest training sentences.
        threshold: largest distance of a near copy.

    Returns:
        Shares of exact copies and of near copies by edits, by overlap and in either sense; mean distance and mean
        overlap.
    """
    return {
        "exact_copies": float(found.exact.mean()),
        "near_copies_by_edits": float(found.edited(threshold).mean()),
        "near_copies_by_overlap": float(found.contained(threshold).mean()),
        "near_copies": float(found.copies(threshold).mean()),
        "nearest_distance": float(found.distance.mean()),
        "nearest_overlap": float(found.overlap.mean()),
    }


def worst_cases(found: Nearest, texts: Sequence[str], training_text: Sequence[str], count: int) -> list[dict[str, Any]]:
    """List the sentences nearest to a training sentence, the nearest first.

    Args:
        found: nearest training sentences of M sentences.
        texts: [M], the sentences as text.
        training_text: all training sentences as text.
        count: largest number of rows.

    Returns:
        A row for each sentence: `number`, `text`, `distance`, `overlap`, and `nearest`, the training sentence that is
        nearest by distance, or by overlap if that is nearer.
    """
    nearness = np.minimum(found.distance, 1.0 - found.overlap)
    rows = []
    for number in np.lexsort((-found.overlap, found.distance, nearness))[:count]:
        by_edits = found.distance[number] <= 1.0 - found.overlap[number]
        training = int((found.by_distance if by_edits else found.by_overlap)[number])
        if training >= 0:
            rows.append(
                {
                    "number": int(number),
                    "text": texts[number],
                    "nearest": training_text[training],
                    "distance": float(found.distance[number]),
                    "overlap": float(found.overlap[number]),
                }
            )
    return rows
