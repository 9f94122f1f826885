"""A trial that is interrupted is tried anew with the same settings."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from pipeline.training.trainer import Trainer
from tests.helpers import call, prepare_tiny


@pytest.mark.slow
def test_an_interrupted_trial_is_tried_anew_with_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    prepare_tiny(tmp_path / "data", count=100)
    command = ("--MODEL", "T", "--DATA", "tiny", "--SEEDS", 1, "--DIM_H", 16, "--BATCH_SIZE", 32, "--MAX_STEPS", 3)
    command += ("--OUTPUT_DIR", tmp_path / "outputs", "--DATA_DIR", tmp_path / "data", "--TRIALS", 2)
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_train_epoch", Trainer._save_and_stop)
        said = call("tune.py", *command, expect=143).stderr
    assert "tune.py: trial 0 was stopped; the same command tries its settings anew\n" in said
    shown = call("tune.py", *command).stdout
    assert "trial 1: complete" in shown and "trial 2: complete" in shown
    study = optuna.load_study(
        study_name="T on tiny", storage=f"sqlite:///{tmp_path / 'outputs' / 'tuning' / 'study.db'}"
    )
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert study.trials[1].params == study.trials[0].params != study.trials[2].params
