"""Keep each finished run of a recipe as one small file, with which the same command goes on where outputs are lost."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data.dataset import difference
from pipeline.experiments.config import read_config, write_config
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.tracker import read_summary
from pipeline.recipes.runner import Step, StepRunner, begun
from pipeline.recipes.step_commands import portable, same
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_json, read_record, read_records, write_json, write_record, write_records

REMEDY = "take it from git again, or remove it, and its steps that are not done here are run again"
STUDY = "remove it, and the same command runs the study again"
CURVES = "remove it, and the run is kept without its curves"
KEPT = ("data", "steps", "needs", "studies")  # keys of every kept file, then those of a run's and of a study's
RUN, STUDIED = ("config", "summary"), ("best",)
LOOK = ("step", "rate", "target_rate")  # what the report shows of the looks of a controller, which are hundreds


@dataclass(frozen=True)
class Part:
    """Steps that are kept in one file: all of an experiment, or a study.

    Args:
        name: name of the file, without its suffix.
        steps: the steps.
        needs: commands of the steps of other parts that these need, and that those need in turn, by name.
        best: file of the configuration that the study finds; None for an experiment.
    """

    name: str
    steps: tuple[Step, ...]
    needs: dict[str, str]
    best: Path | None

    @property
    def training(self) -> Step | None:
        """The step that writes weights which others need; None for a study."""
        return next((step for step in self.steps if step.command[0] == "train.py"), None)


class KeptRuns:
    """The finished runs of a recipe in a folder of small files, one for each experiment and each study.

    A file has the commands of the steps, without places, with their seconds, and all that the report reads of the
    experiment, or the best configuration of the study; no weights. A file of other commands or data is not used, and is
    replaced once its steps are done anew.

    Args:
        folder: folder of the files.
        runner: runner of the recipe's steps.
        data: identity of the prepared data; None if they are not prepared, and then the data are not compared.
    """

    def __init__(self, folder: Path, runner: StepRunner, data: dict[str, Any] | None) -> None:
        self.folder = folder
        self.runner = runner
        self.data = data
        self.steps = list(runner.steps)
        self.parts = _parts(self.steps)
        self.usable: dict[str, dict[str, Any]] = {}  # content of the files that stand for the steps of the plan
        runner.ended = self._ended

    def resume(self, list_only: bool) -> None:
        """Count the kept runs as done, restore their files, and keep those that are done here and not kept yet.

        A training is left to do where steps that are left need its weights and these are not here.

        Args:
            list_only: True to write nothing.

        Raises:
            UserError: a kept file is damaged.
        """
        self._take_places(list_only)
        if self.data is None:
            print("the data are not prepared yet, and the kept runs not compared with them")
        left = self._left()
        for part in self.parts.values():
            path, here = self._path(part), self._is_here(part, left)
            kept = self._read(part, path) if path.exists() else None
            reason = None if kept is None else self._mismatch(part, kept)
            if kept is not None and reason is None:
                self.usable[part.name] = kept
            elif here and not list_only:
                self._keep(part)
            elif reason is not None and not here:
                print(f"{path} is of {reason}; its steps are run again", flush=True)
        again = self._trained_again()
        restored = [
            name for name, kept in self.usable.items() if self._restore(self.parts[name], kept, again, list_only)
        ]
        done = {step.name for step in self.steps if self.runner.status(step) == "done"} & self._usable_steps()
        # Figures that are kept stay as they are where a source is trained again.
        self.runner.steps = [dataclasses.replace(s, needs=()) if s.name in done else s for s in self.steps]
        if restored:
            print(f"done before, with their figures in {self.folder}: {', '.join(restored)}", flush=True)
        for name, users in again.items():
            others = f" and {len(users) - 1} more need" if len(users) > 1 else " needs"
            experiment = name.split()[-1]
            print(f"{experiment} is trained again: its weights are not here, and {users[0]}{others} them", flush=True)

    @staticmethod
    def _read(part: Part, path: Path) -> dict[str, Any]:
        """Read a kept file; a sound file of another kind is refused as a damaged one is."""
        kept = read_record(path, REMEDY)
        if lacking := [key for key in (*KEPT, *(RUN if part.best is None else STUDIED)) if key not in kept]:
            raise UserError(f"{path} is not a file of a kept run: it has no {lacking[0]!r}; {REMEDY}")
        return kept

    def complete(self) -> None:
        """Write the kept figures of the runs whose training for their weights did not end, for the report."""
        for name, kept in self.usable.items():
            part = self.parts[name]
            training = part.training
            if training is not None and self.runner.status(training) != "done" and self.runner.claim(training):
                self._unpack(part, kept)
                self.runner.give_up(training)

    def _take_places(self, list_only: bool) -> None:
        """Count steps as done whose commands differ in places alone, as in a project that was moved."""
        known = ((step, self.runner.state.get(step.name)) for step in self.steps)
        moved = {
            step.name: {**record, "command": list(step.command)}
            for step, record in known
            if record is not None
            and portable(record["command"]) == portable(step.command)
            and not same(record["command"], step.command)
        }
        if list_only:
            self.runner.state |= moved
        elif moved:
            self.runner.write(moved)

    def _path(self, part: Part) -> Path:
        return self.folder / f"{part.name}.json"

    def _files(self, part: Part) -> ExperimentFiles:
        return ExperimentFiles(self.runner.state_file.parent / part.name)

    def _usable_steps(self) -> set[str]:
        return {step.name for name in self.usable for step in self.parts[name].steps}

    def _left(self) -> set[str]:
        """Names of the steps that are left, those of kept runs not among them."""
        left: set[str] = set()
        kept = self._usable_steps()
        for step in self.steps:
            if step.name not in kept and (self.runner.status(step) != "done" or left & set(step.needs)):
                left.add(step.name)
        return left

    def _is_here(self, part: Part, left: Collection[str]) -> bool:
        """Return whether all steps of a part are done, and its files are here."""
        return all(step.name not in left for step in part.steps) and self._has_files(part)

    def _has_files(self, part: Part) -> bool:
        files = self._files(part)
        return files.config.exists() and files.summary.exists() if part.best is None else part.best.exists()

    def _has_figures(self, part: Part, kept: Mapping[str, Any]) -> bool:
        """Return whether the files of a part are here, and of the run that is kept."""
        here = self._has_files(part)
        return here and (
            part.best is not None or read_config(self._files(part))["wandb_id"] == kept["config"]["wandb_id"]
        )

    def _has_weights(self, part: Part) -> bool:
        """Return whether an experiment was trained here; the record of a restored one says that it was not."""
        training = part.training
        if training is None or self.runner.status(training) != "done":
            return False
        return "kept" not in self.runner.state[training.name] and self._files(part).best.exists()

    def _trained_again(self) -> dict[str, list[str]]:
        """Return the kept trainings whose weights are needed and not here, with the experiments that need them."""
        left, again = self._left(), dict[str, list[str]]()
        kept = {part.training.name: part for name in self.usable if (part := self.parts[name]).training is not None}
        for step in reversed(self.steps):  # a training that is run again may need the weights of an earlier one
            if step.name in left or step.name in again:
                for need in step.needs:
                    if need in kept and not self._has_weights(kept[need]):
                        users = again.setdefault(need, [])
                        users += [] if step.experiment in users else [step.experiment]
        return {step.name: again[step.name][::-1] for step in self.steps if step.name in again}

    def _mismatch(self, part: Part, kept: Mapping[str, Any]) -> str | None:
        """Return what a kept file is of that the plan is not; None if it stands for the steps of the plan."""
        commands = {name: record["command"] for name, record in kept["steps"].items()}
        if commands != {step.name: portable(step.command) for step in part.steps} or kept["needs"] != part.needs:
            return "other commands"
        if kept["studies"] != self._studies(part):
            return "the settings of another study"
        differs = "" if self.data is None else difference(kept["data"], self.data)
        return f"other data ({differs})" if differs else None

    def _studies(self, part: Part) -> dict[str, Any]:
        """Return the settings that the studies have found whose settings a part trains with, None for one to come."""
        found: dict[str, Any] = {}
        for name in part.needs:
            study = self.parts[_file_of(name)]
            if study.best is not None:
                here = self.runner.status(study.steps[0]) == "done" and study.best.exists()
                best = read_json(study.best, STUDY) if here else self.usable.get(study.name, {}).get("best")
                found[name] = None if best is None else {key: best[key] for key in ("model", "training")}
        return found

    def _restore(self, part: Part, kept: Mapping[str, Any], again: Collection[str], list_only: bool) -> bool:
        """Restore the files and the records of a kept run, and return whether anything was to restore."""
        if list_only:
            records = self._records(part, kept, again)
            self.runner.state = {**self.runner.state, **records}
            return bool(records)
        if not self.runner.claim(part.steps[0]):  # another process runs or restores it
            return False
        self.runner.read()
        records, training = self._records(part, kept, again), part.training
        anew = training is not None and training.name in again and not self._has_weights(part)
        missing = bool(records) or not self._has_figures(part, kept)
        if missing and not anew:
            known = None if training is None else self.runner.state.get(training.name)
            if training is not None and known and portable(known["command"]) != portable(training.command):
                self._files(part).remove()  # an experiment with other settings, as a training would replace it
            self._unpack(part, kept)
        if records:
            self.runner.write(records)
        self.runner.give_up(part.steps[0])
        return missing

    def _records(self, part: Part, kept: Mapping[str, Any], again: Collection[str]) -> dict[str, dict[str, Any]]:
        """Return the records that the runner lacks of the steps of a kept run."""
        records: dict[str, dict[str, Any]] = {}
        for step in part.steps:
            done = self.runner.status(step) == "done"
            if step.name in again and not self._has_weights(part):
                if done:  # not if it has begun again already
                    records[step.name] = begun(step.command, self.runner.identity(step.experiment))
            elif not done:
                seconds = kept["steps"][step.name]["seconds"]
                records[step.name] = {"status": "done", "command": list(step.command), "seconds": seconds, "kept": True}
        return records

    def _ended(self, step: Step) -> None:
        """Keep the run of a step that is done, if it was the last one."""
        part = self.parts.get(_file_of(step.name))
        if part is None:
            return
        if part.name in self.usable:
            self._unpack(part, self.usable[part.name])  # a training for its weights alone; the figures are those kept
        elif self._is_here(part, self._left()):
            self._keep(part)

    def _keep(self, part: Part) -> None:
        """Write the file of a run that is done."""
        found: dict[str, Any]
        if part.best is not None:
            found = {"best": read_json(part.best, STUDY)}
            data = found["best"]["found_by"]["data"]
        else:
            files = self._files(part)
            found = {"config": read_config(files), "summary": read_summary(files)}
            data = found["config"]["data"]
            if files.metrics.exists():
                found["metrics"] = read_records(files.metrics, CURVES)
            if files.control.exists():
                looks = read_records(files.control, CURVES)
                found["control"] = [{key: look[key] for key in LOOK if key in look} for look in looks]
        steps = {
            step.name: {"command": portable(step.command), "seconds": self.runner.state[step.name]["seconds"]}
            for step in part.steps
        }
        kept = {"data": data, "steps": steps, "needs": part.needs, "studies": self._studies(part), **found}
        write_record(self._path(part), kept)
        self.usable[part.name] = kept

    def _unpack(self, part: Part, kept: Mapping[str, Any]) -> None:
        """Write the files that the report and the trainings read."""
        if part.best is not None:
            write_json(part.best, kept["best"])
            return
        files = self._files(part)
        files.failure.unlink(missing_ok=True)
        write_config(files, kept["config"])
        for name, path in (("metrics", files.metrics), ("control", files.control)):
            if name in kept:
                write_records(path, kept[name])
        write_record(files.summary, kept["summary"])


def _file_of(step: str) -> str:
    """Name of the file that keeps a step, by the name of the step."""
    kind, name = step.split()[0], step.split()[-1]
    return f"{kind}-{name}" if kind == "tune" else name


def _parts(steps: Sequence[Step]) -> dict[str, Part]:
    """Group the steps of a recipe; that of the preparation is none of them."""
    grouped: dict[str, list[Step]] = {}
    by_name = {step.name: step for step in steps}
    best: dict[str, Path] = {}
    for step in steps:
        if step.name != "prepare":
            grouped.setdefault(_file_of(step.name), []).append(step)
        if "--CONFIG" in step.command:
            found = Path(step.command[step.command.index("--CONFIG") + 1])
            best |= {_file_of(need): found for need in step.needs if need.startswith("tune ")}
    parts: dict[str, Part] = {}
    for name, own in grouped.items():
        needed, ahead = dict[str, str](), [need for step in own for need in step.needs]
        while ahead:
            step = by_name[ahead.pop()]
            ahead += step.needs
            if step.name != "prepare" and _file_of(step.name) != name:
                needed[step.name] = portable(step.command)
        parts[name] = Part(name, tuple(own), dict(sorted(needed.items())), best.get(name))
    return parts
