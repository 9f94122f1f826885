"""Tables of docs/results.md from the kept runs of the paper's recipe."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import paper_tables
from benchmarks.paper_tables import PAGE, filled, read


def keep(folder: Path, name: str, model: str, seed: int, **figures: float) -> None:
    """Write a kept experiment with some figures."""
    config = {
        "model": {"name": model},
        "training": {"seed": seed},
        "data": {"name": "wikitext2", "fingerprint": "a"},
        "versions": {},
    }
    (folder / f"{name}.json").write_text(json.dumps({"config": config, "summary": figures}))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paper_tables, "KEPT", tmp_path)
    figures: dict[str, Any] = {"validation/reconstruction_bleu": 90.0}
    keep(tmp_path, "t-s1", "T", 1, **figures)
    keep(tmp_path, "t-s2", "T", 2, **{"validation/reconstruction_bleu": 94.0})
    samples = {
        "samples/forward_perplexity": 150.0,
        "samples/forward_perplexity_of_real_text": 115.0,
        "interpolation/tau_0.5/novel_fraction": 0.9,
        **{f"interpolation/tau_{tau}/bleu_source": 10.0 for tau in paper_tables.TAUS},
        "regularisation/unexplained_by_length": 0.25,
    }
    keep(tmp_path, "nvib-s1", "NVIB", 1, **figures, **samples)
    keep(tmp_path, "nvib-lambda10-delta0.02-s1", "NVIB", 1, **{"validation/reconstruction_bleu": 2.0})
    keep(tmp_path, "vtp-none-s1", "VTP", 1, **{"validation/reconstruction_bleu": 3.0})
    keep(tmp_path, "lm", "LM", 0, **{"validation/reconstruction_bleu": -1.0})
    found_by = {"trials": 4, "value": 1.23456, "model_fields": {"num_heads": 4}, "training_fields": {"epochs": 1}}
    best = {
        "model": {"name": "T", "num_heads": 4},
        "training": {"epochs": 1, "learning_rate": 0.00081868},
        "found_by": found_by,
    }
    (tmp_path / "tune-T.json").write_text(json.dumps({"best": best}))
    (tmp_path / "passes.json").write_text(json.dumps({"seconds_a_batch": 0.4}))
    return tmp_path


def page(name: str) -> list[list[str]]:
    """Return the cells of a table, its header first."""
    shown = filled(f"before\n<!-- table: paper_{name} -->\nold\n<!-- end -->\nafter\n", *read())
    assert shown.startswith("before\n") and shown.endswith("<!-- end -->\nafter\n") and "old" not in shown
    lines = [line for line in shown.split("\n") if line.startswith("|") and not line.startswith("| ---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.usefixtures("kept")
def test_each_run_is_a_row_with_the_mean_over_its_seeds():
    rows = page("reconstruction")
    assert rows[0][:3] == ["", "seeds", "BLEU, validation"]
    assert [row[:3] for row in rows[1:]] == [["`t`", "2", "92.0 ± 2.8"], ["`nvib`", "1", "90.0"]]
    assert [row[0] for row in page("samples")[1:]] == ["`nvib`", "real text"]
    assert page("interpolation")[1][:2] == ["`nvib`", "10.0, 10.0, 10.0, 10.0, 10.0"]
    assert [row[0] for row in page("strengths")[1:]] == ["`nvib`", "`nvib-lambda10-delta0.02`"]
    assert [row[0] for row in page("remedies")[1:]] == ["`vtp-none`"]


def test_the_same_real_text_of_two_runs_counts_once(kept: Path):
    for seed, perplexity in ((2, 115.0), (3, 117.0)):
        figures = {"samples/forward_perplexity": 100.0, "samples/forward_perplexity_of_real_text": perplexity}
        keep(kept, f"nvib-s{seed}", "NVIB", seed, **figures)
        shown = page("samples")[-1][:3]
        assert shown == ["real text", "–", "115.0" if seed == 2 else "116.0 ± 1.4"]


@pytest.mark.usefixtures("kept")
def test_a_study_is_a_row_with_what_it_found():
    assert page("studies")[1:] == [["`T`", "learning_rate 0.00082", "4", "1.235"]]


def test_a_table_without_runs_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(paper_tables, "KEPT", tmp_path)
    page_of = filled("<!-- table: paper_samples -->\n<!-- end -->", *read())
    assert page_of == "<!-- table: paper_samples -->\nNot run yet.\n<!-- end -->"


def test_the_page_has_the_tables_of_the_kept_runs():
    text = PAGE.read_text("utf-8")
    assert filled(text, *read()) == text
