"""The numbered scripts on tiny data: the files and figures that they write, and their errors for bad input."""

import functools
import json
import math
from pathlib import Path

import pytest

from pipeline.data.dataset import load_prepared
from tests.helpers import call, one_line_of_error, prepare_tiny, run, wandb_records

pytestmark = pytest.mark.slow
TINY = ("--DIM_H", 16, "--BATCH_SIZE", 32, "--DATA", "tiny", "--PRECISION", "fp32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Tiny data, a vanilla Transformer and an NVAE, both trained, sampled, reconstructed and interpolated."""
    folder = tmp_path_factory.mktemp("workflow")
    prepare_tiny(folder / "data")
    tracked = functools.partial(run, wandb=True)
    for name, model, command in (("vanilla", "T", call), ("nvib", "NVIB", tracked)):
        fresh = {} if command is call else {"fresh": True}  # as a user does
        command("train.py", *at(folder, name), "--MODEL", model, *TINY, "--EPOCHS", 2, **fresh)
        command("reconstruction.py", *at(folder, name))
        command("interpolation_evaluation.py", "--RUN_INTERPOLATIONS", "True", *at(folder, name))
    tracked("sample.py", *at(folder, "nvib"), "--NUMBER_SAMPLES", 7)
    return folder


def at(folder: Path, name: str) -> tuple[object, ...]:
    return ("--EXPERIMENT_NAME", name, "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")


def experiment(folder: Path, name: str = "nvib") -> Path:
    return folder / "outputs" / "nvib" / name


def values(items) -> dict:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_summary_holds_every_figure_under_its_name(folder: Path):
    summary = json.loads((experiment(folder) / "summary.json").read_text())
    names = [f"validation/{name}" for name in ("cross_entropy", "perplexity", "kl_gaussian", "kl_dirichlet")]
    names += ["validation/vectors_kept", "validation/vectors_kept_fraction"]
    names += ["validation/reconstruction_bleu", "validation/reconstruction_perplexity"]
    names += ["samples/count", "samples/mean_length"]
    for tau in ("0", "0.25", "0.5", "0.75", "1"):
        names += [f"interpolation/tau_{tau}/{name}" for name in ("bleu_source", "bleu_target", "novel_fraction")]
    assert all(math.isfinite(summary[name]) for name in names)
    assert summary["samples/count"] == 7
    assert "validation/kl_gaussian" not in json.loads((experiment(folder, "vanilla") / "summary.json").read_text())


def test_metrics_has_a_line_for_each_epoch_with_every_monitored_figure(folder: Path):
    rows = lines(experiment(folder) / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2]
    for part in ("train", "validation"):
        for name in ("cross_entropy", "perplexity", "kl_gaussian", "kl_dirichlet", "vectors_kept"):
            assert f"{part}/{name}" in rows[0]
        for name in ("vectors_kept_fraction", "alpha0", "end_cross_entropy", "other_cross_entropy"):
            assert f"{part}/{name}" in rows[0]
    assert rows[0]["learning_rate"] > 0
    assert rows[0]["tokens_per_second"] > 0
    assert rows[0]["train/perplexity"] == pytest.approx(math.exp(rows[0]["train/cross_entropy"]))
    assert rows[1]["validation/cross_entropy"] < rows[0]["validation/cross_entropy"]


def test_cross_entropy_is_the_mean_of_end_tokens_and_other_tokens(folder: Path):
    row = lines(experiment(folder) / "metrics.jsonl")[-1]
    statistics = json.loads((folder / "data" / "tiny" / "statistics.json").read_text())["validation"]
    ends, tokens = statistics["sentences"], statistics["tokens"]
    parts = ends * row["validation/end_cross_entropy"] + (tokens - ends) * row["validation/other_cross_entropy"]
    assert row["validation/cross_entropy"] == pytest.approx(parts / tokens)


def test_reconstruction_perplexity_equals_that_of_the_best_epoch(folder: Path):
    summary = json.loads((experiment(folder) / "summary.json").read_text())
    rows = lines(experiment(folder) / "metrics.jsonl")
    best = min(rows, key=lambda row: row["validation/loss"])
    assert summary["best_epoch"] == best["epoch"]
    assert summary["validation/reconstruction_perplexity"] == pytest.approx(best["validation/perplexity"], rel=1e-5)


def test_every_sentence_is_reconstructed_in_order(folder: Path):
    rows = lines(experiment(folder) / "reconstruction_validation.jsonl")
    split = load_prepared(folder / "data", "tiny").splits["validation"]
    assert [row["source"] for row in rows] == list(split["text"])
    assert all(1 <= row["vectors_kept"] <= row["vectors"] for row in rows)


def test_samples_are_written_as_text_and_as_rows(folder: Path):
    rows = lines(experiment(folder) / "samples.jsonl")
    assert len(rows) == 7
    assert [row["text"] for row in rows] == (experiment(folder) / "samples.txt").read_text().split("\n")[:-1]
    assert all(row["drawn_length"] >= 2 and row["tokens_generated"] >= 0 for row in rows)


def test_interpolation_pairs_the_first_with_the_last_sentence_and_can_be_scored_again(folder: Path):
    rows = lines(experiment(folder) / "interpolations.jsonl")
    sources = [row["source"] for row in lines(experiment(folder) / "reconstruction_validation.jsonl")]
    assert [(row["source"], row["target"]) for row in rows] == [
        (sources[i], sources[-1 - i]) for i in range(len(sources) // 2)
    ]
    reconstructions = {
        row["source"]: row["reconstruction"] for row in lines(experiment(folder) / "reconstruction_validation.jsonl")
    }
    assert all(row["outputs"]["0"] == reconstructions[row["source"]] for row in rows)
    assert all(row["outputs"]["1"] == reconstructions[row["target"]] for row in rows)
    before = json.loads((experiment(folder) / "summary.json").read_text())
    call("interpolation_evaluation.py", "--RUN_INTERPOLATIONS", "False", *at(folder, "nvib"))
    assert json.loads((experiment(folder) / "summary.json").read_text()) == before
    examples = (experiment(folder) / "interpolation_examples.txt").read_text()
    assert examples.startswith(f"source  {rows[0]['source']}\n  0     {rows[0]['outputs']['0']}\n")


def test_the_report_shows_both_models_side_by_side(folder: Path):
    shown = call("report.py", "--OUTPUT_DIR", folder / "outputs", "--EXPERIMENTS", "vanilla", "nvib").stdout
    header = shown.splitlines()[0].split()
    assert header == ["vanilla", "nvib"]
    assert str(experiment(folder) / "samples.txt") in shown


def test_the_same_seed_gives_the_same_samples_and_another_seed_others(folder: Path):
    before = (experiment(folder) / "samples.txt").read_text()
    options = ("--NUMBER_SAMPLES", 7, "--DECODING", "sample", "--TOP_P", 0.9)
    texts = []
    for seed in (1, 1, 2):
        call("sample.py", *at(folder, "nvib"), *options, "--SEED", seed)
        texts.append((experiment(folder) / "samples.txt").read_text())
    assert texts[0] == texts[1] != texts[2]
    call("sample.py", *at(folder, "nvib"), "--NUMBER_SAMPLES", 7)
    assert (experiment(folder) / "samples.txt").read_text() == before


def test_drawn_lengths_keep_to_the_requested_range(folder: Path):
    options = ("--SAMPLING_DISTRIBUTION", "uniform", "--MIN_LENGTH", 8, "--MAX_LENGTH", 9)
    call("sample.py", *at(folder, "nvib"), "--NUMBER_SAMPLES", 7, *options)
    assert {row["drawn_length"] for row in lines(experiment(folder) / "samples.jsonl")} <= {8, 9}
    call("sample.py", *at(folder, "nvib"), "--NUMBER_SAMPLES", 7)


def test_an_offline_wandb_run_holds_config_metrics_histograms_and_samples(folder: Path):
    run("sample.py", *at(folder, "nvib"), "--NUMBER_SAMPLES", 7, wandb=True)  # writes the whole offline run anew
    runs = list((experiment(folder) / "wandb" / "wandb").glob("offline-run-*"))
    assert len(runs) == 1, "one offline run to upload, which is complete"
    config, history, summary = {}, [], {}
    for record in wandb_records(next(runs[0].glob("*.wandb"))):
        config |= {update.key: json.loads(update.value_json) for update in record.run.config.update}
        if record.HasField("history"):
            history.append(values(record.history.item))
        summary |= values(record.summary.update)
    assert config["model"] == "NVIB"
    assert config["dim_h"] == 16
    epochs = [row for row in history if "validation/cross_entropy" in row]
    assert [row["epoch"] for row in epochs] == [1, 2]
    for name in ("log10_alpha", "mu", "sigma_squared"):
        assert epochs[0][f"histograms/{name}/_type"] == "histogram"
    assert [row["tables/samples/nrows"] for row in history if "tables/samples/nrows" in row] == [7]
    local = json.loads((experiment(folder) / "summary.json").read_text())
    for name in ("validation/reconstruction_bleu", "samples/count", "interpolation/tau_0.5/novel_fraction"):
        assert summary[name] == pytest.approx(local[name])


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train.py", ("--DATA", "nothing"), "no prepared dataset 'nothing'"),
        ("train.py", ("--DATA", "tiny", "--MODEL", "X"), "invalid choice: 'X'"),
        ("train.py", ("--DATA", "tiny", "--DROPOUT", "1.5"), "must be at least 0 and below 1"),
        ("train.py", ("--DATA", "tiny", "--LEARNING_RATE", "nan"), "must be above 0"),
        ("train.py", ("--DATA", "tiny", "--BATCH_SIZE", "x"), "must be an integer, got 'x'"),
        ("train.py", ("--DATA", "tiny", "--MAX_STEPS", "0"), "must be at least 1, or -1 for no limit, got 0"),
        ("train.py", ("--DATA", "tiny", "--DELTA", "0.3"), "--DELTA means nothing for --MODEL T"),
        ("train.py", ("--DATA", "tiny", "--DIM_H", "16", "--NUM_HEADS", "3"), "DIM_H must be a multiple of NUM_HEADS"),
        ("train.py", ("--DATA", "tiny", "--WANDB_ENTITY", "me"), "nobody is logged in"),
        ("sample.py", (), "no experiment 'bad'"),
        ("sample.py", ("--TOP_P", "1.3"), "must be at most 1 and above 0, got 1.3"),
        ("reconstruction.py", (), "no experiment 'bad'"),
        ("reconstruction.py", ("--DATA_SUBSET", "train"), "invalid choice: 'train'"),
        ("interpolation_evaluation.py", (), "no experiment 'bad'"),
        ("interpolation_evaluation.py", ("--RUN_INTERPOLATIONS", "yes"), "must be True or False, got 'yes'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(folder: Path, script: str, arguments: tuple, message: str):
    finished = call(script, *at(folder, "bad"), *arguments, expect=2)
    assert message in one_line_of_error(finished)
    assert not experiment(folder, "bad").exists()


@pytest.mark.parametrize("name", ["../escape", "/etc", "a/b", ".hidden", ""])
def test_a_name_cannot_leave_the_output_folder(folder: Path, name: str):
    finished = call("train.py", *at(folder, name), "--DATA", "tiny", expect=2)
    assert "letters, digits" in one_line_of_error(finished)


def test_sampling_from_a_vanilla_transformer_is_refused(folder: Path):
    finished = call("sample.py", *at(folder, "vanilla"), expect=2)
    assert "T has no prior to sample from" in one_line_of_error(finished)
    assert not (experiment(folder, "vanilla") / "samples.txt").exists()


def test_a_range_without_training_lengths_is_refused(folder: Path):
    before = (experiment(folder) / "samples.txt").read_text()
    finished = call("sample.py", *at(folder, "nvib"), "--MIN_LENGTH", 45, "--MAX_LENGTH", 47, expect=2)
    assert "no training sentence has 45 to 47 tokens" in one_line_of_error(finished)
    assert (experiment(folder) / "samples.txt").read_text() == before


def test_scoring_without_interpolations_is_refused_with_the_remedy(folder: Path, tmp_path: Path):
    (tmp_path / "outputs" / "nvib" / "nvib").mkdir(parents=True)
    config = (experiment(folder) / "config.json").read_text()
    (experiment(tmp_path) / "config.json").write_text(config)
    finished = call("interpolation_evaluation.py", "--RUN_INTERPOLATIONS", "False", *at(tmp_path, "nvib"), expect=2)
    assert "interpolate first with --RUN_INTERPOLATIONS True" in one_line_of_error(finished)


def test_an_experiment_with_missing_or_different_data_is_refused(folder: Path, tmp_path: Path):
    gone = ("--EXPERIMENT_NAME", "nvib", "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", tmp_path / "data")
    assert "no prepared dataset 'tiny'" in one_line_of_error(call("sample.py", *gone, expect=2))
    prepare_tiny(tmp_path / "data", count=250)
    assert "is not the data that 'nvib' was trained on" in one_line_of_error(call("sample.py", *gone, expect=2))
