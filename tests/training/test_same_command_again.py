"""The command of training once more: what it leaves as it is, and what it says while it trains further."""

import errno
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from pipeline.data.dataset import load_prepared
from pipeline.experiments.paths import ExperimentFiles
from pipeline.reporting.results import from_outputs
from pipeline.runtime.files import read_record, write_record
from pipeline.runtime.signals import Interrupted
from pipeline.training.checkpoints import Progress
from pipeline.training.diagnostics import progress_text
from pipeline.training.trainer import Trainer
from pipeline.training.validation import Figures
from tests.helpers import call, prepare_tiny
from tests.training.test_trainer import trainer


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    prepare_tiny(folder, count=100)
    return folder


def train(data_dir: Path, outputs: Path, *flags: object, expect: int = 0) -> CompletedProcess[str]:
    places = ("--EXPERIMENT_NAME", "a", "--OUTPUT_DIR", outputs, "--DATA_DIR", data_dir, "--DATA", "tiny")
    small = ("--DIM_H", 16, "--NUM_HEADS", 2, "--BATCH_SIZE", 32)
    return call("train.py", *places, *small, *flags, expect=expect)


def interrupt(self: Trainer) -> None:
    raise Interrupted(15)


def fill_disk(self: Trainer) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "latest")


def test_a_command_without_a_step_left_keeps_the_limits_and_versions_of_what_was_trained(
    data_dir: Path, tmp_path: Path
):
    config = ExperimentFiles.of(tmp_path, "nvib", "a").config
    train(data_dir, tmp_path, "--MAX_STEPS", 3)
    trained = read_record(config, "")
    trained["versions"]["commit"] = "an earlier one"
    write_record(config, trained)
    before = config.read_bytes()
    for steps in (3, 2):
        train(data_dir, tmp_path, "--MAX_STEPS", steps)
        assert config.read_bytes() == before
    train(data_dir, tmp_path, "--MAX_STEPS", 4)
    now = read_record(config, "")
    assert now["training"]["max_steps"] == 4
    assert now["versions"]["commit"] != "an earlier one"


def test_an_epoch_that_a_limit_cut_is_said_to_count_as_a_whole_one(data_dir: Path, tmp_path: Path):
    """The 80 sentences are 3 batches."""

    def said(*flags: object) -> bool:
        shown = train(data_dir, tmp_path, *flags).stdout
        return "a limit cut the epoch that ended at step 2; it counts as a whole one\n" in shown

    assert not said("--MAX_STEPS", 2)
    assert not said("--MAX_STEPS", 2)
    assert said("--EPOCHS", 1)
    assert said("--MAX_STEPS", 5)  # a whole epoch of 3 steps
    assert "counts as a whole one" not in train(data_dir, tmp_path, "--EPOCHS", 2).stdout


def test_a_finished_run_that_goes_on_counts_as_unfinished_until_its_new_end(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train(data_dir, tmp_path, "--MAX_STEPS", 3)
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_train_epoch", interrupt)
        train(data_dir, tmp_path, "--MAX_STEPS", 6, expect=143)
    results, (failure,) = from_outputs(tmp_path, "nvib", ["a"])
    assert results == []
    assert failure.reason == "training has not finished: 1 epochs are done"
    train(data_dir, tmp_path, "--MAX_STEPS", 6)
    (result,), failures = from_outputs(tmp_path, "nvib", ["a"])
    assert failures == []
    assert result.figures["best_epoch"] in (1, 2)


@pytest.mark.parametrize(
    ("ends", "status", "said"),
    [
        (
            Trainer._save_and_stop,
            143,
            "step 0 of 3, which is saved; the same command{} continues there\n",
        ),
        (interrupt, 143, "interrupted; the same command{} continues\n"),
        (fill_disk, 2, "make room; the same command{} continues\n"),
    ],
)
def test_a_stopped_restart_names_the_command_that_continues(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: Callable, status: int, said: str
):
    """With `--RESTART True` it would remove what is saved."""
    monkeypatch.setattr(Trainer, "_train_epoch", ends)
    begin = (data_dir, tmp_path, "--MAX_STEPS", 3)
    assert said.format("") in train(*begin, expect=status).stderr
    assert said.format(" without --RESTART True") in train(*begin, "--RESTART", True, expect=status).stderr


def test_the_sums_of_an_epoch_that_was_begun_are_counted_by_one_process_alone(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = trainer(load_prepared(data_dir, "tiny"), tmp_path)
    first.progress = Progress(sentences=32, step=1, figures={"tokens": 300.0, "nll": 900.0})
    first._save()
    again = trainer(first.data, tmp_path)
    assert again.resume()
    assert again.progress.figures == {"tokens": 300.0, "nll": 900.0}
    other = trainer(first.data, tmp_path)
    monkeypatch.setattr(type(other.accelerator), "is_main_process", False)
    assert other.resume()
    assert other.progress.figures == {"tokens": 0.0, "nll": 0.0}
    assert progress_text(Figures(other.progress.figures), 1.0) == "run: 00:01 left"
