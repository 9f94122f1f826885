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


@pytest.mark.slow
def test_draws_at_a_latent_temperature_have_rows_of_their_own(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = ("--EXPERIMENTS", "nvib", "--READINGS", "plug-in", "--BLEU_SENTENCES", 20)
    _, means, *draws = compared(
        trained, tmp_path / "first.json", monkeypatch, *asked, "--LATENT_TEMPERATURES", 0, 0.5, 3
    )
    assert [row["latent_temperature"] for row in draws] == [0.0, 0.5, 3.0]
    assert "latent_temperature" not in means
    assert all("perplexity" not in row and row["bleu_sentences"] == 20 for row in draws)
    assert draws[0]["reconstruction_bleu"] == means["reconstruction_bleu"]  # no noise: the mean latent
    assert draws[2]["reconstruction_bleu"] != means["reconstruction_bleu"]
    again = compared(trained, tmp_path / "second.json", monkeypatch, *asked, "--LATENT_TEMPERATURES", 3)
    assert again[-1] == draws[2]


def test_draws_without_sentences_are_refused(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    flags = ("--EXPERIMENTS", "nvib", "--LATENT_TEMPERATURES", 1, "--BLEU_SENTENCES", 0)
    with pytest.raises(SystemExit, match="2"):
        compared(trained, tmp_path / "none.json", monkeypatch, *flags)
    assert "BLEU of draws needs sentences to decode" in capsys.readouterr().err
