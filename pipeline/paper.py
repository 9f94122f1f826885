"""The paper's experiments as commands: what is trained, what is measured of it, and how far that is."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.files import read_json, write_json

ROOT = Path(__file__).parent.parent
JUDGE = "lm"
INTERRUPTED = 130


@dataclass(frozen=True)
class Run:
    """An experiment, trained with every seed.

    Args:
        name: its experiments are `<name>-s<seed>`.
        model: of the registry.
        measures: which of `MEASURES` are taken.
        flags: of train.py, beside the model.
        seeds: how many of the seeds, None for all.
    """

    name: str
    model: str
    measures: tuple[str, ...]
    flags: tuple[str, ...] = ()
    seeds: int | None = None


RECONSTRUCTION = ("reconstruction-validation", "reconstruction-test")
GENERATION = ("sample", "forward", "reverse")
INTERPOLATION = ("interpolation",)
BOUNDS = ("bounds-validation", "bounds-test")  # reconstruction with the bounds beside

# What every training has beside train.py's defaults: with several heads and no dropout a model of one layer leaves
# the plateau of its first steps in a third of the steps.
COMMON = ("--NUM_HEADS", "4", "--DROPOUT", "0")
# And every model with Gaussians. With a weight as small as train.py's own, vectors lie so far apart that the weakest is
# found among the others, and none need be dropped. Each learns to reconstruct first, the NVAE in the fewest steps.
GAUSSIAN = ("--KL_GAUSSIAN_LAMBDA", "1")
MONOTONIC = ("--KL_ANNEALING_GAUSSIAN", "monotonic")
VARIATIONAL = (*GAUSSIAN, "--KL_WARMUP", "0.6", *MONOTONIC)
NONPARAMETRIC = (*GAUSSIAN, "--KL_WARMUP", "0.4", *MONOTONIC)
NONPARAMETRIC += ("--KL_ANNEALING_DIRICHLET", "monotonic", "--ALPHA_ACTIVATION", "relu")

RUNS = (
    Run("t", "T", (*RECONSTRUCTION, *INTERPOLATION)),
    Run("vtv", "VTV", (*BOUNDS, *GENERATION, *INTERPOLATION), VARIATIONAL),
    Run("vtp", "VTP", (*BOUNDS, *GENERATION, *INTERPOLATION), VARIATIONAL),
    Run("vts", "VTS", (*BOUNDS, *GENERATION, *INTERPOLATION), VARIATIONAL),
    Run(
        "nvib",
        "NVIB",
        (*RECONSTRUCTION, *GENERATION, *INTERPOLATION, "regularisation"),
        (*NONPARAMETRIC, "--KL_DIRICHLET_LAMBDA", "1", "--DELTA", "0.25"),
    ),
    # How far the regulariser drops vectors, and what of the text is left. The few pseudo-counts that strong ones leave
    # are shared by all that is kept, so that one well below train.py's threshold is still in use.
    *(
        Run(
            f"nvib-lambda{lambda_d}-delta{delta}",
            "NVIB",
            ("reconstruction-validation", "regularisation"),
            (*NONPARAMETRIC, "--KL_DIRICHLET_LAMBDA", lambda_d, "--DELTA", delta, "--ALPHA_THRESHOLD", "0.01"),
            seeds=1,
        )
        for lambda_d, delta in (("0.1", "0.5"), ("3", "0.1"), ("10", "0.1"), ("10", "0.05"), ("10", "0.02"))
    ),
    # The remedies of a collapse, with the model that it threatens most: all of a text in one vector. `vtp` is the one
    # with a warm-up.
    *(
        Run(f"vtp-{name}", "VTP", ("reconstruction-validation",), (*GAUSSIAN, *flags))
        for name, flags in (
            ("none", ()),
            ("free-bits", ("--FREE_BITS", "0.5")),
            ("word-dropout", ("--WORD_DROPOUT", "0.3")),
            ("cyclic", ("--KL_ANNEALING_GAUSSIAN", "cyclic")),
        )
    ),
)


@dataclass(frozen=True)
class Budget:
    """How much is done.

    Args:
        seeds: that every run is trained with, unless it says otherwise; the judge has the first.
        max_steps: optimizer steps of every training, None for train.py's default.
        batch_size: sentences of every training's batches, None for train.py's default.
        samples: sentences that are generated.
        importance_samples: draws for the bounds.
        pairs: that are interpolated, None for all.
    """

    seeds: Sequence[int]
    max_steps: int | None
    batch_size: int | None
    samples: int
    importance_samples: int
    pairs: int | None


@dataclass(frozen=True)
class Step:
    """One command of the whole.

    Args:
        name: of the step, once in the whole.
        command: a script and its flags.
        needs: names of the steps that must be done before.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @property
    def experiment(self) -> str:
        """The experiment that it writes to."""
        return self.name.split()[-1]


