"""`python -m pipeline synth` from a file to its synthetic text, around a pretrained model."""

import csv
import json
from pathlib import Path

import pytest

from tests.helpers import run_ranks, text
from tests.models.tiny_bases import save_base


def synthesized(folder: Path, *more: str) -> str:
    """Run the recipe on a small file around a tiny base; return what it prints."""
    save_base(folder / "base")
    with open(folder / "own.csv", "w", newline="") as file:
        csv.writer(file).writerows([["text"], *([line] for line in text(60).splitlines())])
    flags = ("--TEXT_COLUMN", "text", "--PRETRAINED", "base", "--MAX_STEPS", "3", "--NUMBER_SAMPLES", "5")
    return run_ranks("synth", "--DATA", "own.csv", *flags, *more, count=1, folder=folder).stdout


@pytest.mark.slow
def test_a_file_becomes_synthetic_text_by_the_better_of_two_models(tmp_path: Path):
    said = synthesized(tmp_path)
    project = tmp_path / "outputs" / "synth"
    summaries = {name: json.loads((project / name / "summary.json").read_text()) for name in ("own", "own-lm")}
    nvae, lm = summaries["own"]["validation/perplexity_prior_latent"], summaries["own-lm"]["validation/perplexity"]
    chosen, model = ("own", "NVIB") if nvae < lm else ("own-lm", "LM")
    assert f"LM {lm:.1f}, NVIB {nvae:.1f}; {model} samples" in said
    assert f"synthetic text of {model} and its quality are in outputs/synth/{chosen}" in said
    assert "[6/6] python quality.py" in said
    with open(project / chosen / "synthetic.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["text"]
    assert len(rows) <= 5
    assert (project / chosen / "quality.html").exists()


@pytest.mark.slow
def test_the_nvae_samples_with_a_learned_prior(tmp_path: Path):
    said = synthesized(tmp_path, "--MODEL", "NVIB", "--PRIOR", "learned")
    assert "[4/7] python train_prior.py" in said and "[7/7] python quality.py" in said
    assert json.loads((tmp_path / "outputs/synth/own/summary.json").read_text())["samples/prior"] == "learned"
