"""Run the commands of a recipe: in order, or as steps with dependencies, in parallel and resumable."""

import dataclasses
import itertools
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.data.dataset import difference
from pipeline.experiments.config import read_config
from pipeline.experiments.paths import ExperimentFiles
from pipeline.recipes.step_commands import in_project, same
from pipeline.runtime.checkout import ROOT
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_json, write_json
from pipeline.runtime.locks import heritable, turn
from pipeline.runtime.signals import Interrupted

# Exit statuses of an interrupted process: those of a shell, and those of subprocess.
INTERRUPTED = {sign for number in (signal.SIGINT, signal.SIGTERM) for sign in (128 + number, -number)}
POLL_SECONDS = 0.5  # pause between two checks for steps that other processes have ended


def run_in_order(commands: Sequence[Sequence[str]], first: int = 1, of: int | None = None) -> float:
    """Run scripts one after the other and print each command. The first that fails ends this process with its status.

    Args:
        commands: scripts with their flags.
        first: number of the first command.
        of: number of commands of the whole recipe; these alone if None.

    Returns:
        Minutes that all of them took.

    Raises:
        KeyboardInterrupt: if this process is interrupted, after the script that runs has saved the step it reached.
    """
    started = time.monotonic()
    for number, (script, *arguments) in enumerate(commands, start=first):
        print(f"\n[{number}/{of or len(commands)}] python {shlex.join((script, *arguments))}", flush=True)
        # In a group of its own, so that a terminal interrupts this process alone, which waits for the script.
        process = subprocess.Popen([sys.executable, str(ROOT / script), *arguments], process_group=0)
        try:
            status = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
        if status:
            sys.exit(status)
    return (time.monotonic() - started) / 60


