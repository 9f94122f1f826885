"""The registry of metrics: complete in both directions, and the one source of labels and decimals."""

import dataclasses
import inspect
import json
import math
import re
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.base_models import sentence_encoder_folder
from pipeline.data.documents import Split
from pipeline.data.prepare import PreparationSettings, prepare
from pipeline.data.text_source import TextSource
from pipeline.evaluation.quality_rows import SECTIONS, Row
from pipeline.experiments import metrics, quality_metrics, table_metrics
from pipeline.experiments.metric_types import CONTROLS
from pipeline.experiments.metrics import FIGURES, METRICS, outdated_with_samples
from pipeline.experiments.shown_figures import HEADLINE, TABLES
from pipeline.reporting.console import side_by_side
from pipeline.reporting.results import Result, grouped
from pipeline.reporting.tables import write_tables
from tests.evaluation.tiny_base import tiny_llama, write_base
from tests.helpers import call, text

PRETRAINED = find_spec("transformers") is not None  # make pretrained installs it
TINY = ("--DIM_H", 16, "--BATCH_SIZE", 32, "--MAX_STEPS", 2, "--PRECISION", "fp32", "--DATA", "tiny")


def measure_everything(folder: Path) -> dict[str, Any]:
    """Run every script that writes figures, on labelled sentences with models that have hardly learned.

    Returns:
        The figures of quality.py with each of the judges.
    """
    lines = [f'"{line}",{("good", "bad")[n % 2]}\n' for n, line in enumerate(text(400).splitlines())]
    (folder / "tiny.csv").write_text("review,mood\n" + "".join(lines))
    source = TextSource(str(folder / "tiny.csv"), Split(0.2, 0.2, 0), text_column="review", label_column="mood")
    prepare(source, "tiny", folder / "data", PreparationSettings("wordpiece", 200, "none", 2, 60))
    places = ("--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")
    for name in ("NVIB", "VTV", "LM"):
        controlled = ("--TARGET_RATE", 3) if name == "NVIB" else ()
        call("train.py", "--EXPERIMENT_NAME", name, "--MODEL", name, *TINY, *controlled, *places)
    nvib, vtv = (("--EXPERIMENT_NAME", name, *places) for name in ("NVIB", "VTV"))
    call("sample.py", *nvib, "--NUMBER_SAMPLES", 60, "--DECODING", "sample", "--NOVEL", "True")
    call("regularisation.py", *nvib)
    for subset in ("validation", "test"):
        call("reconstruction.py", *nvib, "--DATA_SUBSET", subset)
        call("reconstruction.py", *vtv, "--DATA_SUBSET", subset, "--IMPORTANCE_SAMPLES", 1)
    for judge in ("LM", "VTV"):
        call("forwardSampleEvaluation.py", *nvib, "--LANGUAGE_MODEL", judge)
        call("interpolation_evaluation.py", *vtv, "--NUMBER_PAIRS", 4, "--LANGUAGE_MODEL", judge)
    for judge, subset in product(("LM", "VTV"), ("validation", "test")):
        judged = ("--LANGUAGE_MODEL", judge, "--DATA_SUBSET", subset)
        call("reverseSampleEvaluation.py", *nvib, *judged, "--MAX_STEPS", 1)
    quality = {}
    judges = ["LM", "VTV"]
    if PRETRAINED:
        judges.append(write_base(folder / "base", tiny_llama()))
        call("forwardSampleEvaluation.py", *nvib, "--LANGUAGE_MODEL", judges[-1])
    for judge in judges:  # the figures of each replace the earlier ones
        call("quality.py", *nvib, "--LANGUAGE_MODEL", judge)
        quality |= json.loads((folder / "outputs" / "nvib" / "NVIB" / "summary.json").read_text())
    rows = "".join(f"{n % 37},{n % 23},{'ab'[n % 37 > 18]}\n" for n in range(300))
    (folder / "table.csv").write_text(f"size,age,kind\n{rows}")
    call("prepareDatasets.py", "--DATA", folder / "table.csv", "--ROW_TEMPLATE", "--DATA_DIR", folder / "data")
    rows = ("--EXPERIMENT_NAME", "rows", *places)
    call("train.py", "--MODEL", "LM", *TINY[:-1], "table", *rows)
    call("sample.py", *rows, "--NUMBER_SAMPLES", 40, "--DECODING", "sample")
    call("quality.py", *rows)
    call("tune.py", "--MODEL", "VTP", *TINY, *places, "--TRIALS", 1, "--SEEDS", 1)
    return quality


