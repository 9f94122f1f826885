"""MAUVE, and the features of sentences that it compares."""

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets

from models import MODELS, build
from pipeline.data.dataset import load_prepared
from pipeline.evaluation import mauve as module
from pipeline.evaluation.mauve import Mauve, frontier_area, mauve, mauve_figures, sentence_features
from pipeline.experiments.load import Experiment
from pipeline.experiments.paths import ExperimentFiles


def normal(count: int, width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def value(reference: np.ndarray, own: np.ndarray) -> float:
    found = mauve(reference, own)
    assert found is not None
    return found.mean


def test_mauve_of_a_text_with_itself_is_1_and_of_texts_without_a_common_cluster_near_0():
    a = normal(400)
    assert value(a, a) == pytest.approx(1, abs=1e-12)
    apart = value(a + 9, a - 9)
    assert apart == pytest.approx(frontier_area(np.array([1.0, 0.0]), np.array([0.0, 1.0])))
    assert 0 < apart < 0.005
    assert value(np.ones((400, 8)), np.ones((400, 8))) == 1, "features without variance"


def test_mauve_falls_with_the_distance_of_the_texts_and_is_the_same_again():
    a, b = normal(400), normal(400, seed=1)
    values = [value(a, b + shift) for shift in (0, 0.5, 1, 3)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.9
    assert values[-1] < 0.1
    assert mauve(a, b) == mauve(a, b)
    lengths = np.random.default_rng(2).uniform(1, 9, size=(400, 1)).astype(np.float32)
    assert value(a, a * lengths) == pytest.approx(1, abs=1e-12), "a vector's length does not count"


def test_mauve_has_a_deviation_over_seeds_and_none_for_few_sentences():
    found = mauve(normal(400), normal(400, seed=1))
    assert found is not None
    assert 1e-6 < found.deviation < 0.05
    assert mauve(normal(30), normal(30)) is None


def test_the_area_under_the_frontier_is_that_of_the_paper():
    p, q = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.4, 0.3, 0.2, 0.1])
    assert frontier_area(p, q) == pytest.approx(0.6538536633533254, abs=1e-12)  # mauve-text 0.4.0
    assert frontier_area(q, p) == pytest.approx(frontier_area(p, q), abs=1e-12)
    assert frontier_area(p, p) == pytest.approx(1, abs=1e-12)
    share = np.linspace(0, 1, 20_001)[1:-1, None]  # the integral itself, from the definition
    mixture = share * p + (1 - share) * q
    x, y = (np.exp(-5 * np.sum(of * np.log(of / mixture), axis=1)) for of in (q, p))
    x, y = np.concatenate([[1], x, [0]]), np.concatenate([[0], y, [1]])
    integral = np.sum((x[:-1] - x[1:]) * (y[1:] + y[:-1])) / 2
    assert frontier_area(p, q) == pytest.approx(integral, abs=1e-3)


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
    assert figures["samples/mauve_deviation"] is not None
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
    monkeypatch.setattr(module, "mauve", lambda reference, own: Mauve(0.5, 0.1))
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
