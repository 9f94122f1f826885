"""The recipe of the rates: an order of runs in which each starts from one before it, with one seed."""

from pathlib import Path

import pytest

from pipeline.recipes.plan import Budget, Places, plan, with_sources
from pipeline.recipes.rates import RUNS, SAMPLING
from tests.helpers import call, prepare_tiny

BUDGET = Budget((1, 2), None, 16, 10, importance_samples=1, pairs=None, sampling=SAMPLING)
PLACES = Places("p", Path("o"), Path("d"))


def value(command: tuple[str, ...], flag: str) -> str:
    return command[command.index(flag) + 1]


def test_every_run_starts_from_one_of_its_seed_that_is_trained_before():
    steps = plan("tiny", PLACES, RUNS, BUDGET)
    names = [step.name for step in steps]
    started = 0
    for number, step in enumerate(steps):
        assert set(step.needs) <= set(names[:number])
        if "--START_FROM" in step.command:
            source = value(step.command, "--START_FROM")
            assert f"train {source}" in step.needs
            assert source.endswith(f"-s{value(step.command, '--SEED')}")
            started += 1
    assert started == sum(min(2, run.seeds or 2) for run in RUNS if run.start_from is not None)


def test_the_judge_has_a_seed_of_its_own_and_samples_are_drawn_at_random():
    steps = {step.name: step.command for step in plan("tiny", PLACES, RUNS, BUDGET)}
    assert value(steps["train lm"], "--SEED") == "0"
    assert value(steps["train lm-s1"], "--SEED") == "1"
    assert value(steps["sample rate-30-s2"], "--DECODING") == "sample"
    assert value(steps["train rate-30-s2"], "--TARGET_RATE") == "30"


def test_chosen_runs_bring_the_runs_that_they_start_from():
    names = [run.name for run in with_sources(RUNS, ["rate-60"])]
    assert names == ["t", "rate-120", "rate-60"]
    assert with_sources(RUNS, [run.name for run in RUNS]) == with_sources(RUNS, None) == list(RUNS)


@pytest.mark.slow
def test_the_recipe_lists_its_steps(tmp_path: Path):
    prepare_tiny(tmp_path / "data")
    shown = call(
        *("rates", "--DATA", "tiny", "--SEEDS", 1, "--EXPERIMENTS", "rate-120", "--LIST", True),
        *("--DATA_DIR", tmp_path / "data", "--OUTPUT_DIR", tmp_path / "outputs"),
    )
    assert ["train", "0", "0", "3"] in [line.split() for line in shown.stdout.splitlines()]
