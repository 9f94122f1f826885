"""The numbered scripts with models around a tiny pretrained model, and what they refuse."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline import from_pretrained, load_experiment
from pipeline.data.dataset import load_prepared, token_counts
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.weights import load_checkpoint
from pipeline.reporting.explorer_html import drawn
from pipeline.reporting.explorer_view import view
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_record, write_record
from tests.data.own_files import MANY, write_table
from tests.helpers import call, one_line_of_error, prepare_tiny, run_ranks
from tests.models.tiny_bases import save_base

pytestmark = pytest.mark.slow
SPECIAL = ("<|", "[LABEL", "[UNUSED", "<repo")
FAST = ("--DATA", "own", "--PRECISION", "fp32", "--BATCH_SIZE", 32, "--NUM_LAYERS", 1)


def at(folder: Path, name: str) -> tuple[object, ...]:
    return ("--EXPERIMENT_NAME", name, "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")


def train(folder: Path, name: str, *flags: object, **checks: Any) -> Any:
    """Run train.py around the tiny base; NVIB unless the flags name another model."""
    command = ("train.py", *at(folder, name), "--PRETRAINED", folder / "base", *FAST)
    return call(*command, *(() if "--MODEL" in flags else ("--MODEL", "NVIB")), *flags, **checks)


def experiment(folder: Path, name: str = "nvib") -> Path:
    return folder / "outputs" / "nvib" / name


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def summary(folder: Path, name: str = "nvib") -> dict[str, Any]:
    return json.loads((experiment(folder, name) / "summary.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base, texts with labels in its tokens, an NVAE and a language model around it, and samples."""
    folder = tmp_path_factory.mktemp("around")
    save_base(folder / "base")
    write_table(folder / "own.csv", review=MANY, stars=["5", "4"] * (len(MANY) // 2))
    flags = ("--DATA", folder / "own.csv", "--TEXT_COLUMN", "review", "--LABEL_COLUMN", "stars")
    call("prepareDatasets.py", *flags, "--TOKENIZER", folder / "base", "--DATA_DIR", folder / "data")
    train(folder, "nvib", "--EPOCHS", 1)
    train(folder, "nvib", "--EPOCHS", 2)
    train(folder, "lm", "--MODEL", "LM", "--MAX_STEPS", 3)
    call("sample.py", *at(folder, "nvib"), "--NUMBER_SAMPLES", 12)
    return folder


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the base, the data and the experiments, to damage."""
    for name in ("data", "outputs"):
        shutil.copytree(folder / name, tmp_path / name, ignore=shutil.ignore_patterns("wandb"))
    shutil.copytree(folder / "base", tmp_path / "base")
    for path in (tmp_path / "outputs" / "nvib").glob("*/config.json"):
        config = read_record(path, "")
        config["model"]["pretrained"] = str(tmp_path / "base")
        write_record(path, config)
    return tmp_path


def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(folder: Path):
    train(folder, "whole", "--EPOCHS", 2)
    a, b = (load_file(experiment(folder, name) / "latest.safetensors") for name in ("nvib", "whole"))
    assert a.keys() == b.keys()
    assert len(a) > 20
    weights = {name for name in a if not name.startswith("_")}
    assert all(torch.equal(a[name], b[name]) for name in weights)
    # Neither the frozen base nor its moments are stored.
    kept = {name for name in weights if "backbone" in name or "separate_head" in name}
    assert kept
    assert all(".lora_" in name for name in kept)


def test_an_nvae_takes_the_adapters_of_a_language_model_around_the_same_base(copy: Path):
    """The learning rate is too small to change a weight."""
    shown = train(copy, "warm", "--START_FROM", "lm", "--MAX_STEPS", 1, "--LEARNING_RATE", 1e-12).stdout
    assert "starts from the weights of lm; fresh: " in shown
    lm, warm, cold = (load_file(experiment(copy, name) / "best.safetensors") for name in ("lm", "warm", "nvib"))
    adapters = {name for name in lm if ".lora_" in name}
    assert len(adapters) > 4
    assert all(torch.allclose(lm[name], warm[name], atol=1e-9) for name in adapters)
    assert any((lm[name] - cold[name]).abs().max() > 1e-6 for name in adapters)
    counts = token_counts(load_prepared(copy / "data", "own").splits["train"], len(warm["codes.log_frequency"]))
    shares = (counts.double() + 0.1) / (counts.double() + 0.1).sum()
    assert torch.allclose(warm["codes.log_frequency"].double().softmax(dim=0), shares, rtol=1e-4), "the source has none"
    train(copy, "again", "--START_FROM", "nvib", "--MAX_STEPS", 1, "--LEARNING_RATE", 1e-12)
    again = load_file(experiment(copy, "again") / "best.safetensors")
    assert torch.allclose(again["codes.log_frequency"], cold["codes.log_frequency"], atol=1e-9), "the source has them"
    same = ("--START_FROM", "lm", "--MAX_STEPS", 1)
    refused = train(copy, "wide", *same, "--LORA_RANK", 4, expect=2)
    assert "--START_FROM lm: it has LORA_RANK = 16, not 4; give the same" in one_line_of_error(refused)
    save_base(copy / "base", seed=1)
    refused = train(copy, "strange", *same, expect=2)
    assert "--START_FROM lm: its pretrained model (--PRETRAINED) is another" in one_line_of_error(refused)
    assert not experiment(copy, "strange").exists()


def test_samples_have_no_special_token_and_every_way_to_sample_works(folder: Path):
    for flags in (
        ("--NUMBER_SAMPLES", 6, "--DECODING", "sample", "--TOP_P", 0.9, "--TEMPERATURE", 2.0),
        ("--NUMBER_SAMPLES", 4, "--DECODING", "beam", "--BEAMS", 3),
        ("--NUMBER_SAMPLES", 4, "--NEAR", MANY[0], "--KEEP", 0.5, "--LATENT_TEMPERATURE", 0.5),
        ("--NUMBER_SAMPLES", 3, "--NEAR", MANY[0], "--KAPPA", 2),
        ("--MIX", MANY[0], MANY[1], MANY[2]),
        ("--NUMBER_SAMPLES", 5, "--LABEL", "4", "--MIN_LENGTH", 6, "--MAX_LENGTH", 9),
        ("--NUMBER_SAMPLES", 3, "--VECTORS", 6, "--KAPPA", 2),
    ):
        call("sample.py", *at(folder, "nvib"), *flags)
        rows = lines(experiment(folder) / "samples.jsonl")
        assert len(rows) == dict(zip(flags[::2], flags[1::2], strict=False)).get("--NUMBER_SAMPLES", 1)
        assert not any(mark in row["text"] for row in rows for mark in SPECIAL)
        if "--LABEL" in flags:
            assert {row["label"] for row in rows} == {"4"}
            assert all(6 <= row["tokens_generated"] + 1 <= 9 for row in rows), rows
    call("sample.py", *at(folder, "lm"), "--NUMBER_SAMPLES", 6, "--DECODING", "sample")
    assert len(lines(experiment(folder, "lm") / "samples.jsonl")) == 6
    call("sample.py", *at(folder, "nvib"), "--NUMBER_SAMPLES", 12)


def test_a_learned_prior_is_built_around_the_same_base(copy: Path):
    call("train_prior.py", *at(copy, "nvib"), "--MAX_STEPS", 2)
    settings = [json.loads((experiment(copy) / name / "config.json").read_text())["model"] for name in ("", "prior")]
    assert settings[1]["name"] == "LM"
    assert settings[0]["base_sha256"] == settings[1]["base_sha256"] != ""
    flags = ("--NUMBER_SAMPLES", 6, "--PRIOR", "learned", "--LABEL", "4", "--MAX_LENGTH", 9)
    call("sample.py", *at(copy, "nvib"), *flags)
    rows = lines(experiment(copy) / "samples.jsonl")
    assert all(row["imagined"] and row["drawn_length"] <= 9 for row in rows)
    assert not any(mark in row["imagined"] for row in rows for mark in SPECIAL)


def test_everything_after_training_works(folder: Path):
    for script, *flags in (
        ("reconstruction.py",),
        ("reconstruction.py", "--READING", "draws", 2),
        ("interpolation_evaluation.py", "--LANGUAGE_MODEL", "lm"),
        ("forwardSampleEvaluation.py", "--LANGUAGE_MODEL", "lm"),
        ("reverseSampleEvaluation.py", "--LANGUAGE_MODEL", "lm", "--MAX_STEPS", 2),
        ("quality.py", "--LANGUAGE_MODEL", "lm"),
        ("regularisation.py",),
    ):
        call(script, *at(folder, "nvib"), *flags)
    found = summary(folder)
    assert found["validation/reconstruction_bleu"] >= 0
    assert found["samples/count"] == 12
    assert any(name.startswith("interpolation/tau_0.5/") for name in found)
    assert any("forward" in name or "perplexity" in name for name in found if name.startswith("samples/"))
    assert found["validation/reverse_perplexity"] > 1
    rows = lines(experiment(folder) / "interpolations.jsonl")
    reconstructed = {
        row["source"]: row["reconstruction"] for row in lines(experiment(folder) / "reconstruction_validation.jsonl")
    }
    assert all(row["outputs"]["0"] == reconstructed[row["source"]] for row in rows)
    assert all(row["outputs"]["1"] == reconstructed[row["target"]] for row in rows)
    said = call("report.py", "--OUTPUT_DIR", folder / "outputs").stdout
    assert "nvib" in said
    assert "lm" in said


def test_the_explorer_shows_what_the_model_interpolates(folder: Path):
    model = load_experiment(experiment(folder), folder / "data")
    between = model.interpolate(MANY[0], MANY[1], steps=3)
    for tau, text in zip((0.0, 0.5, 1.0), between, strict=True):
        found = view(model, MANY[0], MANY[1], tau)
        assert (found.text, found.ends) == (text, (between[0], between[-1]))
        assert drawn(found, tau)


def test_two_processes_sample_what_one_samples(folder: Path):
    flags = ("--NUMBER_SAMPLES", 8, "--GENERATION_BATCH_SIZE", 3, "--DECODING", "sample")
    written = []
    for processes in (1, 2):
        run_ranks("sample.py", *at(folder, "nvib"), *flags, count=processes)
        written.append(lines(experiment(folder) / "samples.jsonl"))
    assert written[0] == written[1]
    call("sample.py", *at(folder, "nvib"), "--NUMBER_SAMPLES", 12)


def test_training_stops_by_itself_unless_a_flag_says_otherwise(folder: Path):
    for name, flags, patience in (
        ("nvib", (), 2),
        ("endless", ("--PATIENCE", -1), -1),
        ("path", ("--RATE_PATH", 30, 15), -1),
    ):
        if flags:
            train(folder, name, "--MAX_STEPS", 1, *flags)
        assert json.loads((experiment(folder, name) / "config.json").read_text())["training"]["patience"] == patience
    shown = train(folder, "stopped", "--MODEL", "LM", "--EPOCHS", 40, "--LEARNING_RATE", 0.05).stdout
    assert len(lines(experiment(folder, "stopped") / "metrics.jsonl")) < 40, shown


def test_a_shared_model_equals_the_experiment_and_holds_no_frozen_weight(folder: Path, tmp_path: Path):
    model = load_experiment(experiment(folder), folder / "data")
    model.save_pretrained(tmp_path / "shared")
    again = from_pretrained(tmp_path / "shared")
    assert again.reconstruct(MANY[:4]) == model.reconstruct(MANY[:4])
    assert again.generate(3, seed=2) == model.generate(3, seed=2)
    assert again.interpolate(MANY[0], MANY[1], 3) == model.interpolate(MANY[0], MANY[1], 3)
    stored = load_file(tmp_path / "shared" / "model.safetensors")
    assert all(".lora_" in name for name in stored if "backbone" in name)
    assert str(json.loads((tmp_path / "shared" / "config.json").read_text())["model"]["base_sha256"])


def test_a_base_whose_weights_changed_is_refused(copy: Path):
    weights = copy / "base" / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"] += 0.01
    save_file(tensors, weights, {"format": "pt"})
    for command in (("sample.py", *at(copy, "nvib")), ("quality.py", *at(copy, "nvib"), "--LANGUAGE_MODEL", "lm")):
        line = one_line_of_error(call(*command, expect=2))
        assert "has other weights (SHA-256" in line, line
    line = one_line_of_error(train(copy, "nvib", "--MAX_STEPS", 6, expect=2))
    assert "base_sha256" in line or "other weights" in line
    shutil.rmtree(copy / "base")
    line = one_line_of_error(call("sample.py", *at(copy, "nvib"), expect=2))
    assert str(copy / "base") in line


@pytest.mark.parametrize(
    ("flags", "reported"),
    [
        (("--DIM_H", 64), "--DIM_H is determined by --PRETRAINED"),
        (("--COMPILE", "True"), "a model around --PRETRAINED is not compiled; leave --COMPILE out"),
        (("--NUM_HEADS", 2), "--NUM_HEADS is determined by --PRETRAINED"),
        (("--MODEL", "T"), "--MODEL T has no form around"),
        (("--MODEL", "VTP"), "--PRETRAINED means nothing for --MODEL VTP"),
        (("--READING", "integral"), "the reading integral means nothing for a causal model"),
        (("--MODEL", "LM", "--TRAIN", "bottleneck"), "--TRAIN bottleneck leaves --MODEL LM without a weight to train"),
        (("--DATA", "tiny"), "the data 'tiny' has another tokenizer than"),
        (("--PRETRAINED", "nowhere/at all"), "argument --PRETRAINED: must be bundled, the folder of a pretrained"),
    ],
)
def test_bad_settings_are_refused_in_one_line(folder: Path, flags: tuple[object, ...], reported: str):
    if not (folder / "data" / "tiny").exists():
        prepare_tiny(folder / "data")
    assert reported in one_line_of_error(train(folder, "refused", *flags, expect=2))
    assert not experiment(folder, "refused").exists()


@pytest.mark.parametrize("reading", ["integral", "no-prior"])
def test_a_reading_with_variances_is_refused_by_every_evaluation(folder: Path, reading: str):
    before = sorted(path.name for path in experiment(folder).iterdir())
    for script, *flags in (
        ("reconstruction.py",),
        ("interpolation_evaluation.py",),
        ("sample.py", "--MIX", MANY[0], MANY[1]),
    ):
        line = one_line_of_error(call(script, *at(folder, "nvib"), *flags, "--READING", reading, expect=2))
        assert f"the reading {reading} means nothing for a causal model" in line
    with pytest.raises(UserError, match=f"the reading {reading} means nothing"):
        load_experiment(experiment(folder), folder / "data", reading=reading)
    assert sorted(path.name for path in experiment(folder).iterdir()) == before


def test_without_the_extra_a_line_says_how_to_install_it(folder: Path, monkeypatch: pytest.MonkeyPatch):
    from pipeline.data import base_models

    find: Callable[..., Any] = base_models.importlib.util.find_spec
    for package in ("transformers", "peft"):
        hide: Any = lambda name, *_, hidden=package: None if name == hidden else find(name)  # noqa: E731
        with monkeypatch.context() as context:
            context.setattr(base_models.importlib.util, "find_spec", hide)
            for line in (
                one_line_of_error(train(folder, "refused", "--MAX_STEPS", 1, expect=2)),
                one_line_of_error(call("reconstruction.py", *at(folder, "nvib"), expect=2)),
            ):
                assert f"the package {package} is not installed" in line
                assert "make pretrained" in line


def test_a_sharded_run_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    line = one_line_of_error(train(folder, "refused", "--MAX_STEPS", 1, expect=2))
    assert "is not sharded (FSDP)" in line


def test_two_processes_train_as_one_with_twice_the_batch(folder: Path):
    base = ("--PRETRAINED", folder / "base", "--DATA", "own", "--PRECISION", "fp32", "--NUM_LAYERS", 1)
    command = (*base, "--MODEL", "LM", "--GRADIENT_CLIP", 1e9, "--MAX_STEPS", 1, "--RESTART", "True")
    call("train.py", *at(folder, "one"), *command, "--BATCH_SIZE", 16)
    run_ranks("train.py", *at(folder, "two"), *command, "--BATCH_SIZE", 8)
    tensors = [load_checkpoint(ExperimentFiles(experiment(folder, name)).latest, "")[0] for name in ("one", "two")]
    moments = [name for name in tensors[0] if name.endswith("|exp_avg")]
    assert len(moments) > 5
    for name in moments:
        a, b = (found[name] for found in tensors)
        assert (a - b).norm() <= 1e-4 * a.norm() + 1e-9, name
