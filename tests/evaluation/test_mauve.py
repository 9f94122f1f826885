"""MAUVE, and the features of sentences that it compares."""

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets

from models import MODELS, build
from pipeline.data.dataset import load_prepared
from pipeline.evaluation import mauve as module
from pipeline.evaluation.mauve import mauve, mauve_figures, sentence_features
from pipeline.experiments.load import Experiment
from pipeline.experiments.paths import ExperimentFiles


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


@pytest.fixture
def judge(trained: Path) -> Experiment:
    """A language model with random weights on the tiny data."""
    data = load_prepared(trained / "data", "tiny")
    model = build(MODELS["LM"](vocabulary_size=data.tokenizer.vocabulary_size, dim_h=16))
    torch.nn.init.normal_(model.embedding.weight, std=0.5)
    return Experiment(ExperimentFiles(trained), {}, model.eval(), data, torch.device("cpu"))


def test_real_text_is_the_ceiling_of_mauve_and_repeated_text_is_far_below(judge: Experiment):
    train = judge.data.splits["train"]
    figures = mauve_figures(judge, train.select([0] * 300), "samples/mauve", 32)
    half = len(train) // 2
    assert figures["samples/mauve_count"] == half
    own, real, unigrams = (figures[f"samples/mauve{suffix}"] for suffix in ("", "_of_real_text", "_of_unigrams"))
    assert own < 0.5 < real <= 1
    assert 0 < unigrams <= 1  # the tiny text itself is words in no order
    assert mauve_figures(judge, train.select([0] * 300), "samples/mauve", 32) == figures


def test_all_texts_of_mauve_have_one_number_and_the_real_ones_share_no_sentence(
    judge: Experiment, monkeypatch: pytest.MonkeyPatch
):
    texts = {}

    def features(model: object, split: Dataset, pad_id: int, batch_size: int, description: str) -> np.ndarray:
        texts[description] = split["input_ids"]
        return np.zeros((len(split), 2), dtype=np.float32)

    monkeypatch.setattr(module, "sentence_features", features)
    monkeypatch.setattr(module, "mauve", lambda reference, own: 0.5)
    samples, few = judge.data.splits["validation"], module.LEAST - 1
    samples = concatenate_datasets([samples] * 3)
    for most, number in ((50, 50), (5000, len(samples))):
        monkeypatch.setattr(module, "MOST", most)
        assert mauve_figures(judge, samples, "samples/mauve", 8)["samples/mauve_count"] == number
        assert {len(text) for text in texts.values()} == {number}
        one, other = ({tuple(ids) for ids in texts[f"features of {kind}training text"]} for kind in ("", "other "))
        assert not one & other
    figures = mauve_figures(judge, samples.select(range(few)), "samples/mauve", 8)
    assert set(figures.values()) == {None}, "MAUVE needs more sentences"
