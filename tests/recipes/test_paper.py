"""The paper recipe: resumption, interruption, and failures of its steps."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.experiments.config import write_config
from pipeline.experiments.paths import ExperimentFiles
from pipeline.recipes.runner import Step, StepRunner
from tests.helpers import ROOT, call, prepare_tiny, run, wait_for
from tests.zygote import zygote


class Pretended(StepRunner):
    """A runner that executes nothing and fails the steps in `failing`."""

    def __init__(self, folder: Path, steps: list[Step], failing: tuple[str, ...] = ()) -> None:
        super().__init__(steps, folder / "paper.json", folder / "logs")
        self.failing = failing
        self.begun: list[str] = []
        self.commands: dict[str, tuple[str, ...]] = {}

    def execute(self, step: Step, jobs: int = 1) -> tuple[int, Path]:
        self.begun.append(step.name)
        self.commands[step.name] = step.command
        self.logs.mkdir(exist_ok=True)
        log = self.logs / "log"
        log.write_text("first\nthe reason\n")
        if step.name in self.failing:
            return (130 if step.name == "stop" else 2), log
        return 0, log


STEPS = [
    Step("train a", ("train.py", "a")),
    Step("sample a", ("sample.py", "a"), ("train a",)),
    Step("score a", ("score.py", "a"), ("sample a",)),
    Step("train b", ("train.py", "b")),
]


def test_a_failed_step_is_printed_and_the_steps_that_need_it_are_left_out_and_tried_again(tmp_path: Path, capsys):
    first = Pretended(tmp_path, STEPS, failing=("sample a",))
    assert [step.name for step in first.run()] == ["sample a", "score a"]
    assert first.begun == ["train a", "sample a", "train b"]
    shown = capsys.readouterr().out
    assert "the reason" in shown
    assert "score a: left out, because sample a failed" in shown
    again = Pretended(tmp_path, STEPS)
    assert again.table().splitlines()[2].split() == ["sample", "0", "1", "0"]
    assert again.run() == []
    assert again.begun == ["sample a", "score a"]
    assert Pretended(tmp_path, STEPS).run() == []


def test_steps_run_beside_each_other_but_never_two_of_one_experiment(tmp_path: Path):
    steps = [
        Step(f"{kind} {name}", (kind, name), needs)
        for name in "ab"
        for kind, needs in (("train", ()), ("sample", (f"train {name}",)), ("score", (f"train {name}",)))
    ]
    lock, running, most, beside = threading.Lock(), [], [], []
    both = threading.Barrier(2)

    class Slow(Pretended):
        def execute(self, step: Step, jobs: int = 1) -> tuple[int, Path]:
            with lock:
                running.append(step.experiment)
                most.append(len(running))
                beside.append(len(running) != len(set(running)))
                assert all(self.status(other) == "done" for other in steps if other.name in step.needs)
            if step.command[0] == "train":
                both.wait(60)  # ends only while the other one runs, too
            time.sleep(0.02)
            with lock:
                running.remove(step.experiment)
            return super().execute(step)

    paper = Slow(tmp_path, steps)
    assert paper.run(jobs=3) == []
    assert sorted(paper.begun) == sorted(step.name for step in steps)
    assert max(most) == 2
    assert not any(beside)


def trained(folder: Path, identity: str) -> None:
    """Write the configuration of an experiment `a`."""
    (folder / "a").mkdir(exist_ok=True)
    write_config(ExperimentFiles(folder / "a"), {"model": {}, "training": {}, "data": {}, "wandb_id": identity})


def test_a_changed_command_runs_again_with_the_steps_that_need_it(tmp_path: Path):
    Pretended(tmp_path, STEPS).run()
    trained(tmp_path, "old")
    changed = [Step("train a", ("train.py", "a", "longer")), *STEPS[1:]]
    paper = Pretended(tmp_path, changed)
    paper.run()
    assert paper.begun == ["train a", "sample a", "score a"]
    assert paper.commands["train a"] == ("train.py", "a", "longer", "--RESTART", "True")
    assert paper.commands["sample a"] == ("sample.py", "a")
    assert [paper.status(step) for step in changed] == ["done"] * 4


@pytest.mark.parametrize("end", [130, 2])
def test_a_training_replaces_an_earlier_one_once_however_many_attempts_it_takes(tmp_path: Path, end: int):
    class Ends(Pretended):
        def execute(self, step: Step, jobs: int = 1) -> tuple[int, Path]:
            return end, super().execute(step)[1]

    def attempt(command: tuple[str, ...], kind: type[Pretended]) -> tuple[str, ...]:
        paper = kind(tmp_path, [Step("train a", command)])
        try:
            paper.run()
        except KeyboardInterrupt:
            assert end == 130
        return paper.commands["train a"]

    attempt(("train.py", "a"), Pretended)
    trained(tmp_path, "old")
    other, anew = ("train.py", "a", "other"), ("train.py", "a", "other", "--RESTART", "True")
    assert attempt(other, Ends) == anew
    assert attempt(other, Ends) == anew, "the old experiment is still there"
    trained(tmp_path, "new")
    assert attempt(other, Ends) == other, "the new experiment is kept"
    assert attempt(other, Pretended) == other


@pytest.mark.parametrize("source", ["tune", "train"])
def test_a_training_begins_anew_where_its_source_does(tmp_path: Path, source: str):
    """Its own flags are as before, so that without --RESTART it would keep the weights of the earlier source."""

    def steps(amount: str) -> list[Step]:
        return [Step(f"{source} s", (f"{source}.py", amount)), Step("train a", ("train.py", "a"), (f"{source} s",))]

    assert Pretended(tmp_path, steps("2")).run() == []
    trained(tmp_path, "old")
    failing = Pretended(tmp_path, steps("3"), failing=("train a",))
    assert [step.name for step in failing.run()] == ["train a"]
    anew = ("train.py", "a", "--RESTART", "True")
    assert failing.commands["train a"] == anew
    again = Pretended(tmp_path, steps("3"))
    assert again.run() == []
    assert again.commands == {"train a": anew}, "the old experiment is still there"
    assert [again.status(step) for step in steps("3")] == ["done", "done"]


def test_an_interrupted_training_resumes_without_a_restart(tmp_path: Path):
    steps = [Step("stop", ("train.py", "a"))]
    with pytest.raises(KeyboardInterrupt):
        Pretended(tmp_path, steps, failing=("stop",)).run()
    paper = Pretended(tmp_path, steps)
    assert paper.status(steps[0]) == "left"
    paper.run()
    assert paper.commands["stop"] == ("train.py", "a")


def test_an_interruption_ends_the_recipe_and_leaves_the_step(tmp_path: Path):
    steps = [STEPS[0], Step("stop", ("sleep.py",)), STEPS[3]]
    paper = Pretended(tmp_path, steps, failing=("stop",))
    with pytest.raises(KeyboardInterrupt):
        paper.run()
    assert [paper.status(step) for step in steps] == ["done", "left", "left"]


def test_an_interruption_reaches_the_steps_that_run_and_what_is_done_stays_done(tmp_path: Path):
    """One of two parallel steps is interrupted. The other ignores the signal, ends, and is recorded."""
    (tmp_path / "heedless.py").write_text(
        "import pathlib, signal, sys, time\n"
        "ready, reported = map(pathlib.Path, sys.argv[1:])\n"
        "signal.signal(signal.SIGTERM, lambda *_: reported.touch())\n"
        "ready.touch()\n"
        "for _ in range(600):\n"
        "    if reported.exists():\n"
        "        break\n"
        "    time.sleep(0.1)\n"
    )
    (tmp_path / "interrupted.py").write_text(
        "import pathlib, sys, time\n"
        "while not pathlib.Path(sys.argv[1]).exists():\n"
        "    time.sleep(0.05)\n"
        "sys.exit(130)\n"
    )
    ready = str(tmp_path / "ready")
    steps = [
        Step("heedless a", (str(tmp_path / "heedless.py"), ready, str(tmp_path / "reported"))),
        Step("interrupted b", (str(tmp_path / "interrupted.py"), ready)),
    ]
    paper = StepRunner(steps, tmp_path / "paper.json", tmp_path / "logs")
    with pytest.raises(KeyboardInterrupt):
        paper.run(jobs=2)
    assert (tmp_path / "reported").exists()
    assert [paper.status(step) for step in steps] == ["done", "left"]


@pytest.mark.slow
def test_two_at_once_do_each_step_once_and_both_end_when_all_is_done(tmp_path: Path):
    (tmp_path / "work.py").write_text(
        "import sys, time\n"
        "open(sys.argv[1], 'a').write(sys.argv[2] + '\\n')\n"  # one write, so that lines of two processes do not mix
        "time.sleep(1)\n"
    )
    (tmp_path / "both.py").write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from pipeline.recipes.runner import Step, StepRunner\n"
        "folder = Path(sys.argv[1])\n"
        "(folder / f'{os.getpid()}.ready').touch()\n"
        "while len(list(folder.glob('*.ready'))) < 2:\n"  # a late process would find nothing left
        "    time.sleep(0.05)\n"
        "def step(name, *needs):\n"
        "    return Step(name, (str(folder / 'work.py'), str(folder / 'done'), name), needs)\n"
        "steps = [step('prepare')]\n"
        "for name in 'abcde':\n"
        "    steps += [step(f'train {name}', 'prepare'), step(f'sample {name}', f'train {name}', 'train a')]\n"
        "paper = StepRunner(steps, folder / 'paper.json', folder / 'logs')\n"
        "failed = paper.run(2)\n"
        "paper = StepRunner(steps, folder / 'paper.json', folder / 'logs')\n"
        "print(len(failed), [paper.status(step) for step in steps].count('done'))\n"
    )
    command, environment = [sys.executable, str(tmp_path / "both.py"), str(tmp_path)], {"PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert [text.splitlines()[-1] for text in said] == ["0 11", "0 11"]
    done = (tmp_path / "done").read_text().splitlines()
    assert sorted(done) == sorted(set(done))
    assert len(done) == 11
    assert all(text.count(" …") > 0 for text in said)  # each has done some


COMMAND = ("--DATA", "tiny", "--EXPERIMENTS", "nvib-lambda10-delta0.05", "--SEEDS", 1, "--MAX_STEPS", 20, "--JOBS", 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, str]:
    """The outputs of a part of the recipe on tiny data, and its printed text."""
    folder = tmp_path_factory.mktemp("paper")
    prepare_tiny(folder / "data")
    return folder, run("paper", *COMMAND, *at(folder, "whole")).stdout


def at(folder: Path, outputs: str) -> tuple[object, ...]:
    return "--DATA_DIR", folder / "data", "--OUTPUT_DIR", folder / outputs


@pytest.mark.slow
def test_one_command_trains_measures_and_reports_and_has_nothing_left_afterwards(whole: tuple[Path, str]):
    folder, shown = whole
    assert "[4/4] regularisation nvib-lambda10-delta0.05-s1: done" in shown
    project = folder / "whole" / "paper"
    page = (project / "report" / "report.md").read_text()
    assert "| nvib-lambda10-delta0.05-s1 | NVIB | 1 |" in page
    assert "## Regularisation" in page
    state = json.loads((project / "paper.json").read_text())
    assert {record["status"] for record in state.values()} == {"done"}
    listed = call("paper", *COMMAND, *at(folder, "whole"), "--LIST", "True").stdout
    assert listed.splitlines()[1].split() == ["train", "2", "0", "0"]


@pytest.mark.slow
def test_one_that_is_killed_twice_ends_with_the_figures_of_one_that_is_not(whole: tuple[Path, str]):
    """The recipe is killed without warning, while the step that it has begun continues."""
    folder, _ = whole
    for begun in ("train-lm.log", "regularisation-nvib-lambda10-delta0.05-s1.log"):
        pid = zygote().start(["paper", *COMMAND, *at(folder, "ended")], folder / "output")
        wait_for(folder / "ended" / "paper" / "logs" / begun)
        time.sleep(0.5)
        os.kill(pid, signal.SIGKILL)
        assert zygote().wait(pid) == -signal.SIGKILL
    shown = run("paper", *COMMAND, *at(folder, "ended")).stdout
    table = shown.split("\n\n")[-2].splitlines()[1:]
    assert all(line.split()[2:] == ["0", "0"] for line in table), shown  # nothing failed, nothing is left
    for name in ("lm", "nvib-lambda10-delta0.05-s1"):
        figures = [(folder / part / "paper" / name / "summary.json").read_text() for part in ("whole", "ended")]
        assert figures[0] == figures[1]
