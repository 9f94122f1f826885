"""The steps of the paper recipe: their order, resumption, interruption, and failures."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.experiments.config import write_config
from pipeline.experiments.paths import ExperimentFiles
from pipeline.recipes.paper import RUNS
from pipeline.recipes.plan import Budget, Places, plan, with_sources
from pipeline.recipes.runner import Step, StepRunner
from tests.helpers import ROOT, call, one_line_of_error, prepare_tiny, run, wait_for
from tests.zygote import zygote

BUDGET = Budget(seeds=(1, 2, 3), max_steps=None, batch_size=16, samples=10, importance_samples=2, pairs=None)
PLACES = Places("p", Path("o"), Path("d"))


def test_every_step_comes_after_what_it_needs_and_every_model_has_every_seed():
    steps = plan("tiny", PLACES, RUNS, BUDGET)
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    for number, step in enumerate(steps):
        assert set(step.needs) <= set(names[:number])
    trained = [step.command for step in steps if step.command[0] == "train.py"]
    for model in {each.model for each in RUNS} | {"LM"}:
        seeds = {c[c.index("--SEED") + 1] for c in trained if c[c.index("--MODEL") + 1] == model}
        assert seeds == ({"0", "1", "2", "3"} if model == "LM" else {"1", "2", "3"})  # the judge's seed is no run's


def test_samples_of_the_language_model_and_of_models_that_write_alone_are_drawn_in_one_way():
    """Without a latent that decides, greedy decoding repeats one sentence; other draws would not compare."""
    steps = {step.name: step.command for step in plan("tiny", PLACES, RUNS, BUDGET)}
    assert {"sample lm-s1", "forward lm-s1", "reverse lm-s1"} <= steps.keys()
    drawn = steps["sample lm-s1"]
    for name in ("nvib-30-s1", "nvib-30-plain-s1"):
        other = steps[f"sample {name}"]
        for flag in ("--DECODING", "--TOP_P"):
            assert drawn[drawn.index(flag) + 1] == other[other.index(flag) + 1]
    assert drawn[drawn.index("--DECODING") + 1] == "sample"
    assert "--DECODING" not in steps["sample nvib-s1"]
    chosen = plan("tiny", PLACES, RUNS, replace(BUDGET, sampling=("--DECODING", "sample", "--TOP_P", "0.9")))
    assert all(step.command.count("--DECODING") == 1 for step in chosen if step.name.startswith("sample "))


def test_every_training_has_the_budget():
    trained = [step.command for step in plan("tiny", PLACES, RUNS, BUDGET) if step.command[0] == "train.py"]
    assert all(c[c.index("--BATCH_SIZE") + 1] == "16" and "--MAX_STEPS" not in c for c in trained)
    assert all(c[-8:] == PLACES.flags for c in trained)
    assert PLACES.flags == ("--PROJECT_NAME", "p", "--OUTPUT_DIR", "o", "--DATA_DIR", "d", "--WANDB_ENTITY", "None")


def test_passes_trials_and_the_vocabulary_reach_the_commands():
    budget = replace(BUDGET, epochs=5, trials=8, vocabulary=8000)
    steps = {step.name: step for step in plan("tiny", PLACES, RUNS, budget)}
    assert steps["prepare"].command[3:7] == ("--TOKENIZER", "wordpiece", "--VOCAB_SIZE", "8000")
    models = {run.model for run in RUNS}
    assert {name for name in steps if name.startswith("tune ")} == {f"tune {model}" for model in models}
    for model in models:
        command = steps[f"tune {model}"].command
        assert [command[command.index(flag) + 1] for flag in ("--TRIALS", "--SEEDS", "--EPOCHS")] == ["8", "0", "1"]
        assert command[command.index("--PROJECT_NAME") + 1] == "p-tuning"
        assert command.count("--PROJECT_NAME") == 1
    assert [name for name in steps if name.startswith("tune ")] == [
        f"tune {m}" for m in ("T", "LM", "VTV", "VTP", "VTS", "NVIB")
    ]
    nvib = steps["train nvib-s2"]
    assert nvib.command[nvib.command.index("--CONFIG") + 1] == "o/p-tuning/best-NVIB-tiny.json"
    assert "--KL_WARMUP" not in nvib.command
    assert nvib.needs == ("prepare", "tune NVIB")
    assert nvib.command[nvib.command.index("--EPOCHS") + 1] == "5"
    assert "--MAX_STEPS" not in nvib.command
    usual = {step.name: step.command for step in plan("tiny", PLACES, RUNS, replace(BUDGET, trials=8))}
    part = usual["tune T"]
    assert part[part.index("--MAX_STEPS") + 1] == "300", "a fifth of the default of train.py"
    whole = usual["train t-s1"]
    assert whole[whole.index("--MAX_STEPS") + 1] == "1500", "the file of the study has the steps of a trial"
    assert "--MAX_STEPS" not in usual["train nvib-30-s1"], "train.py's default, without a study"
    swept = steps["train nvib-lambda3-delta0.1-s1"].command
    assert "--CONFIG" not in swept
    assert not any(step.startswith("tune ") for step in (s.name for s in plan("tiny", PLACES, RUNS, BUDGET)))


def test_a_study_keeps_the_flags_of_its_run_and_weighs_the_divergences_as_the_loss_does():
    steps = {step.name: step.command for step in plan("tiny", PLACES, RUNS, replace(BUDGET, trials=8))}

    def value(name: str, flag: str) -> str | None:
        return steps[name][steps[name].index(flag) + 1] if flag in steps[name] else None

    for name, wanted in {
        "tune T": (None, None, None, None),
        "tune VTS": ("1", "1", None, None),
        "tune NVIB": ("1", "1", "1", "1"),
    }.items():
        weights = ("KL_GAUSSIAN_LAMBDA", "KL_GAUSSIAN_WEIGHT", "KL_DIRICHLET_LAMBDA", "KL_DIRICHLET_WEIGHT")
        assert tuple(value(name, f"--{weight}") for weight in weights) == wanted
    assert value("tune NVIB", "--ALPHA_ACTIVATION") == "relu"
    assert value("tune NVIB", "--KL_WARMUP") == "0.4"


def test_the_learned_prior_is_the_language_model_of_the_same_seed():
    steps = {step.name: step for step in plan("tiny", PLACES, RUNS, BUDGET)}
    assert steps["train nvib-30-s3"].needs == ("prepare", "train t-s3")
    prior = steps["prior nvib-30-s3"]
    assert prior.command[:5] == ("train_prior.py", "--EXPERIMENT_NAME", "nvib-30-s3", "--FROM", "lm-s3")
    assert set(prior.needs) == {"train nvib-30-s3", "train lm-s3"}
    drawn = steps["sample nvib-30-s3"]
    assert "prior nvib-30-s3" in drawn.needs
    assert drawn.command[drawn.command.index("--PRIOR") + 1] == "learned"
    assert "--PRIOR" not in steps["sample nvib-s3"].command
    assert {run.name for run in with_sources(RUNS, ["nvib-30"])} == {"t", "lm", "nvib-30"}


def test_draws_of_the_prior_are_in_training_where_the_plain_prior_is_sampled_alone():
    steps = {step.name: step for step in plan("tiny", PLACES, RUNS, BUDGET)}
    learned, plain = (steps[f"train {name}-s1"].command for name in ("nvib-30", "nvib-30-plain"))
    assert set(plain) - set(learned) == {"nvib-30-plain-s1", "--PRIOR_TEXTS", "0.5"}
    assert "prior nvib-30-plain-s1" not in steps
    assert "--PRIOR" not in steps["sample nvib-30-plain-s1"].command


def test_data_with_another_vocabulary_are_refused(tmp_path: Path):
    prepare_tiny(tmp_path / "data")
    flags = ("--DATA", "tiny", "--DATA_DIR", tmp_path / "data", "--OUTPUT_DIR", tmp_path / "outputs")
    refused = one_line_of_error(call("paper", *flags, "--VOCAB_SIZE", 8000, "--LIST", "True", expect=2))
    assert "prepared with the tokenizer wordpiece, --VOCAB_SIZE 200" in refused
    listed = call("paper", *flags, "--VOCAB_SIZE", 200, "--EPOCHS", 1, "--TRIALS", 1, "--LIST", "True").stdout
    assert re.search(r"^tune +0 +0 +6$", listed, re.MULTILINE)
    both = one_line_of_error(call("paper", *flags, "--EPOCHS", 1, "--MAX_STEPS", 5, expect=2))
    assert "--EPOCHS and --MAX_STEPS both set the amount" in both


def test_the_sweep_of_the_regulariser_has_at_least_four_settings():
    swept = [run for run in RUNS if "--KL_DIRICHLET_LAMBDA" in run.flags and "--DELTA" in run.flags]
    assert len({run.flags for run in swept}) >= 4
    assert all({"reconstruction-validation", "regularisation"} <= set(run.measures) for run in swept)


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
