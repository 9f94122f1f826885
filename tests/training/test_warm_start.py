"""Training that starts from the weights of another experiment."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.declaration import declared
from models.text_model import UNCHANGED, Prices
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.runtime.files import read_record, write_record
from pipeline.training.checkpoints import PROGRESS
from pipeline.training.warm_start import inherited_prices
from tests.helpers import call, one_line_of_error, prepare_tiny, run_ranks, train_tiny

SMALL = ("--DATA", "tiny", "--PRECISION", "fp32", "--DIM_H", 32, "--NUM_HEADS", 2, "--DROPOUT", 0, "--BATCH_SIZE", 16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A trained `VTS`."""
    folder = tmp_path_factory.mktemp("warm")
    prepare_tiny(folder / "data")
    prepare_tiny(folder / "data", "other", count=200)
    train_tiny(folder, "vts", "VTS", steps=60)
    return folder


def at(folder: Path, name: str, *flags: object) -> tuple[object, ...]:
    return (
        "--EXPERIMENT_NAME",
        name,
        "--OUTPUT_DIR",
        folder / "outputs",
        "--DATA_DIR",
        folder / "data",
        *SMALL,
        *flags,
    )


def experiment(folder: Path, name: str) -> Path:
    return folder / "outputs" / "nvib" / name


def weights(folder: Path, name: str) -> dict:
    return load_file(experiment(folder, name) / "best.safetensors")


@pytest.mark.slow
def test_another_model_takes_the_weights_that_both_models_have(folder: Path):
    """The learning rate is too small to change a weight."""
    still = ("--MODEL", "NVIB", "--MAX_STEPS", 1, "--LEARNING_RATE", 1e-12)
    shown = call("train.py", *at(folder, "nvib", *still, "--START_FROM", "vts")).stdout
    assert "starts from the weights of vts; fresh: bottleneck.alpha.weight, bottleneck.alpha.bias\n" in shown
    call("train.py", *at(folder, "cold", *still))
    theirs, warm, cold = (weights(folder, name) for name in ("vts", "nvib", "cold"))
    assert theirs.keys() == warm.keys() - {"bottleneck.alpha.weight", "bottleneck.alpha.bias"}
    for name, value in warm.items():
        source = theirs if name in theirs else cold
        assert (value - source[name]).abs().max() < 1e-9, name
    assert any((cold[name] - value).abs().max() > 0.1 for name, value in theirs.items())
    assert json.loads((experiment(folder, "nvib") / "config.json").read_text())["training"]["start_from"] == "vts"


def test_a_warm_start_begins_at_the_loss_of_the_other_experiment(folder: Path):
    """The same command resumes from its own checkpoint without the other experiment; `--CONFIG` starts warm as well."""
    shutil.copytree(experiment(folder, "vts"), experiment(folder, "source"))
    same = at(folder, "again", "--MODEL", "VTS", "--START_FROM", "source", "--LEARNING_RATE", 1e-4)
    call("train.py", *same, "--MAX_STEPS", 1)
    call("train.py", *at(folder, "fresh", "--MODEL", "VTS", "--LEARNING_RATE", 1e-4, "--MAX_STEPS", 1))
    first, fresh, trained = (
        json.loads((experiment(folder, name) / "metrics.jsonl").read_text().splitlines()[-1])
        for name in ("again", "fresh", "source")
    )
    of = "validation/cross_entropy"
    assert abs(first[of] - trained[of]) < 0.1 < fresh[of] - trained[of] - 0.1
    config = experiment(folder, "again") / "config.json"
    shown = call("train.py", *at(folder, "third", "--CONFIG", config, "--MAX_STEPS", 1)).stdout
    assert "starts from the weights of source" in shown
    shutil.rmtree(experiment(folder, "source"))
    assert "continuing after step 1 of 2" in call("train.py", *same, "--MAX_STEPS", 2).stdout
    assert "was trained with start_from = source, not None" in one_line_of_error(
        call("train.py", *at(folder, "again", "--MODEL", "VTS", "--LEARNING_RATE", 1e-4), expect=2)
    )


