"""Flags beside `--CONFIG`: what is typed has precedence over the file, `None` and what follows from it included."""

import json
from argparse import Namespace
from pathlib import Path
from unittest import mock

import pytest

from models import MODELS
from pipeline.cli import train_command
from pipeline.cli.control_flags import with_control
from pipeline.cli.settings_flags import model_fields, training_settings
from tests.helpers import call, one_line_of_error


def parsed(folder: Path, training: dict[str, object], *flags: object, **model: object) -> Namespace:
    """Arguments of train.py with a configuration file of these settings and with these flags."""
    path = folder / "config.json"
    path.write_text(json.dumps({"model": {"name": "NVIB", **model}, "training": training}))
    command = ["train.py", "--EXPERIMENT_NAME", "a", "--CONFIG", path, *flags]
    with mock.patch("sys.argv", [*map(str, command)]):
        return train_command.parse("")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("start_from", "t"),
        ("batch_tokens", 4096),
        ("target_rate", 30.0),
        ("target_kept", 0.4),
        ("rate_path", [120.0, 15.0]),
    ],
)
def test_none_that_is_typed_out_replaces_the_value_of_the_file(tmp_path: Path, name: str, value: object):
    kept = getattr(training_settings(parsed(tmp_path, {name: value})), name)
    assert (list(kept) if isinstance(kept, tuple) else kept) == value
    assert getattr(training_settings(parsed(tmp_path, {name: value}, f"--{name.upper()}", "None")), name) is None


def test_none_is_replaced_by_a_later_value_and_stands_alone(tmp_path: Path):
    later = parsed(tmp_path, {"target_rate": 30.0}, "--TARGET_RATE", "None", "--TARGET_RATE", 60)
    assert later.TARGET_RATE == 60
    none = parsed(tmp_path, {"target_rate": 30.0}, "--TARGET_RATE", 60, "--TARGET_RATE", "None")
    assert none.TARGET_RATE is None
    line = one_line_of_error(call("train.py", "--EXPERIMENT_NAME", "a", "--RATE_PATH", "None", 5, expect=2))
    assert "--RATE_PATH: None is no value beside others" in line


@pytest.mark.parametrize(
    ("training", "weighting", "flags", "kept"),
    [
        ({}, "share", ("--TARGET_RATE", 30), None),
        ({"target_rate": None}, "share", ("--RATE_PATH", 120, 15), None),
        ({"target_rate": 30.0}, "component", ("--TARGET_RATE", "None"), None),
        ({"target_rate": 30.0}, "component", ("--TARGET_RATE", "None", "--RATE_PATH", 120, 15), "component"),
        ({"target_rate": 30.0}, "component", ("--TARGET_RATE", 60), "component"),
        ({"target_rate": 30.0}, "share", ("--TARGET_RATE", "None"), "share"),
        ({}, "component", ("--TARGET_RATE", 30), "component"),
        ({}, "share", ("--TARGET_RATE", 30, "--KL_WEIGHTING", "share"), "share"),
        ({}, "share", (), "share"),
    ],
)
def test_the_weighting_that_followed_from_a_rate_of_the_file_follows_from_the_flags(
    tmp_path: Path, training: dict, weighting: str, flags: tuple, kept: str | None
):
    """None is completed as without a file."""
    arguments = parsed(tmp_path, training, *flags, kl_weighting=weighting)
    assert kept == arguments.KL_WEIGHTING
    given = with_control(MODELS["NVIB"], model_fields(arguments, MODELS), training_settings(arguments))
    assert given.get("kl_weighting", "share") == (kept or ("share" if "None" in flags else "component"))


@pytest.mark.parametrize(
    ("tokens", "flags", "grouped"),
    [
        (4096, ("--BATCH_SIZE", 32), False),
        (4096, ("--BATCH_TOKENS", "None"), False),
        (4096, ("--BATCH_TOKENS", 2048), True),
        (4096, ("--BATCH_SIZE", 32, "--GROUP_BY_LENGTH", True), True),
        (None, ("--BATCH_SIZE", 32), True),
    ],
)
def test_a_grouping_that_followed_from_batches_by_tokens_goes_with_them(
    tmp_path: Path, tokens: int | None, flags: tuple, grouped: bool
):
    settings = training_settings(parsed(tmp_path, {"batch_tokens": tokens, "group_by_length": True}, *flags))
    assert settings.group_by_length == grouped
