"""Tuning: the search space, the results that are kept, and the resumption of a study."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import optuna
import pytest
import yaml

from models import MODELS
from models.declaration import Range, declared
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.recipes import study
from pipeline.recipes.search_space import ORDER, space_of, suggest, sweep_parameters
from pipeline.recipes.study import Tuning, Weights, ended
from tests.helpers import ROOT, call, one_line_of_error, prepare_tiny, run
from tests.zygote import zygote

BUDGET = ("--DATA", "tiny", "--DIM_H", 16, "--BATCH_SIZE", 32, "--MAX_STEPS", 9)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> Path:
    """A study of two trials with two seeds."""
    folder = tmp_path_factory.mktemp("tuned")
    prepare_tiny(folder / "data")
    run("tune.py", *at(folder), "--TRIALS", 2)
    return folder


def at(folder: Path) -> tuple[object, ...]:
    return (
        *("--MODEL", "VTP", "--SEEDS", 1, 2, "--POOLING", "max", *BUDGET),
        *("--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data"),
    )


def test_a_model_s_space_contains_its_own_settings():
    assert {"stride_perc", "kl_gaussian_lambda", "learning_rate"} <= space_of(MODELS["VTS"]).keys()
    assert not {"delta", "pooling"} & space_of(MODELS["VTS"]).keys()
    assert {"delta", "kl_dirichlet_lambda"} <= space_of(MODELS["NVIB"]).keys()
    assert not {"kl_gaussian_lambda", "delta"} & space_of(MODELS["T"]).keys()


def test_settings_are_drawn_in_an_order_that_a_seed_depends_on():
    spaces = [list(space_of(settings)) for settings in MODELS.values()]
    assert {name for names in spaces for name in names} >= set(ORDER)
    for names in spaces:
        listed = [name for name in ORDER if name in names]
        assert names[: len(listed)] == listed, "a setting that is not listed comes last"


def test_a_range_of_integers_draws_integers():
    space = {"kappa": Range(2, 8), "dropout": Range(0.0, 0.3)}
    trial = optuna.create_study().ask()
    drawn = suggest(trial, space)
    assert isinstance(drawn["kappa"], int) and 2 <= drawn["kappa"] <= 8
    assert isinstance(drawn["dropout"], float)
    assert sweep_parameters(space)["KAPPA"] == {"distribution": "int_uniform", "min": 2, "max": 8}


def test_tuning_ranges_are_within_the_ranges_of_the_settings():
    for kind in (*MODELS.values(), TrainingSettings):
        for setting in declared(kind):
            if isinstance(setting.tune, Range):
                assert setting.checked(setting.tune.low) < setting.checked(setting.tune.high)
            elif setting.tune is not None:
                assert set(setting.tune.values) == set(setting.choices)


def test_the_objective_is_the_documented_sum():
    figures = {"validation/cross_entropy": 2.0, "validation/kl_gaussian": 3.0, "validation/kl_dirichlet": 0.5}
    assert Weights(0.1, 2.0).value(figures) == pytest.approx(2.0 + 0.3 + 1.0)
    assert Weights(0.1, 2.0).value({"validation/cross_entropy": 2.0}) == 2.0


@pytest.mark.slow
def test_a_study_keeps_and_tests_the_best_alone(tuned: Path):
    project = tuned / "outputs" / "tuning"
    study = optuna.load_study(study_name="VTP on tiny", storage=f"sqlite:///{project / 'study.db'}")
    assert len(study.trials) == 2
    best = study.best_trial
    for trial in study.trials:
        for seed in (1, 2):
            folder = project / f"tune-VTP-tiny-{trial.number}-s{seed}"
            config = json.loads((folder / "config.json").read_text())
            assert config["training"]["seed"] == seed
            assert config["model"]["pooling"] == "max"
            assert config["model"]["kl_gaussian_lambda"] == trial.params["kl_gaussian_lambda"]
            assert (folder / "best.safetensors").exists() == (trial.number == best.number)
            figures = json.loads((folder / "summary.json").read_text())
            assert ("test/reconstruction_bleu" in figures) == (trial.number == best.number)
    values = [
        json.loads((project / f"tune-VTP-tiny-{best.number}-s{seed}" / "summary.json").read_text())["objective"]
        for seed in (1, 2)
    ]
    assert best.value == pytest.approx(sum(values) / 2)


@pytest.mark.slow
def test_training_reads_the_best_configuration(tuned: Path):
    path = tuned / "outputs" / "tuning" / "best-VTP-tiny.json"
    best = json.loads(path.read_text())
    places = ("--OUTPUT_DIR", tuned / "outputs", "--DATA_DIR", tuned / "data", "--DATA", "tiny")
    call("train.py", "--EXPERIMENT_NAME", "chosen", *places, "--CONFIG", path, "--LEARNING_RATE", 0.01)
    config = json.loads((tuned / "outputs" / "nvib" / "chosen" / "config.json").read_text())
    assert config["model"]["name"] == "VTP"
    assert config["model"]["kl_gaussian_lambda"] == best["model"]["kl_gaussian_lambda"]
    assert config["training"]["max_steps"] == 9
    assert config["training"]["learning_rate"] == 0.01, "a flag has precedence over the file"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model": {"name": "VTP", "dropout": 2}, "training": {}}', "dropout must be at least 0 and below 1, got 2"),
        ('{"model": {"name": "VTP", "wings": 2}, "training": {}}', "has 'wings', which is no setting"),
        ('{"model": {"name": "BERT"}, "training": {}}', "names the model 'BERT'; it must be one of"),
        ("[1]", "is no configuration"),
        ("{", "cannot be read"),
    ],
)
def test_a_bad_configuration_is_refused_in_one_line(tmp_path: Path, content: str, message: str):
    (tmp_path / "c.json").write_text(content)
    refused = call(
        "train.py", "--EXPERIMENT_NAME", "x", "--CONFIG", tmp_path / "c.json", "--DATA_DIR", tmp_path, expect=2
    )
    assert message in one_line_of_error(refused)


@pytest.mark.slow
def test_the_sweep_holds_the_same_search(tuned: Path):
    sweep = yaml.safe_load((tuned / "outputs" / "tuning" / "sweep-VTP-tiny.yaml").read_text())
    assert sweep["program"] == "train.py"
    parameters = sweep["parameters"]
    assert parameters["KL_GAUSSIAN_LAMBDA"] == {"distribution": "log_uniform_values", "min": 1e-5, "max": 0.1}
    assert parameters["POOLING"] == {"value": "max"}
    assert parameters["SEED"] == {"values": [1, 2]}
    assert parameters["MODEL"] == {"value": "VTP"}
    assert parameters["DATA_DIR"] == {"value": str(tuned / "data")}
    assert parameters["OUTPUT_DIR"] == {"value": str(tuned / "outputs")}
    flags = call("train.py", "--help").stdout
    assert all(f"--{name}" in flags for name in parameters)


@pytest.mark.slow
def test_a_study_resumes_with_other_trials(tuned: Path):
    call("tune.py", *at(tuned), "--TRIALS", 3)
    storage = f"sqlite:///{tuned / 'outputs' / 'tuning' / 'study.db'}"
    study = optuna.load_study(study_name="VTP on tiny", storage=storage)
    assert len({trial.params["learning_rate"] for trial in study.trials}) == 3
    again = call("tune.py", *at(tuned), "--TRIALS", 3)
    assert "trial 3" not in again.stdout


def test_a_pretrained_model_is_refused_before_any_work(tmp_path: Path):
    line = one_line_of_error(call("tune.py", *at(tmp_path), "--PRETRAINED", "bundled", expect=2))
    assert "leave --PRETRAINED out" in line
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_a_study_of_another_set_up_is_refused(tuned: Path):
    refused = call("tune.py", *at(tuned), "--TRIALS", 2, "--KL_GAUSSIAN_WEIGHT", 5, expect=2)
    assert "objective = {'dirichlet': 0.01, 'gaussian': 0.01}, not {'dirichlet': 0.01, 'gaussian': 5.0}" in (
        one_line_of_error(refused)
    )
    began = json.loads((tuned / "outputs" / "tuning" / "best-VTP-tiny.json").read_text())["training"]["precision"]
    other = {"fp32": "bf16", "bf16": "fp32"}[began]
    line = one_line_of_error(call("tune.py", *at(tuned), "--TRIALS", 2, "--PRECISION", other, expect=2))
    assert f"give the same settings (--PRECISION {began}), or another" in line


@pytest.mark.slow
def test_studies_of_one_project_leave_each_other_alone(tuned: Path):
    project = tuned / "outputs" / "tuning"
    prepare_tiny(tuned / "data", "tiny-2", count=200)

    def weights() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in project.glob("tune-VTP-tiny-?-s*/best.safetensors")}

    before = weights()
    assert len(before) == 2
    call("tune.py", *at(tuned), "--DATA", "tiny-2", "--TRIALS", 1)
    assert json.loads((project / "best-VTP-tiny-2.json").read_text())["found_by"]["data"]["name"] == "tiny-2"
    assert json.loads((project / "best-VTP-tiny.json").read_text())["found_by"]["data"]["name"] == "tiny"
    elsewhere = ("--STORAGE", f"sqlite:///{tuned / 'second.db'}")
    refused = call("tune.py", *at(tuned), *elsewhere, "--TRIALS", 1, expect=2)
    assert "tune-VTP-tiny-0-s1 is no trial of this study; give the --STORAGE" in one_line_of_error(refused)
    # Two studies that began at once: the second has trials with the same numbers.
    study = optuna.load_study(study_name="VTP on tiny", storage=elsewhere[1])
    for _ in range(10):
        study.add_trial(optuna.trial.create_trial(value=0.0, user_attrs={"wandb_ids": {"1": "another"}}))
    assert "is no trial of this study" in one_line_of_error(
        call("tune.py", *at(tuned), *elsewhere, "--TRIALS", 10, expect=2)
    )
    assert weights() == before
    assert json.loads((project / "best-VTP-tiny.json").read_text())["found_by"]["value"] > 0
    assert not list(project.glob("tune-VTP-tiny-?-s*/failure.json"))


@pytest.mark.slow
def test_studies_of_one_database_open_it_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two processes that create the tables of one database at once fail now and then."""
    lock = f"open({str(tmp_path / '.storage.lock')!r}, 'a')"
    attempt = f"import fcntl; fcntl.lockf({lock}, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    others: list[str] = []

    def create(*_: object, **__: object) -> None:
        others.append(subprocess.run([sys.executable, "-c", attempt], capture_output=True, text=True).stderr)

    monkeypatch.setattr(optuna.storages, "RDBStorage", create)
    monkeypatch.setattr(optuna, "create_study", create)
    study._load_or_create(cast(Tuning, SimpleNamespace(folder=tmp_path, study_name="a study")), "sqlite://")
    assert ["BlockingIOError" in error for error in others] == [True, True]


