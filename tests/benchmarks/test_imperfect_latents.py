"""The ways to train for imperfect latents: the scripts that run, the continuation, and the table."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import imperfect_latents, prior_tables
from models.settings import NVAESettings
from pipeline.cli.train_command import parse
from pipeline.runtime.files import write_json

FLAGS = ("forward_perplexity", "mauve", "distinct_2", "same_draw_bleu", "different_draws_bleu")


def _summary(value: float) -> dict[str, Any]:
    figures = {f"samples/{name}": value for name in FLAGS}
    real = {f"samples/{name}_of_real_text": 7.0 for name in FLAGS[:3]}
    return figures | real | {"validation/reconstruction_bleu": 90.0, "validation/rate": 30.0}


def test_each_way_is_run_once_with_its_flags_and_both_priors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ran: list[tuple[str, ...]] = []

    def script(name: str, *flags: object) -> None:
        words = (name, *map(str, flags))
        ran.append(words)
        if name == "forwardSampleEvaluation.py":
            folder = tmp_path / "imperfect" / words[words.index("--EXPERIMENT_NAME") + 1]
            learned = any("learned" in words for words in ran[-2:])
            write_json(folder / "summary.json", _summary(2.0 if learned else 1.0))

    monkeypatch.setattr(imperfect_latents, "run_script", script)
    results = tmp_path / "results.json"
    flags = ["--OUTPUT_DIR", str(tmp_path), "--RESULTS", str(results), "--SEEDS", "3", "--WAYS", "none", "hot"]
    for name in ("none-s3", "hot-s3"):
        (tmp_path / "imperfect" / name).mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["imperfect_latents", *flags])
    imperfect_latents.main()
    found = json.loads(results.read_text())
    assert [(row["way"], row["seed"]) for row in found["rows"]] == [("none", 3), ("hot", 3)]
    assert [row["plain"]["mauve"] for row in found["rows"]] == [1.0, 1.0]
    assert [row["learned"]["mauve"] for row in found["rows"]] == [2.0, 2.0]
    trained = [words for words in ran if words[0] == "train.py"]
    assert [("--POSTERIOR_TEMPERATURE" in words) for words in trained] == [False, True]
    assert all(words[words.index("--START_FROM") + 1] == "rate-30-s3" for words in trained)
    ran.clear()
    imperfect_latents.main()
    assert ran == []


@pytest.mark.parametrize("way", imperfect_latents.WAYS)
def test_the_flags_of_each_way_are_flags_of_training(way: str, monkeypatch: pytest.MonkeyPatch):
    flags = (*imperfect_latents.SIZE, *imperfect_latents.TRAINING, *imperfect_latents.WAYS[way])
    monkeypatch.setattr(sys, "argv", ["train.py", "--EXPERIMENT_NAME", "a", "--MODEL", "NVIB", *flags])
    arguments = parse("")
    plain = NVAESettings(vocabulary_size=10)
    changed = {
        "none": set(),
        "double": {"kappa"},
        "hot": {"posterior_temperature"},
        "drop": {"vector_dropout", "dropped_vectors"},
        "half": {"vector_dropout", "dropped_vectors"},
        "full": {"vector_dropout", "dropped_vectors", "full_texts"},
    }[way]
    names = ("kappa", "posterior_temperature", "vector_dropout", "dropped_vectors", "full_texts")
    assert {name for name in names if getattr(arguments, name.upper()) not in (None, getattr(plain, name))} == changed


def test_the_table_has_a_part_for_each_prior_with_the_mean_and_deviation_of_the_seeds():
    def row(way: str, seed: int, mauve: float) -> dict[str, Any]:
        plain = dict.fromkeys(FLAGS, 1.0) | {"mauve": mauve}
        own = {"bleu": 90.0 + seed, "rate": 30.0, "plain": plain, "learned": dict.fromkeys(FLAGS, 2.0)}
        return {"way": way, "seed": seed, "real": dict.fromkeys(FLAGS[:3], 3.0)} | own

    about = {"data": "d", "steps": 4, "count": 5, "machine": "m", "threads": "1", "date": "t"}
    rows = [row("none", 1, 0.5), row("none", 2, 0.7), row("hot", 1, 0.1)]
    page = prior_tables.imperfect_latents({"rows": rows, **about})
    caption, _, plain, _, real, none, hot, _, learned, *_ = page.splitlines()
    assert caption.startswith("Caption: `d`, 4 further steps") and caption.endswith("m, 1 thread beside other work, t.")
    assert plain.startswith("| plain prior | seeds | BLEU |") and learned.startswith("| learned prior | seeds |")
    assert real == "| real text | – | – | – | 3.0 | 3.000 | 3.000 | – | – |"
    spread = "2 | 91.5 ± 0.7 | 30.0 ± 0.0 | 1.0 ± 0.0 | 0.600 ± 0.141 | 1.000 ± 0.000 | 1.00 ± 0.00 | 1.00 ± 0.00 |"
    assert none == f"| as before | {spread}"
    assert hot.startswith("| posterior at temperatures up to 2, 40 % of texts at 1 | 1 | 91.0 | 30.0 | 1.0 | 0.100 |")