def plan(data: str, places: Sequence[str], runs: Iterable[Run], budget: Budget) -> list[Step]:
    """All steps, in an order in which each comes after those that it needs.

    Args:
        data: name of the dataset.
        places: flags that say where data and outputs lie and where is logged, as every script takes them.
        runs: of `RUNS`.
        budget: how much.
    """
    limit = () if budget.max_steps is None else ("--MAX_STEPS", str(budget.max_steps))
    limit += () if budget.batch_size is None else ("--BATCH_SIZE", str(budget.batch_size))
    data_dir = places[places.index("--DATA_DIR") + 1]
    steps = [Step("prepare", ("prepareDatasets.py", "--DATA", data, "--DATA_DIR", data_dir))]

    def train(name: str, model: str, flags: Sequence[str], seed: int) -> Step:
        command = ("train.py", "--EXPERIMENT_NAME", name, "--MODEL", model, "--SEED", str(seed), *COMMON, *flags)
        return Step(f"train {name}", (*command, *limit, "--DATA", data, *places), ("prepare",))

    steps.append(train(JUDGE, "LM", (), budget.seeds[0]))
    for run in runs:
        for seed in budget.seeds[: run.seeds]:
            name = f"{run.name}-s{seed}"
            steps.append(train(name, run.model, run.flags, seed))
            for measure in run.measures:
                script, flags, needs = MEASURES[measure](budget)
                steps.append(
                    Step(
                        f"{measure} {name}",
                        (script, "--EXPERIMENT_NAME", name, *flags, *places),
                        tuple(need if " " in need else f"{need} {name}" for need in needs),
                    )
                )
    return steps


def _reconstruction(subset: str, bounds: bool) -> Callable[[Budget], tuple[str, tuple[str, ...], tuple[str, ...]]]:
    def measure(budget: Budget) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        draws = ("--IMPORTANCE_SAMPLES", str(budget.importance_samples)) if bounds else ()
        return "reconstruction.py", ("--DATA_SUBSET", subset, *draws), ("train",)

    return measure


def _interpolation(budget: Budget) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    pairs = () if budget.pairs is None else ("--NUMBER_PAIRS", str(budget.pairs))
    return "interpolation_evaluation.py", ("--LANGUAGE_MODEL", JUDGE, *pairs), ("train", f"train {JUDGE}")


# Of each measure: its script, its flags, and the steps that it needs (of the same experiment where one word).
MEASURES: dict[str, Callable[[Budget], tuple[str, tuple[str, ...], tuple[str, ...]]]] = {
    "reconstruction-validation": _reconstruction("validation", bounds=False),
    "reconstruction-test": _reconstruction("test", bounds=False),
    "bounds-validation": _reconstruction("validation", bounds=True),
    "bounds-test": _reconstruction("test", bounds=True),
    "interpolation": _interpolation,
    "regularisation": lambda budget: ("regularisation.py", (), ("train",)),
    "sample": lambda budget: ("sample.py", ("--NUMBER_SAMPLES", str(budget.samples)), ("train",)),
    "forward": lambda budget: (
        "forwardSampleEvaluation.py",
        ("--LANGUAGE_MODEL", JUDGE, "--DATA_SUBSET", "test"),
        ("sample", f"train {JUDGE}"),
    ),
    "reverse": lambda budget: (
        "reverseSampleEvaluation.py",
        ("--LANGUAGE_MODEL", JUDGE, "--DATA_SUBSET", "test"),
        ("sample", f"train {JUDGE}"),
    ),
}