@pytest.mark.parametrize(
    ("flags", "reported"),
    [
        (("--START_FROM", "absent"), "no experiment 'absent'"),
        (("--START_FROM", "self"), "--START_FROM self: it is the experiment itself; choose another --EXPERIMENT_NAME"),
        (("--START_FROM", "vts", "--DIM_H", 16), "--START_FROM vts: it has DIM_H = 32, not 16; give the same"),
        (("--START_FROM", "vts", "--NUM_HEADS", 4), "--START_FROM vts: it has NUM_HEADS = 2, not 4; give the same"),
        (("--START_FROM", "vts", "--DATA", "other"), "--START_FROM vts: its data 'tiny' has another tokenizer"),
        (("--START_FROM", "a/b"), "--START_FROM"),
    ],
)
def test_an_unsuitable_source_is_refused_before_anything_is_written(folder: Path, flags: tuple, reported: str):
    before = sorted(folder.rglob("*"))
    assert reported in one_line_of_error(call("train.py", *at(folder, "self", *flags), expect=2))
    assert sorted(folder.rglob("*")) == before


def test_restart_removes_an_experiment_only_if_the_training_can_start(folder: Path):
    command = at(folder, "kept", "--MODEL", "VTS", "--MAX_STEPS", 1)
    call("train.py", *command)
    before = {path: path.read_bytes() for path in experiment(folder, "kept").iterdir() if path.is_file()}
    call("train.py", *command, "--RESTART", "True", "--START_FROM", "absent", expect=2)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_two_processes_start_from_the_same_weights_and_print_it_once(folder: Path):
    finished = run_ranks("train.py", *at(folder, "two", "--MODEL", "VTS", "--MAX_STEPS", 1, "--START_FROM", "vts"))
    assert finished.stdout.count("starts from the weights of vts\n") == 1
    theirs, own = weights(folder, "vts"), weights(folder, "two")
    assert all((own[name] - value).abs().max() < 0.01 for name, value in theirs.items())


def test_a_study_has_no_flag_for_a_warm_start():
    assert "start_from" in {setting.name for setting in declared(TrainingSettings)}
    assert "--START_FROM" not in call("tune.py", "--help").stdout


@pytest.mark.slow
def test_a_start_from_a_transformer_passes_its_vectors_through(folder: Path):
    """The loss begins where the Transformer's ends, before the bottleneck has learnt anything."""
    train_tiny(folder, "t", "T", steps=120)
    still = ("--MODEL", "NVIB", "--MAX_STEPS", 1, "--LEARNING_RATE", 1e-12)
    shown = call("train.py", *at(folder, "from-t", *still, "--START_FROM", "t")).stdout
    assert "starts from the weights of t; fresh: bottleneck." in shown
    config = json.loads((experiment(folder, "from-t") / "config.json").read_text())["model"]
    assert (config["bottleneck"], config["reading"]) == ("identity", "plug-in")
    theirs, own, cold = (
        json.loads((experiment(folder, name) / "summary.json").read_text())["validation/cross_entropy"]
        for name in ("t", "from-t", "cold-nvib")
        if (name != "cold-nvib") or call("train.py", *at(folder, "cold-nvib", *still))
    )
    assert own == pytest.approx(theirs, abs=0.02)
    assert cold > theirs + 0.5
    assert (weights(folder, "from-t")["bottleneck.mu.weight"] - torch.eye(32)).abs().max() < 1e-6
    call("train.py", *at(folder, "plain", *still, "--START_FROM", "t", "--BOTTLENECK", "plain"))
    config = json.loads((experiment(folder, "plain") / "config.json").read_text())["model"]
    assert config["bottleneck"] == "plain"
    for name, flags, bottleneck in (("further", (), "identity"), ("other", ("--BOTTLENECK", "plain"), "plain")):
        call("train.py", *at(folder, name, *still, "--START_FROM", "from-t", *flags))
        config = json.loads((experiment(folder, name) / "config.json").read_text())["model"]
        assert config["bottleneck"] == bottleneck
    relu = at(folder, "relu", *still, "--START_FROM", "from-t", "--ALPHA_ACTIVATION", "relu")
    line = one_line_of_error(call("train.py", *relu, expect=2))
    assert "--START_FROM from-t: --ALPHA_ACTIVATION relu means nothing for --BOTTLENECK identity" in line


