"""quality.py on rows of a table: the section with figures, notes and plots, and columns that cannot be predicted."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.evaluation import sample_quality
from pipeline.evaluation.quality_rows import Quality
from pipeline.evaluation.sample_quality import Material
from pipeline.runtime.files import read_record, write_record
from tests.data.own_files import prepared_table, write_rows
from tests.evaluation.tiny_base import needs_transformers, tiny_llama, write_base
from tests.helpers import call, one_line_of_error, prepare_tiny, run

ROWS = 240


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A table with two numbers, a date, a category and text, and a language model whose samples are real rows."""
    folder = tmp_path_factory.mktemp("table")
    lines = (
        f"{n % 37},{n % 37 / 4},{1 + n % 28:02d}.03.2021,{'ab'[n % 37 > 18]},note {n} of {n * n}" for n in range(ROWS)
    )
    (folder / "rows.csv").write_text("size,price,day,kind,note\n" + "".join(line + "\n" for line in lines))
    data = ("--DATA_DIR", folder / "data")
    call("prepareDatasets.py", "--DATA", folder / "rows.csv", "--ROW_TEMPLATE", *data, "--COLUMN_TYPES", "note=text")
    call("train.py", *at(folder), "--MODEL", "LM", "--DIM_H", 16, "--DATA", "rows", "--MAX_STEPS", 3)
    texts = [
        f"size is {n % 37}, price is {n % 37 / 4}, day is {1 + n % 28:02d}.03.2021, "
        f"kind is {'ab'[n % 37 > 18]}, note is x"
        for n in range(60)
    ]
    rows = [{"text": text, "drawn_length": 9, "tokens_generated": 8} for text in (*texts, "no row at all")]
    (experiment(folder) / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def at(folder: Path) -> tuple[object, ...]:
    return ("--EXPERIMENT_NAME", "rows", "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")


def experiment(folder: Path) -> Path:
    return folder / "outputs" / "nvib" / "rows"


@pytest.mark.slow
def test_rows_get_figures_beside_held_out_rows_a_note_and_plots(folder: Path):
    record = experiment(folder) / "summary.json"
    write_record(record, read_record(record, "") | {"quality/table_f1": 0.5})  # of another target
    shown = run("quality.py", *at(folder), "--TARGET_COLUMN", "size", fresh=True).stdout
    summary = json.loads(record.read_text())
    assert "best_epoch" in summary and "quality/table_efficacy" in summary and "quality/table_f1" not in summary
    report = json.loads((experiment(folder) / "quality.json").read_text())
    figures, note = report["figures"]["table"], report["notes"]["table"]
    assert re.search(r", those of the table of \d+, beside as many rows of the validation and test", report["compared"])
    assert not [key for key in summary if key.endswith("_of_unigrams")], "independent tokens are no row"
    for name in ("shapes", "trends", "coverage", "boundaries", "copies", "membership"):
        for kind in ("synthetic", "held_out_real"):
            assert 0 <= figures[f"table_{name}"][kind] <= 1
    assert figures["table_boundaries"]["synthetic"] == 1
    assert figures["table_f1"]["synthetic"] is None
    assert figures["table_f1"]["missing"] == "is for classes, and the trees predict the numbers of 'size'"
    for said in ("The trees predict 'size'", "left out: note", "left out: 1.", "as many held-out rows"):
        assert said in note
    page = (experiment(folder) / "quality.html").read_text()
    for heading in ("<h2>Table</h2>", "<h3>size", "<h3>price", "<h3>day", "<h3>kind"):
        assert heading in page
    matrices = page.split("<h3>Correlations")[1].split("<h3>")[0].split("<h2>")[0]
    assert matrices.count("<svg") == 3  # of real rows, of samples, and their difference
    assert "column shapes (SDMetrics)" in shown
    assert max(map(len, shown.splitlines())) <= 500


def test_copies_are_rows_under_other_identifiers(tmp_path: Path):
    """Each sample has an identifier that the data lack."""
    rows = [{"id": f"A-{n:03d}", "size": n, "kind": "ab"[n % 2]} for n in range(60)]
    data = prepared_table(write_rows(tmp_path / "own.csv", rows), row_template="", tokenizer="table")
    train = [text.partition(",")[2] for text in data.splits["train"]["text"][:10]]
    made = [{"text": f"id is Z-{n:03d},{text}"} for n, text in enumerate(train)]
    experiment = cast(Any, SimpleNamespace(data=data))
    material, quality = Material(experiment, made, "validation", None, 0.0, 0.0, 8), Quality()
    others = dict.fromkeys(("training_run_fraction", "longest_training_ngram"), 0.0)
    figures = {row.name: row for row in sample_quality._copies(material, quality, others, others)}
    assert figures["exact_copies"].synthetic == 1.0
    assert figures["exact_copies"].real == 0.0
    assert sample_quality.without_copies(material, quality) == []


@pytest.mark.slow
def test_samples_that_are_no_rows_are_named_where_the_table_is_written_anew(folder: Path):
    for drop in ("True", "False"):
        said = call("quality.py", *at(folder), "--DROP_COPIES", drop).stdout
        assert "rows, without 1 sample that is not of the form" in said
    assert "synthetic.csv is of all samples" in said


@needs_transformers
@pytest.mark.slow
def test_rows_have_no_unigrams_under_a_pretrained_judge(folder: Path):
    write_base(folder / "base", tiny_llama())
    shown = call("forwardSampleEvaluation.py", *at(folder), "--LANGUAGE_MODEL", folder / "base").stdout
    assert "real texts (validation)" in shown and "unigrams" not in shown
    summary = json.loads((experiment(folder) / "summary.json").read_text())
    assert "samples/pretrained_word_perplexity_of_real_text" in summary
    assert not [key for key in summary if key.endswith("_of_unigrams")]


@pytest.mark.slow
@pytest.mark.parametrize(("column", "said"), [("note", "size, price, day, kind"), ("weight", "size, price, day, kind")])
def test_a_target_that_is_not_compared_is_refused(folder: Path, column: str, said: str):
    before = sorted(experiment(folder).iterdir())
    line = one_line_of_error(call("quality.py", *at(folder), "--TARGET_COLUMN", column, expect=2))
    assert f"--TARGET_COLUMN {column}" in line
    assert said in line
    assert sorted(experiment(folder).iterdir()) == before


@pytest.mark.slow
def test_a_target_for_texts_that_are_no_rows_is_refused(folder: Path):
    prepare_tiny(folder / "data")
    places = ("--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data", "--EXPERIMENT_NAME", "texts")
    call("train.py", *places, "--MODEL", "LM", "--DIM_H", 16, "--DATA", "tiny", "--MAX_STEPS", 1)
    assert "are no rows" in one_line_of_error(call("quality.py", *places, "--TARGET_COLUMN", "size", expect=2))
