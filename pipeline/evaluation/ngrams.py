"""n-grams of token ids, each coded as one number: divergence, coverage, and an index of sentences."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow
from datasets import Dataset
from scipy.sparse import csr_matrix

POSTINGS = 20_000_000  # entries of an index that are looked up at once, which bounds the memory


@dataclass(frozen=True)
class Sentences:
    """M sentences `[CLS] x_1 … x_{n-1} [SEP]` in one row of T tokens.

    Args:
        ids: [T], token ids, sentence after sentence.
        starts: [M + 1], position of the first token of each sentence, and T.
    """

    ids: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, split: Dataset, leave_out: Collection[int] = ()) -> "Sentences":
        """Read the sentences of a split, without the tokens to leave out, such as labels."""
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
        """[M], number of tokens of each sentence without [CLS] and [SEP]."""
        return np.diff(self.starts) - 2

    def text(self, number: int) -> str:
        """Code the words of a sentence as a string, one letter for each token."""
        words = self.ids[self.starts[number] + 1 : self.starts[number + 1] - 1]
        return words.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def grams(self, n: int, vocabulary: int, ends: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Code all n-grams within sentences as numbers.

        Args:
            n: number of tokens of an n-gram.
            vocabulary: size of the vocabulary; vocabulary^n must fit into 63 bits.
            ends: True if [CLS] and [SEP] count as tokens.

        Returns:
            [G], codes of the n-grams, and [G], numbers of their sentences.
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
    """Jensen-Shannon divergence of the n-gram distributions of two texts, in bits, in [0, 1].

    Args:
        own: [G], codes of all n-grams of one text.
        reference: [R], codes of all n-grams of the other.
    """
    if not len(own) or not len(reference):
        return float(len(own) != len(reference))
    _, which = np.unique(np.concatenate([own, reference]), return_inverse=True)
    p, q = (np.bincount(part, minlength=which.max() + 1) / len(part) for part in np.split(which, [len(own)]))
    middle = (p + q) / 2
    return float(sum(np.sum(part[part > 0] * np.log2(part[part > 0] / middle[part > 0])) for part in (p, q)) / 2)


def covered(own: np.ndarray, reference: np.ndarray) -> float:
    """Share of the n-grams of a reference that a text has too, in [0, 1].

    Args:
        own: [G], codes of all n-grams of the text.
        reference: [R], codes of all n-grams of the reference, repetitions included.
    """
    return float(np.isin(reference, own).mean()) if len(reference) else 0.0


class Index:
    """Inverted index from n-grams to the sentences that have them; [CLS] and [SEP] count as tokens.

    Args:
        sentences: sentences to index.
        n: number of tokens of an n-gram.
        vocabulary: size of the vocabulary.
    """

    def __init__(self, sentences: Sentences, n: int, vocabulary: int) -> None:
        self.n, self.vocabulary = n, vocabulary
        codes, sentence = sentences.grams(n, vocabulary, ends=True)
        self.known, rows = np.unique(codes, return_inverse=True)
        shape = (len(self.known), len(sentences))
        self.postings = csr_matrix((np.ones(len(rows), dtype=np.int32), (rows, sentence)), shape=shape)
        self.postings.sum_duplicates()
        self.postings.data[:] = 1

    def shared(self, sentences: Sentences) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Look up the indexed sentences that share n-grams with each of other sentences.

        Yields:
            Number of the sentence, in order; [C], numbers of the indexed sentences that share any n-gram with it, in
            any order; [C], how many of its n-grams each of them has.
        """
        own = self._rows(sentences)
        cost = own @ np.diff(self.postings.indptr)  # postings looked up for each
        block = np.cumsum(cost) // POSTINGS
        for rows in np.split(np.arange(len(sentences)), np.flatnonzero(np.diff(block)) + 1):
            found = own[rows] @ self.postings
            for number, start, end in zip(rows, found.indptr, found.indptr[1:], strict=False):
                yield int(number), found.indices[start:end], found.data[start:end]

    def _rows(self, sentences: Sentences) -> csr_matrix:
        """Count each indexed n-gram in each sentence: [sentences, n-grams]."""
        codes, sentence = sentences.grams(self.n, self.vocabulary, ends=True)
        where = np.minimum(np.searchsorted(self.known, codes), max(len(self.known) - 1, 0))
        found = self.known[where] == codes if len(self.known) else np.zeros(len(codes), dtype=bool)
        shape = (len(sentences), len(self.known))
        ones = np.ones(int(found.sum()), dtype=np.int32)
        return csr_matrix((ones, (sentence[found], where[found])), shape=shape)
