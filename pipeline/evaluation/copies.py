"""A check for copies: sentences beside the training sentences that are nearest to them.

It finds copies and near copies of single sentences. It is no guarantee of anybody's privacy: what a paraphrase gives
away, it does not see.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluation.ngrams import Index, Sentences
from pipeline.runtime.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

OVERLAP = 3  # tokens of the n-grams whose overlap is taken
FURTHEST = 0.5  # the index finds everything up to this distance
BESIDE = 32  # training sentences that are compared beyond those that can be near
INDEXED = 200_000  # training sentences in an index at once: what bounds the memory
SLACK = 1e-9  # of distances, which are fractions


@dataclass(frozen=True)
class Nearest:
    """The training sentences that are nearest to M sentences, in two senses.

    Args:
        distance: [M], edits of tokens over the tokens of the longer sentence, in [0, 1]; exact up to the threshold
            that was asked for, above it at least as large as the exact one.
        by_distance: [M], number of that training sentence; -1 where none shares anything.
        overlap: [M], share of the sentence's 3-grams that one training sentence holds, in [0, 1], the largest.
        by_overlap: [M], number of that training sentence; -1 where none shares any.
    """

    distance: np.ndarray
    by_distance: np.ndarray
    overlap: np.ndarray
    by_overlap: np.ndarray

    @property
    def exact(self) -> np.ndarray:
        """[M], bool: word for word a training sentence."""
        return self.distance == 0.0

    def edited(self, threshold: float) -> np.ndarray:
        """[M], bool: not more edits away from a training sentence than this, exact copies included."""
        return self.distance <= threshold + SLACK

    def contained(self, threshold: float) -> np.ndarray:
        """[M], bool: all but this share of its 3-grams stand in one training sentence, exact copies included."""
        return (self.overlap >= 1.0 - threshold - SLACK) | self.exact

    def copies(self, threshold: float) -> np.ndarray:
        """[M], bool: a near copy in either sense, exact copies included."""
        return self.edited(threshold) | self.contained(threshold)


def nearest(
    split: "Dataset", train: "Dataset", vocabulary: int, threshold: float, labels: Collection[int] = ()
) -> Nearest:
    """Find the nearest training sentences.

    Two sentences of which the longer has L tokens, k edits apart, share at least `L + 1 - 2k` bigrams, start and end
    counted (Ukkonen 1992): so an index of bigrams finds all that may be within the threshold, and only these are
    compared, besides the few that share most with a sentence.

    Args:
        split: the sentences' ids, by the data's tokenizer.
        train: the training split.
        vocabulary: size of the tokenizer's.
        threshold: distance up to which nothing is missed, at most `FURTHEST`.
        labels: ids of tokens that are no words: a copy under another label is a copy.

    Raises:
        UserError: the threshold is larger.
    """
    if not 0.0 <= threshold <= FURTHEST:
        raise UserError(f"near copies can be told up to a distance of {FURTHEST}, got {threshold}")
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
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import extractOne

    distance, which = np.ones(len(own)), np.full(len(own), -1)
    lengths, others = own.words, known.words
    for number, found, shared in Index(known, 2, vocabulary).shared(own):
        if not len(found):
            continue
        longer = np.maximum(lengths[number], others[found])
        edits = np.floor(threshold * longer + SLACK)
        can_be_near = (shared >= longer + 1 - 2 * edits) & (np.abs(lengths[number] - others[found]) <= edits)
        # The fewest edits that the bigrams leave possible, over the length.
        least = np.maximum(longer + 1 - shared, 0) / (2 * np.maximum(longer, 1))
        if len(found) > BESIDE:
            can_be_near[np.argpartition(least, BESIDE)[:BESIDE]] = True
        else:
            can_be_near[:] = True
        compared = np.sort(found[can_be_near])  # of several as near, the first
        texts = [known.text(candidate) for candidate in compared]
        _, distance[number], place = extractOne(own.text(number), texts, scorer=Levenshtein.normalized_distance)
        which[number] = compared[place]
    return distance, which


def _by_overlap(own: Sentences, known: Sentences, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    overlap, which = np.zeros(len(own)), np.full(len(own), -1)
    counts = np.maximum(own.words + 2 - OVERLAP + 1, 1)
    for number, found, shared in Index(known, OVERLAP, vocabulary).shared(own):
        if len(found):
            most = shared.max()
            overlap[number], which[number] = most / counts[number], found[shared == most].min()
    return overlap, which


def copy_figures(found: Nearest, threshold: float) -> dict[str, float]:
    """Figures of the copies among sentences: shares of them, and how near they are to the training split."""
    return {
        "exact_copies": float(found.exact.mean()),
        "near_copies_by_edits": float(found.edited(threshold).mean()),
        "near_copies_by_overlap": float(found.contained(threshold).mean()),
        "near_copies": float(found.copies(threshold).mean()),
        "nearest_distance": float(found.distance.mean()),
        "nearest_overlap": float(found.overlap.mean()),
    }


def worst_cases(found: Nearest, texts: Sequence[str], training_text: Sequence[str], count: int) -> list[dict[str, Any]]:
    """The sentences that are nearest to a training sentence, the nearest first.

    Args:
        found: of the sentences.
        texts: theirs.
        training_text: of all training sentences.
        count: how many, at most.

    Returns:
        A row each: `number`, `text`, `distance`, `overlap`, and `nearest`, the training sentence by distance, or by
        overlap where the sentence is nearer to that one in its sense.
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
