"""The copy check and n-gram figures, against slow and plain computations."""

import random
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from pipeline.data.dataset import load_prepared
from pipeline.evaluation import copies, ngrams
from pipeline.evaluation.copies import nearest, worst_cases
from pipeline.evaluation.judge import as_split, tokenized
from pipeline.evaluation.ngrams import Sentences, covered, divergence
from pipeline.runtime.errors import UserError


def edits(a: list[int], b: list[int]) -> int:
    """Levenshtein's distance, by the book."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


def grams(ids: list[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]


def texts_with_copies() -> tuple[list[list[int]], list[list[int]]]:
    """Sentences of which some are training sentences with any number of edits, and the training sentences."""
    draw = random.Random(0)
    train = [[2, *(draw.randrange(5, 25) for _ in range(draw.randrange(1, 15))), 3] for _ in range(120)]
    own = [[2, 3], [2, 7, 3], [2, 99, 98, 97, 3], list(train[0]), [2, *train[1][1:-1], *train[2][1:-1], 3]]
    for number in range(70):
        words = list(draw.choice(train)[1:-1])
        for _ in range(number % 5):
            place = draw.randrange(len(words) + 1)
            kind = draw.choice(("insert", "delete", "replace"))
            words[place : place + (kind != "insert")] = [] if kind == "delete" else [draw.randrange(5, 25)]
        own.append([2, *words, 3])
    return own, train


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.35, 0.5])
def test_no_near_copy_is_missed_that_a_comparison_with_every_sentence_finds(monkeypatch, threshold: float):
    monkeypatch.setattr(copies, "BESIDE", 1)  # so that only the bound of shared bigrams can find them
    own, train = texts_with_copies()
    found = nearest(as_split(own), as_split(train), 100, threshold)
    near = 0
    for number, ids in enumerate(own):
        every = [edits(ids[1:-1], t[1:-1]) / max(len(ids) - 2, len(t) - 2) for t in train]
        if min(every) <= threshold:
            near += 1
            assert found.distance[number] == pytest.approx(min(every))
            assert every[found.by_distance[number]] == pytest.approx(min(every))
        else:
            assert found.distance[number] >= min(every) - 1e-9
        of_each = [np.mean([gram in set(grams(t, 3)) for gram in grams(ids, 3)] or [0.0]) for t in train]
        assert found.overlap[number] == pytest.approx(max(of_each))
    assert near == found.edited(threshold).sum() >= 14


def test_nearest_does_not_depend_on_how_much_is_indexed_at_once(monkeypatch):
    own, train = (as_split(texts) for texts in texts_with_copies())
    whole = nearest(own, train, 100, 0.2)
    monkeypatch.setattr(ngrams, "POSTINGS", 50)
    parts = nearest(own, train, 100, 0.2)
    for name in ("distance", "by_distance", "overlap", "by_overlap"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name)), name
    monkeypatch.setattr(copies, "INDEXED", 50)
    parts = nearest(own, train, 100, 0.2)
    # In a smaller index more of the sentences that are not near are compared.
    assert (parts.distance <= whole.distance).all()
    near = whole.edited(0.2)
    assert np.array_equal(near, parts.edited(0.2))
    assert near.any()
    assert np.array_equal(whole.by_distance[near], parts.by_distance[near])
    assert np.array_equal(whole.overlap, parts.overlap)
    assert np.array_equal(whole.by_overlap, parts.by_overlap)


def test_a_piece_of_a_training_sentence_is_a_near_copy_however_many_edits_away():
    train = as_split([[2, *range(10, 40), 3], [2, 50, 51, 52, 3]])
    found = nearest(as_split([[2, *range(10, 25), 3], [2, 60, 61, 62, 3]]), train, 100, 0.2)
    assert found.distance[0] == 0.5
    assert found.contained(0.2).tolist() == found.copies(0.2).tolist() == [True, False]
    assert not found.edited(0.2).any()
    assert found.by_distance[1] == -1
    worst = worst_cases(found, ["piece", "other"], ["whole", "short"], 10)
    assert [(row["text"], row["nearest"]) for row in worst] == [("piece", "whole")]


def test_a_threshold_beyond_the_index_is_refused():
    with pytest.raises(UserError, match=r"up to a distance of 0\.5"):
        nearest(as_split([[2, 3]]), as_split([[2, 5, 3]]), 10, 0.6)


def test_divergence_is_scipy_s_and_coverage_counts_repetitions():
    own, train = texts_with_copies()
    for n in (1, 2, 3):
        a, b = ([gram for ids in texts for gram in grams(ids[1:-1], n)] for texts in (own, train))
        names = sorted({*a, *b})
        p, q = ([part.count(name) for name in names] for part in (a, b))
        codes = [Sentences.of(as_split(texts)).grams(n, 100)[0] for texts in (own, train)]
        assert divergence(*codes) == pytest.approx(jensenshannon(p, q, base=2) ** 2)
        assert covered(*codes) == pytest.approx(np.mean([gram in set(a) for gram in b]))
    assert divergence(codes[0], codes[0]) == 0.0
    assert divergence(codes[0], codes[0][:0]) == 1.0


def test_held_out_text_has_few_exact_copies_and_training_text_is_one(trained: Path):
    data = load_prepared(trained / "data", "tiny")
    found = [
        nearest(tokenized(texts, data), data.splits["train"], data.tokenizer.vocabulary_size, 0.2)
        for texts in (data.tokenizer.decode_batch(data.splits[part]["input_ids"]) for part in ("validation", "train"))
    ]
    assert found[0].exact.mean() < 0.1
    assert found[1].exact.all()
