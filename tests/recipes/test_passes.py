"""The passes that fill the minutes of a training."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from pipeline.recipes import passes
from pipeline.recipes.passes import in_minutes
from pipeline.recipes.plan import Budget, Places
from pipeline.recipes.runner import Step
from pipeline.runtime.errors import UserError
from tests.helpers import call, one_line_of_error, prepare_tiny, run

BUDGET = Budget((1,), None, 16, samples=10, importance_samples=2, pairs=None, epochs=5, minutes=30)


SENTENCES = 1700  # 107 batches of 16


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Places of a project, with prepared data."""
    places = Places("p", tmp_path, tmp_path / "data", "someone")
    write_statistics(places, SENTENCES, "a")
    return places


def write_statistics(places: Places, sentences: int, fingerprint: str, data: str = "tiny") -> None:
    """Write what the recipe reads of prepared data."""
    found = {"train": {"sentences": sentences}, "fingerprint": fingerprint, "tokenizer_fingerprint": "t"}
    (places.data_dir / data).mkdir(parents=True, exist_ok=True)
    (places.data_dir / data / "statistics.json").write_text(json.dumps(found))


class Timed:
    """In the place of a runner: it writes the seconds of the two trainings, and keeps the steps.

    Each training has two epochs, with half of the seconds each.
    """

    seconds: ClassVar[dict[int, float]] = {}
    failing: ClassVar[str] = ""
    steps: ClassVar[list[Step]] = []

    def __init__(self, steps: list[Step], record: Path, logs: Path) -> None:
        self.own, self.record = steps, record

    def run(self, jobs: int) -> list[Step]:
        Timed.steps += self.own
        if self.own[0].name.startswith(Timed.failing or "nothing"):
            return self.own
        for step in self.own:
            if step.name.startswith("train"):
                folder = self.record.parent / step.experiment
                folder.mkdir(parents=True)
                half = Timed.seconds[int(step.experiment.removeprefix("timed-"))] / 2
                row = json.dumps({"seconds": half})
                (folder / "metrics.jsonl").write_text(f"{row}\n{row}\n")
        return []


