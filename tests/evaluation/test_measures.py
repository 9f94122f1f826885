"""The evaluation scripts on tiny data: their output and their figures."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from pipeline.data.batches import collate
from pipeline.data.dataset import load_prepared
from pipeline.evaluation.diversity import text_figures
from pipeline.evaluation.judge import tokenized_samples
from pipeline.experiments.load import load_experiment
from pipeline.experiments.tracker import fingerprint
from pipeline.runtime.files import read_record, write_record
from tests.helpers import call, one_line_of_error, prepare_tiny, run

TINY = ("--DIM_H", 16, "--BATCH_SIZE", 32, "--DATA", "tiny", "--MAX_STEPS", 12, "--PRECISION", "fp32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Tiny data, an NVAE and a variational Transformer with samples, and a language model."""
    folder = tmp_path_factory.mktemp("measures")
    prepare_tiny(folder / "data")
    for name, model in (("nvib", "NVIB"), ("vtv", "VTV"), ("lm", "LM")):
        call("train.py", *at(folder, name), "--MODEL", model, *TINY)
    call("sample.py", *at(folder, "nvib"), "--NUMBER_SAMPLES", 40, "--DECODING", "sample")
    return folder


def at(folder: Path, name: str) -> tuple[object, ...]:
    return ("--EXPERIMENT_NAME", name, "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")


def experiment(folder: Path, name: str = "nvib") -> Path:
    return folder / "outputs" / "nvib" / name


def summary(folder: Path, name: str = "nvib") -> dict:
    return json.loads((experiment(folder, name) / "summary.json").read_text())


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_forward_perplexity_is_that_of_the_samples_as_the_language_model_reads_them(folder: Path):
    run("forwardSampleEvaluation.py", *at(folder, "nvib"), "--LANGUAGE_MODEL", "lm", fresh=True)
    judge = load_experiment(folder / "outputs", "nvib", "lm", folder / "data")
    texts = [row["text"] for row in lines(experiment(folder) / "samples.jsonl")]
    nll, tokens = 0.0, 0
    for ids in judge.data.tokenizer.encode(texts):
        batch = collate([ids], judge.data.tokenizer.pad_id)
        with torch.no_grad():
            logits = judge.model.output(judge.model.decode(batch.target_input, None))[0]
        nll += torch.nn.functional.cross_entropy(logits, batch.source[0], reduction="sum").item()
        tokens += len(ids) - 1
    figures = summary(folder)
    assert figures["samples/forward_perplexity"] == pytest.approx(math.exp(nll / tokens), rel=1e-4)
    assert figures["samples/forward_perplexity_of_real_text"] == pytest.approx(
        summary(folder, "lm")["validation/perplexity"], rel=1e-4
    )


