"""Recipes that run scripts one after the other: interruption, failure, and the commands that they print."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.recipes.plan import Places, _report
from pipeline.recipes.runner import Step, StepRunner, begun, run_in_order
from pipeline.runtime.errors import UserError
from tests.helpers import ROOT, wait_for

SAVES = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def save(number, frame):
    time.sleep(0.7)  # longer than subprocess would wait after Ctrl-C
    (folder / "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
(folder / "begun").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_recipe_lets_its_script_save_the_step_that_it_reached(tmp_path: Path, number: signal.Signals):
    (tmp_path / "saves.py").write_text(SAVES)
    code = (
        "import signal, sys; from pipeline.recipes.runner import run_in_order\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job of a shell ignores it
        "from pipeline.runtime.signals import raise_on_signals\n"
        "raise_on_signals()\n"
        "run_in_order([[sys.argv[1], sys.argv[2]], ['never.py']])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "saves.py"), str(tmp_path)]
    recipe = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "begun")
    time.sleep(0.1)
    recipe.send_signal(number)
    out, error = recipe.communicate(timeout=60)
    assert (tmp_path / "saved").exists(), error
    assert recipe.returncode != 0 and "never.py" not in out


def test_the_first_script_that_fails_ends_the_recipe_and_commands_are_printed_as_typed(tmp_path: Path, capfd):
    (tmp_path / "fails.py").write_text("import sys; sys.exit(3)")
    with pytest.raises(SystemExit) as ended:
        run_in_order([[str(tmp_path / "fails.py"), "{a} is {b}"], ["never.py"]])
    assert ended.value.code == 3
    assert f"[1/2] python {tmp_path / 'fails.py'} '{{a}} is {{b}}'" in capfd.readouterr().out


def test_a_recipe_of_which_nothing_has_begun_has_no_report(tmp_path: Path):
    places = Places("p", tmp_path / "o", tmp_path / "d")
    assert _report(places, [Step("train a", ("train.py",))]) is None
    (tmp_path / "o" / "p" / "a").mkdir(parents=True)
    (tmp_path / "o" / "p" / "a" / "config.json").touch()
    report = _report(places, [Step("train a", ("train.py",))])
    assert report is not None and report.command[-2:] == ("--EXPERIMENTS", "a")


def test_a_study_with_other_settings_is_refused_before_anything_is_replaced(tmp_path: Path):
    def step(*flags: str) -> Step:
        return Step("tune T", ("tune.py", "--MODEL", "T", *flags, "--DATA", "tiny"))

    StepRunner([], tmp_path / "paper.json", tmp_path).write({"tune T": begun(step("--TRIALS", "2").command, None)})
    StepRunner([step("--TRIALS", "9")], tmp_path / "paper.json", tmp_path).check_studies()
    other = StepRunner([step("--TRIALS", "2", "--MAX_STEPS", "7")], tmp_path / "paper.json", tmp_path)
    with pytest.raises(UserError, match=r"the study of T has begun with another --MAX_STEPS; give"):
        other.check_studies()


@pytest.mark.parametrize("content", ["[]", '{"train a": 1}', '{"train a": {"status": "done"}}'])
def test_a_foreign_record_is_refused_in_one_line(tmp_path: Path, content: str):
    (tmp_path / "paper.json").write_text(content)
    with pytest.raises(UserError, match=r"paper\.json is not a record of a recipe's steps; remove it"):
        StepRunner([], tmp_path / "paper.json", tmp_path / "logs")
