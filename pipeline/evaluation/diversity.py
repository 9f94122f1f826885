"""What a language model's judgement does not show: how varied sentences are, how new, and how long."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.evaluation.ngrams import Sentences

if TYPE_CHECKING:
    from datasets import Dataset

    from pipeline.data.dataset import PreparedData

# Of more sentences more n-grams are repetitions, and more references find more of a sentence: figures of a text are
# comparable with those of as many sentences alone.
DISTINCT_SENTENCES = 500
SELF_BLEU_SENTENCES = 100


@dataclass(frozen=True)
class Tokens:
    """The words of many sentences in one row, without [CLS] and [SEP].

    Args:
        ids: [M], token ids.
        sentence: [M], the number of the sentence that each stands in.
        left: [M], tokens from each to its sentence's end, itself counted.
        count: sentences, of which some may be empty.
    """

    ids: np.ndarray
    sentence: np.ndarray
    left: np.ndarray
    count: int

    @classmethod
    def of(cls, split: "Dataset", leave_out: Collection[int] = ()) -> "Tokens":
        """The words of a split whose sentences are `[CLS] x_1 … x_{n-1} [SEP]`, without certain tokens."""
        every = Sentences.of(split, leave_out)
        sizes = np.diff(every.starts)
        position = _within(sizes)
        words = (position > 0) & (position < np.repeat(sizes, sizes) - 1)
        sentence = np.repeat(np.arange(len(sizes)), sizes)[words]
        left = (np.repeat(sizes, sizes) - 1 - position)[words]
        return cls(every.ids[words], sentence, left, len(sizes))

    def sentences(self) -> list[bytes]:
        """Each sentence's ids, as bytes to compare."""
        ends = np.cumsum(np.bincount(self.sentence, minlength=self.count))
        return [part.tobytes() for part in np.split(self.ids, ends[:-1])]


def text_figures(split: "Dataset", data: "PreparedData") -> dict[str, float]:
    """How varied, how new and how long sentences are, against the training split.

    A label's token is no word. How varied they are is measured on fixed numbers of them, taken at random under a fixed
    seed.

    Args:
        split: the sentences' ids, by the data's tokenizer.
        data: prepared.

    Returns:
        `distinct_1`, `_2`, `_3`: different n-grams of tokens over all; `self_bleu`;
        `exact_training_fraction`: sentences that stand in the training split as they are;
        `longest_training_ngram`: tokens of the longest n-gram that a sentence shares with it, on average;
        `length_divergence`: of the distribution of lengths from its own, in bits.
    """
    labels = data.tokenizer.label_ids
    tokens, train = Tokens.of(split, labels), Tokens.of(data.splits["train"], labels)
    known = set(train.sentences())
    some = Tokens.of(split.select(_chosen(len(split), DISTINCT_SENTENCES)), labels)
    return {
        **{f"distinct_{n}": distinct(some, n) for n in (1, 2, 3)},
        "self_bleu": self_bleu(data.tokenizer.decode_batch(split["input_ids"])),
        "exact_training_fraction": sum(ids in known for ids in tokens.sentences()) / tokens.count,
        "longest_training_ngram": float(longest_shared(tokens, train).mean()),
        "length_divergence": length_divergence(Counter(split["length"]), data.length_distribution),
    }


def _chosen(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Numbers of at most `size` of `count` sentences, in order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:size])


def distinct(tokens: Tokens, n: int) -> float:
    """Different n-grams over all n-grams, within sentences, in (0, 1] (Li et al. 2016); 0 where there are none."""
    starts = np.flatnonzero(tokens.left >= n)
    if not len(starts):
        return 0.0
    grams = tokens.ids[starts[:, None] + np.arange(n)]  # [starts, n]
    return len(np.unique(grams, axis=0)) / len(starts)


def self_bleu(texts: Sequence[str], seed: int = 0) -> float:
    """BLEU of a sentence against the others, on average, in [0, 100]: high where they repeat each other.

    Zhu et al. (2018), on `SELF_BLEU_SENTENCES` sentences. 0 of fewer than two.
    """
    from sacrebleu.metrics import BLEU

    if len(texts) < 2:
        return 0.0
    texts = [texts[number] for number in _chosen(len(texts), SELF_BLEU_SENTENCES, seed)]
    metric = BLEU(effective_order=True, force=True)
    scores = [metric.sentence_score(text, texts[:row] + texts[row + 1 :]).score for row, text in enumerate(texts)]
    return float(np.mean(scores))


def longest_shared(tokens: Tokens, train: Tokens) -> np.ndarray:
    """Tokens of the longest n-gram that each sentence shares with any training sentence: [sentences].

    Length by length: only what is shared at one length can be longer, so each length has less to compare.
    """
    longest = np.zeros(tokens.count, dtype=np.int64)
    # A random number of 64 bits for each token, and polynomials of them: two n-grams collide once in 2^64.
    vocabulary = 1 + max(tokens.ids.max(initial=0), train.ids.max(initial=0))
    codes = np.random.default_rng(0).integers(0, 2**64, size=vocabulary, dtype=np.uint64)
    own, known = _Grams(tokens, codes), _Grams(train, codes)
    while len(own.starts) and len(known.starts):
        own.lengthen()
        known.lengthen()
        own.keep(np.isin(own.hashes, known.hashes))
        known.keep(np.isin(known.hashes, own.hashes))
        longest[tokens.sentence[own.starts]] = own.length
    return longest


def length_divergence(lengths: Mapping[int, int], reference: Mapping[int, int]) -> float:
    """Jensen-Shannon divergence of two distributions of lengths, in bits, in [0, 1].

    Args:
        lengths: how many sentences have each length.
        reference: the same of other sentences.
    """
    support = sorted({*lengths, *reference})
    p, q = (np.array([counts.get(n, 0) for n in support], dtype=float) for counts in (lengths, reference))
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    halves = [np.sum(part[part > 0] * np.log2(part[part > 0] / middle[part > 0])) for part in (p, q)]
    return float(sum(halves) / 2)


class _Grams:
    """All n-grams of sentences by their hashes, n growing by one."""

    def __init__(self, tokens: Tokens, codes: np.ndarray) -> None:
        self.tokens = tokens
        self.codes = codes
        self.length = 0
        self.starts = np.arange(len(tokens.ids))
        self.hashes = np.zeros(len(tokens.ids), dtype=np.uint64)

    def lengthen(self) -> None:
        """To n-grams one token longer; those that would leave their sentence go."""
        self.length += 1
        self.keep(self.tokens.left[self.starts] >= self.length)
        following = self.tokens.ids[self.starts + self.length - 1]
        self.hashes = self.hashes * np.uint64(0x9E3779B97F4A7C15) + self.codes[following]

    def keep(self, which: np.ndarray) -> None:
        """Go on with these alone."""
        self.starts, self.hashes = self.starts[which], self.hashes[which]


def _within(sizes: np.ndarray) -> np.ndarray:
    """Positions within rows of these sizes, the rows one after the other: 0 1 2 0 1 …"""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
