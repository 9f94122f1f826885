"""Scripts with a pretrained judge: figures, tables, precedence, families, and the scripts that refuse it."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.dataset import load_prepared
from pipeline.evaluation import judged_samples as judged
from pipeline.evaluation.base_judge import FIGURE_NAMES, BaseJudge
from pipeline.evaluation.controls import unigram_sentences
from pipeline.evaluation.judged_samples import family_warning, judged_samples
from pipeline.experiments.config import read_config
from pipeline.experiments.metric_types import CONTROLS
from pipeline.experiments.paths import ExperimentFiles
from pipeline.runtime.files import write_record
from tests.evaluation.test_base_judge import plain_nats
from tests.evaluation.tiny_base import needs_transformers, tiny_llama, write_base
from tests.helpers import call, one_line_of_error, prepare_tiny, run, run_ranks, train_tiny

pytestmark = [needs_transformers, pytest.mark.slow]  # together ten seconds


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny data, an NVAE with 12 samples of which one is empty, and a pretrained judge in the folder `base`."""
    folder = tmp_path_factory.mktemp("judged")
    prepare_tiny(folder / "data")
    train_tiny(folder, "nvib", "NVIB", steps=20)
    call("sample.py", *at(folder), "--NUMBER_SAMPLES", 12, "--DECODING", "sample")
    with open(experiment(folder) / "samples.jsonl", "a") as file:
        file.write(json.dumps({"text": " ", "drawn_length": 2, "tokens_generated": 1}) + "\n")
    write_base(folder / "base", tiny_llama())
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy"))


def at(folder: Path, name: str = "nvib") -> tuple[object, ...]:
    return ("--EXPERIMENT_NAME", name, "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")


def experiment(folder: Path, name: str = "nvib") -> Path:
    return folder / "outputs" / "nvib" / name


def texts_of(folder: Path) -> list[str]:
    return [json.loads(line)["text"] for line in (experiment(folder) / "samples.jsonl").read_text().splitlines()]


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((experiment(folder) / "summary.json").read_text())


def expected(base: Path, texts: list[str]) -> list[float]:
    """Perplexity a word, bits a character and perplexity a token, by a plain computation."""
    texts = [text for text in texts if text.strip()]
    nats, tokens = plain_nats(base, texts)
    words, characters = sum(len(text.split()) for text in texts), sum(map(len, texts))
    return [math.exp(nats / words), nats / math.log(2) / characters, math.exp(nats / tokens)]


