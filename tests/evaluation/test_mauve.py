"""MAUVE, and the features of sentences that it compares."""

from pathlib import Path

import numpy as np
import pytest

from models import MODELS, build
from pipeline.data.dataset import load_prepared
from pipeline.evaluation.mauve import mauve, sentence_features


def test_mauve_is_high_for_equal_texts_low_for_others_and_none_for_few_sentences():
    random_ = np.random.default_rng(0)
    a, b = (random_.normal(size=(400, 8)).astype(np.float32) for _ in range(2))
    assert mauve(a, b) > 0.9
    assert mauve(a, b + 3) < 0.1
    assert mauve(a, b) == mauve(a, b)
    assert mauve(a[:30], b[:30]) is None


@pytest.mark.parametrize("name", ["NVIB", "LM"])
def test_a_sentence_s_features_are_its_own_in_any_batch(trained: Path, name: str):
    data = load_prepared(trained / "data", "tiny")
    model = build(MODELS[name](vocabulary_size=data.tokenizer.vocabulary_size, dim_h=16))
    split = data.splits["validation"].select(range(7))
    together, apart = (sentence_features(model, split, data.tokenizer.pad_id, size, "") for size in (7, 1))
    assert together.shape == (7, 16)
    np.testing.assert_allclose(together, apart, atol=1e-5)
    assert np.linalg.norm(apart[0] - apart[1]) > 1e-3
