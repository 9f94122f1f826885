"""The comparison of readings: its rows are the figures of `reconstruction.py --READING`, and experiments stay."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compared_readings
from pipeline.evaluation.bleu import reconstruction_figures
from pipeline.experiments.load import load_experiment
from pipeline.generation.generate import reconstruct, subset_batches
from pipeline.training.validation import evaluate


def compared(trained: Path, results: Path, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> list[dict[str, Any]]:
    places = ("--OUTPUT_DIR", trained / "outputs", "--DATA_DIR", trained / "data", "--RESULTS", results)
    monkeypatch.setattr(sys, "argv", ["readings", *map(str, (*places, *arguments))])
    compared_readings.main()
    return json.loads(results.read_text())


@pytest.mark.slow
def test_rows_are_those_of_each_reading_and_threshold(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (trained / "outputs").rglob("*") if path.is_file()}

    before, results = content(), tmp_path / "readings.json"
    compared(trained, results, monkeypatch, "--EXPERIMENTS", "vanilla", "--BLEU_SENTENCES", 3)
    asked = ("--READINGS", "draws", "integral", "--ALPHA_THRESHOLDS", 0.1, 3, "--BLEU_SENTENCES", 1000)
    rows = compared(trained, results, monkeypatch, "--EXPERIMENTS", "nvib", *asked)
    assert content() == before
    assert [(row["experiment"], row["reading"], row["alpha_threshold"]) for row in rows] == [
        ("vanilla", None, None),
        ("nvib", compared_readings.AS_TRAINED, 0.0),
        ("nvib", "draws-8", 0.1),
        ("nvib", "integral", 0.1),
        ("nvib", "draws-8", 3.0),
        ("nvib", "integral", 3.0),
    ]
    assert (rows[0]["bleu_sentences"], rows[1]["bleu_sentences"]) == (3, 30)
    assert rows[1]["vectors_kept_fraction"] == 1.0
    for row in rows[2:4]:
        experiment = load_experiment(trained / "outputs", "nvib", "nvib", trained / "data", row["reading"])
        batches = subset_batches(experiment, "validation", 128, "")
        means = evaluate(experiment.model, batches, experiment.device, experiment.data.tokenizer.sep_id)
        expected = means | reconstruction_figures(reconstruct(experiment, "validation", 128), means["perplexity"])
        assert {name: row[name] for name in expected} == expected
    assert rows[4]["vectors_kept"] < rows[2]["vectors_kept"]
    assert rows[4]["vectors_kept"] == rows[5]["vectors_kept"]
    again = compared(trained, results, monkeypatch, "--EXPERIMENTS", "nvib", *asked, "--DATA_SUBSET", "test")
    assert [row["split"] for row in again] == ["validation", *["test"] * 5]