@pytest.mark.slow
def test_a_study_of_an_earlier_version_is_refused(tuned: Path):
    storage = f"sqlite:///{tuned / 'earlier.db'}"
    study = optuna.create_study(study_name="VTP on tiny", storage=storage)
    study.add_trial(optuna.trial.create_trial(value=0.0))
    refused = call("tune.py", *at(tuned), "--TRIALS", 1, "--STORAGE", storage, expect=2)
    assert "'VTP on tiny' that an earlier version began" in one_line_of_error(refused)


@pytest.mark.slow
def test_only_models_of_this_folder_are_tested(tuned: Path):
    project = tuned / "outputs" / "tuning"
    best = json.loads((project / "best-VTP-tiny.json").read_text())["found_by"]
    shutil.rmtree(project / f"tune-VTP-tiny-{best['trial']}-s1")
    reported = call("tune.py", *at(tuned), "--TRIALS", 1).stdout
    assert "seed 1: its model is not in" in reported and "seed 2, test: perplexity" in reported
    training = json.loads((project / "best-VTP-tiny.json").read_text())["training"]
    assert f"the file has --MAX_STEPS {training['max_steps']}, as the trials had; train.py takes others" in reported


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["postgresql://me:secret@nowhere.invalid/db", "sqlite+x://me:se:cret@nowhere/db"])
def test_an_error_of_the_storage_hides_its_password(tuned: Path, storage: str):
    refused = one_line_of_error(call("tune.py", *at(tuned), "--TRIALS", 1, "--STORAGE", storage, expect=2))
    assert "cannot be opened" in refused and "cret" not in refused
    assert "://me:***@nowhere" in refused


