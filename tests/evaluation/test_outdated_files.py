"""Samples and interpolations of earlier weights, and figures and pages of earlier samples."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.experiments import tracker
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.tracker import Tracker
from tests.helpers import ROOT, call, one_line_of_error, train_tiny

pytestmark = pytest.mark.slow  # models are trained; together some ten seconds
NOVEL = "interpolation/tau_0.5/novel_forward_perplexity"


@pytest.fixture(scope="module")
def judged(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An NVAE with samples and interpolations, and a judge."""
    folder = tmp_path_factory.mktemp("judged")
    for part in ("data", "outputs"):
        shutil.copytree(trained / part, folder / part)
    train_tiny(folder, "lm", "LM", steps=5)
    call("sample.py", *at(folder), "--NUMBER_SAMPLES", 20)
    call("interpolation_evaluation.py", *at(folder), "--NUMBER_PAIRS", 6, "--LANGUAGE_MODEL", "lm")
    return folder


@pytest.fixture
def folder(judged: Path, tmp_path: Path) -> Path:
    shutil.copytree(judged, tmp_path / "copy")
    return tmp_path / "copy"


def at(folder: Path) -> tuple[object, ...]:
    return ("--EXPERIMENT_NAME", "nvib", "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")


def of(folder: Path) -> ExperimentFiles:
    return ExperimentFiles.of(folder / "outputs", "nvib", "nvib")


def summary(folder: Path) -> dict[str, Any]:
    return json.loads(of(folder).summary.read_text())


@pytest.mark.parametrize(
    ("command", "script"),
    [
        (("forwardSampleEvaluation.py", "--LANGUAGE_MODEL", "lm"), "sample.py"),
        (("reverseSampleEvaluation.py", "--LANGUAGE_MODEL", "lm", "--MAX_STEPS", 1), "sample.py"),
        (("quality.py",), "sample.py"),
        (("interpolation_evaluation.py", "--RUN_INTERPOLATIONS", "False"), "interpolation_evaluation.py"),
    ],
)
def test_texts_of_earlier_weights_are_measured_with_a_warning(folder: Path, command: tuple[object, ...], script: str):
    assert "warning" not in call(command[0], *at(folder), *command[1:]).stderr
    Tracker(of(folder), run=None, offline=True).forget()  # as a training does before it replaces the weights
    said = call(command[0], *at(folder), *command[1:]).stderr
    assert "was not made with the present weights" in said
    assert f"run {script}" in said


def test_figures_of_earlier_interpolations_go(folder: Path):
    """The judge is not asked for the new ones."""
    assert NOVEL in summary(folder)
    call("interpolation_evaluation.py", *at(folder), "--NUMBER_PAIRS", 2, "--READING", "integral")
    assert NOVEL in summary(folder), "those of another reading are others"
    call("interpolation_evaluation.py", *at(folder), "--RUN_INTERPOLATIONS", "False", "--NUMBER_PAIRS", 6)
    call("interpolation_evaluation.py", *at(folder), "--NUMBER_PAIRS", 6)
    assert NOVEL in summary(folder), "the interpolations are the same"
    call("interpolation_evaluation.py", *at(folder), "--NUMBER_PAIRS", 2)
    assert summary(folder)["interpolation/pairs"] == 2
    assert not [key for key in summary(folder) if "novel_forward" in key]


def test_an_offline_run_is_written_with_the_new_samples(folder: Path, monkeypatch: pytest.MonkeyPatch):
    logged: list[tuple[str, bool]] = []

    def log_samples(_: Any, files: ExperimentFiles) -> None:
        logged.append((files.samples.read_text(), "samples/count" in summary(folder)))

    monkeypatch.setattr(tracker, "_log_samples", log_samples)
    call("sample.py", *at(folder), "--NUMBER_SAMPLES", 20, "--SEED", 8)
    assert logged == [(of(folder).samples.read_text(), False)], "no figure of the old samples is beside the new ones"