@dataclass(frozen=True)
class Step:
    """One command of a recipe.

    Args:
        name: unique name, a kind and an experiment: "train nvib-s1".
        command: script and its flags.
        needs: names of the steps that must be done before.
        result: file that the step writes and without which it is left; None for an experiment.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    result: Path | None = None

    @property
    def experiment(self) -> str:
        """Experiment that the step writes to, the last word of its name."""
        return self.name.split()[-1]


class StepRunner:
    """Run steps and record in a file which are done, so that the same command resumes after them.

    Several processes may run the same steps at once, on several machines that share the folder. Only one of them at a
    time runs steps of an experiment, and no step is done twice.

    Args:
        steps: steps, each after those that it needs.
        state_file: record of every step that is done or failed, with its seconds; in the project's folder, beside the
            experiments.
        logs: folder of the steps' outputs.
    """

    def __init__(self, steps: Sequence[Step], state_file: Path, logs: Path) -> None:
        self.steps = steps
        self.state_file = state_file
        self.logs = logs
        self.processes: list[subprocess.Popen[bytes]] = []
        self.claims: dict[str, IO[str]] = {}
        self.state: dict[str, dict[str, Any]] = {}
        self.ended: Callable[[Step], None] | None = None  # called with each step that is done and recorded
        self.read()

    def read(self) -> None:
        """Read the records of all processes."""
        if self.state_file.exists():
            remedy = "remove it, and every step is run again"
            found = read_json(self.state_file, remedy)
            records = found.values() if isinstance(found, dict) else [None]
            if not all(isinstance(one, dict) and one.keys() >= {"status", "command", "seconds"} for one in records):
                raise UserError(f"{self.state_file} is not a record of a recipe's steps; {remedy}")
            self.state = found

    def write(self, changes: Mapping[str, dict[str, Any]], forgotten: Collection[str] = ()) -> None:
        """Change and forget the records of some steps, and keep all others, also those of other processes."""
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        with turn(self._lock("state")):
            self.read()
            kept = {name: record for name, record in self.state.items() if name not in forgotten}
            self.state = {**kept, **changes}
            write_json(self.state_file, self.state)

    def _lock(self, name: str) -> Path:
        return self.state_file.parent / f".{name}.steps.lock"

    def status(self, step: Step) -> str:
        """Status of a step: `done`, `failed` or `left`. A step whose command has changed is left."""
        record = self.state.get(step.name)
        if not record or not same(record["command"], step.command) or record["status"] == "begun":
            return "left"
        if step.result is not None and not step.result.exists():
            return "left"
        return record["status"]

    def check_studies(self) -> None:
        """Check, before anything is replaced, that no study has begun with other settings: it could not go on.

        Raises:
            UserError: there is such a study.
        """
        for step in self.steps:
            record = self.state.get(step.name)
            if step.command[0] == "tune.py" and record is not None:
                now, before = (shlex.split(in_project(command)) for command in (step.command, record["command"]))
                changes = {*itertools.pairwise(now)} ^ {*itertools.pairwise(before)}
                changed = sorted({flag for flag, _ in changes if flag.startswith("--") and flag != "--TRIALS"})
                if changed:
                    raise UserError(
                        f"the study of {step.experiment} has begun with another {', '.join(changed)}; give the command "
                        "as it was, or another --PROJECT_NAME"
                    )

    def check_data(self, data: dict[str, Any]) -> None:
        """Check that experiments of the steps were trained on these data: a report is of one data set.

        Args:
            data: identity of the prepared data.

        Raises:
            UserError: one was not.
        """
        for step in self.steps:
            files = ExperimentFiles(self.state_file.parent / step.experiment)
            if step.command[0] != "train.py" or step.name not in self.state or not files.config.exists():
                continue
            with suppress(UserError):  # of a damaged file, which the training refuses or replaces
                if differs := difference(read_config(files)["data"], data):
                    break
        else:
            return
        raise UserError(
            f"{files.folder} was trained on data that were prepared otherwise ({differs}); prepare them as they were, "
            "or give another --PROJECT_NAME"
        )

    def table(self) -> str:
        """Table with the numbers of steps of each kind that are done, failed and left."""
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
        """Run the steps that are left and those that failed before, and wait for those that other processes run.

        Args:
            jobs: largest number of steps that run in parallel. Two steps of one experiment never do, because both
                would write its figures.

        Returns:
            The steps that failed, and those that need one of them.

        Raises:
            KeyboardInterrupt: if a step was interrupted.
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
                            if not self.claim(step):
                                continue
                            self.read()
                            waiting.remove(step)
                            if self.status(step) == "done":
                                self.give_up(step)
                                print(f"{heads[step.name]}: done by another process", flush=True)
                                continue
                            print(f"{heads[step.name]} …", flush=True)
                            running[pool.submit(self._timed, self._begin(step), jobs)] = step
                    ended = wait(running, POLL_SECONDS if waiting else None, FIRST_COMPLETED).done
                    failed += self._record({future: running.pop(future) for future in ended}, heads)
                    if not running and waiting:
                        time.sleep(0 if ended else POLL_SECONDS)
            except KeyboardInterrupt:
                self.interrupt()
                with suppress(KeyboardInterrupt):
                    self._record(running, heads)
                raise
        return sorted(failed, key=lambda step: names.index(step.name))

    def claim(self, step: Step) -> bool:
        """Claim the experiment of a step; False if another process holds it."""
        held = heritable(self._lock(step.experiment))
        if held is not None:
            self.claims[step.experiment] = held
        return held is not None

    def give_up(self, step: Step) -> None:
        """Give up the claim on the experiment of a step."""
        self.claims.pop(step.experiment).close()

    def _may_begin(self, step: Step, waiting: Sequence[Step], running: Collection[Step]) -> bool:
        unfinished = {other.name for other in (*waiting, *running)} - {step.name}
        return not unfinished & set(step.needs) and all(step.experiment != other.experiment for other in running)

    def _timed(self, step: Step, jobs: int) -> tuple[int, Path, float]:
        started = time.monotonic()
        status, log = self.execute(step, jobs)
        return status, log, time.monotonic() - started

    def _record(self, ended: Mapping["Future[tuple[int, Path, float]]", Step], heads: Mapping[str, str]) -> list[Step]:
        """Wait for steps, record and print their ends, and return those that failed.

        Raises:
            KeyboardInterrupt: if a step was interrupted, after the ends of the others are recorded.
        """
        failed, interrupted = [], False
        for future, step in ended.items():
            status, log, seconds = future.result()
            if status in INTERRUPTED:
                interrupted = True
                self.give_up(step)
                continue
            word = "failed" if status else "done"
            record = {"status": word, "command": list(step.command), "seconds": round(seconds, 1)}
            # A failed training may not have replaced the earlier experiment yet; the next attempt must still do so.
            replaces = self.state.get(step.name, {}).get("replaces") if status else None
            self.write({step.name: record | ({"replaces": replaces} if replaces else {})})
            if self.ended is not None and not status:
                self.ended(step)
            self.give_up(step)
            print(f"{heads[step.name]}: {word} in {seconds:.0f} s, {self._counts()}", flush=True)
            if status:
                failed.append(step)
                print(f"    {_last_line(log)} (all of it: {log})", flush=True)
        if interrupted:
            raise Interrupted(signal.SIGTERM)
        return failed

    def interrupt(self) -> None:
        """Interrupt all running steps."""
        for process in list(self.processes):
            process.send_signal(signal.SIGTERM)  # a process in the background of a shell ignores SIGINT

    def seconds(self) -> float:
        """Sum of the seconds of all steps that are done."""
        return sum(self.state[step.name]["seconds"] for step in self.steps if self.status(step) == "done")

    def _counts(self) -> str:
        states = [self.status(step) for step in self.steps]
        return f"{states.count('done')} done, {states.count('failed')} failed, {states.count('left')} left"

    def execute(self, step: Step, jobs: int = 1) -> tuple[int, Path]:
        """Run one step with its share of the processors' threads; return its exit status and the file of its output.

        Args:
            step: step to run.
            jobs: number of steps that share the processors.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{step.name.replace(' ', '-')}.log"
        script, *flags = step.command
        share = {} if jobs == 1 else {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}
        with open(log, "w", encoding="utf-8") as output:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / script), *flags],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=share | os.environ,  # a number of threads in the environment has precedence
                # The step holds its claim too, because it outlives this process if that is killed.
                pass_fds=[self.claims[step.experiment].fileno()] if step.experiment in self.claims else [],
                process_group=0,  # so that only `interrupt` interrupts it, and not the terminal too
            )
            self.processes.append(process)
            status = process.wait()
            self.processes.remove(process)
        return status, log

    def _begin(self, step: Step) -> Step:
        """Record the start of a step, forget the records of steps that need it, and return the step to execute.

        A training with other flags than before, or whose source is trained anew, replaces the earlier experiment: it
        gets `--RESTART True`. Until the experiment is replaced, perhaps after several attempts, the record contains the
        identity of the earlier one.
        """
        earlier, there = self.state.get(step.name), None
        if step.command[0] == "train.py" and earlier is not None:
            there = self.identity(step.experiment)
            if same(earlier["command"], step.command) and earlier.get("replaces") != there:
                there = None
        if there:
            print(f"    {step.experiment} had another command or source: it is trained anew in its place", flush=True)
        records: dict[str, dict[str, Any]] = {step.name: begun(step.command, there)}
        changed = {step.name}
        for other in self.steps:
            if changed & set(other.needs):
                changed.add(other.name)
                # Without a record it would continue an experiment that began from the earlier weights or settings.
                if other.command[0] == "train.py" and (known := self.state.get(other.name)) is not None:
                    records[other.name] = begun(known["command"], self.identity(other.experiment))
        self.write(records, changed)
        return dataclasses.replace(step, command=(*step.command, "--RESTART", "True")) if there else step

    def identity(self, experiment: str) -> str | None:
        """Identity of an experiment, which differs from that of a later one with its name; None without experiment."""
        files = ExperimentFiles(self.state_file.parent / experiment)
        try:
            return read_config(files).get("wandb_id") if files.config.exists() else None
        except UserError:
            return "damaged"


def begun(command: Sequence[str], replaces: str | None) -> dict[str, Any]:
    """Record of a step that has begun, or that begins anew, and the identity of the experiment that it replaces."""
    record: dict[str, Any] = {"status": "begun", "command": list(command), "seconds": 0.0}
    return record | ({"replaces": replaces} if replaces else {})


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"
