"""Scores against sacrebleu's own."""

import random

import pytest
from sacrebleu.metrics import BLEU

from pipeline.evaluation.bleu import PART, corpus_bleu, corpus_bleus
from tests.helpers import WORDS


def corpus(count: int, seed: int) -> tuple[list[str], list[str]]:
    draw = random.Random(seed)
    references = [" ".join(draw.choices(WORDS, k=draw.randint(3, 12))) for _ in range(count)]
    hypotheses = [" ".join(word if draw.random() < 0.8 else "x" for word in text.split()) for text in references]
    return hypotheses, references


@pytest.mark.slow
def test_bleu_of_parts_scored_by_several_processes_is_sacrebleu_s_own():
    corpora = [corpus(2 * PART + 100, 0), corpus(50, 1)]
    for (score, signature), (hypotheses, references) in zip(corpus_bleus(corpora), corpora, strict=True):
        metric = BLEU(force=True)
        assert score == metric.corpus_score(hypotheses, [references]).score
        assert signature == str(metric.get_signature())


def test_bleu_without_a_match_is_sacrebleu_s_own():
    assert corpus_bleu(["d"], ["a b c"])[0] == BLEU(force=True).corpus_score(["d"], [["a b c"]]).score


def test_bleu_of_texts_that_share_words_and_no_sentence_part_is_sacrebleu_s_own():
    """The signature names a smoothing, which counts where no n-gram of some length is shared."""
    hypotheses, references = ["a b c d e f", "g h i j"], ["f e d c b a", "a b g h"]
    score, signature = corpus_bleu(hypotheses, references)
    metric = BLEU(force=True)
    assert score == metric.corpus_score(hypotheses, [references]).score > 0
    assert "smooth:exp" in signature == str(metric.get_signature())


def test_bleu_needs_a_reference_for_each_hypothesis():
    with pytest.raises(ValueError, match="as many as hypotheses, got 1 and 2"):
        corpus_bleu(["a", "b"], ["a"])