@pytest.mark.slow
def test_a_study_that_is_killed_within_a_trial_resumes(tmp_path: Path):
    prepare_tiny(tmp_path / "data")
    pid = zygote().start([ROOT / "tune.py", *at(tmp_path), "--TRIALS", 1], tmp_path / "output")
    deadline = time.monotonic() + 100
    while not list((tmp_path / "outputs" / "tuning").glob("*/config.json")):  # training begins
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    assert zygote().wait(pid) == -signal.SIGKILL
    shown = run("tune.py", *at(tmp_path), "--TRIALS", 1).stdout
    assert "trial 1: complete" in shown
    study = optuna.load_study(study_name="VTP on tiny", storage=f"sqlite:///{tmp_path / 'outputs/tuning/study.db'}")
    study.tell(0, state=optuna.trial.TrialState.FAIL)  # as after five minutes without a heartbeat
    assert [trial.number for trial in ended(study)] == [1], "the dead trial is not one of those asked for"
    shown = run("tune.py", *at(tmp_path), "--TRIALS", 2).stdout
    assert "trial 2: complete" in shown
    best = json.loads(next((tmp_path / "outputs" / "tuning").glob("best-*.json")).read_text())
    assert best["model"]["name"] == "VTP"


@pytest.mark.slow
def test_a_process_with_another_folder_leaves_the_test_to_the_one_that_has_the_best_models(tuned: Path, tmp_path: Path):
    storage = f"sqlite:///{tuned / 'outputs' / 'tuning' / 'study.db'}"
    trials = len(optuna.load_study(study_name="VTP on tiny", storage=storage).trials)
    elsewhere = ("--OUTPUT_DIR", tmp_path, "--STORAGE", storage, "--TRIALS", trials)
    shown = call("tune.py", *at(tuned), *elsewhere).stdout
    for seed in (1, 2):
        assert f"seed {seed}: its model is not in {tmp_path / 'tuning'}; the process that trained it tests it" in shown
    assert "test: perplexity" not in shown
    known, own = (folder / "tuning" / "best-VTP-tiny.json" for folder in (tuned / "outputs", tmp_path))
    assert json.loads(own.read_text())["model"] == json.loads(known.read_text())["model"]


