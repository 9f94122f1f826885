"""Another reading in an evaluation: its own figures and files, those of the experiment's reading untouched."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import from_pretrained, load_experiment
from pipeline.experiments import tracker as tracking
from pipeline.experiments.config import read_config, settings_from_json
from pipeline.experiments.metrics import FIGURES, under_reading
from pipeline.experiments.paths import ExperimentFiles
from pipeline.runtime.errors import UserError
from tests.helpers import call, one_line_of_error


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch) -> Path:
    """A copy of the experiments, without wandb."""

    def no_tracker(*_: object) -> None:
        raise RuntimeError("not in this test")

    monkeypatch.setattr(tracking, "_start", no_tracker)
    shutil.copytree(trained / "outputs", tmp_path / "outputs")
    (tmp_path / "data").symlink_to(trained / "data")
    return tmp_path


def script(place: Path, name: str, *arguments: object, of: str = "nvib", expect: int = 0) -> Any:
    """Run a script on an experiment in the place."""
    places = ("--OUTPUT_DIR", place / "outputs", "--DATA_DIR", place / "data")
    return call(name, "--EXPERIMENT_NAME", of, *places, *arguments, expect=expect)


def content(place: Path) -> dict[str, bytes]:
    """Content of the experiment's files by name."""
    folder = place / "outputs" / "nvib" / "nvib"
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def figures(place: Path) -> dict[str, Any]:
    return json.loads(content(place)["summary.json"])


def test_another_reading_has_figures_and_files_of_its_own(place: Path):
    runs: tuple[tuple[str, tuple[object, ...]], ...] = (
        ("reconstruction.py", ()),
        ("interpolation_evaluation.py", ("--NUMBER_PAIRS", 9, "--LANGUAGE_MODEL", "vanilla")),
    )
    for name, arguments in runs:
        script(place, name, *arguments)
    before, files = figures(place), content(place)
    for name, arguments in runs:
        script(place, name, *arguments, "--READING", "draws", 2)
    after, new = figures(place), content(place)
    before.pop("checksum"), after.pop("checksum")
    assert {key: after[key] for key in before} == before
    of_reading = {key: value for key, value in after.items() if key not in before}
    expected = under_reading(dict.fromkeys(FIGURES), "draws-2")
    assert of_reading.keys() <= expected.keys()
    assert {
        "validation/reading_draws-2/reconstruction_bleu",
        "interpolation/reading_draws-2/pairs",
    } <= of_reading.keys()
    assert "interpolation/tau_0.5/reading_draws-2/bleu_source" in of_reading
    assert after["validation/reading_draws-2/perplexity"] != after["validation/perplexity"]
    assert new.keys() - files.keys() == {
        "reconstruction_validation_draws-2.jsonl",
        "interpolations_draws-2.jsonl",
        "interpolation_examples_draws-2.txt",
    }
    assert all(new[name] == files[name] for name in files if name != "summary.json")
    reconstructions, pairs = (
        [json.loads(line) for line in new[f"{name}_draws-2.jsonl"].splitlines()]
        for name in ("reconstruction_validation", "interpolations")
    )
    for pair, row in zip(pairs, reconstructions, strict=False):
        assert pair["outputs"]["0"] == row["reconstruction"]  # the latents are draws, too
    again = script(place, "interpolation_evaluation.py", "--RUN_INTERPOLATIONS", "False", "--READING", "draws-2")
    assert "interpolations_draws-2.jsonl" in again.stdout
    assert figures(place)["interpolation/tau_0/reading_draws-2/novel_fraction"] is not None


def test_the_experiment_s_own_reading_is_no_other(place: Path):
    script(place, "reconstruction.py")
    files = content(place)
    script(place, "reconstruction.py", "--READING", "plug-in")
    assert content(place) == files


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("reconstruction.py", ()), ("interpolation_evaluation.py", ()), ("sample.py", ("--NEAR", "a cat"))],
)
def test_a_model_with_one_reading_refuses_another_in_one_line(place: Path, name: str, arguments: tuple):
    mean = ("--LATENT_TEMPERATURE", 0) if arguments else ()
    refused = script(place, name, *arguments, *mean, "--READING", "plug-in", of="vanilla", expect=2)
    line = one_line_of_error(refused)
    assert line == f"{name}: error: --READING is for NVIB, and 'vanilla' is of the model T; leave it out"


def test_a_sample_of_a_mean_latent_names_its_reading(place: Path):
    mixed = ("--MIX", "the old king", "a cat", "--NUMBER_SAMPLES", 1)
    rows = {}
    for reading in ((), ("--READING", "plug-in"), ("--READING", "draws-2")):
        script(place, "sample.py", *mixed, *reading)
        [rows[reading[-1:]]] = [json.loads(line) for line in content(place)["samples.jsonl"].splitlines()]
    assert "reading" not in rows[()]
    assert rows["plug-in",] == rows[()]
    assert rows["draws-2",]["reading"] == "draws-2"


def test_the_python_interface_takes_a_reading(place: Path):
    folder, data_dir = place / "outputs" / "nvib" / "nvib", place / "data"
    usual, other = (load_experiment(folder, data_dir, reading=reading) for reading in (None, "draws 3"))
    assert (usual.model.settings.reading, other.model.settings.reading) == ("plug-in", "draws-3")
    assert (usual.experiment.reading, other.experiment.reading) == (None, "draws-3")
    assert other.config["model"]["reading"] == "plug-in"
    latent = other.encode(["the old king saw a cat ."]).latent
    assert len(latent.latents) == 3
    script(place, "reconstruction.py", "--READING", "draws-3")
    rows = [json.loads(line) for line in content(place)["reconstruction_validation_draws-3.jsonl"].splitlines()]
    texts = [row["source"] for row in rows]
    assert other.reconstruct(texts) == [row["reconstruction"] for row in rows]
    assert usual.reconstruct(texts) != [row["reconstruction"] for row in rows]
    other.save_pretrained(place / "shared")
    assert from_pretrained(place / "shared").model.settings.reading == "plug-in"
    shared = from_pretrained(place / "shared", reading="draws-3")
    assert torch.equal(shared.encode(texts[:1]).latent.latents[2].z, other.encode(texts[:1]).latent.latents[2].z)
    for reading in ("draws-0", "means"):
        with pytest.raises(UserError, match="the reading must be integral, no-prior, plug-in or draws-K"):
            load_experiment(folder, data_dir, reading=reading)
    with pytest.raises(UserError, match="--READING is for NVIB, and 'vanilla' is of the model T"):
        load_experiment(folder.with_name("vanilla"), data_dir, reading="plug-in")
    changed = usual.experiment.with_settings(reading="plug-in", alpha_threshold=1e6)
    source, mask = torch.tensor([[7, 8, 3]]), torch.zeros(1, 3, dtype=torch.bool)
    assert changed.model.encode(source, mask).vectors_kept.tolist() == [1]
    assert usual.model.encode(source, mask).vectors_kept.tolist() != [1]


def test_an_experiment_from_before_the_readings_reads_the_integral(place: Path):
    config = read_config(ExperimentFiles.of(place / "outputs", "nvib", "nvib"))
    values = {name: value for name, value in config["model"].items() if name != "reading"}
    assert settings_from_json(values, place).reading == "integral"
    assert settings_from_json(config["model"], place).reading == "plug-in"