def test_samples_are_compared_with_as_many_held_out_sentences(folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    data = load_prepared(tmp_path / "data", "tiny")
    count = len(data.splits["validation"])
    call("sample.py", *at(tmp_path, "nvib"), "--NUMBER_SAMPLES", 2 * count, "--DECODING", "sample")
    rows = lines(experiment(tmp_path) / "samples.jsonl")
    assert len(rows) == 2 * count
    own, real = text_figures(tokenized_samples(rows[:count], data), data), text_figures(data.splits["validation"], data)
    figures = summary(tmp_path)
    for name in ("distinct_2", "self_bleu", "longest_training_ngram"):
        assert figures[f"samples/{name}"] == own[name]
        assert figures[f"samples/{name}_of_real_text"] == real[name]


@pytest.mark.slow
def test_figures_are_removed_with_the_samples_and_weights_that_they_were_measured_on(folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    nvib = at(tmp_path, "nvib")
    call("forwardSampleEvaluation.py", *nvib, "--LANGUAGE_MODEL", "lm")
    call("reconstruction.py", *nvib, "--DATA_SUBSET", "validation")
    record = read_record(experiment(tmp_path) / "summary.json", "")
    measured = {
        "quality/mauve": 0.5,
        "validation/reverse_perplexity": 9.0,
        "validation/autoencoder_reverse_perplexity": 9.0,
    }
    write_record(experiment(tmp_path) / "summary.json", record | measured)
    of_samples = {"samples/forward_perplexity", *measured}
    sample = ("sample.py", *nvib, "--NUMBER_SAMPLES", 40, "--DECODING", "sample")
    call(*sample)
    assert of_samples <= summary(tmp_path).keys(), "the samples are the same"
    record, samples = ((experiment(tmp_path) / name) for name in ("summary.json", "samples.jsonl"))
    before = {path: path.read_bytes() for path in (record, samples)}
    record.write_text("{")
    assert "summary.json" in one_line_of_error(call(*sample, "--SEED", 5, expect=2))
    assert samples.read_bytes() == before[samples], "figures that cannot be removed keep their samples"
    record.write_bytes(before[record])
    call(*sample, "--SEED", 5)
    left = summary(tmp_path)
    assert not of_samples & left.keys()
    assert {"validation/reconstruction_bleu", "samples/distinct_1", "best_epoch"} <= left.keys()
    call("train.py", *nvib, "--MODEL", "NVIB", *TINY)
    assert summary(tmp_path) == left, "nothing was left to train"
    call("train.py", *nvib, "--MODEL", "NVIB", *TINY, "--MAX_STEPS", 40)
    trained = summary(tmp_path)
    assert trained["best_epoch"] > left["best_epoch"]
    assert not {"validation/reconstruction_bleu", "samples/distinct_1"} & trained.keys()


def test_an_autoencoder_s_perplexity_is_its_reconstruction_s_under_a_name_of_its_own(folder: Path):
    call("forwardSampleEvaluation.py", *at(folder, "nvib"), "--LANGUAGE_MODEL", "vtv")
    figures, own = summary(folder), summary(folder, "vtv")
    assert figures["samples/autoencoder_forward_perplexity_judge"] == "vtv"
    assert figures["samples/autoencoder_forward_perplexity_of_real_text"] == pytest.approx(
        own["validation/perplexity"], rel=1e-4
    )


@pytest.mark.slow
def test_reverse_perplexity_is_the_same_again_and_leaves_no_model(folder: Path):
    """That of a model which learned from the samples alone."""
    values, before = [], sorted(experiment(folder, "lm").iterdir())
    command = ("reverseSampleEvaluation.py", *at(folder, "nvib"), "--LANGUAGE_MODEL", "lm", "--MAX_STEPS", 6)
    for fresh in (True, False):  # as processes of one number of threads: another would round otherwise
        run(*command, fresh=fresh)
        values.append(summary(folder)["validation/reverse_perplexity"])
    assert values[0] == values[1] > 1
    figures = summary(folder)
    assert figures["validation/reverse_perplexity_sentences"] == 40
    assert figures["validation/reverse_perplexity_sentences_of_real_text"] == 40
    texts = [row["text"] for row in lines(experiment(folder) / "samples.jsonl")]
    assert figures["validation/reverse_perplexity_samples"] == fingerprint(texts)
    # Twelve steps on forty sentences of the real text, or of samples of a model that has hardly learned.
    of = {text: figures[f"validation/reverse_perplexity_of_{text}"] for text in ("real_text", "unigrams")}
    assert len({values[0], *of.values()}) == 3
    controls = experiment(folder, "lm") / "reverse_controls.jsonl"
    assert sorted(experiment(folder, "lm").iterdir()) == sorted([*before, controls])
    assert [row["key"].get("text") for row in lines(controls)] == [None, "unigrams"]
    assert not list(experiment(folder).glob("reverse*"))


def test_the_importance_weighted_bound_is_tighter_and_reported_in_nats_a_sentence(folder: Path):
    call("reconstruction.py", *at(folder, "vtv"), "--IMPORTANCE_SAMPLES", 3)
    figures = summary(folder, "vtv")
    assert figures["validation/elbo"] < figures["validation/importance_weighted_bound"] < 0
    refused = call("reconstruction.py", *at(folder, "nvib"), "--IMPORTANCE_SAMPLES", 3, expect=2)
    assert "NVIB has no known density of its latent" in one_line_of_error(refused)


def test_vectors_kept_are_drawn_and_counted(folder: Path):
    call("regularisation.py", *at(folder, "nvib"))
    for name in ("kept", "tokens", "frequency"):
        assert (experiment(folder) / f"regularisation_{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (experiment(folder) / f"regularisation_{name}.pdf").read_bytes().startswith(b"%PDF")
    page = (experiment(folder) / "regularisation_sentences.html").read_text()
    assert page.count("<p>") == 1 + 30  # the validation split has 30 sentences
    assert (experiment(folder) / "regularisation_tokens.csv").read_text().startswith("token,occurrences,mean_pseudo_c")
    figures = summary(folder)
    assert figures["regularisation/vectors_kept"] == pytest.approx(figures["validation/vectors_kept"])
    assert figures["regularisation/subset"] == "validation"
    path = experiment(folder) / "summary.json"
    # As a correlation that the next run leaves out.
    write_record(path, read_record(path, "") | {"regularisation/of_another_split": 1.0})
    shown = call("regularisation.py", *at(folder, "nvib"), "--DATA_SUBSET", "test").stdout
    assert "the figures of the test split replace those of the validation split in" in shown
    assert summary(folder)["regularisation/subset"] == "test"
    assert "regularisation/of_another_split" not in summary(folder)


def test_the_fluency_of_novel_interpolations_is_judged(folder: Path):
    call("interpolation_evaluation.py", *at(folder, "vtv"), "--NUMBER_PAIRS", 5, "--LANGUAGE_MODEL", "lm")
    figures, rows = summary(folder, "vtv"), lines(experiment(folder, "vtv") / "interpolations.jsonl")
    novel = any(row["outputs"]["0.5"] not in (row["source"], row["target"]) for row in rows)
    assert novel
    assert figures["interpolation/tau_0.5/novel_forward_perplexity"] > 1


@pytest.mark.parametrize(
    ("script", "name", "judge", "message"),
    [
        ("forwardSampleEvaluation.py", "nvib", "nobody", "no experiment 'nobody'"),
        ("forwardSampleEvaluation.py", "vtv", "lm", "generate them with sample.py --EXPERIMENT_NAME vtv"),
        ("reverseSampleEvaluation.py", "vtv", "lm", "generate them with sample.py --EXPERIMENT_NAME vtv"),
        ("reconstruction.py", "lm", None, "LM has no latent: it cannot encode a text"),
        ("regularisation.py", "vtv", None, "VTV has no pseudo-counts that would say what it keeps"),
        ("regularisation.py", "lm", None, "LM has no latent: it cannot encode a text"),
        ("interpolation_evaluation.py", "lm", None, "LM has no latent: it cannot encode a text"),
    ],
)
def test_a_model_without_the_needed_part_is_refused_in_one_line(
    folder: Path, script: str, name: str, judge, message: str
):
    judge = () if judge is None else ("--LANGUAGE_MODEL", judge)
    before = sorted(path.name for path in experiment(folder, name).iterdir())
    assert message in one_line_of_error(call(script, *at(folder, name), *judge, expect=2))
    assert sorted(path.name for path in experiment(folder, name).iterdir()) == before
