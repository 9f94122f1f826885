"""The commands of `make synth`, and the choice between the NVAE and the language model."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import synth_command
from pipeline.recipes.synth import Order, better, sampling, training
from pipeline.runtime.errors import UserError

ORDER = Order("own.csv", "text", None, None, 50)


def trained(order: Order) -> list[tuple[str, str]]:
    """Return model and experiment of each training."""
    commands = [command for command in training(order) if command[0] == "train.py"]
    return [(each[each.index("--MODEL") + 1], each[each.index("--EXPERIMENT_NAME") + 1]) for each in commands]


def test_the_model_with_the_lower_perplexity_samples():
    model, reason = better({"NVIB": 31.26, "LM": 33.0})
    assert model == "NVIB"
    assert reason == "validation perplexity without a look at the text: LM 33.0, NVIB 31.3; NVIB samples"
    assert better({"NVIB": 34.0, "LM": 33.0})[0] == "LM"


@pytest.mark.parametrize(
    ("pretrained", "model", "expected"),
    [
        (None, None, [("LM", "own-lm"), ("T", "own-t"), ("NVIB", "own")]),
        (None, "LM", [("LM", "own-lm")]),
        ("bundled", None, [("LM", "own-lm"), ("NVIB", "own")]),
        ("bundled", "NVIB", [("LM", "own-lm"), ("NVIB", "own")]),
        ("bundled", "LM", [("LM", "own-lm")]),
    ],
)
def test_only_models_that_are_needed_are_trained(pretrained, model, expected):
    assert trained(dataclasses.replace(ORDER, pretrained=pretrained, model=model)) == expected


def test_models_around_a_pretrained_one_have_its_tokenizer_and_stop_by_themselves():
    prepare, *trainings = training(dataclasses.replace(ORDER, pretrained="bundled"))
    assert prepare[-2:] == ["--TOKENIZER", "bundled"]
    for command in trainings:
        assert command[command.index("--PRETRAINED") + 1] == "bundled"
        assert "--PATIENCE" in command
        assert command[-2:] == ["--MAX_STEPS", "400"]
    lm, nvae = trainings
    assert "--START_FROM" not in lm
    assert nvae[nvae.index("--START_FROM") + 1] == "own-lm"
    assert training(dataclasses.replace(ORDER, pretrained="bundled", max_steps=7))[1][-2:] == ["--MAX_STEPS", "7"]


def test_samples_are_judged_by_the_pretrained_model_or_by_the_language_model_of_the_data():
    for pretrained, judge in ((None, "own-lm"), ("bundled", "bundled")):
        sample, *measured = sampling(dataclasses.replace(ORDER, pretrained=pretrained), "LM")
        assert sample[sample.index("--EXPERIMENT_NAME") + 1] == "own-lm"
        assert sample[sample.index("--NUMBER_SAMPLES") + 1] == "50"
        assert sample[sample.index("--NOVEL") + 1] == "True"
        assert all(command[command.index("--LANGUAGE_MODEL") + 1] == judge for command in measured)


def test_the_nvae_samples_with_the_language_model_as_its_prior_where_the_user_says_so():
    order = dataclasses.replace(ORDER, model="NVIB", learned_prior=True)
    restarted = ["--FROM", "own-lm", "--RESTART", "True"]  # the same command again is no error
    fit, sample, *_ = sampling(order, "NVIB")
    assert fit == ["train_prior.py", "--PROJECT_NAME", "synth", "--EXPERIMENT_NAME", "own", *restarted]
    assert sample[sample.index("--PRIOR") + 1] == "learned"
    assert ("LM", "own-lm") in trained(order)
    plain = dataclasses.replace(ORDER, model="NVIB")
    assert "--PRIOR" not in sampling(plain, "NVIB")[0]
    # From scratch, draws of the plain prior in training cost short texts, and a learned prior needs none.
    assert "--PRIOR_TEXTS" in training(plain)[-1]
    assert "--PRIOR_TEXTS" not in training(order)[-1]


@pytest.mark.parametrize("flags", [(), ("--MODEL", "LM"), ("--MODEL", "NVIB", "--ROW_TEMPLATE", "a {text}")])
def test_a_learned_prior_of_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags):
    (tmp_path / "own.csv").write_text("text\nwords\n")
    monkeypatch.setattr(sys, "argv", ["synth", "--DATA", str(tmp_path / "own.csv"), "--PRIOR", "learned", *flags])
    with pytest.raises(UserError, match="--PRIOR learned is for texts that --MODEL NVIB samples"):
        synth_command.parse("")


def test_rows_of_a_table_are_sampled_by_a_language_model_with_their_whole_distribution():
    rows = Order("own.csv", None, None, "", 50)
    assert trained(rows) == [("LM", "own-lm")]
    assert rows.sampler == "LM"
    sample, *measured = sampling(rows, "LM")
    assert "--TOP_P" not in sample
    assert [command[0] for command in measured] == ["quality.py"]
    assert trained(dataclasses.replace(rows, model="NVIB")) == [("T", "own-t"), ("NVIB", "own")]
    assert dataclasses.replace(rows, pretrained="bundled").sampler is None


def write_statistics(folder: Path, rows: int) -> None:
    """Write what the recipe reads of prepared data."""
    place = folder / "data" / "own" / "statistics.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({"train": {"sentences": rows}}))


@pytest.mark.parametrize(
    ("rows", "dropout", "width", "steps", "cooldown"),
    [
        (1_999, "0.1", None, "600", "0.9"),
        (2_000, "0.1", None, "3000", "0.3"),
        (9_999, "0.1", None, "3000", "0.3"),
        (10_000, "0", "128", "3000", "0.5"),
    ],
)
def test_a_table_has_a_model_for_its_number_of_rows(
    rows: int,
    dropout: str,
    width: str | None,
    steps: str,
    cooldown: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    (tmp_path / "own.csv").write_text("size,kind\n1,b\n")
    monkeypatch.chdir(tmp_path)
    run: list[list[str]] = []

    def pretend(commands: list[list[str]], first: int = 1, of: int | None = None) -> float:
        assert (first, of) == (len(run) + 1, 4)
        if commands[0][0] == "prepareDatasets.py":
            write_statistics(tmp_path, rows)
        run.extend(commands)
        return 1.0

    monkeypatch.setattr(synth_command, "run_in_order", pretend)
    monkeypatch.setattr(sys, "argv", ["synth", "--DATA", "own.csv", "--ROW_TEMPLATE"])
    synth_command.run(synth_command.parse(""))
    assert [command[0] for command in run] == ["prepareDatasets.py", "train.py", "sample.py", "quality.py"]
    train = run[1]
    assert train[train.index("--DROPOUT") + 1] == dropout
    assert train[train.index("--MAX_STEPS") + 1] == steps
    assert train[train.index("--COOLDOWN") + 1] == cooldown
    assert (train[train.index("--DIM_H") + 1] if "--DIM_H" in train else None) == width


@pytest.mark.parametrize(
    ("installed", "flags", "said"),
    [(False, (), True), (True, ("--PRETRAINED", "none"), False), (False, ("--ROW_TEMPLATE",), False)],
)
def test_a_model_from_scratch_says_what_it_lacks_where_no_pretrained_one_is_installed(
    installed: bool,
    flags: tuple[str, ...],
    said: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / "own.csv").write_text("text,kind\na text,b\n")
    monkeypatch.setattr(synth_command, "bundled_installed", lambda: installed)
    monkeypatch.setattr(synth_command, "run_in_order", lambda commands, **_: 1.0)
    write_statistics(tmp_path, 10)
    monkeypatch.chdir(tmp_path)
    column = () if flags == ("--ROW_TEMPLATE",) else ("--TEXT_COLUMN", "text")
    words = ("--DATA", str(tmp_path / "own.csv"), *column, *flags, "--MODEL", "LM")
    monkeypatch.setattr(sys, "argv", ["synth", *words])
    synth_command.run(synth_command.parse(""))
    assert ("after make pretrained, models are built around SmolLM2-135M" in capsys.readouterr().out) == said


@pytest.mark.parametrize("trained", [(), ("own",), ("own-lm",), ("own-t",)])
def test_a_changed_file_is_refused_before_the_data_of_trained_models_are_replaced(
    trained: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def refused(commands: list[list[str]], **_: Any) -> float:
        assert (commands[0][-2:] == ["--REPLACE", "False"]) == bool(trained)
        raise SystemExit(2)

    for name in trained:
        (tmp_path / "outputs" / "synth" / name).mkdir(parents=True)
        (tmp_path / "outputs" / "synth" / name / "config.json").touch()

    (tmp_path / "own.csv").write_text("text,kind\na text,b\n")
    monkeypatch.setattr(synth_command, "run_in_order", refused)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["synth", "--DATA", "own.csv", "--TEXT_COLUMN", "text", "--PRETRAINED", "none"])
    with pytest.raises(SystemExit):
        synth_command.run(synth_command.parse(""))
    said = capsys.readouterr().err
    assert ("give another --NAME, or remove the folders own* in outputs/synth" in said) == bool(trained)
