"""Nearest training texts by meaning: the paraphrases that a comparison of words misses.

A high similarity is no proof of a copy. Short or formulaic texts are alike without one, and so the same figures of
held-out text belong beside those of samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SIMILAR = 0.9  # cosine similarity from which two texts count as alike in meaning
MOST = 20_000  # training texts that are compared
_BLOCK = 1024  # texts whose similarities are in memory at once


@dataclass(frozen=True)
class NearestInMeaning:
    """The training texts nearest to M texts by meaning.

    Args:
        similarity: [M], cosine similarity to the nearest training text, in [-1, 1].
        which: [M], number of that training text.
    """

    similarity: np.ndarray
    which: np.ndarray


def nearest_in_meaning(own: np.ndarray, train: np.ndarray) -> NearestInMeaning:
    """Find the nearest training text of each text.

    Args:
        own: [M, D] vectors of unit length.
        train: [T, D] vectors of unit length of the training texts, T > 0.
    """
    similarity, which = np.empty(len(own), dtype=np.float32), np.empty(len(own), dtype=np.int64)
    for start in range(0, len(own), _BLOCK):
        block = slice(start, start + _BLOCK)
        cosines = own[block] @ train.T  # [B, T]
        which[block] = cosines.argmax(axis=1)
        similarity[block] = cosines.max(axis=1)
    return NearestInMeaning(np.clip(similarity, -1.0, 1.0), which)


def meaning_figures(found: NearestInMeaning) -> dict[str, float]:
    """Return the share of texts alike to a training text in meaning, and the mean similarity to the nearest one."""
    return {
        "semantic_copies": float((found.similarity >= SIMILAR).mean()),
        "semantic_similarity": float(found.similarity.mean()),
    }


def closest_cases(
    found: NearestInMeaning, texts: Sequence[str], training_text: Sequence[str], known: np.ndarray, count: int
) -> list[dict[str, Any]]:
    """List the texts nearest to a training text in meaning, the nearest first.

    Args:
        found: nearest training texts of M texts.
        texts: [M], the texts.
        training_text: all training texts.
        known: [M], bool; True leaves a text out, such as a near copy in wording, which is listed elsewhere.
        count: largest number of rows.

    Returns:
        A row for each text: `number`, `text`, `similarity`, and `nearest`, the training text.
    """
    order = np.argsort(-found.similarity, kind="stable")
    return [
        {
            "number": int(number),
            "text": texts[number],
            "nearest": training_text[int(found.which[number])],
            "similarity": float(found.similarity[number]),
        }
        for number in order[~known[order]][:count]
    ]
