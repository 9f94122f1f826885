"""Diversity, novelty and lengths of sentences, which a language model's perplexity does not show."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from sacrebleu.metrics.bleu import BLEU

from pipeline.data.dataset import PreparedData
from pipeline.evaluation.ngrams import Sentences
from pipeline.generation.known_texts import KnownTexts

# The share of repeated n-grams grows with the number of sentences, and BLEU with the number of references. So both are
# measured on a fixed number of sentences.
DISTINCT_SENTENCES = 500
SELF_BLEU_SENTENCES = 100


@dataclass(frozen=True)
class Tokens:
    """The M words of many sentences in one row, without [CLS] and [SEP].

    Args:
        ids: [M], token ids.
        sentence: [M], number of the sentence of each word.
        left: [M], number of words from each to the end of its sentence, itself included.
        count: number of sentences. Some may be empty.
    """

    ids: np.ndarray
    sentence: np.ndarray
    left: np.ndarray
    count: int

    @classmethod
    def of(cls, split: Dataset, leave_out: Collection[int] = ()) -> "Tokens":
        """Read the words of a split, without the tokens to leave out; sentences are `[CLS] x_1 … x_{n-1} [SEP]`."""
        every = Sentences.of(split, leave_out)
        sizes = np.diff(every.starts)
        position = _within(sizes)
        words = (position > 0) & (position < np.repeat(sizes, sizes) - 1)
        sentence = np.repeat(np.arange(len(sizes)), sizes)[words]
        left = (np.repeat(sizes, sizes) - 1 - position)[words]
        return cls(every.ids[words], sentence, left, len(sizes))

    def sentences(self) -> list[bytes]:
        """Return the token ids of each sentence as bytes, for comparison."""
        ends = np.cumsum(np.bincount(self.sentence, minlength=self.count))
        return [part.tobytes() for part in np.split(self.ids, ends[:-1])]


def text_figures(split: Dataset, data: PreparedData, known: KnownTexts | None = None) -> dict[str, float]:
    """Measure diversity, novelty and lengths of sentences against the training split.

    Label tokens are ignored. Diversity is measured on fixed numbers of random sentences, drawn with a fixed seed.

    Args:
        split: token ids of the sentences, by the tokenizer of the data.
        data: prepared data.
        known: index of its training texts; built if None.

    Returns:
        `distinct_1`, `distinct_2`, `distinct_3`: number of different n-grams over number of n-grams;
        `self_bleu`: BLEU of a sentence against the others, in [0, 100];
        `exact_training_fraction`: share of sentences that are training texts, apart from case and white space at
        their ends;
        `training_run_fraction`: share of sentences that have `LONG_RUN` words in a row of a training text;
        `longest_training_ngram`: mean length in tokens of the longest n-gram that a sentence shares with it;
        `length_divergence`: Jensen-Shannon divergence of the lengths from those of the training split, in bits.
    """
    labels = data.tokenizer.label_ids
    tokens, train = Tokens.of(split, labels), Tokens.of(data.splits["train"], labels)
    texts = data.tokenizer.decode_batch(split["input_ids"])
    some = Tokens.of(split.select(_chosen(len(split), DISTINCT_SENTENCES)), labels)
    return {
        **{f"distinct_{n}": distinct(some, n) for n in (1, 2, 3)},
        "self_bleu": self_bleu(texts),
        **(known or KnownTexts.of(data)).repeats(texts).shares(),
        "longest_training_ngram": float(longest_shared(tokens, train).mean()),
        "length_divergence": length_divergence(Counter(split["length"]), data.length_distribution),
    }


def _chosen(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Choose at most `size` random numbers below `count`, in order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:size])


def distinct(tokens: Tokens, n: int) -> float:
    """Number of different n-grams over number of n-grams (Li et al. 2016), in (0, 1]; 0 if there are none."""
    starts = np.flatnonzero(tokens.left >= n)
    if not len(starts):
        return 0.0
    grams = tokens.ids[starts[:, None] + np.arange(n)]  # [starts, n]
    return len(np.unique(grams, axis=0)) / len(starts)


def self_bleu(texts: Sequence[str], seed: int = 0) -> float:
    """Mean BLEU of a sentence against the others (Zhu et al. 2018), in [0, 100]; high if they repeat each other.

    Args:
        texts: sentences, of which `SELF_BLEU_SENTENCES` are chosen; fewer than two give 0.
        seed: seed of the choice.
    """
    if len(texts) < 2:
        return 0.0
    chosen = [texts[int(number)] for number in _chosen(len(texts), SELF_BLEU_SENTENCES, seed)]
    metric = BLEU(effective_order=True, force=True)
    scores = [metric.sentence_score(text, chosen[:row] + chosen[row + 1 :]).score for row, text in enumerate(chosen)]
    return float(np.mean(scores))


def longest_shared(tokens: Tokens, train: Tokens) -> np.ndarray:
    """Find the longest n-gram that each sentence shares with any training sentence.

    n grows by one, and only the n-grams that are shared go on to the next n.

    Returns:
        [sentences], length in tokens.
    """
    longest = np.zeros(tokens.count, dtype=np.int64)
    # Polynomials of a random 64-bit number for each token: two n-grams collide with a chance of about 2^-64.
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
        lengths: number of sentences by length.
        reference: number of other sentences by length.
    """
    support = sorted({*lengths, *reference})
    p, q = (np.array([counts.get(n, 0) for n in support], dtype=float) for counts in (lengths, reference))
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    halves = [np.sum(part[part > 0] * np.log2(part[part > 0] / middle[part > 0])) for part in (p, q)]
    return float(sum(halves) / 2)


class _Grams:
    """Hashes of the n-grams of sentences, for n that grows by one."""

    def __init__(self, tokens: Tokens, codes: np.ndarray) -> None:
        self.tokens = tokens
        self.codes = codes
        self.length = 0
        self.starts = np.arange(len(tokens.ids))
        self.hashes = np.zeros(len(tokens.ids), dtype=np.uint64)

    def lengthen(self) -> None:
        """Make the n-grams one token longer and drop those that exceed their sentence."""
        self.length += 1
        self.keep(self.tokens.left[self.starts] >= self.length)
        following = self.tokens.ids[self.starts + self.length - 1]
        self.hashes = self.hashes * np.uint64(0x9E3779B97F4A7C15) + self.codes[following]

    def keep(self, which: np.ndarray) -> None:
        """Keep only the n-grams for which `which` is True."""
        self.starts, self.hashes = self.starts[which], self.hashes[which]


def _within(sizes: np.ndarray) -> np.ndarray:
    """Positions within consecutive rows of these sizes: 0 1 2 0 1 …"""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
