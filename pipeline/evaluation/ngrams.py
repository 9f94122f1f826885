"""n-grams of token ids, each as one number: how texts' distributions of them differ, and which they share."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset
    from scipy.sparse import csr_matrix

POSTINGS = 20_000_000  # entries of an index that are looked up at once: what bounds the memory


@dataclass(frozen=True)
class Sentences:
    """Sentences `[CLS] x_1 … x_{n-1} [SEP]` in one row.

    Args:
        ids: [T], token ids, sentence after sentence.
        starts: [M + 1], where each begins, and the end of the last.
    """

    ids: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, split: "Dataset", leave_out: Collection[int] = ()) -> "Sentences":
        """Those of a split, without certain tokens: labels are no words, and a text under another one is the same."""
        import pyarrow

        column = split.with_format("arrow")[:]["input_ids"]
        if isinstance(column, pyarrow.ChunkedArray):
            column = column.combine_chunks()
        sizes = column.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
        ids = column.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        if leave_out:
            kept = ~np.isin(ids, list(leave_out))
            ids, starts = ids[kept], np.concatenate([[0], np.cumsum(kept)])[starts]
        return cls(ids, starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def words(self) -> np.ndarray:
        """[M], tokens of each without [CLS] and [SEP]."""
        return np.diff(self.starts) - 2

    def text(self, number: int) -> str:
        """A sentence's words as the letters of a string, each token one letter."""
        words = self.ids[self.starts[number] + 1 : self.starts[number + 1] - 1]
        return words.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def grams(self, n: int, vocabulary: int, ends: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """All n-grams within sentences.

        Args:
            n: tokens of each.
            vocabulary: size of it; n-grams of at most 63 bits fit.
            ends: whether [CLS] and [SEP] count as tokens, so that a sentence of n - 1 words has two n-grams more.

        Returns:
            [G] their numbers, and [G] those of their sentences.
        """
        inset = 0 if ends else 1
        sizes = np.diff(self.starts) - 2 * inset
        sentence = np.repeat(np.arange(len(sizes)), np.maximum(sizes - n + 1, 0))
        first = np.cumsum(np.maximum(sizes - n + 1, 0)) - np.maximum(sizes - n + 1, 0)
        begins = self.starts[sentence] + inset + np.arange(len(sentence)) - first[sentence]
        codes = np.zeros(len(begins), dtype=np.int64)
        for offset in range(n):
            codes = codes * vocabulary + self.ids[begins + offset]
        return codes, sentence


def divergence(own: np.ndarray, reference: np.ndarray) -> float:
    """Jensen-Shannon divergence of two texts' distributions of n-grams, in bits, in [0, 1].

    Args:
        own: [G], the n-grams of one, as often as they stand there.
        reference: [R], those of the other.
    """
    if not len(own) or not len(reference):
        return float(len(own) != len(reference))
    _, which = np.unique(np.concatenate([own, reference]), return_inverse=True)
    p, q = (np.bincount(part, minlength=which.max() + 1) / len(part) for part in np.split(which, [len(own)]))
    middle = (p + q) / 2
    return float(sum(np.sum(part[part > 0] * np.log2(part[part > 0] / middle[part > 0])) for part in (p, q)) / 2)


def covered(own: np.ndarray, reference: np.ndarray) -> float:
    """The share of a reference's n-grams, as often as they stand there, that a text has too."""
    return float(np.isin(reference, own).mean()) if len(reference) else 0.0


class Index:
    """An inverted index: which sentences hold an n-gram, [CLS] and [SEP] counted.

    Args:
        sentences: indexed.
        n: tokens of an n-gram.
        vocabulary: size of it.
    """

    def __init__(self, sentences: Sentences, n: int, vocabulary: int) -> None:
        from scipy.sparse import csr_matrix

        self.n, self.vocabulary = n, vocabulary
        codes, sentence = sentences.grams(n, vocabulary, ends=True)
        self.known, rows = np.unique(codes, return_inverse=True)
        shape = (len(self.known), len(sentences))
        self.postings = csr_matrix((np.ones(len(rows), dtype=np.int32), (rows, sentence)), shape=shape)
        self.postings.sum_duplicates()
        self.postings.data[:] = 1

    def shared(self, sentences: Sentences) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Which indexed sentences share n-grams with each of others, in order.

        Yields:
            A sentence's number, those of the indexed ones [C], in any order, and how many of its n-grams each has [C].
        """
        own = self._rows(sentences)
        cost = own @ np.diff(self.postings.indptr)  # postings looked up for each
        block = np.cumsum(cost) // POSTINGS
        for rows in np.split(np.arange(len(sentences)), np.flatnonzero(np.diff(block)) + 1):
            found = own[rows] @ self.postings
            for number, start, end in zip(rows, found.indptr, found.indptr[1:], strict=False):
                yield int(number), found.indices[start:end], found.data[start:end]

    def _rows(self, sentences: Sentences) -> "csr_matrix":
        """How often each sentence holds each n-gram that is known."""
        from scipy.sparse import csr_matrix

        codes, sentence = sentences.grams(self.n, self.vocabulary, ends=True)
        where = np.minimum(np.searchsorted(self.known, codes), max(len(self.known) - 1, 0))
        found = self.known[where] == codes if len(self.known) else np.zeros(len(codes), dtype=bool)
        shape = (len(sentences), len(self.known))
        ones = np.ones(int(found.sum()), dtype=np.int32)
        return csr_matrix((ones, (sentence[found], where[found])), shape=shape)
