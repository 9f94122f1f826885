"""One screen on what came out: rows for real text, unigrams and each model, and the first samples."""

from pathlib import Path

import pytest

from models import MODELS
from pipeline.experiments.config import new_config
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.reporting.one_screen import FIRST, WIDTH, one_screen
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import write_jsonl, write_record

CONTROLS = {"samples/forward_perplexity_of_real_text": 250.0, "samples/forward_perplexity_of_unigrams": 9000.0}


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    figures = {
        ("t", "T"): {"validation/reconstruction_bleu": 97.0},
        ("lm", "LM"): {"samples/forward_perplexity": 50.0, **CONTROLS},
        ("nvib", "NVIB"): {"validation/reconstruction_bleu": 93.5, "samples/forward_perplexity": 300.0, **CONTROLS},
    }
    for (name, model), summary in figures.items():
        files = ExperimentFiles.of(tmp_path, "demo", name)
        write_record(files.config, new_config(MODELS[model](vocabulary_size=9), TrainingSettings(), "tiny", {}))
        write_record(files.summary, {"best_epoch": 1} | summary)
        if model != "T":
            texts = [f"{name} {number} " + "word " * 100 for number in range(20)]
            write_jsonl(files.samples, [{"text": text, "tokens_generated": 9} for text in texts])
    return tmp_path


def test_every_model_and_control_has_a_row_and_samples_are_the_first_ones(outputs: Path):
    shown = one_screen(outputs, "demo", ["t", "lm", "nvib"], {"nvib": "Of the NVAE", "lm": "Of the LM"})
    table, nvae, language_model = shown.split("\n\n")
    rows = [line.split() for line in table.splitlines()]
    assert rows[0] == ["BLEU", "F-PPL"]
    assert rows[1:] == [
        ["real", "text", "–", "250.0"],
        ["unigrams", "–", "9000.0"],
        ["t", "(T)", "97.0", "–"],
        ["lm", "(LM)", "–", "50.0"],
        ["nvib", "(NVIB)", "93.5", "300.0"],
    ]
    assert len({len(line) for line in table.splitlines()}) == 1
    for part, name in ((nvae, "nvib"), (language_model, "lm")):
        heading, *samples = part.splitlines()
        assert heading.endswith(f"the first {FIRST}, not chosen:")
        assert [sample.split()[:2] for sample in samples] == [[name, str(number)] for number in range(FIRST)]
        assert all(len(sample) == WIDTH + 2 and sample.endswith("…") for sample in samples)


def test_an_experiment_without_samples_is_named(outputs: Path):
    with pytest.raises(UserError, match=r"sample.py --EXPERIMENT_NAME t"):
        one_screen(outputs, "demo", ["t"], {"t": "Of T"})