def test_the_script_scores_the_raw_samples_beside_real_text_and_unigrams(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(judged, "MOST", 9)
    shown = call("forwardSampleEvaluation.py", *at(folder), "--LANGUAGE_MODEL", folder / "base").stdout
    figures, data = summary(folder), load_prepared(folder / "data", "tiny")
    own = [figures[f"samples/{name}"] for name in FIGURE_NAMES]
    assert own == pytest.approx(expected(folder / "base", texts_of(folder)), rel=1e-3)
    unigrams = data.tokenizer.decode_batch(unigram_sentences(data, 9)["input_ids"])
    controls = [figures[f"samples/{name}_of_unigrams"] for name in FIGURE_NAMES]
    assert controls == pytest.approx(expected(folder / "base", unigrams), rel=1e-3)
    assert all(f"samples/{name}_of_real_text" in figures for name in FIGURE_NAMES)
    assert figures["samples/pretrained_judge"] == str(folder / "base")
    assert figures["samples/pretrained_unscored"] == 1
    line = f"samples/pretrained_word_perplexity: {own[0]:.2f} of 12 samples, "
    assert line in shown
    assert "of 9 real texts (validation), " in shown
    assert "not scored: of 13 samples 1 empty\n" in shown
    assert "samples/forward_perplexity" not in figures
    call("report.py", "--OUTPUT_DIR", folder / "outputs")
    (page,) = (folder / "outputs").rglob("report.md")
    report = page.read_text()
    assert "| F-PPL a word (pretrained judge) | bits a character (pretrained judge) |" in report
    assert f"{own[1]:.3f}" in report
    assert str(folder / "base") in (page.parent / "experiments.csv").read_text()
    # New samples make the figures outdated.
    call("sample.py", *at(folder), "--NUMBER_SAMPLES", 5, "--DECODING", "sample")
    assert not [key for key in summary(folder) if "pretrained" in key]


@pytest.mark.slow
def test_two_processes_have_the_figures_of_one(folder: Path):
    kept = []
    for processes in (1, 2):
        command = ("forwardSampleEvaluation.py", *at(folder), "--LANGUAGE_MODEL", folder / "base")
        command = (*command, "--GENERATION_BATCH_SIZE", 4)
        shown = run(*command) if processes == 1 else run_ranks(*command)
        assert shown.stdout.count("samples/pretrained_word_perplexity") == 1
        kept.append({key: value for key, value in summary(folder).items() if "pretrained" in key})
    assert len(kept[0]) == 3 * (1 + len(CONTROLS)) + 3
    assert kept[0] == kept[1]


def test_real_text_is_of_the_split_that_is_named(folder: Path):
    data, judge = load_prepared(folder / "data", "tiny"), BaseJudge.load(str(folder / "base"))
    rows = [{"text": text} for text in texts_of(folder)] * 4
    splits = {}
    for subset in ("validation", "test"):
        figures, lines = judged_samples(judge, rows, data, subset, 8)
        splits[subset] = figures["samples/pretrained_word_perplexity_of_real_text"]
        every = data.tokenizer.decode_batch(data.splits[subset]["input_ids"])
        assert splits[subset] == pytest.approx(expected(folder / "base", every)[0], rel=1e-3)
        assert f"of {len(every)} real texts ({subset})" in lines[0]
    assert splits["validation"] != splits["test"]


def test_an_experiment_of_the_name_has_precedence(folder: Path):
    train_tiny(folder, "bundled", "LM", steps=5)
    shown = call("forwardSampleEvaluation.py", *at(folder), "--LANGUAGE_MODEL", "bundled").stdout
    assert "samples/forward_perplexity: " in shown
    assert summary(folder)["samples/forward_perplexity_judge"] == "bundled"
    assert not [key for key in summary(folder) if "pretrained" in key]


def test_the_quality_report_takes_a_pretrained_judge_for_fluency(folder: Path):
    with open(experiment(folder) / "samples.jsonl", "a") as file:  # as many sentences as MAUVE needs
        file.writelines(
            json.dumps({"text": f"the old king saw {n} cats", "tokens_generated": 6}) + "\n" for n in range(30)
        )
    shown = call("quality.py", *at(folder), "--LANGUAGE_MODEL", folder / "base").stdout
    assert f"{folder / 'base'} is a pretrained judge: it scores fluency; the reverse perplexity and the " in shown
    assert f"judge {folder / 'base'}, which is pretrained and scores fluency alone" in " ".join(shown.split())
    figures = summary(folder)
    for name in FIGURE_NAMES:
        assert figures[f"quality/{name}"] > 0
        assert figures[f"quality/{name}_of_real_text"] > 0
        assert name in (experiment(folder) / "quality.json").read_text()
    assert "quality/forward_perplexity" not in figures
    assert "quality/membership_auc_calibrated" not in figures
    assert "quality/membership_auc" in figures


def test_a_judge_of_the_generator_s_family_is_warned_of_in_one_line(folder: Path):
    files = ExperimentFiles(experiment(folder))
    config, judge = read_config(files), BaseJudge.load(str(folder / "base"))
    assert family_warning(config, judge) == ""
    base = str(write_base(folder / "sibling", tiny_llama(seed=1)))
    config = {key: value for key, value in config.items() if key != "checksum"}
    config["model"] = config["model"] | {"pretrained": base}
    warning = family_warning(config, judge)
    assert warning.startswith(
        f"warning: the judge {judge.name} and the generator, which is built on {base}, are of one"
    )
    assert "\n" not in warning
    write_record(files.config, config)
    finished = call("forwardSampleEvaluation.py", *at(folder), "--LANGUAGE_MODEL", folder / "base")
    assert finished.stderr.count("are of one family") == 1


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("reverseSampleEvaluation.py", "reverse perplexity trains a model with the settings of its judge"),
        ("interpolation_evaluation.py", "interpolations are judged by the tokens of the data"),
    ],
)
def test_scripts_that_need_the_tokens_of_the_data_refuse_a_pretrained_judge(folder: Path, script: str, reason: str):
    for name in ("bundled", folder / "base", "owner/model"):
        before = summary(folder)
        line = one_line_of_error(call(script, *at(folder), "--LANGUAGE_MODEL", name, expect=2))
        assert f"--LANGUAGE_MODEL {name} is a pretrained model, and {reason}; name an experiment" in line
        assert summary(folder) == before


def test_a_name_of_neither_kind_is_one_line_that_lists_the_experiments(folder: Path):
    line = one_line_of_error(call("forwardSampleEvaluation.py", *at(folder), "--LANGUAGE_MODEL", "nobody", expect=2))
    assert "no experiment 'nobody' in " in line
    assert "(there are: nvib); the Hugging Face hub did not deliver the model 'nobody'" in line
    (folder / "base" / "model.safetensors").unlink()
    line = one_line_of_error(call("quality.py", *at(folder), "--LANGUAGE_MODEL", folder / "base", expect=2))
    assert "it has no model.safetensors" in line


def test_without_the_extra_one_line_says_how_to_install_it(folder: Path, monkeypatch: pytest.MonkeyPatch):
    from pipeline.data import base_models

    monkeypatch.setattr(base_models.importlib.util, "find_spec", lambda name: None)
    line = one_line_of_error(call("forwardSampleEvaluation.py", *at(folder), "--LANGUAGE_MODEL", "bundled", expect=2))
    assert "transformers is not installed" in line
    assert "run make pretrained" in line