class Paper:
    """Runs steps and remembers in a file which are done, so that the same command goes on.

    Args:
        steps: of `plan`.
        state_file: what is done and how long it took.
        logs: folder of the steps' outputs.
    """

    def __init__(self, steps: Sequence[Step], state_file: Path, logs: Path) -> None:
        self.steps = steps
        self.state_file = state_file
        self.logs = logs
        self.processes: list[subprocess.Popen[bytes]] = []
        self.state: dict[str, dict[str, Any]] = (
            read_json(state_file, "remove it, and every step is run again") if state_file.exists() else {}
        )

    def status(self, step: Step) -> str:
        """`done`, `failed` or `left`; a step whose command has changed is left."""
        record = self.state.get(step.name)
        if not record or record["command"] != list(step.command) or record["status"] == "begun":
            return "left"
        return record["status"]

    def table(self) -> str:
        """How many steps of each kind are done, failed and left."""
        kinds: dict[str, list[str]] = {}
        for step in self.steps:
            kinds.setdefault(step.name.split()[0], []).append(self.status(step))
        width = max(map(len, kinds))
        lines = [f"{'step':<{width}}  done  failed  left"]
        for kind, states in kinds.items():
            counts = [states.count(status) for status in ("done", "failed", "left")]
            lines.append(f"{kind:<{width}}  {counts[0]:4}  {counts[1]:6}  {counts[2]:4}")
        return "\n".join(lines)

    def run(self, jobs: int = 1) -> list[Step]:
        """Run what is left, and what failed before; returns the steps that failed or could not be begun.

        Args:
            jobs: how many steps run beside each other; two of one experiment never do, since both would write its
                figures.

        Raises:
            KeyboardInterrupt: a step was interrupted.
        """
        names = [step.name for step in self.steps]
        heads = {name: f"[{number}/{len(names)}] {name}" for number, name in enumerate(names, start=1)}
        waiting: list[Step] = []
        for step in self.steps:
            if self.status(step) != "done" or any(other.name in step.needs for other in waiting):
                waiting.append(step)
        failed: list[Step] = []
        running: dict[Future[tuple[int, Path, float]], Step] = {}
        with ThreadPoolExecutor(jobs) as pool:
            try:
                while waiting or running:
                    for step in list(waiting):
                        missing = [other.name for other in failed if other.name in step.needs]
                        if missing:
                            print(f"{heads[step.name]}: left out, because {', '.join(missing)} failed", flush=True)
                            failed.append(step)
                            waiting.remove(step)
                        elif len(running) < jobs and self._may_begin(step, waiting, running.values()):
                            waiting.remove(step)
                            print(f"{heads[step.name]} …", flush=True)
                            running[pool.submit(self._timed, self._begin(step), jobs)] = step
                    ended = wait(running, return_when=FIRST_COMPLETED).done
                    failed += self._record({future: running.pop(future) for future in ended}, heads)
            except KeyboardInterrupt:
                self.interrupt()
                with suppress(KeyboardInterrupt):
                    self._record(running, heads)
                raise
        return sorted(failed, key=lambda step: names.index(step.name))

    def _may_begin(self, step: Step, waiting: Sequence[Step], running: Collection[Step]) -> bool:
        unfinished = {other.name for other in (*waiting, *running)} - {step.name}
        return not unfinished & set(step.needs) and all(step.experiment != other.experiment for other in running)

    def _timed(self, step: Step, jobs: int) -> tuple[int, Path, float]:
        started = time.monotonic()
        status, log = self.execute(step, jobs)
        return status, log, time.monotonic() - started

    def _record(self, ended: Mapping["Future[tuple[int, Path, float]]", Step], heads: Mapping[str, str]) -> list[Step]:
        """Wait for steps, write down and tell how they ended; those that failed.

        Raises:
            KeyboardInterrupt: one was interrupted; what the others did is written down all the same.
        """
        failed, interrupted = [], False
        for future, step in ended.items():
            status, log, seconds = future.result()
            if status in (INTERRUPTED, -signal.SIGINT):
                interrupted = True
                continue
            word = "failed" if status else "done"
            self.state[step.name] = {"status": word, "command": list(step.command), "seconds": round(seconds, 1)}
            write_json(self.state_file, self.state)
            print(f"{heads[step.name]}: {word} in {seconds:.0f} s, {self._counts()}", flush=True)
            if status:
                failed.append(step)
                print(f"    {_last_line(log)} (all of it: {log})", flush=True)
        if interrupted:
            raise KeyboardInterrupt
        return failed

    def interrupt(self) -> None:
        """Interrupt the steps that run."""
        for process in list(self.processes):
            process.send_signal(signal.SIGINT)

    def seconds(self) -> float:
        """What the steps that are done took, each by itself, together."""
        return sum(self.state[step.name]["seconds"] for step in self.steps if self.status(step) == "done")

    def _counts(self) -> str:
        states = [self.status(step) for step in self.steps]
        return f"{states.count('done')} done, {states.count('failed')} failed, {states.count('left')} left"

    def execute(self, step: Step, jobs: int = 1) -> tuple[int, Path]:
        """Run one step with its share of the processors; its exit status, and the file that holds what it said."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{step.name.replace(' ', '-')}.log"
        script, *flags = step.command
        share = {} if jobs == 1 else {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}
        with open(log, "w", encoding="utf-8") as output:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / script), *flags],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=share | os.environ,  # who has set the number of threads is right
                process_group=0,  # interrupted by `interrupt`, once, and not by the terminal too
            )
            self.processes.append(process)
            status = process.wait()
            self.processes.remove(process)
        return status, log

    def _begin(self, step: Step) -> Step:
        """Write down that a step begins, and forget what was measured of an earlier one; the step as it is run.

        A training with other flags than the last time takes the place of what that left.
        """
        earlier = self.state.get(step.name)
        anew = step.command[0] == "train.py" and earlier is not None and earlier["command"] != list(step.command)
        changed = {step.name}
        for other in self.steps:
            if changed & set(other.needs):
                changed.add(other.name)
        self.state = {name: record for name, record in self.state.items() if name not in changed}
        self.state[step.name] = {"status": "begun", "command": list(step.command), "seconds": 0.0}
        write_json(self.state_file, self.state)
        return dataclasses.replace(step, command=(*step.command, "--RESTART", "True")) if anew else step


def describe(runs: Iterable[Run], budget: Budget) -> str:
    """The settings of the whole, for the record, as JSON."""
    rows: list[Mapping[str, Any]] = [dataclasses.asdict(run) for run in runs]
    return json.dumps({"budget": dataclasses.asdict(budget), "runs": rows}, indent=2)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
