"""The comparison on own texts: the scripts that it runs, its figures, the continuation, and the table."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import own_texts, pretrained_tables
from pipeline.evaluation import sentence_encoder
from pipeline.runtime.files import read_json
from tests.data.own_files import MANY, write_table
from tests.helpers import call
from tests.models.tiny_bases import save_base


class LengthEncoder:
    """A sentence encoder whose vectors are angles by the length of a text."""

    def encode(self, texts: list[str], batch_size: int, description: str) -> np.ndarray:
        angles = np.array([len(text) / 50 for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@pytest.mark.slow
def test_each_model_has_its_own_figures_and_the_same_command_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    base = save_base(tmp_path / "base")
    write_table(tmp_path / "own.csv", text=MANY)
    ran: list[str] = []

    def script(_: own_texts.Case, name: str, *flags: str) -> None:
        ran.append(name)
        call(name, *flags, "--DATA_DIR", tmp_path / "runs" / "data")

    monkeypatch.setattr(own_texts.Case, "script", script)
    monkeypatch.setattr(sentence_encoder, "load_encoder", LengthEncoder)
    results = tmp_path / "results.json"
    flags = ("--FILES", tmp_path / "own.csv", "--FOLDER", tmp_path / "runs", "--SEEDS", 1, "--PRETRAINED", base)
    flags += ("--COUNT", 50, "--STEPS", 2, "--SCRATCH_STEPS", 2, "--JUDGE_STEPS", 2, "--RESULTS", results)
    monkeypatch.setattr(sys, "argv", ["own_texts", *map(str, flags)])
    own_texts.main()
    assert ran.count("train.py") == 4  # LM, NVAE, T and the NVAE from scratch
    assert ran.count("prepareDatasets.py") == 2
    (case,) = json.loads(results.read_text())["cases"].values()
    assert list(case["models"]) == list(own_texts.MODELS)
    summary = read_json(tmp_path / "runs" / "outputs" / "own-s1" / "lm" / "summary.json", "")
    found = case["models"]["lm"]["own"]
    assert found["token_perplexity"] == summary["samples/pretrained_forward_perplexity"]
    assert found["membership"] == summary["quality/membership_auc"]
    assert found["bleu"] is None  # a language model reconstructs nothing
    assert all(case["models"][name]["own"]["bleu"] is not None for name in ("nvae", "learned", "scratch"))
    assert {len(one["own"]["examples"]) for one in case["models"].values()} == {own_texts.EXAMPLES}
    assert all(one["own"]["reverse"] > 1 for one in case["models"].values())

    whole = json.loads(results.read_text())
    del whole["cases"]["own-s1"]["models"]["learned"]
    results.write_text(json.dumps(whole))
    ran.clear()
    own_texts.main()
    assert ran == ["train_prior.py", "sample.py", "forwardSampleEvaluation.py"]
    again = json.loads(results.read_text())["cases"]["own-s1"]
    assert again["models"]["learned"]["own"]["examples"] == case["models"]["learned"]["own"]["examples"]
    assert again["real_reverse"] == case["real_reverse"]


def _case(seed: int, bleu: float | None) -> dict[str, Any]:
    own = dict.fromkeys(pretrained_tables.OWN_FIGURES, 0.5) | {"bleu": bleu, "examples": [f"a | {seed}"]}
    real = {"bits_per_character": 1.5, "token_perplexity": 60.0}
    models = {"nvae": {"own": own, "real": real}, "lm": {"own": own | {"bleu": None}, "real": real}}
    return {"file": "facts", "seed": seed, "real_reverse": 40.0, "models": models}


def test_the_table_has_the_mean_and_deviation_of_the_seeds():
    about = {"count": 9, "judge_steps": 7, "machine": "m", "threads": "1", "date": "d"}
    page = pretrained_tables.own_texts({"cases": {"a": _case(1, 90.0), "b": _case(2, 91.0)}, **about})
    caption, _, header, _, real, nvae, lm, _, first, _, _, _, *samples = page.splitlines()
    assert "9 samples of each model" in caption
    assert caption.endswith("; m, 1 thread beside other work, d.")
    assert header.startswith("| facts | seeds | BLEU, test |")
    assert real.startswith("| real text | 2 | – | – | 1.50 ± 0.00 | 60.0 ± 0.0 | – | 40.0 ± 0.0 |")
    assert nvae.startswith("| NVAE around the base, plain prior | 2 | 90.5 ± 0.7 | 0.5 ± 0.0 |")
    assert lm.startswith("| the base without a latent | 2 | – |")
    assert first == "First samples of seed 1, not chosen:"
    assert samples == [
        "| NVAE around the base, plain prior | a \\| 1 |",
        "| the base without a latent | a \\| 1 |",
    ]
