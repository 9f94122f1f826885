"""Samples drawn again in place of copies: which ones, from which seeds, and what is left."""

import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from models.decoding import Decoding
from models.sampling import LONG_RUN, ROUNDS, SamplingSettings
from pipeline import from_pretrained, load_experiment
from pipeline.data.dataset import load_prepared
from pipeline.data.documents import Split
from pipeline.data.prepare import PreparationSettings, prepare
from pipeline.data.text_source import TextSource
from pipeline.experiments.load import Experiment
from pipeline.generation.generate import sample
from pipeline.generation.known_texts import KnownTexts
from pipeline.generation.latents import from_prior
from pipeline.generation.novel_samples import draw_again
from pipeline.generation.sampler import sample_with
from pipeline.generation.trained_model import TrainedModel
from pipeline.runtime.errors import UserError
from tests.data.own_files import prepared_table, write_rows
from tests.generation.test_known_texts import runs
from tests.helpers import call, one_line_of_error, run, run_ranks, train_tiny

pytestmark = pytest.mark.slow  # together half a minute on one core

DRAWN = SamplingSettings(number_samples=30, decoding="sample", novel=True)
DECODING = Decoding("sample")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of 8 texts that occur often, and an NVAE and a language model that write copies of them."""
    folder = tmp_path_factory.mktemp("novel")
    kinds = ["the old king.", "the young king.", "a cat saw the dog."]
    kinds += [f"the {word} cat and the {word} dog saw the old king and queen." for word in ("red", "blue", "old")]
    (folder / "tiny.txt").write_text("".join(f"{kinds[n % len(kinds)]}\n" for n in range(300)))
    settings = PreparationSettings("wordpiece", 200, "none", more_than=2, fewer_than=60)
    prepare(TextSource(str(folder / "tiny.txt"), Split(0.1, 0.1, 0)), "tiny", folder / "data", settings)
    train_tiny(folder, "nvib", "NVIB", steps=60)
    train_tiny(folder, "lm", "LM", steps=30)
    return folder


@pytest.fixture(scope="module")
def experiment(folder: Path) -> Experiment:
    return load(folder).experiment


def load(folder: Path, name: str = "nvib") -> TrainedModel:
    return load_experiment(folder / "outputs" / "nvib" / name, data_dir=folder / "data")


def at(folder: Path, name: str) -> tuple[object, ...]:
    return ("--EXPERIMENT_NAME", name, "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")


def written(folder: Path, name: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Samples and summary of an experiment."""
    files = folder / "outputs" / "nvib" / name
    rows = [json.loads(line) for line in (files / "samples.jsonl").read_text().splitlines()]
    return rows, json.loads((files / "summary.json").read_text())


def copies(texts: Sequence[str], train: Sequence[str]) -> list[bool]:
    """Which texts repeat a training text, by a plain search."""
    plain, known = {text.strip().lower() for text in train}, set().union(*map(runs, train))
    return [text.strip().lower() in plain or bool(runs(text) & known) for text in texts]


def test_only_copies_are_drawn_again_and_keep_their_length(experiment: Experiment):
    first = sample_with(experiment, DRAWN, 7)
    texts = [row["text"] for row in first]
    copied = sorted({3, 4, 11, 20, *(n for n in range(30) if texts[n] in (texts[3], texts[4], texts[11], texts[20]))})
    known = KnownTexts([texts[number] for number in copied])
    copied = known.repeats(texts).numbers
    novel = draw_again(experiment, DRAWN, 7, first, known)
    assert (novel.redrawn, novel.left) == (len(copied), len(known.repeats([row["text"] for row in novel.rows]).numbers))
    assert 1 <= novel.rounds <= ROUNDS
    changed = [n for n, (old, new) in enumerate(zip(first, novel.rows, strict=True)) if old != new]
    assert set(changed) <= set(copied)
    assert len(changed) > len(copied) / 2
    assert [row["drawn_length"] for row in novel.rows] == [row["drawn_length"] for row in first]
    assert novel == draw_again(experiment, DRAWN, 7, first, known)
    assert [row["text"] for row in first] == texts, "the samples as they were drawn first remain"


