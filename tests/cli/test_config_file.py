"""Flags beside `--CONFIG`: what is typed has precedence over the file, `None` and what follows from it included."""

import json
from argparse import Namespace
from pathlib import Path
from unittest import mock

import pytest

from pipeline.cli import train_command
from pipeline.cli.settings_flags import training_settings
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
