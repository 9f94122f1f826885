"""Find how many passes over the data fill the minutes of a training: by timing the Transformer, once a project."""

import dataclasses
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.recipes.plan import Budget, Places, Run, is_prepared, prepare_step, training_flags
from pipeline.recipes.runner import Step, StepRunner
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_json, read_jsonl, write_json
from pipeline.runtime.locks import turn

TIMED = Run("timed", "T", ())
FIRST, LAST = 20, 120  # optimizer steps of the two trainings; the first steps of a process are slow
RECORD = "passes.json"


def in_minutes(data: str, places: Places, budget: Budget, jobs: int, list_only: bool) -> Budget:
    """Return the budget with as many passes as its minutes hold, and at least its own.

    The number is measured once, by the training of `T` without its validation, with the threads that a step gets, and
    kept in the project's folder: the same command resumes with it, whatever else the machine does then.

    Args:
        data: name of the dataset, which is prepared first if it is not.
        places: project and folders.
        budget: amount of training, with the minutes of one.
        jobs: number of steps that run in parallel.
        list_only: True to measure nothing; the budget's own passes then stand for a number that is not known yet.

    Raises:
        UserError: if the preparation or a training fails.
    """
    if budget.minutes is None:
        return budget
    least, known = budget.epochs or 1, places.folder / RECORD
    asked = {"data": data, "minutes": budget.minutes, "at_least": least, "batch_size": budget.batch_size}
    if list_only and not _matches(known, asked):
        print(f"the passes that fill {budget.minutes:g} minutes are not measured yet; at least {least}")
        return dataclasses.replace(budget, epochs=least)
    if not list_only:
        known.parent.mkdir(parents=True, exist_ok=True)
        with turn(known.with_name(".passes.lock")):  # another process takes what the first has measured
            if not _matches(known, asked):
                seconds = _seconds_a_pass(data, places, budget, jobs)
                passes = max(least, math.ceil(60 * budget.minutes / seconds))
                write_json(known, {**asked, "seconds_a_pass": seconds, "passes": passes})
    found = _read(known)
    print(
        f"{found['passes']} passes a training, for at least {budget.minutes:g} minutes and {least} passes: one takes T "
        f"{found['seconds_a_pass']:.3g} s ({known})",
        flush=True,
    )
    return dataclasses.replace(budget, epochs=found["passes"])


def _read(known: Path) -> dict[str, Any]:
    return read_json(known, "remove it, and the passes are measured again")


def _matches(known: Path, asked: Mapping[str, Any]) -> bool:
    """Return whether a record is there, and of these settings."""
    found = _read(known) if known.exists() else {}
    return all(found.get(name) == value for name, value in asked.items()) and bool(found)


def _seconds_a_pass(data: str, places: Places, budget: Budget, jobs: int) -> float:
    """Train `T` for a few steps twice, and return the seconds that a pass would take.

    Each training has the threads of a step beside others, and none beside it.
    """
    apart = dataclasses.replace(places, project=f"{places.project}-passes")
    prepared = is_prepared(data, places, budget)
    steps = [] if prepared else [prepare_step(data, places, budget)]
    for number in (FIRST, LAST):
        limit = dataclasses.replace(budget, epochs=None).limit(number)
        command = ("train.py", "--EXPERIMENT_NAME", f"timed-{number}", *training_flags(TIMED), *limit)
        needs = tuple(step.name for step in steps[-1:])
        steps.append(Step(f"train timed-{number}", (*command, "--DATA", data, *apart.flags), needs))
    runner = StepRunner(steps, apart.folder / "steps.json", apart.folder / "logs")
    failed = runner.run(jobs)
    if failed:
        raise UserError(
            f"{failed[0].name}, which measures how long a pass takes, failed; its output is in {runner.logs}"
        )
    short, long = (_seconds(apart.folder / f"timed-{number}") for number in (FIRST, LAST))
    shutil.rmtree(apart.folder)
    remedy = "prepare it again with prepareDatasets.py"
    sentences = read_json(places.data_dir / data / "statistics.json", remedy)["train"]["sentences"]
    batches = math.ceil(sentences / (budget.batch_size or TrainingSettings().batch_size))
    return max(long - short, 1e-6) / (LAST - FIRST) * batches


def _seconds(folder: Path) -> float:
    """Seconds of all epochs of a training, without its validation."""
    return sum(row["seconds"] for row in read_jsonl(ExperimentFiles(folder).metrics, "train again"))