def test_an_experiment_without_newer_settings_resumes_with_their_defaults(folder: Path):
    """As an earlier version wrote its config.json: without the settings of the operating point."""
    flags = ("--MODEL", "NVIB", "--MAX_STEPS", 2)
    call("train.py", *at(folder, "earlier", *flags))
    path = experiment(folder, "earlier") / "config.json"
    config = read_record(path, "")
    for part, names in (("model", ("kl_weighting", "bottleneck")), ("training", ("start_perplexity", "rate_path"))):
        for name in names:
            del config[part][name]
    write_record(path, config)
    assert (
        "continuing after step 2"
        in call("train.py", *at(folder, "earlier", "--MODEL", "NVIB", "--MAX_STEPS", 4)).stdout
    )
    line = one_line_of_error(call("train.py", *at(folder, "earlier", *flags, "--KL_WEIGHTING", "component"), expect=2))
    assert "was trained with kl_weighting = share, not component" in line
    config = read_record(path, "")
    del config["model"]["reading"]
    write_record(path, config)
    call("train.py", *at(folder, "earlier", "--MODEL", "NVIB", "--MAX_STEPS", 6))
    assert read_record(path, "")["model"]["reading"] == "integral"
    line = one_line_of_error(call("train.py", *at(folder, "earlier", *flags, "--READING", "plug-in"), expect=2))
    assert "was trained with reading = integral, not plug-in" in line


@pytest.mark.slow
def test_a_run_resumes_whatever_became_of_the_run_that_it_started_from(folder: Path):
    """It keeps the activation and has prices of its own."""
    flags = ("--MODEL", "NVIB", "--TARGET_RATE", 30)
    call("train.py", *at(folder, "relu-source", *flags, "--ALPHA_ACTIVATION", "relu", "--MAX_STEPS", 1))
    own = at(folder, "from-relu", *flags, "--START_FROM", "relu-source")
    call("train.py", *own, "--MAX_STEPS", 1)
    source = experiment(folder, "relu-source")
    (source / "latest.safetensors").write_bytes(b"damaged")
    assert "continuing after step 1 of 2" in call("train.py", *own, "--MAX_STEPS", 2).stdout
    fresh = at(folder, "from-damaged", *flags, "--START_FROM", "relu-source", "--MAX_STEPS", 1)
    assert "latest.safetensors" in one_line_of_error(call("train.py", *fresh, expect=2))
    assert not experiment(folder, "from-damaged").exists()
    shutil.rmtree(source)
    assert "continuing after step 2 of 3" in call("train.py", *own, "--MAX_STEPS", 3).stdout
    other = (*own, "--MAX_STEPS", 4, "--ALPHA_ACTIVATION", "exp")
    assert "was trained with alpha_activation = relu, not exp" in one_line_of_error(call("train.py", *other, expect=2))


def test_the_prices_of_a_sharded_run_are_inherited(tmp_path: Path):
    source = ExperimentFiles(tmp_path)
    assert inherited_prices(source) == UNCHANGED
    source.latest_shards.mkdir()
    write_record(source.latest_shards / PROGRESS, {"control": {"gaussian": 50.0, "dirichlet": 2.0}})
    assert inherited_prices(source) == Prices(50.0, 2.0)


def test_a_rate_that_is_asked_for_charges_every_component(folder: Path):
    call("train.py", *at(folder, "asked", "--MODEL", "NVIB", "--MAX_STEPS", 1, "--TARGET_RATE", 30))
    assert json.loads((experiment(folder, "asked") / "config.json").read_text())["model"]["kl_weighting"] == "component"