def test_samples_that_are_no_copies_remain_as_they_are(experiment: Experiment):
    first = sample_with(experiment, DRAWN, 7)
    novel = draw_again(experiment, DRAWN, 7, first, KnownTexts(["something else"]))
    assert (novel.rows, novel.redrawn, novel.rounds, novel.left) == (first, 0, 0, 0)
    assert novel.in_words() == "no sample repeats a training text or 8 of its words in a row, and none was drawn again"


def test_a_later_attempt_has_other_latents_and_tokens_and_the_same_ones_again(experiment: Experiment):
    source, numbers = from_prior(experiment, [5 + n % 7 for n in range(25)]), [2, 3, 5, 7, 11, 13, 17]

    def texts(attempt: int, seed: int = 3) -> list[str]:
        rows = sample(experiment, source, 25, seed, DECODING, 4, numbers=numbers, attempt=attempt)
        return [row["text"] for row in rows]

    once, twice = texts(1), texts(2)
    assert len(once) == len(numbers)
    assert once == texts(1)
    assert once != twice
    assert once != texts(1, seed=4)
    rows = sample(experiment, source, 25, 3, DECODING, 4, numbers=numbers, attempt=1)
    assert [row["drawn_length"] for row in rows] == [5 + n % 7 for n in numbers]


def test_what_remains_after_all_rounds_is_reported(experiment: Experiment):
    first = sample_with(experiment, DRAWN, 30)

    class Everything(KnownTexts):
        def repeats(self, texts: Sequence[str]):
            return KnownTexts(texts).repeats(texts)

    novel = draw_again(experiment, DRAWN, 30, first, Everything([]))
    left = sum(bool(row["text"].strip()) for row in novel.rows)
    assert (novel.redrawn, novel.rounds, novel.left) == (sum(bool(r["text"].strip()) for r in first), ROUNDS, left)
    assert f"{left} of them still repeat a training text or {LONG_RUN} of its words in a row" in novel.in_words()
    model = TrainedModel(experiment, {})
    model.__dict__["_known"] = Everything([])
    with pytest.warns(UserWarning, match=rf"drawn again in {ROUNDS} rounds; .* still repeat"):
        assert len(model.generate(5, decoding="sample", novel=True)) == 5


@pytest.mark.parametrize("name", ["nvib", "lm"])
def test_the_script_draws_copies_again_and_counts_both(folder: Path, name: str):
    train = load_prepared(folder / "data", "tiny").splits["train"]["text"]
    held_out = load_prepared(folder / "data", "tiny").splits["validation"]["text"]
    flags = (*at(folder, name), "--NUMBER_SAMPLES", 60, "--DECODING", "sample", "--SEED", 5)
    shown = call("sample.py", *flags).stdout
    rows, summary = written(folder, name)
    copied = copies([row["text"] for row in rows], train)
    assert 5 < sum(copied) < 60
    exact = sum(row["text"].strip().lower() in {text.lower() for text in train} for row in rows)
    run_of = sum(bool(runs(row["text"]) & set().union(*map(runs, train))) for row in rows)
    assert summary["samples/exact_training_fraction"] == pytest.approx(exact / 60)
    assert summary["samples/training_run_fraction"] == pytest.approx(run_of / 60)
    assert summary["samples/exact_training_fraction_of_real_text"] == 1.0
    assert f"copies: {exact} of 60 samples are training texts, {run_of} have 8 words in a row of one; of " in shown
    assert f"of {min(60, len(held_out))} held-out texts" in shown
    assert "samples/redrawn" not in summary
    influence = {key: summary.get(key) for key in ("samples/same_draw_bleu", "samples/different_draws_bleu")}

    shown = call("sample.py", *flags, "--NOVEL", "True").stdout
    again, summary = written(folder, name)
    left = copies([row["text"] for row in again], train)
    assert [row for row, copy in zip(again, copied, strict=True) if not copy] == [
        row for row, copy in zip(rows, copied, strict=True) if not copy
    ]
    assert summary["samples/redrawn"] == sum(copied)
    assert summary["samples/left_copies"] == sum(left) < sum(copied)
    assert 1 <= summary["samples/redraw_rounds"] <= ROUNDS
    assert f"{sum(copied)} of 60 samples drawn again in " in shown
    # The influence of the latent is measured on the draws as they came.
    assert influence == {key: summary.get(key) for key in influence}

    model = load(folder, name)
    if sum(left):
        with pytest.warns(UserWarning, match="drawn again"):
            texts = model.generate(60, seed=5, decoding="sample", novel=True)
    else:
        texts = model.generate(60, seed=5, decoding="sample", novel=True)
    assert texts == [row["text"] for row in again]