@pytest.fixture(autouse=True)
def timed(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> type[Timed]:
    """Pretend to train, but in the test of a process."""
    Timed.seconds, Timed.failing, Timed.steps = {20: 4.0, 120: 104.0}, "", []
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(passes, "StepRunner", Timed)
    return Timed


def passes_of(places: Places, budget: Budget = BUDGET, list_only: bool = False, kept: Path | None = None) -> int | None:
    return in_minutes("tiny", places, budget, 2, list_only, kept).epochs


def test_the_longer_of_passes_and_minutes_counts(places: Places):
    assert passes_of(places) == 17, "1,800 seconds, 107 batches of a second"
    assert passes_of(places, replace(BUDGET, minutes=2)) == 5
    assert passes_of(places, replace(BUDGET, minutes=2, epochs=None)) == 2


def test_the_first_steps_do_not_count_and_each_training_runs_after_the_one_before(places: Places, timed: type[Timed]):
    passes_of(places)
    short, long = timed.steps
    assert [short.command[short.command.index("--MAX_STEPS") + 1], long.needs] == ["20", (short.name,)]
    assert long.command[long.command.index("--MAX_STEPS") + 1] == "120"
    for step in timed.steps:
        assert "--EPOCHS" not in step.command
        assert step.command[step.command.index("--MODEL") + 1] == "T"
        assert step.command[step.command.index("--WANDB_ENTITY") + 1] == "None", "no run of the user's account"


@pytest.mark.parametrize(("long", "expected"), [(3.9, 2589), (4.0001, 2524)])
def test_noise_does_not_become_millions_of_passes(places: Places, timed: type[Timed], long: float, expected: int):
    """The difference of the two trainings is no time of a step where the first was slow by chance."""
    timed.seconds = {20: 4.0, 120: long}
    assert passes_of(places) == expected, "a fifth of the mean time of a step"


def test_without_minutes_the_budget_stays_and_nothing_is_measured(places: Places, timed: type[Timed]):
    budget = replace(BUDGET, minutes=None)
    assert in_minutes("tiny", places, budget, 1, False) == budget
    assert not timed.steps
    assert not places.folder.exists()


def test_other_minutes_are_computed_from_the_time_that_is_known(places: Places, timed: type[Timed]):
    passes_of(places)
    timed.seconds = {20: 4.0, 120: 204.0}  # another time would give others
    assert passes_of(places, replace(BUDGET, minutes=60)) == 34
    assert passes_of(places, replace(BUDGET, epochs=6)) == 17
    assert passes_of(places, list_only=True) == 17
    assert len(timed.steps) == 2


def test_other_data_and_batches_are_measured_anew(places: Places, timed: type[Timed]):
    passes_of(places)
    timed.seconds = {20: 4.0, 120: 204.0}
    assert passes_of(places, replace(BUDGET, batch_size=32)) == 17, "54 batches of two seconds"
    write_statistics(places, 170, "b")
    assert passes_of(places) == 82, "11 batches of two seconds"
    assert len(timed.steps) == 6


def test_the_time_is_kept_and_another_machine_has_the_same_passes(places: Places, timed: type[Timed], tmp_path: Path):
    kept = tmp_path / "kept"
    assert passes_of(places, kept=kept) == 17
    timed.seconds, timed.steps = {20: 4.0, 120: 204.0}, []  # that machine is slower
    other = replace(places, output_dir=tmp_path / "other")
    assert passes_of(other, list_only=True, kept=kept) == 17
    assert not other.folder.exists()
    assert passes_of(other, kept=kept) == 17
    assert not timed.steps
    assert passes_of(other) == 17, "it is in the project now"


def test_a_time_that_a_project_has_is_kept_too(places: Places, tmp_path: Path):
    """Also one of an earlier version, which lacks the number of sentences."""
    passes_of(places)
    path = places.folder / "passes.json"
    found = json.loads(path.read_text())
    del found["sentences"]
    path.write_text(json.dumps(found))
    assert passes_of(places, kept=tmp_path / "kept") == 17
    assert json.loads((tmp_path / "kept" / "passes.json").read_text()) == {**found, "sentences": SENTENCES}


def test_a_list_has_the_passes_that_are_kept_before_the_data_are_prepared(
    places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_statistics(places, SENTENCES, "a", "wikitext2")
    assert in_minutes("wikitext2", places, BUDGET, 1, False, tmp_path / "kept").epochs == 17
    new = replace(places, output_dir=tmp_path / "new", data_dir=tmp_path / "none")
    capsys.readouterr()
    assert in_minutes("wikitext2", new, BUDGET, 1, True, tmp_path / "kept").epochs == 17
    assert "not measured yet" not in capsys.readouterr().out
    assert in_minutes("wikitext2", new, replace(BUDGET, batch_size=32), 1, True, tmp_path / "kept").epochs == 5


def test_a_kept_time_of_other_data_is_measured_anew_and_replaced(
    places: Places, timed: type[Timed], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    passes_of(places, kept=tmp_path / "kept")
    other = replace(places, output_dir=tmp_path / "other", data_dir=tmp_path / "others")
    write_statistics(other, 170, "b")
    timed.seconds = {20: 4.0, 120: 204.0}
    assert passes_of(other, kept=tmp_path / "kept") == 82
    assert f"{tmp_path / 'kept' / 'passes.json'} is of other data or another size" in capsys.readouterr().out
    assert json.loads((tmp_path / "kept" / "passes.json").read_text())["fingerprint"] == "b"


def test_two_times_are_refused(places: Places, timed: type[Timed], tmp_path: Path):
    passes_of(places, kept=tmp_path / "kept")
    other = replace(places, output_dir=tmp_path / "other")
    timed.seconds = {20: 4.0, 120: 204.0}
    passes_of(other)
    with pytest.raises(UserError, match=r"other/p/passes\.json and .*kept/passes\.json hold different times"):
        passes_of(other, kept=tmp_path / "kept")


def test_a_project_of_a_like_name_stays(places: Places):
    other = places.output_dir / "p-passes" / "mine" / "model"
    other.parent.mkdir(parents=True)
    other.write_text("weights")
    passes_of(places)
    assert other.read_text() == "weights"
    assert sorted(path.name for path in places.folder.iterdir()) == [".passes.lock", "passes.json"]


def test_data_are_prepared_first(tmp_path: Path, timed: type[Timed], monkeypatch: pytest.MonkeyPatch):
    places = Places("p", tmp_path, tmp_path / "data")
    run = Timed.run

    def prepare(self: Timed, jobs: int) -> list[Step]:
        if self.own[0].name == "prepare":
            assert self.record == places.folder / "paper.json", "the recipe does not prepare them again"
            target = places.data_dir / "wikitext2" / "statistics.json"
            target.parent.mkdir(parents=True)
            target.write_text(json.dumps({"train": {"sentences": 16}}))
        return run(self, jobs)

    monkeypatch.setattr(Timed, "run", prepare)
    assert in_minutes("wikitext2", places, BUDGET, 1, False).epochs == 1800
    assert [step.name for step in timed.steps] == ["prepare", "train timed-20", "train timed-120"]


def test_a_failed_step_is_named_and_nothing_is_kept(places: Places, timed: type[Timed]):
    timed.failing = "train"
    with pytest.raises(UserError, match=r"train timed-20 failed; its output is in .*logs"):
        passes_of(places)
    assert not (places.folder / "passes.json").exists()
    timed.failing = ""
    assert passes_of(places) == 17


@pytest.mark.parametrize("text", ["[1]", "{}", '{"seconds_a_batch": 0.0}', '{"seconds_a_batch": "1"}', "no JSON"])
def test_a_damaged_record_is_refused_in_one_line(places: Places, text: str):
    places.folder.mkdir()
    (places.folder / "passes.json").write_text(text)
    for list_only in (False, True):
        with pytest.raises(UserError, match=r"passes\.json .*remove it, and the time is measured again"):
            passes_of(places, list_only=list_only)


def test_unknown_data_are_refused_before_anything_is_written(places: Places):
    with pytest.raises(UserError, match="--DATA nope is none of"):
        in_minutes("nope", places, BUDGET, 1, False)
    assert not places.folder.exists()


def test_a_list_measures_nothing(places: Places, timed: type[Timed], capsys: pytest.CaptureFixture[str]):
    assert passes_of(places, list_only=True) == 5
    assert "not measured yet; at least 5" in capsys.readouterr().out
    assert not timed.steps
    assert not places.folder.exists()


def test_minutes_and_steps_are_refused(tmp_path: Path):
    flags = ("--MINUTES", 1, "--MAX_STEPS", 5, "--OUTPUT_DIR", tmp_path, "--LIST", "True")
    assert "--MAX_STEPS cuts them off" in one_line_of_error(call("paper", *flags, expect=2))


@pytest.mark.slow
def test_one_command_measures_a_pass_and_trains_as_many_as_fit(tmp_path: Path):
    prepare_tiny(tmp_path / "data", count=400)
    places = ("--DATA_DIR", tmp_path / "data", "--OUTPUT_DIR", tmp_path / "out")
    flags = ("--DATA", "tiny", "--EXPERIMENTS", "t", "--SEEDS", 1, "--BATCH_SIZE", 16, "--MINUTES", 0.05)
    shown = run("paper", *flags, *places, "--NUMBER_PAIRS", 5).stdout
    project = tmp_path / "out" / "paper"
    seconds = json.loads((project / "passes.json").read_text())["seconds_a_batch"]
    count = json.loads((tmp_path / "data" / "tiny" / "statistics.json").read_text())["train"]["sentences"]
    expected = math.ceil(3 / (seconds * math.ceil(count / 16)))
    assert f"{expected} passes a training" in shown
    assert json.loads((project / "t-s1" / "config.json").read_text())["training"]["epochs"] == expected
    assert not list(tmp_path.glob("out/*timed*"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["paper"]
    again = call("paper", *flags, *places, "--NUMBER_PAIRS", 5, "--LIST", "True").stdout
    assert re.search(r"^train +2 +0 +0$", again, re.MULTILINE)
