"""Commands that rest on each other, run beside each other by one process or several, and how far that is."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.experiments.config import read_config
from pipeline.experiments.paths import ExperimentFiles
from pipeline.runtime.checkout import ROOT
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_json, write_json
from pipeline.runtime.locks import heritable, turn

INTERRUPTED = {sign for number in (signal.SIGINT, signal.SIGTERM) for sign in (128 + number, -number)}
POLL_SECONDS = 0.5  # between two looks at what others do, where there is nothing else to do


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


class Paper:
    """Runs steps and remembers in a file which are done, so that the same command goes on.

    Several processes, on several machines that share the folder, may do so at once: each experiment's steps are done
    by one of them at a time, and none is done twice.

    Args:
        steps: of `plan`.
        state_file: what is done and how long it took; in the project's folder, beside the experiments.
        logs: folder of the steps' outputs.
    """

    def __init__(self, steps: Sequence[Step], state_file: Path, logs: Path) -> None:
        self.steps = steps
        self.state_file = state_file
        self.logs = logs
        self.processes: list[subprocess.Popen[bytes]] = []
        self.claims: dict[str, IO[str]] = {}
        self.state: dict[str, dict[str, Any]] = {}
        self._read()

    def _read(self) -> None:
        """Look at what is done, by whomever."""
        if self.state_file.exists():
            self.state = read_json(self.state_file, "remove it, and every step is run again")

    def _write(self, changes: Mapping[str, dict[str, Any]], forgotten: Collection[str] = ()) -> None:
        """Change some steps' records, and leave what others have written of theirs."""
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        with turn(self._lock("state")):
            self._read()
            kept = {name: record for name, record in self.state.items() if name not in forgotten}
            self.state = {**kept, **changes}
            write_json(self.state_file, self.state)

    def _lock(self, name: str) -> Path:
        return self.state_file.parent / f".{name}.steps.lock"

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

        It ends when every step is done or has failed here; for those that others do it waits.

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
                            if not self._claim(step):
                                continue
                            self._read()
                            waiting.remove(step)
                            if self.status(step) == "done":
                                self._give_up(step)
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

    def _claim(self, step: Step) -> bool:
        """Take a step's experiment, unless another process is at it; says whether it did."""
        held = heritable(self._lock(step.experiment))
        if held is not None:
            self.claims[step.experiment] = held
        return held is not None

    def _give_up(self, step: Step) -> None:
        self.claims.pop(step.experiment).close()

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
            if status in INTERRUPTED:
                interrupted = True
                self._give_up(step)
                continue
            word = "failed" if status else "done"
            record = {"status": word, "command": list(step.command), "seconds": round(seconds, 1)}
            # A training that failed before it took the place of an earlier one has that still to do.
            replaces = self.state.get(step.name, {}).get("replaces") if status else None
            self._write({step.name: record | ({"replaces": replaces} if replaces else {})})
            self._give_up(step)
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
            process.send_signal(signal.SIGTERM)  # where SIGINT is ignored, as in a shell's background, this is not

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
                # It holds its claim too: where this process is killed, the step lives on.
                pass_fds=[self.claims[step.experiment].fileno()] if step.experiment in self.claims else [],
                process_group=0,  # interrupted by `interrupt`, once, and not by the terminal too
            )
            self.processes.append(process)
            status = process.wait()
            self.processes.remove(process)
        return status, log

    def _begin(self, step: Step) -> Step:
        """Write down that a step begins, and forget what was measured of an earlier one; the step as it is run.

        A training with other flags than the last time takes the place of what that left. Until it has, which may be
        several attempts later, the record says what that was.
        """
        earlier, there = self.state.get(step.name), None
        if step.command[0] == "train.py" and earlier is not None:
            there = self._identity(step.experiment)
            if earlier["command"] == list(step.command) and earlier.get("replaces") != there:
                there = None
        changed = {step.name}
        for other in self.steps:
            if changed & set(other.needs):
                changed.add(other.name)
        record = {"status": "begun", "command": list(step.command), "seconds": 0.0}
        self._write({step.name: record | ({"replaces": there} if there else {})}, changed)
        return dataclasses.replace(step, command=(*step.command, "--RESTART", "True")) if there else step

    def _identity(self, experiment: str) -> str | None:
        """What tells an experiment that is there from one trained anew under its name."""
        files = ExperimentFiles(self.state_file.parent / experiment)
        try:
            return read_config(files).get("wandb_id") if files.config.exists() else None
        except UserError:
            return "damaged"


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
