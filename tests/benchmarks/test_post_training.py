"""The table of post-training regularisation: its texts, its choice of settings and its verdicts."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import post_training
from benchmarks.post_training import (
    FAR,
    IN,
    NEAR,
    chosen,
    docstrings,
    drawn,
    figures,
    filled,
    measured,
    plain,
    settings,
    verdict,
)
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import write_json


def row(control: str, first: float, low: float = 0.9, high: float = 0.95, domain: float = 1.0) -> dict:
    far = {"first": first, "second": 50.0, "ratio": 0.92, "low": low, "high": high}
    return {"control": control, "tau": 0.9, "texts": {FAR: far, IN: {**far, "ratio": domain}, NEAR: far}}


def test_the_spelling_of_wikitext_is_undone():
    given = (
        "It was red @-@ tipped ( about 1 @.@ 5 m ) , the \" cutter \" of M 's secretary , and did n't sell 1 @,@ 000 ."
    )
    expected = "It was red-tipped (about 1.5 m), the \"cutter\" of M's secretary, and didn't sell 1,000."
    assert plain(given) == expected


def test_docstrings_are_sentences_of_running_text():
    found = drawn(docstrings(), 4)
    assert len(set(found)) == 4
    assert all(6 <= len(sentence.split()) <= 24 and ">>>" not in sentence for sentence in found)
    assert found == drawn(docstrings(), 4)


def test_a_text_with_too_few_sentences_is_refused():
    def few() -> Iterator[str]:
        yield from ["One sentence of six words only.", "Too short.", "one without a capital letter at its start."]

    with pytest.raises(UserError, match="a text has 1 sentences that fit, and 2 are needed; lower --SENTENCES"):
        drawn(few(), 2)


def test_the_ratio_is_that_of_the_second_half():
    counts, base = np.array([5.0, 5.0, 10.0, 30.0]), np.array([5.0, 5.0, 20.0, 60.0])
    found = figures(base + np.array([50.0, 50.0, 1.0, 3.0]), base, counts)
    assert found["first"] == pytest.approx(np.exp(11.0))
    assert found["second"] == pytest.approx(np.exp(2.1))
    assert [found["ratio"], found["low"], found["high"]] == pytest.approx([np.exp(0.1)] * 3)


def test_the_first_half_of_the_far_text_chooses_and_the_second_judges():
    rows = [row("none", 50.0), row("mu_tau", 48.0), row("mu_tau", 47.0, low=1.01, high=1.1), row("alpha_tau", 60.0)]
    assert chosen(rows) == {"none": rows[0], "mu_tau": rows[2], "alpha_tau": rows[3]}
    assert verdict(rows[1]) == "helps, free"
    assert verdict(rows[2]) == "harms, free"
    assert verdict(row("mu_tau", 1.0, low=0.9, high=1.1, domain=1.06)) == "no difference shown, costs"
    page = filled("a\n<!-- table: post_training -->\nold\n<!-- end -->\nb\n", {"rows": rows})
    assert "old" not in page and page.startswith("a\n") and page.endswith("<!-- end -->\nb\n")
    assert [line.split("|")[-2].strip() for line in page.splitlines() if line.startswith(("| base", "| `"))] == [
        "",
        "",
        "harms, free",
        "helps, free",
    ]


def test_a_run_continues_an_earlier_one_of_the_same_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(post_training, "RESULTS", tmp_path / "post_training.json")
    assert measured({"sentences": 100}) == []
    rows = [row("none", 50.0)]
    write_json(tmp_path / "post_training.json", {"sentences": 100, "date": "2026-11-28", "rows": rows})
    assert measured({"sentences": 100}) == rows
    assert measured({"sentences": 50}) == []


def test_every_setting_moves_a_control_of_the_model():
    found = list(settings())
    assert found[0] == ("none", 1.0)
    assert {control for control, _ in found[1:]} == {*post_training.CONTROLS, "all three", "logits"}
    assert all(0 < tau < 1 for _, tau in found[1:])
