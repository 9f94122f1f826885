"""Recipes whose folders or wandb user are given otherwise than before, and whose data are prepared anew or removed."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from pipeline.recipes import plan
from pipeline.recipes.plan import Places, prepare_step, reproduce
from pipeline.recipes.runner import Step, StepRunner
from pipeline.recipes.step_commands import same
from pipeline.runtime import signals
from pipeline.runtime.errors import UserError
from pipeline.runtime.signals import Interrupted
from tests.recipes.test_kept_runs import BUDGET, PLAIN, Pretended, write_data

COMMAND = ("train.py", "--EXPERIMENT_NAME", "a", "--PROJECT_NAME", "p", "--OUTPUT_DIR", "out", "--DATA_DIR", "data")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of prepared data and of a project, in which every step is done in pretence."""
    monkeypatch.setattr(plan, "StepRunner", Pretended)
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path)
    assert len(begun(tmp_path)) > 9
    return tmp_path


def begun(folder: Path, output: str | Path = "outputs", user: str | None = None, kept: Path | None = None) -> list[str]:
    """Run the recipe and return the steps that it has begun."""
    Pretended.begun, Pretended.failing, Pretended.interrupted = [], "", ""
    reproduce("tiny", Places("p", Path(output), folder / "data", user), PLAIN, BUDGET, kept=kept)
    return [name for name in Pretended.begun if name != "report"]


@pytest.mark.parametrize("kept", [None, Path("kept")])
def test_a_user_of_wandb_or_another_spelling_of_the_folder_does_nothing_again(folder: Path, kept: Path | None):
    assert begun(folder, kept=kept) == []
    for _ in range(2):
        assert begun(folder, user="me", kept=kept) == []
    for _ in range(2):
        assert begun(folder, folder / "outputs", kept=kept) == []


def test_moved_data_are_the_same_where_their_runs_are_kept(folder: Path):
    begun(folder, kept=Path("kept"))
    shutil.move(folder / "data", folder / "moved" / "data")
    for _ in range(2):
        assert begun(folder / "moved", kept=Path("kept")) == []


def test_data_that_were_prepared_otherwise_are_refused_before_the_report(folder: Path):
    write_data(folder, "b")
    with pytest.raises(UserError, match=r"was trained on data that were prepared otherwise \(other text\)"):
        begun(folder)
    assert Pretended.begun == []
    write_data(folder)
    assert begun(folder) == []


def test_data_that_were_removed_are_prepared_again(tmp_path: Path):
    places = Places("p", tmp_path / "outputs", tmp_path / "data")
    step, record = prepare_step("tiny", places, BUDGET), tmp_path / "paper.json"
    for _ in range(2):
        runner = Preparing([step], record, tmp_path / "logs")
        assert runner.run() == []
        assert (tmp_path / "data" / "tiny" / "statistics.json").exists()
        assert StepRunner([step], record, tmp_path / "logs").status(step) == "done"
        shutil.rmtree(tmp_path / "data")
        assert StepRunner([step], record, tmp_path / "logs").status(step) == "left"


class Preparing(StepRunner):
    """A runner whose step prepares data."""

    def execute(self, step: Step, jobs: int = 1) -> tuple[int, Path]:
        assert step.result is not None
        write_data(step.result.parent.parent.parent)
        return 0, self.logs / "log"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"--PROJECT_NAME": "q", "--OUTPUT_DIR": "elsewhere"}, True),
        ({"--DATA_DIR": f"{os.getcwd()}/data"}, True),
        ({"--DATA_DIR": "data-8000"}, False),
        ({"--EXPERIMENT_NAME": "b"}, False),
    ],
)
def test_commands_are_the_same_but_for_the_place_of_the_project(changes: dict[str, str], expected: bool):
    flags = dict(zip(COMMAND[1::2], COMMAND[2::2], strict=True)) | changes
    assert same(COMMAND, (COMMAND[0], *(word for pair in flags.items() for word in pair))) == expected


def test_a_step_that_is_signalled_alone_ends_the_recipe_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(signals, "_received", [])

    class Signalled(StepRunner):
        def execute(self, step: Step, jobs: int = 1) -> tuple[int, Path]:
            return 128 + signal.SIGTERM, self.logs / "log"

    with pytest.raises(Interrupted, match="interrupted"):
        Signalled([Step("train a", ("train.py",))], tmp_path / "paper.json", tmp_path / "logs").run()
