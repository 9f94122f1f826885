"""Find how many passes over the data fill the minutes of a training: by timing the Transformer, once a project."""

import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Any

from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.recipes.plan import RECORD, Budget, Places, Run, is_prepared, prepare_step, training_flags
from pipeline.recipes.runner import Step, StepRunner
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_json, read_jsonl, write_json
from pipeline.runtime.locks import turn

TIMED = Run("timed", "T", ())
FIRST, LAST = 20, 120  # optimizer steps of the two trainings; the first steps of a process are slow
LEAST_SHARE = 0.2  # of the mean time of a step, below which the difference of the two trainings is noise
TIMES = "passes.json"


def in_minutes(data: str, places: Places, budget: Budget, jobs: int, list_only: bool) -> Budget:
    """Return the budget with as many passes as `T` makes in its minutes, and at least its own passes.

    The time of a batch is measured once and kept in the project's folder, so that the same command resumes with the
    same passes, whatever else the machine does then. Other data or another batch size are measured anew.

    Args:
        data: name of the dataset, which is prepared first if it is not.
        places: project and folders.
        budget: amount of training.
        jobs: number of steps that run in parallel.
        list_only: True to measure nothing; the budget's own passes then stand for a number that is not known yet.

    Raises:
        UserError: if the data cannot be prepared, or a training fails that is timed.
    """
    if budget.minutes is None:
        return budget
    least, prepared = budget.epochs or 1, is_prepared(data, places, budget)
    if list_only:
        known = _known(data, places, budget) if prepared else None
        if known is None:
            print(f"the passes that fill {budget.minutes:g} minutes are not measured yet; at least {least}")
            return dataclasses.replace(budget, epochs=least)
    else:
        if not prepared:
            _run([prepare_step(data, places, budget)], places.folder / RECORD, places.folder / "logs", jobs)
        places.folder.mkdir(parents=True, exist_ok=True)
        with turn(places.folder / ".passes.lock"):  # another process takes what the first has measured
            known = _known(data, places, budget)
            if known is None:
                known = _seconds_a_batch(data, places, budget, jobs)
                write_json(places.folder / TIMES, {**_of(data, places, budget), "seconds_a_batch": known})
    batch = budget.batch_size or TrainingSettings().batch_size
    seconds = known * math.ceil(_statistics(data, places)["train"]["sentences"] / batch)
    passes = max(least, math.ceil(60 * budget.minutes / seconds))
    print(
        f"{passes} passes a training: at least {least}, and as many as T makes in {budget.minutes:g} minutes "
        f"({seconds:.3g} s each, {places.folder / TIMES})",
        flush=True,
    )
    return dataclasses.replace(budget, epochs=passes)


def _statistics(data: str, places: Places) -> dict[str, Any]:
    return read_json(places.data_dir / data / "statistics.json", "prepare it again with prepareDatasets.py")


def _of(data: str, places: Places, budget: Budget) -> dict[str, Any]:
    """What a time belongs to: the data and the size of a batch."""
    statistics = _statistics(data, places)
    prints = {name: statistics.get(name) for name in ("fingerprint", "tokenizer_fingerprint")}
    return {"data": data, **prints, "batch_size": budget.batch_size}


def _known(data: str, places: Places, budget: Budget) -> float | None:
    """Return the seconds of a batch that were measured before; None without any for these data and batches."""
    path = places.folder / TIMES
    if not path.exists():
        return None
    remedy = "remove it, and the time is measured again"
    found: Any = read_json(path, remedy)
    seconds = found.get("seconds_a_batch") if isinstance(found, dict) else None
    if not isinstance(seconds, float) or not 0 < seconds < math.inf:
        raise UserError(f"{path} holds no time of a batch; {remedy}")
    return seconds if all(found.get(name) == value for name, value in _of(data, places, budget).items()) else None


def _seconds_a_batch(data: str, places: Places, budget: Budget, jobs: int) -> float:
    """Train `T` for a few steps twice, and return the seconds of a step.

    Each training has as many threads as a step of the recipe, and runs alone.
    """
    print("timing T by two short trainings, once for this project …", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        apart = dataclasses.replace(places, output_dir=Path(folder), entity=None)
        steps: list[Step] = []
        for number in (FIRST, LAST):
            limit = dataclasses.replace(budget, epochs=None).limit(number)
            command = ("train.py", "--EXPERIMENT_NAME", f"timed-{number}", *training_flags(TIMED), *limit)
            needs = tuple(step.name for step in steps)
            steps.append(Step(f"train timed-{number}", (*command, "--DATA", data, *apart.flags), needs))
        _run(steps, apart.folder / "steps.json", places.folder / "logs", jobs)
        short, long = (_seconds(apart.folder / f"timed-{number}") for number in (FIRST, LAST))
    return max((long - short) / (LAST - FIRST), LEAST_SHARE * long / LAST)


def _run(steps: list[Step], record: Path, logs: Path, jobs: int) -> None:
    """Run steps, each after the one before.

    Raises:
        UserError: if one fails.
    """
    failed = StepRunner(steps, record, logs).run(jobs)
    if failed:
        raise UserError(f"{failed[0].name} failed; its output is in {logs}, and the same command tries it again")


def _seconds(folder: Path) -> float:
    """Seconds of all epochs of a training, without its validation."""
    return sum(row["seconds"] for row in read_jsonl(ExperimentFiles(folder).metrics, "start the recipe again"))
