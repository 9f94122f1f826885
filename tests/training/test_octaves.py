"""Points of a path of the rate as experiments: what they replace, what removes them, when the last one is saved."""

import json
from pathlib import Path

import pytest

from models.text_model import UNCHANGED
from pipeline.experiments.paths import ExperimentFiles
from pipeline.training.warm_start import inherited_prices
from tests.helpers import call, one_line_of_error, prepare_tiny

SMALL = ("--DATA", "tiny", "--PRECISION", "fp32", "--DIM_H", 16, "--NUM_HEADS", 2, "--DROPOUT", 0, "--BATCH_SIZE", 16)
PATH = ("--MODEL", "NVIB", "--START_PERPLEXITY", 1e6, "--RATE_PATH", 6000, 3000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare_tiny(tmp_path / "data", count=100)
    return tmp_path


def train(folder: Path, name: str, steps: int, *flags: object, expect: int = 0):
    places = ("--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data", "--EXPERIMENT_NAME", name)
    return call("train.py", *places, *SMALL, "--MAX_STEPS", steps, *flags, expect=expect)


def point(folder: Path, rate: int) -> Path:
    return folder / "outputs" / "nvib" / f"n-rate-{rate}"


def test_a_path_does_not_replace_an_experiment_that_is_none_of_its_points(folder: Path):
    train(folder, "n-rate-3000", 1)
    before = {path: path.read_bytes() for path in point(folder, 3000).iterdir() if path.is_file()}
    line = one_line_of_error(train(folder, "n", 2, *PATH, expect=2))
    assert f"--RATE_PATH saves its point of 3000 nats in {point(folder, 3000)}, which is no point of a path" in line
    assert {path: path.read_bytes() for path in before} == before
    assert not (folder / "outputs" / "nvib" / "n").exists()


@pytest.mark.slow
def test_a_restart_removes_the_points_of_the_earlier_run_and_no_other_experiment(folder: Path):
    train(folder, "n", 110, *PATH)
    train(folder, "n-rate-1500", 1)
    assert point(folder, 6000).exists() and point(folder, 3000).exists()
    shown = train(folder, "n", 1, "--RESTART", True).stdout
    assert "the saved points of its path are removed with it: n-rate-3000, n-rate-6000\n" in shown
    assert not point(folder, 6000).exists() and not point(folder, 3000).exists()
    assert point(folder, 1500).exists()


@pytest.mark.slow
def test_the_last_point_is_saved_again_at_the_end_of_a_longer_run(folder: Path):
    train(folder, "n", 110, *PATH)
    first = point(folder, 6000) / "config.json"
    before = first.read_bytes()
    train(folder, "n", 120, *PATH)
    assert first.read_bytes() == before
    configs = [json.loads((point(folder, rate) / "config.json").read_text()) for rate in (6000, 3000)]
    assert [config["training"]["max_steps"] for config in configs] == [110, 120]
    (last, run) = (
        json.loads((point(folder, 3000).with_name(name) / "summary.json").read_text()) for name in ("n-rate-3000", "n")
    )
    assert last["validation/rate"] == run["validation/rate"]


@pytest.mark.slow
def test_a_start_from_a_point_begins_with_its_prices(folder: Path):
    train(folder, "n", 110, *PATH)
    run = inherited_prices(ExperimentFiles(folder / "outputs" / "nvib" / "n"))
    assert run != UNCHANGED
    assert inherited_prices(ExperimentFiles(point(folder, 3000))) == run  # it is the run at its end
    first = inherited_prices(ExperimentFiles(point(folder, 6000)))
    assert UNCHANGED != first != run
