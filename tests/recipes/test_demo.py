"""The demo: its commands are ones that the scripts take, each after what it needs."""

import itertools
import sys

import pytest

from pipeline.cli import (
    forward_command,
    interpolation_command,
    prepare_command,
    reconstruction_command,
    report_command,
    sample_command,
    train_command,
    train_prior_command,
)
from pipeline.recipes.demo import RUNS, SAMPLED, steps

COMMANDS = {
    "prepareDatasets.py": prepare_command,
    "train.py": train_command,
    "train_prior.py": train_prior_command,
    "sample.py": sample_command,
    "forwardSampleEvaluation.py": forward_command,
    "reconstruction.py": reconstruction_command,
    "interpolation_evaluation.py": interpolation_command,
    "report.py": report_command,
}


@pytest.mark.parametrize("number", range(len(steps())))
def test_every_script_takes_its_flags(number: int, monkeypatch):
    script, *flags = steps()[number]
    monkeypatch.setattr(sys, "argv", [script, *flags])
    parsed = vars(COMMANDS[script].parse("one of the demo's steps"))
    assert parsed["PROJECT_NAME" if script != "prepareDatasets.py" else "DATA"] in ("demo", "wikipedia-sample")


def test_every_step_comes_after_what_it_needs():
    trained: set[str] = set()
    sampled: set[str] = set()
    fitted: set[str] = set()
    for script, *flags in steps():
        values = dict(itertools.pairwise(flags))
        name = values.get("--EXPERIMENT_NAME")
        if script == "train.py":
            assert values.get("--START_FROM") in {None, *trained}
            trained.add(name)
        elif name is not None:
            assert name in trained
        if script == "train_prior.py":
            assert values["--FROM"] in trained
            fitted.add(name)
        if script == "sample.py":
            assert values.get("--PRIOR", "plain") == ("learned" if name in fitted else "plain")
            sampled.add(name)
        if script == "forwardSampleEvaluation.py":
            assert {name, values["--LANGUAGE_MODEL"]} <= trained
            assert name in sampled
    assert trained == set(RUNS)
    assert sampled == set(SAMPLED)
    assert fitted == {"nvib"}


def test_a_model_with_a_learned_prior_is_trained_without_draws_of_the_plain_one():
    """With them its decoder gives short texts back as others."""
    fitted = [flags[flags.index("--EXPERIMENT_NAME") + 1] for script, *flags in steps() if script == "train_prior.py"]
    trained = [flags for script, *flags in steps() if script == "train.py"]
    own = [flags for flags in trained if flags[flags.index("--EXPERIMENT_NAME") + 1] in fitted]
    assert len(own) == len(fitted) == 1
    assert "--PRIOR_TEXTS" not in own[0]