def test_files_of_earlier_samples_are_named(folder: Path):
    call("quality.py", *at(folder), "--DROP_COPIES", "True")
    again = ("sample.py", *at(folder), "--NUMBER_SAMPLES", 20)
    assert "of earlier samples" not in call(*again).stdout, "the samples are the same"
    said = call(*again, "--SEED", 7).stdout
    names = "quality.json, quality.html, samples_without_copies.jsonl, samples_without_copies.txt"
    assert f"of earlier samples, until quality.py runs again: {names}" in said
    call("quality.py", *at(folder), "--LANGUAGE_MODEL", "lm")
    assert not of(folder).samples_without_copies.exists()
    assert not of(folder).samples_without_copies.with_suffix(".txt").exists()
    texts = [json.loads(line)["text"] + "\n" for line in of(folder).samples.read_text().splitlines()]
    assert (of(folder).folder / "synthetic.txt").read_text() == "".join(text for text in texts if text.strip())
    assert "of an earlier run are removed" in of(folder).quality.with_suffix(".html").read_text()
    figures = summary(folder)
    assert figures["quality/forward_perplexity_judge"] == "lm"
    assert figures["quality/forward_perplexity_subset"] == "validation"


@pytest.mark.parametrize(
    "command",
    [
        ("forwardSampleEvaluation.py", "--LANGUAGE_MODEL", "lm"),
        ("reverseSampleEvaluation.py", "--LANGUAGE_MODEL", "lm", "--MAX_STEPS", 1),
        ("quality.py",),
    ],
)
def test_figures_of_samples_go_once_these_are_edited(folder: Path, command: tuple[object, ...]):
    call("forwardSampleEvaluation.py", *at(folder), "--LANGUAGE_MODEL", "lm")
    assert "samples/distinct_2" in summary(folder)
    texts = of(folder).samples.read_text().splitlines(keepends=True)
    of(folder).samples.write_text("".join(texts[3:]))
    nobody = ("--LANGUAGE_MODEL", "nobody")
    one_line_of_error(call(command[0], *at(folder), *nobody, expect=2))
    assert "samples/distinct_2" in summary(folder), "what is refused changes nothing"
    said = call(command[0], *at(folder), *command[1:])
    assert "samples.jsonl has changed since sample.py wrote it" in said.stderr
    assert "samples/distinct_2" not in summary(folder)
    assert ("samples/forward_perplexity" in summary(folder)) == (command[0] == "forwardSampleEvaluation.py")


def test_half_a_character_in_the_samples_is_refused(folder: Path):
    with open(of(folder).samples, "a") as file:
        file.write('{"text": "half \\ud83d"}\n')
    refused = call("quality.py", *at(folder), expect=2)
    assert "samples.jsonl: row 21 has half a character; mend it, or generate them with sample.py" in refused.stderr


def test_figures_of_other_pairs_go(folder: Path):
    said = call("interpolation_evaluation.py", *at(folder), "--RUN_INTERPOLATIONS", "False", "--NUMBER_PAIRS", 2)
    assert summary(folder)["interpolation/pairs"] == 2
    assert not [key for key in summary(folder) if "novel_forward" in key]
    assert "2 pairs, scored as they are in" in said.stdout
    more = call("interpolation_evaluation.py", *at(folder), "--RUN_INTERPOLATIONS", "False", "--NUMBER_PAIRS", 99)
    assert "has 6 pairs alone; all are scored" in more.stderr


@pytest.mark.parametrize("reading", [(), ("--READING", "integral")])
def test_figures_of_interpolations_go_once_these_are_edited(folder: Path, reading: tuple[str, ...]):
    command = ("interpolation_evaluation.py", *at(folder), *reading)
    again = (*command, "--RUN_INTERPOLATIONS", "False")
    name = "interpolations.jsonl" if not reading else "interpolations_integral.jsonl"
    key = NOVEL if not reading else NOVEL.replace("/novel", "/reading_integral/novel")
    if reading:
        call(*command, "--NUMBER_PAIRS", 6, "--LANGUAGE_MODEL", "lm")
    call(*again)
    assert key in summary(folder), "the interpolations are the same"
    path = of(folder).folder / name
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["outputs"]["0.5"] = "the old king left ."
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    call(*again)
    assert key not in summary(folder)
    assert (NOVEL in summary(folder)) == bool(reading), "those of another reading are others"


def test_a_prior_is_not_trained_while_its_experiment_is_sampled(folder: Path):
    code = "import sys; from pathlib import Path; from pipeline.experiments.paths import ExperimentFiles\n"
    code += "ExperimentFiles(Path(sys.argv[1])).claim(); print(flush=True); sys.stdin.read()"
    held = [sys.executable, "-c", code, of(folder).folder]
    with subprocess.Popen(held, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert "experiment 'nvib'" in one_line_of_error(call("train_prior.py", *at(folder), expect=2))
        other.kill()
