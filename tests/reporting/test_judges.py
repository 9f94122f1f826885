"""The report tells figures of different judges and splits apart."""

from pathlib import Path

from pipeline.reporting.judges import incomparable
from pipeline.reporting.results import Result, grouped
from pipeline.reporting.tables import write_tables

KEY = "samples/forward_perplexity"


def result(name: str, seed: int, **about: str) -> Result:
    figures = {KEY: 90.0 + seed, **{f"{KEY}_{suffix}": value for suffix, value in about.items()}}
    return Result(name, {"model": "NVIB", "seed": seed}, figures, [])


def test_figures_of_one_judge_are_compared():
    results = [result("a-s1", 1, judge="lm", weights="0123456789", subset="test"), result("a-s2", 2, judge="lm")]
    results.append(result("a-s3", 3))  # of a version that recorded nothing
    assert incomparable(results) == []


def test_another_judge_of_a_seed_is_named(tmp_path: Path):
    results = [result("a-s1", 1, judge="lm"), result("a-s2", 2, judge="other"), result("b", 1, judge="lm")]
    (line,) = incomparable(results)
    assert line.startswith(f"{KEY} has different judges (lm for a-s1, b; other for a-s2); ")
    assert line in write_tables(tmp_path, grouped(results), [], [])


def test_a_judge_that_was_trained_anew_is_another_one():
    results = [result(name, 1, judge="lm", weights=weights) for name, weights in (("a", "0" * 16), ("b", "f" * 16))]
    (line,) = incomparable(results)
    assert "(lm (weights 000000) for a; lm (weights ffffff) for b)" in line


def test_learning_from_the_samples_for_other_steps_is_named():
    key = "test/reverse_perplexity"
    results = [Result(name, {"seed": 1}, {key: 9.0, f"{key}_steps": n}, []) for name, n in (("a", 2), ("b", 500))]
    (line,) = incomparable(results)
    assert line.startswith(f"{key} has different steps of learning from the samples (2 for a; 500 for b); ")
    assert incomparable([Result(name, {}, {"train/skipped_steps": n}, []) for n, name in enumerate("ab", 1)]) == []


def test_mauve_of_other_numbers_of_sentences_is_named():
    """Its values compare only for equal numbers."""
    for key in ("samples/mauve", "samples/semantic_mauve"):
        results = [Result(name, {}, {key: 0.9, f"{key}_count": n}, []) for name, n in (("a", 200), ("b", 5000))]
        (line,) = incomparable(results)
        assert line.startswith(f"{key} has different numbers of sentences (200 for a; 5000 for b); ")
    assert incomparable([Result(name, {}, {"samples/count": n}, []) for n, name in enumerate("ab", 1)]) == []


def test_figures_with_the_same_difference_share_a_line():
    both = [result(name, 1, subset=subset) for name, subset in (("a", "test"), ("b", "validation"))]
    for one in both:
        one.figures["samples/pretrained_subset"] = one.figures[f"{KEY}_subset"]
    (line,) = incomparable(both)
    assert line.startswith(
        f"{KEY}, samples/pretrained has different splits of real text (test for a; validation for b)"
    )
