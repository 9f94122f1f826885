"""Every flag of every script refuses bad values in one line and before any work, and its help explains it."""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from models import MODELS
from models.declaration import declared
from models.sampling import SamplingSettings
from pipeline.cli import types
from pipeline.experiments.training_settings import TrainingSettings
from tests.cli.scripts import PARSERS, bad_arguments, flags, light_place, needed, refusal
from tests.helpers import call, one_line_of_error, run, run_as_main

FLAGS = [(script, action) for script, parser in PARSERS.items() for action in flags(parser)]
every_flag = pytest.mark.parametrize(
    ("script", "action"), FLAGS, ids=[f"{Path(script).stem}{action.option_strings[0]}" for script, action in FLAGS]
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with light_place(tmp_path):
        yield tmp_path


@every_flag
def test_a_bad_value_is_refused_by_the_flag_s_name(place: Path, script: str, action: argparse.Action):
    for arguments in bad_arguments(script, action):
        assert action.option_strings[0] in refusal(place, script, *arguments), arguments


@every_flag
def test_help_explains_a_flag_and_its_default(script: str, action: argparse.Action):
    assert action.help
    assert action.help.strip()[-1] != "."
    sections = re.split(r"\n  (?=-)", PARSERS[script].format_help())
    section = " ".join(next(text for text in sections if text.startswith(action.option_strings[0])).split())
    if not action.required:
        assert "default" in section
    kind = action.type.kind if isinstance(action.type, types.OrNone) else action.type
    if isinstance(kind, types.Bounded) and kind.bounds.below is not None:
        assert re.search(r"\[0, 1\)|share", section)


@pytest.mark.parametrize("script", PARSERS)
@pytest.mark.parametrize("argument", ["--NO_SUCH_FLAG", "--no_such=1", "left_over", "-x", "a\nb", "\x1b[2J"])
def test_an_unknown_flag_is_refused(place: Path, script: str, argument: str):
    assert "unrecognized arguments" in refusal(place, script, argument)


@pytest.mark.parametrize(
    "script", [script for script, parser in PARSERS.items() if any(a.required for a in flags(parser))]
)
def test_a_missing_required_flag_is_named(place: Path, script: str):
    line = one_line_of_error(call(script, expect=2))
    assert all(action.option_strings[0] in line for action in flags(PARSERS[script]) if action.required)


@pytest.mark.parametrize("script", PARSERS)
def test_a_process_refuses_in_one_line_too(tmp_path: Path, script: str):
    places = [
        argument.replace("=", f"={tmp_path}/") if "_DIR=" in argument else argument for argument in needed(script)
    ]
    bad = next((bad_arguments(script, action)[1] for action in flags(PARSERS[script])), ["--NO_SUCH_FLAG"])
    finished = run(script, *places, *bad, expect=2, fresh=True)
    assert bad[0].partition("=")[0] in one_line_of_error(finished)
    assert finished.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("script", "arguments", "taken"),
    [
        ("train.py", ("--EPOCHS", "-1", "--MAX_STEPS", "-1"), {"EPOCHS": -1, "MAX_STEPS": -1, "PATIENCE": None}),
        ("train.py", ("--MODEL", "NVIB", "--PRIOR_MU", "-1e-3", "--DELTA", "0"), {"PRIOR_MU": -0.001, "DELTA": 0.0}),
        ("train.py", ("--EXPERIMENT_NAME", "a" * 100, "--WANDB_ENTITY", ""), {"WANDB_ENTITY": None}),
        ("train.py", ("--SEED", 2**32 - 1, "--COMPILE", "false"), {"SEED": 2**32 - 1, "COMPILE": False}),
        ("train.py", ("--MODEL", "NVIB", "--READING", "draws", 4), {"READING": "draws-4"}),
        ("reconstruction.py", ("--READING", "draws"), {"READING": "draws-8"}),
        ("interpolation_evaluation.py", ("--READING=draws-1000", "--NUMBER_PAIRS", 1), {"READING": "draws-1000"}),
        ("sample.py", ("--MIX", "a", "b", "--READING", "plug-in"), {"READING": "plug-in"}),
        ("tune.py", ("--STORAGE", "sqlite:///study.db", "--SEEDS", 3, 1), {"SEEDS": [3, 1]}),
        ("tune.py", ("--STORAGE", "None"), {"STORAGE": None}),
        ("report.py", ("--FROM_WANDB", "me/a project", "--EXPERIMENTS", "a", "b"), {"EXPERIMENTS": ["a", "b"]}),
        ("sample.py", ("--MIN_LENGTH", 8, "--MAX_LENGTH", 8), {"MIN_LENGTH": 8, "MAX_LENGTH": 8, "BEAMS": None}),
        ("sample.py", ("--DECODING", "sample", "--TOP_P", 1), {"TOP_P": 1.0, "TEMPERATURE": 1.0}),
        ("sample.py", ("--NEAR", "a  b", "--LATENT_TEMPERATURE", 0), {"NEAR": "a  b", "LATENT_TEMPERATURE": 0.0}),
        ("sample.py", ("--DECODING", "beam", "--BEAMS", 1), {"BEAMS": 1, "LENGTH_PENALTY": None}),
        ("sample.py", ("--MIX", "a", "b", "c", "--WEIGHTS", 1, 1, 0), {"MIX": ["a", "b", "c"], "WEIGHTS": [1, 1, 0]}),
        ("sample.py", ("--MIX", "a", "b", "--LATENT_TEMPERATURE", 2, "--KAPPA", 3), {"KAPPA": 3}),
        ("quality.py", ("--NEAR_COPY_DISTANCE", 0, "--DROP_COPIES", "True"), {"DROP_COPIES": True}),
        ("quality.py", ("--DROP_COPIES", 0.5), {"DROP_COPIES": 0.5}),
        ("quality.py", ("--TARGET_COLUMN", "a column"), {"TARGET_COLUMN": "a column"}),
        ("prepareDatasets.py", ("--LOCAL_PATH", "None", "--TOKENIZER", "me/mine"), {"LOCAL_PATH": None}),
        ("prepareDatasets.py", ("--DATA", "own.csv", "--TEXT_COLUMN", "a column"), {"TEXT_COLUMN": "a column"}),
        ("prepareDatasets.py", ("--MORE_THAN", 48), {"MORE_THAN": 48, "FEWER_THAN": 50}),
    ],
)
def test_good_values_are_taken(place: Path, script: str, arguments: tuple, taken: dict):
    parsed = []
    with (
        mock.patch("pipeline.cli.entry.run_script", lambda text, command: parsed.append(command.parse(text))),
        mock.patch.object(sys, "argv", [script, *needed(script), *map(str, arguments)]),
    ):
        run_as_main(script)
    assert {name: getattr(parsed[0], name) for name in taken} == taken


def test_every_declared_setting_has_its_flag_and_its_default():
    for script in ("train.py", "tune.py"):
        known = {action.dest: action for action in flags(PARSERS[script])}
        for kind in (*MODELS.values(), TrainingSettings):
            for setting in declared(kind):
                absent = not setting.flag or (script == "tune.py" and setting.name in ("seed", "start_from"))
                assert (setting.name.upper() in known) != absent, f"{setting.name} of {script}"
                if not absent:
                    action = known[setting.name.upper()]
                    assert setting.help in action.help
                    assert f"{setting.default}" in action.help
                    assert action.default is None
                    assert tuple(action.choices or ()) == setting.choices
    known = {action.dest: action for action in flags(PARSERS["sample.py"])}
    for setting in declared(SamplingSettings):
        assert known[setting.name.upper()].help == setting.help
        assert known[setting.name.upper()].default == setting.default
