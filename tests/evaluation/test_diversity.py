"""Diversity, novelty and lengths against slow and plain computations."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from pipeline.evaluation.diversity import Tokens, distinct, length_divergence, longest_shared, self_bleu, text_figures
from pipeline.evaluation.judge import as_split


def sentences(count: int, seed: int, words: int = 6) -> list[list[int]]:
    draw = random.Random(seed)
    return [[2, *(draw.randrange(5, 5 + words) for _ in range(draw.randrange(9))), 3] for _ in range(count)]


def grams(ids: list[int], n: int) -> list[tuple[int, ...]]:
    words = ids[1:-1]
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_distinct_counts_different_n_grams_within_sentences(n: int):
    texts = sentences(40, seed=1)
    every = [gram for ids in texts for gram in grams(ids, n)]
    assert distinct(Tokens.of(as_split(texts)), n) == pytest.approx(len(set(every)) / len(every))
    assert distinct(Tokens.of(as_split([[2, 3], [2, 7, 3]])), 2) == 0.0


def test_the_longest_training_n_gram_is_that_of_a_plain_search():
    texts, train = sentences(60, seed=1), sentences(80, seed=2)
    texts += [[2, 3], train[5], [2, 99, 98, 3]]
    known = {gram for ids in train for n in range(1, 10) for gram in grams(ids, n)}
    expected = [max((n for n in range(1, 10) for gram in grams(ids, n) if gram in known), default=0) for ids in texts]
    assert longest_shared(Tokens.of(as_split(texts)), Tokens.of(as_split(train))).tolist() == expected


def test_lengths_diverge_as_scipy_says():
    a, b = {3: 5, 4: 1, 9: 2}, {3: 1, 4: 4, 7: 3}
    p, q = ([counts.get(n, 0) for n in (3, 4, 7, 9)] for counts in (a, b))
    assert length_divergence(a, b) == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    assert length_divergence(a, a) == 0.0
    assert length_divergence({1: 3}, {2: 5}) == 1.0


def test_self_bleu_is_high_where_sentences_repeat_each_other():
    same = ["the cat saw the dog ."] * 5
    different = ["a b c d e f", "g h i j k l", "m n o p q r"]
    assert self_bleu(same) == pytest.approx(100.0)
    assert self_bleu(different) == 0.0
    assert self_bleu(same[:1]) == 0.0
    many = [" ".join(map(str, np.random.default_rng(i).integers(0, 9, 8))) for i in range(130)]
    assert self_bleu(many) == self_bleu(many)


def test_a_copy_of_the_training_text_is_found_out():
    train = sentences(50, seed=3, words=40)
    data = SimpleNamespace(
        statistics={},
        splits={"train": as_split(train)},
        tokenizer=SimpleNamespace(decode_batch=lambda rows: [" ".join(map(str, ids)) for ids in rows], label_ids=[]),
        length_distribution={n: sum(len(ids) - 1 == n for ids in train) for n in range(1, 11)},
    )
    copied = text_figures(as_split(train), data)
    assert copied["exact_training_fraction"] == 1.0
    assert copied["length_divergence"] == 0.0
    assert copied["longest_training_ngram"] == pytest.approx(np.mean([len(ids) - 2 for ids in train]))
    other = text_figures(as_split([[2, *(77,) * 30, 3]]), data)
    assert (other["exact_training_fraction"], other["longest_training_ngram"], other["length_divergence"]) == (0, 0, 1)


def test_more_of_the_same_text_is_as_varied():
    """Twice as many sentences from the same source repeat more n-grams, which says nothing of their source."""
    data = SimpleNamespace(
        statistics={},
        splits={"train": as_split(sentences(50, seed=3, words=40))},
        tokenizer=SimpleNamespace(decode_batch=lambda rows: [" ".join(map(str, ids)) for ids in rows], label_ids=[]),
        length_distribution={5: 1},
    )
    few, many = (text_figures(as_split(sentences(count, seed=4, words=100)), data) for count in (600, 6000))
    for n in (1, 2, 3):
        assert many[f"distinct_{n}"] == pytest.approx(few[f"distinct_{n}"], rel=0.05)
    assert distinct(Tokens.of(as_split(sentences(6000, seed=4, words=100))), 2) < 0.7 * few["distinct_2"]