@pytest.mark.slow
def test_every_declared_key_is_produced_and_every_produced_key_is_declared(tmp_path: Path):
    produced = measure_everything(tmp_path)
    for path in (tmp_path / "outputs").glob("*/*/summary.json"):
        produced |= json.loads(path.read_text())
    for path in (tmp_path / "outputs").glob("*/*/metrics.jsonl"):
        produced |= json.loads(path.read_text().splitlines()[-1])
    produced = {key: value for key, value in produced.items() if key != "checksum"}  # of the file itself
    assert sorted(produced.keys() - FIGURES.keys()) == [], "produced and not declared"
    optional = set() if sentence_encoder_folder() else {key for key in FIGURES if "semantic" in key}
    optional |= set() if PRETRAINED else {key for key in FIGURES if "pretrained" in key}
    assert sorted(FIGURES.keys() - produced.keys() - optional) == [], "declared and not produced"
    for key, value in produced.items():
        assert isinstance(value, str) == (FIGURES[key].metric.decimals is None), key
        assert isinstance(value, str) or math.isfinite(value), key


def test_a_search_for_a_metric_s_name_finds_its_one_declaration():
    source = "".join(map(inspect.getsource, (metrics, quality_metrics, table_metrics)))
    declared = re.findall(r'(?:Metric|_quality|_compared|_table)\(\s*"(\w+)"', source)
    assert sorted(declared) == sorted({metric.name for metric in METRICS})


def test_every_figure_shown_is_a_number_with_a_filled_label():
    for name, keys in TABLES.items():
        headers = [FIGURES[key].column(with_split) for key in keys for with_split in (True, False)]
        assert not any(mark in header for header in headers for mark in "{}"), name
    for key in (*HEADLINE, *(key for keys in TABLES.values() for key in keys)):
        assert FIGURES[key].metric.decimals is not None, key
    assert not any(mark in FIGURES[key].console_label for key in HEADLINE for mark in "{}")


def test_a_header_names_its_split_once():
    assert FIGURES["test/reverse_perplexity"].column(True) == "R-PPL, test"
    assert FIGURES["validation/reconstruction_bleu"].column(False) == "BLEU"
    assert FIGURES["test/elbo"].column(True) == "ELBO, test (nats)"
    assert FIGURES["samples/length_divergence"].column(False) == "length divergence (bits)"
    assert FIGURES["interpolation/tau_0.25/bleu_source"].column(False) == "BLEU to the source, τ = 0.25"


def test_the_quality_report_knows_every_section_and_fills_every_label():
    declared = [metric for metric in METRICS if metric.quality is not None]
    assert {metric.quality.section for metric in declared if metric.quality} == set(SECTIONS)
    assert Row("near_copies_by_edits", 0.0, 0.0, near=0.2).label == "at most 20% of the tokens edited"
    assert Row("near_copies_by_overlap", 0.0, 0.0, near=0.2).label == "80% of its 3-grams in one training sentence"


def test_controls_are_figures_of_their_own_and_rows_of_the_tables_without_a_column():
    for name in ("samples/forward_perplexity", "test/autoencoder_reverse_perplexity", "samples/mauve"):
        assert {f"{name}{suffix}" for suffix in CONTROLS} <= FIGURES.keys()
    assert not [key for keys in TABLES.values() for key in keys if key.endswith(tuple(CONTROLS))]
    assert "quality/mauve_of_unigrams" not in FIGURES
    assert "quality/autoencoder_mauve" not in FIGURES, "the report has MAUVE of the experiment's own model"


def test_figures_of_samples_are_outdated_with_them_and_figures_of_weights_are_not():
    outdated = {key for key in FIGURES if outdated_with_samples(key)}
    assert {key.partition("/")[0] for key in outdated} == {"samples", "quality", "validation", "test"}
    assert all("reverse_perplexity" in key for key in outdated if not key.startswith(("samples/", "quality/")))
    assert {"samples/distinct_1", "quality/mauve_of_real_text", "test/autoencoder_reverse_perplexity_judge"} <= outdated
    assert not {"best_epoch", "test/reconstruction_bleu", "interpolation/pairs"} & outdated
    # Keys of an earlier version.
    assert [outdated_with_samples(key) for key in ("samples/old", "quality/old", "test/old", "old")] == [1, 1, 0, 0]


def test_one_more_decimal_is_one_edit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    figures = {"validation/alpha0": 12.3456789}
    result = Result("a", {"model": "NVIB", "seed": 1}, figures, [])
    assert "| a | NVIB | 1 | 12.3 |" in write_tables(tmp_path, grouped([result]), [], [])
    figure = FIGURES["validation/alpha0"]
    changed = dataclasses.replace(figure, metric=dataclasses.replace(figure.metric, decimals=4))
    monkeypatch.setitem(FIGURES, figure.key, changed)
    assert "| a | NVIB | 1 | 12.3457 |" in write_tables(tmp_path, grouped([result]), [], [])
    assert side_by_side({"a": figures}).splitlines()[-1].split()[-1] == "12.3457"
