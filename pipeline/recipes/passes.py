"""Find how many passes over the data fill the minutes of a training: by timing the Transformer, once a project."""

import dataclasses
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.recipes.plan import RECORD, Budget, Places, Run, is_prepared, prepare_step, statistics_of, training_flags
from pipeline.recipes.runner import Step, StepRunner
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_json, read_jsonl, write_json
from pipeline.runtime.locks import turn

TIMED = Run("timed", "T", ())
FIRST, LAST = 20, 120  # optimizer steps of the two trainings; the first steps of a process are slow
LEAST_SHARE = 0.2  # of the mean time of a step, below which the difference of the two trainings is noise
TIMES = "passes.json"


def in_minutes(
    data: str, places: Places, budget: Budget, jobs: int, list_only: bool, kept: Path | None = None
) -> Budget:
    """Return the budget with as many passes as `T` makes in its minutes, and at least its own passes.

    The time of a batch is measured once and kept in the project's folder, so that the same command resumes with the
    same passes, whatever else the machine does then. Other data or another batch size are measured anew.

    Args:
        data: name of the dataset, which is prepared first if it is not.
        places: project and folders.
        budget: amount of training.
        jobs: number of steps that run in parallel.
        list_only: True to measure nothing; the budget's own passes then stand for a number that is not known yet.
        kept: folder that keeps the time too, from which a project without one takes it; None for no such folder.

    Raises:
        UserError: if the data cannot be prepared, if a training fails that is timed, or if the project and `kept` have
            different times.
    """
    if budget.minutes is None:
        return budget
    least, prepared = budget.epochs or 1, is_prepared(data, places, budget)
    if list_only:
        known = _known(_of(data, places, budget, prepared), places, kept)
        if known is None:
            print(f"the passes that fill {budget.minutes:g} minutes are not measured yet; at least {least}")
            return dataclasses.replace(budget, epochs=least)
    else:
        if not prepared:
            _run([prepare_step(data, places, budget)], places.folder / RECORD, places.folder / "logs", jobs)
        places.folder.mkdir(parents=True, exist_ok=True)
        with turn(places.folder / ".passes.lock"):  # another process takes what the first has measured
            of = _of(data, places, budget)
            known = _known(of, places, kept)
            if known is None:
                known = {**of, "seconds_a_batch": _seconds_a_batch(data, places, budget, jobs)}
            for path in _files(places, kept):
                if _found(path, of) is None:
                    if path.exists():
                        print(f"{path} is of other data or another size of batches; it is replaced", flush=True)
                    write_json(path, known)
    batch = budget.batch_size or TrainingSettings().batch_size
    seconds = known["seconds_a_batch"] * math.ceil(known["sentences"] / batch)
    passes = max(least, math.ceil(60 * budget.minutes / seconds))
    print(
        f"{passes} passes a training: at least {least}, and as many as T makes in {budget.minutes:g} minutes "
        f"({seconds:.3g} s each, {places.folder / TIMES})",
        flush=True,
    )
    return dataclasses.replace(budget, epochs=passes)


def _of(data: str, places: Places, budget: Budget, prepared: bool = True) -> dict[str, Any]:
    """What a time belongs to: the size of a batch and the data, of which only the name is known before preparation."""
    found: dict[str, Any] = {"data": data, "batch_size": budget.batch_size}
    if prepared:
        statistics = statistics_of(data, places)
        found |= {name: statistics.get(name) for name in ("fingerprint", "tokenizer_fingerprint")}
        found["sentences"] = statistics["train"]["sentences"]
    return found


def _files(places: Places, kept: Path | None) -> list[Path]:
    return [folder / TIMES for folder in (places.folder, kept) if folder is not None]


def _known(of: Mapping[str, Any], places: Places, kept: Path | None) -> dict[str, Any] | None:
    """Return the time of a batch that was measured before; None without any for these data and batches.

    Raises:
        UserError: if the project and the kept runs have different times, and so perhaps other passes.
    """
    found = {path: time for path in _files(places, kept) if (time := _found(path, of)) is not None}
    if len({time["seconds_a_batch"] for time in found.values()}) > 1:
        raise UserError(f"{' and '.join(map(str, found))} hold different times of a batch; remove one of them")
    return next(iter(found.values()), None)


def _found(path: Path, of: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the time in a file, with all that it belongs to; None without any for these data and batches."""
    if not path.exists():
        return None
    remedy = "remove it, and the time is measured again"
    found: Any = read_json(path, remedy)
    seconds = found.get("seconds_a_batch") if isinstance(found, dict) else None
    if not isinstance(seconds, float) or not 0 < seconds < math.inf:
        raise UserError(f"{path} holds no time of a batch; {remedy}")
    # A file of an earlier version lacks the number of sentences, which the fingerprint implies.
    found = {"sentences": of.get("sentences"), **found}
    return found if found["sentences"] and all(found.get(name) == value for name, value in of.items()) else None


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
