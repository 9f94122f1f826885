"""Measurements of the bottleneck, on cases with a known answer."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from pipeline.evaluation.bottleneck import (
    Bottleneck,
    alpha_by_token,
    regularisation_figures,
    unexplained_by_length,
)


def test_a_function_of_the_length_is_explained_by_it():
    lengths = np.random.default_rng(0).integers(5, 50, 2000)
    assert unexplained_by_length((lengths // 2) ** 2, lengths) == 0.0


def test_a_number_independent_of_the_length_is_unexplained_even_if_few_sentences_share_a_length():
    random = np.random.default_rng(0)
    for spread in (50, 1000):
        lengths = random.integers(5, spread, 2000)
        assert unexplained_by_length(random.integers(0, 30, 2000), lengths) == pytest.approx(1.0, abs=0.1)


def test_a_number_with_half_its_variance_from_the_length_is_half_explained():
    random = np.random.default_rng(0)
    lengths = random.integers(5, 50, 20_000)
    noise = random.normal(0, lengths.std(), 20_000)
    assert unexplained_by_length(lengths + noise, lengths) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("kept", "lengths"), [([3, 3, 3], [4, 4, 5]), ([1, 2, 3], [4, 5, 6])])
def test_a_constant_number_or_unique_lengths_give_no_share(kept: list[int], lengths: list[int]):
    assert unexplained_by_length(np.array(kept), np.array(lengths)) is None


def bottleneck() -> Bottleneck:
    random = np.random.default_rng(0)
    lengths = random.integers(5, 20, 100)
    tokens = random.integers(0, 30, lengths.sum())
    return Bottleneck(
        lengths, np.maximum(1, lengths // 3), tokens, np.log(tokens + 0.05) + random.normal(size=len(tokens))
    )


def test_the_correlation_with_frequency_is_spearman_s():
    shown, frequency = bottleneck(), np.random.default_rng(1).integers(0, 9, 30)
    figures = regularisation_figures(shown, frequency)
    expected = spearmanr(frequency[shown.tokens], shown.log_alpha).statistic
    assert figures["alpha_frequency_correlation"] == pytest.approx(expected)


def test_alpha_by_token_is_the_mean_of_those_that_occur_often_enough():
    shown = bottleneck()
    rows = alpha_by_token(shown)
    assert [mean for _, _, mean in rows] == sorted((mean for _, _, mean in rows), reverse=True)
    for index, count, mean in rows:
        assert count == (shown.tokens == index).sum() >= 20
        assert mean == pytest.approx(np.exp(shown.log_alpha[shown.tokens == index]).mean())
