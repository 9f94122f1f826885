"""The passes that fill the minutes of a training."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.recipes import passes
from pipeline.recipes.passes import in_minutes
from pipeline.recipes.plan import Budget, Places
from tests.helpers import call, one_line_of_error, prepare_tiny, run

BUDGET = Budget((1,), None, 16, samples=10, importance_samples=2, pairs=None, epochs=5, minutes=30)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places("p", tmp_path, tmp_path / "data")


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Arguments of each measurement, whose result is 100 seconds a pass."""
    calls: list[tuple[object, ...]] = []

    def seconds(*arguments: object) -> float:
        calls.append(arguments)
        return 100.0

    monkeypatch.setattr(passes, "_seconds_a_pass", seconds)
    return calls


@pytest.mark.usefixtures("timed")
def test_the_longer_of_passes_and_minutes_counts(places: Places):
    assert in_minutes("tiny", places, BUDGET, 1, False).epochs == 18, "30 minutes of 100 seconds a pass"
    other = replace(places, project="q")
    assert in_minutes("tiny", other, replace(BUDGET, minutes=2), 1, False).epochs == 5
    assert in_minutes("tiny", replace(places, project="r"), replace(BUDGET, epochs=None), 1, False).epochs == 18


def test_without_minutes_the_budget_stays_and_nothing_is_measured(places: Places, timed: list[tuple[object, ...]]):
    budget = replace(BUDGET, minutes=None)
    assert in_minutes("tiny", places, budget, 1, False) == budget
    assert not timed
    assert not places.folder.exists()


def test_passes_are_measured_once_and_anew_for_another_budget(places: Places, timed: list[tuple[object, ...]]):
    in_minutes("tiny", places, BUDGET, 1, False)
    in_minutes("tiny", places, BUDGET, 2, False)
    assert in_minutes("tiny", places, BUDGET, 1, True).epochs == 18
    assert len(timed) == 1
    for changed in (replace(BUDGET, minutes=60), replace(BUDGET, epochs=6), replace(BUDGET, batch_size=32)):
        in_minutes("tiny", places, changed, 1, False)
    assert len(timed) == 4


def test_a_list_measures_nothing(places: Places, timed: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]):
    assert in_minutes("tiny", places, BUDGET, 1, True).epochs == 5
    assert "not measured yet; at least 5" in capsys.readouterr().out
    assert not timed
    assert not places.folder.exists()


def test_minutes_and_steps_are_refused(tmp_path: Path):
    flags = ("--MINUTES", 1, "--MAX_STEPS", 5, "--OUTPUT_DIR", tmp_path, "--LIST", "True")
    assert "--MAX_STEPS cuts them off" in one_line_of_error(call("paper", *flags, expect=2))


@pytest.mark.slow
def test_one_command_measures_a_pass_and_trains_as_many_as_fit(tmp_path: Path):
    prepare_tiny(tmp_path / "data", count=2000)
    places = ("--DATA_DIR", tmp_path / "data", "--OUTPUT_DIR", tmp_path / "out")
    flags = ("--DATA", "tiny", "--EXPERIMENTS", "t", "--SEEDS", 1, "--BATCH_SIZE", 64, "--MINUTES", 0.05)
    shown = run("paper", *flags, *places, "--NUMBER_PAIRS", 5).stdout
    record = json.loads((tmp_path / "out" / "paper" / "passes.json").read_text())
    assert record["passes"] == max(1, -(-3 // record["seconds_a_pass"])), "three seconds"
    assert f"{record['passes']} passes a training" in shown
    config = json.loads((tmp_path / "out" / "paper" / "t-s1" / "config.json").read_text())
    assert config["training"]["epochs"] == record["passes"]
    rows = (tmp_path / "out" / "paper" / "t-s1" / "metrics.jsonl").read_text().splitlines()
    seconds = sum(json.loads(row)["seconds"] for row in rows)
    assert 0.2 * 3 < seconds < 5 * 3 * max(1, record["seconds_a_pass"] / 3), "a rough measurement is enough"
    assert not (tmp_path / "out" / "paper-passes").exists()
    again = call("paper", *flags, *places, "--NUMBER_PAIRS", 5, "--LIST", "True").stdout
    assert re.search(r"^train +2 +0 +0$", again, re.MULTILINE)
