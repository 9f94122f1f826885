"""Training with batches by tokens: their size, resuming bit for bit, several processes, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models import build
from models.settings import NVAESettings
from pipeline.data.dataset import PreparedData, load_prepared
from pipeline.data.token_batches import TokenOrder
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.tracker import Tracker
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.experiments.weights import load_checkpoint
from pipeline.training.trainer import Trainer
from tests.helpers import call, one_line_of_error, one_precision_again, prepare_tiny, run_ranks

TOKENS = 150
SMALL = ("--DATA", "tiny", "--DIM_H", 16, "--PRECISION", "fp32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    prepare_tiny(folder / "data")
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> PreparedData:
    return load_prepared(folder / "data", "tiny")


def at(folder: Path, name: str) -> tuple[object, ...]:
    return ("--EXPERIMENT_NAME", name, "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")


def own(folder: Path, name: str) -> ExperimentFiles:
    return ExperimentFiles(folder / "outputs" / "nvib" / name)


def trainer(data: PreparedData, folder: Path, **training: Any) -> Trainer:
    one_precision_again()
    torch.manual_seed(0)
    files = ExperimentFiles(folder)
    settings = TrainingSettings(**{"batch_tokens": TOKENS, "precision": "fp32", **training})
    built = build(NVAESettings(vocabulary_size=data.tokenizer.vocabulary_size, dim_h=16))
    return Trainer(built, data, settings, files, Tracker(files, run=None, offline=True))


def lengths(data: PreparedData) -> np.ndarray:
    return np.array(data.splits["train"]["length"])


def test_the_batches_of_training_are_those_of_the_order(
    data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one = trainer(data, tmp_path, epochs=2)
    order = TokenOrder(lengths(data), TOKENS, one.settings.seed, 0)
    assert one.settings.group_by_length
    assert (one.steps_per_epoch, one.total_steps) == (len(order), 2 * len(order))
    taken: list[torch.Tensor] = []
    step = one._step

    def recorded(group: Any, figures: Any) -> Any:
        taken.extend(batch.source for batch in group)
        return step(group, figures)

    monkeypatch.setattr(one, "_step", recorded)
    one.train()
    assert len(taken) == 2 * len(order)
    assert all(source.numel() <= TOKENS for source in taken)
    sentences = data.splits["train"]
    for source, numbers in zip(taken, order, strict=False):
        assert [ids[: len(row)].tolist() for ids, row in zip(source, _rows(sentences, numbers), strict=True)] == _rows(
            sentences, numbers
        )
    seen = sum(source.shape[0] for source in taken[: len(order)])
    assert seen == len(sentences)


def _rows(sentences: Any, numbers: list[int]) -> list[list[int]]:
    return [ids[1:] for ids in sentences[numbers]["input_ids"]]


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_resumed_run_ends_bit_for_bit_as_an_uninterrupted_run(
    data: PreparedData, tmp_path: Path, accumulation: int, monkeypatch: pytest.MonkeyPatch
):
    settings = {"epochs": 2, "save_steps": 2, "accumulation_steps": accumulation}
    whole = trainer(data, tmp_path / "whole", **settings)
    whole.train()
    stopped = trainer(data, tmp_path / "stopped", **settings)
    step, last = stopped._step, whole.steps_per_epoch + 3

    def stop_in_the_second_epoch(group: Any, figures: Any) -> Any:
        if stopped.progress.step == last:
            raise KeyboardInterrupt
        return step(group, figures)

    monkeypatch.setattr(stopped, "_step", stop_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    continued = trainer(data, tmp_path / "stopped", **settings)
    assert continued.resume()
    assert whole.steps_per_epoch < continued.progress.step <= last
    assert continued.total_steps == whole.total_steps
    continued.train()
    for name in ("latest.safetensors", "best.safetensors"):
        a, b = (load_file(tmp_path / part / name) for part in ("whole", "stopped"))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.slow
def test_two_processes_share_each_batch(folder: Path, data: PreparedData):
    """With room for all sentences, one step of two processes is that of one; with less, their position counts both."""
    one_step = (*SMALL, "--DROPOUT", 0, "--GRADIENT_CLIP", 1e9, "--MAX_STEPS", 1, "--BATCH_TOKENS", 10**6)
    call("train.py", *at(folder, "one"), *one_step)
    run_ranks("train.py", *at(folder, "two"), *one_step)
    a, b = (load_file(own(folder, name).latest) for name in ("one", "two"))
    moments = [name for name in a if name.endswith("|exp_avg")]
    assert len(moments) > 10
    for name in moments:
        assert (a[name] - b[name]).norm() <= 1e-4 * a[name].norm(), name
    run_ranks("train.py", *at(folder, "few"), *SMALL, "--BATCH_TOKENS", TOKENS, "--EPOCHS", 2)
    order = TokenOrder(lengths(data), TOKENS, 42, 0, processes=2)
    rows = [json.loads(line) for line in own(folder, "few").metrics.read_text().splitlines()]
    assert [row["step"] for row in rows] == [len(order), 2 * len(order)]


@pytest.mark.slow
def test_two_processes_that_stop_within_an_epoch_resume_with_the_batches_that_are_left(
    folder: Path, data: PreparedData
):
    flags = (*SMALL, "--BATCH_TOKENS", TOKENS, "--SAVE_STEPS", 1)
    order = TokenOrder(lengths(data), TOKENS, 42, 0, processes=2)
    whole, within = len(order), 4
    run_ranks("train.py", *at(folder, "whole"), *flags, "--MAX_STEPS", whole)
    script = folder / "stops.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(Path.cwd())!r})\n"
        "from pipeline.training import trainer\n"
        "save = trainer.Trainer._save\n"
        "def saves(self):\n"
        "    save(self)\n"
        f"    if self.progress.step == {within}:\n"
        "        self.accelerator.wait_for_everyone()\n"
        "        sys.exit(5)\n"
        "trainer.Trainer._save = saves\n"
        "from pipeline.cli.entry import run\n"
        "from pipeline.cli import train_command\n"
        "train_command.run(train_command.parse('train.py'))\n"
    )
    run_ranks(script, *at(folder, "parts"), *flags, "--MAX_STEPS", whole, expect=5)
    _, state = load_checkpoint(own(folder, "parts").latest, "")
    assert state["sentences"] == sum(list(order.sizes())[:within])
    said = run_ranks("train.py", *at(folder, "parts"), *flags, "--MAX_STEPS", whole).stdout
    assert f"continuing after step {within} of {whole}" in said
    a, b = (load_file(own(folder, name).latest) for name in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_the_same_command_resumes_and_another_size_is_refused(folder: Path):
    flags = (*at(folder, "mine"), *SMALL)
    call("train.py", *flags, "--BATCH_TOKENS", TOKENS, "--MAX_STEPS", 2)
    call("train.py", *flags, "--BATCH_TOKENS", TOKENS, "--MAX_STEPS", 3)
    training = json.loads(own(folder, "mine").config.read_text())["training"]
    assert (training["batch_tokens"], training["group_by_length"]) == (TOKENS, True)
    for other in ((), ("--BATCH_TOKENS", TOKENS + 1), ("--BATCH_SIZE", 8)):
        line = one_line_of_error(call("train.py", *flags, *other, "--MAX_STEPS", 4, expect=2))
        assert "was trained with" in line
    config = ("--CONFIG", own(folder, "mine").config, "--DATA", "tiny")
    call("train.py", *at(folder, "like"), *config)
    assert json.loads(own(folder, "like").config.read_text())["training"] == training
    call("train.py", *at(folder, "sized"), *config, "--BATCH_SIZE", 8)  # the flag has precedence
    sized = json.loads(own(folder, "sized").config.read_text())["training"]
    assert (sized["batch_tokens"], sized["batch_size"]) == (None, 8)
    refused = call("train_prior.py", *at(folder, "mine"), "--BATCH_TOKENS", 99, "--BATCH_SIZE", 8, expect=2)
    assert "--BATCH_SIZE and --BATCH_TOKENS both set the size of a batch" in one_line_of_error(refused)
    refused = call("train.py", *at(folder, "x"), *config, "--GROUP_BY_LENGTH", "False", expect=2)
    assert "leave --GROUP_BY_LENGTH False out" in one_line_of_error(refused)


@pytest.mark.slow
def test_a_smaller_window_than_the_data_is_refused_before_any_file_is_written(folder: Path):
    flags = (*at(folder, "x"), *SMALL, "--BATCH_TOKENS", TOKENS, "--SHUFFLE_WINDOW", 100)
    line = one_line_of_error(call("train.py", *flags, expect=2))
    assert "--BATCH_TOKENS sorts all 240 training sentences together, and --SHUFFLE_WINDOW is 100; raise it" in line
    assert not own(folder, "x").folder.exists()