@pytest.mark.slow
def test_novel_samples_of_two_processes_equal_those_of_one(folder: Path, tmp_path: Path):
    kept = {}
    for processes in (1, 2):
        copy = tmp_path / str(processes)
        shutil.copytree(folder, copy)
        flags = (*at(copy, "nvib"), "--NUMBER_SAMPLES", 31, "--DECODING", "sample", "--NOVEL", "True")
        command = ("sample.py", *flags, "--GENERATION_BATCH_SIZE", 4)
        shown = run(*command) if processes == 1 else run_ranks(*command)
        rows, summary = written(copy, "nvib")
        kept[processes] = rows, summary
        assert shown.stdout.count("samples drawn again in") == 1
        assert summary["samples/redrawn"] > 2
    assert kept[1] == kept[2]


def test_a_label_stays_with_its_number(tmp_path: Path):
    rows = [{"stars": 1 + n % 3, "review": f"{'the old king saw a cat'[: 6 + n % 17]} ."} for n in range(200)]
    prepared_table(write_rows(tmp_path / "own.csv", rows), text_column="review", label_column="stars")
    shutil.copytree(tmp_path / "data" / "own", tmp_path / "data" / "tiny")
    train_tiny(tmp_path, "nvib", "NVIB", steps=40)
    experiment = load(tmp_path).experiment
    first = sample_with(experiment, DRAWN, 8)
    novel = draw_again(experiment, DRAWN, 8, first, KnownTexts.of(experiment.data))
    assert novel.redrawn > 0
    assert novel.rows != first
    assert [row["label"] for row in novel.rows] == [row["label"] for row in first]


def test_novel_is_refused_where_it_has_no_meaning_or_no_effect(folder: Path, tmp_path: Path):
    nvib, lm = at(folder, "nvib"), at(folder, "lm")
    for flags in (("--NEAR", "the old king."), ("--MIX", "the old king.", "a cat.")):
        line = one_line_of_error(call("sample.py", *nvib, *flags, "--NOVEL", "True", expect=2))
        assert f"--NOVEL is for the prior: samples of {flags[0]} are meant to be like a text; leave it out" in line
    for flags in ((*lm, "--DECODING", "greedy"), (*nvib, "--LATENT_TEMPERATURE", 0)):
        line = one_line_of_error(call("sample.py", *flags, "--NOVEL", "True", expect=2))
        assert "neither latents nor tokens are drawn" in line
    model = load(folder)
    model.save_pretrained(tmp_path / "shared")
    with pytest.raises(UserError, match="a shared model does not hold; load the experiment with load_experiment"):
        from_pretrained(tmp_path / "shared").generate(3, decoding="sample", novel=True)
    with warnings.catch_warnings(action="ignore"):  # greedy samples may all remain copies
        assert len(model.generate(3, novel=True)) == 3
