"""`make synth` passes its values on as they are, whatever make and the shell would expand in them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from pipeline.cli import prepare_command, synth_command
from pipeline.cli.parser import preparation_flags
from pipeline.recipes.synth import Order, training
from tests.helpers import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

ODD = "$5 $$ ${a} $(x costs `id` \"q\" 's' \\ \\n # ; * ~ é 数据 {b} default"
PRINTER = r"""#!/bin/sh
for argument in "$@"; do printf '%s\0' "$argument"; done
"""


def make(folder: Path, variables: dict[str, str], exported: bool) -> subprocess.CompletedProcess[str]:
    """Run `make synth` with an interpreter that prints its arguments."""
    stub = folder / "bin" / "python"
    stub.parent.mkdir()
    stub.write_text(PRINTER)
    stub.chmod(0o755)
    (folder / ".suite").touch()  # the environment is set up
    given = [] if exported else [f"{name}={value}" for name, value in variables.items()]
    command = ["make", "--no-print-directory", "synth", f"VENV={folder}", *given]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment |= variables if exported else {}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def passed(folder: Path, variables: dict[str, str], exported: bool = False) -> list[str]:
    """Return the flags that `make synth` starts the recipe with."""
    finished = make(folder, variables, exported)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.split("\0")[:-1]


@pytest.mark.parametrize("exported", [False, True], ids=["on the command line", "in the environment"])
@pytest.mark.parametrize("value", [ODD, "a b", "it's", "$(", "-x", "{a} is the default"])
def test_every_value_arrives_as_it_was_typed(tmp_path: Path, value: str, exported: bool):
    names = ("DATA", "NAME", "DELIMITER", "TEXT_COLUMN", "LABEL_COLUMN", "PRETRAINED", "MODEL", "PRIOR", "ROW_TEMPLATE")
    flags = passed(tmp_path, dict.fromkeys(names, value), exported)
    assert flags[:3] == ["-m", "pipeline", "synth"]
    numbers = ["--NUMBER_SAMPLES", "1000"]
    assert sorted(flags[3:]) == sorted([*(f"--{name}={value}" for name in names), *numbers])


def test_the_default_template_has_no_value(tmp_path: Path):
    flags = passed(tmp_path, {"DATA": "own.csv", "ROW_TEMPLATE": "default", "N": "7", "STEPS": "9"})
    assert flags[3:] == ["--DATA=own.csv", "--NUMBER_SAMPLES", "7", "--MAX_STEPS", "9", "--ROW_TEMPLATE"]


def test_a_flag_without_a_value_is_left_out(tmp_path: Path):
    assert passed(tmp_path, {"DATA": "own.txt"})[3:] == ["--DATA=own.txt", "--NUMBER_SAMPLES", "1000"]


def test_a_line_break_which_would_end_the_recipe_is_refused(tmp_path: Path):
    finished = make(tmp_path, {"DATA": "own.csv", "TEXT_COLUMN": "a\necho b"}, exported=True)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert "TEXT_COLUMN holds a line break; run python -m pipeline synth." in finished.stderr


def test_further_flags_reach_the_preparation(tmp_path: Path):
    types = "--COLUMN_TYPES zip=text code=text --COLUMN_TYPES=-area=category"
    flags = passed(tmp_path, {"DATA": "own.csv", "FLAGS": f"{types} --MORE_THAN 2"})
    assert flags[-6:] == [*types.split(), "--MORE_THAN", "2"]
    (tmp_path / "own.csv").write_text("zip,code,-area,text\n01234,1,2,a\n")
    words = ["--DATA", str(tmp_path / "own.csv"), "--TEXT_COLUMN", "text", *flags[-6:], "--ACCEPT_LOSS", "True"]
    with mock.patch.object(sys, "argv", ["synth", *words]):
        arguments = synth_command.parse("")
    expected = [f"--COLUMN_TYPES={column}" for column in ("zip=text", "code=text", "-area=category")]
    assert preparation_flags(arguments) == [*expected, "--MORE_THAN", "2", "--ACCEPT_LOSS", "True"]
    order = Order(arguments.DATA, "text", None, None, 1, 1, preparation=tuple(preparation_flags(arguments)))
    command = training(order)[0]
    assert command[-7:] == preparation_flags(arguments)
    with mock.patch.object(sys, "argv", command):
        assert prepare_command.parse("").COLUMN_TYPES == arguments.COLUMN_TYPES