@pytest.mark.slow
def test_two_at_once_try_different_settings_and_both_test_the_best(tmp_path: Path):
    prepare_tiny(tmp_path / "data")
    command, outputs = [ROOT / "tune.py", *at(tmp_path), "--TRIALS", 3], [tmp_path / "a", tmp_path / "b"]
    both = [zygote().start(command, output, tmp_path / "errors") for output in outputs]
    statuses = [zygote().wait(pid) for pid in both]
    said = [output.read_text() for output in outputs]
    assert statuses == [0, 0], (tmp_path / "errors").read_text()[-1000:]
    study = optuna.load_study(
        study_name="VTP on tiny", storage=f"sqlite:///{tmp_path / 'outputs' / 'tuning' / 'study.db'}"
    )
    assert len(study.trials) in (3, 4)  # a process completes the trial that it has begun
    assert len({trial.params["learning_rate"] for trial in study.trials}) == len(study.trials)
    reported = [number for out in said for number in re.findall(r"^trial (\d+):", out, re.MULTILINE)]
    assert sorted(reported) == [str(trial.number) for trial in study.trials]
    assert all("test: perplexity" in out for out in said)
    best = json.loads((tmp_path / "outputs" / "tuning" / "best-VTP-tiny.json").read_text())
    assert best["found_by"]["trial"] == study.best_trial.number
