"""Generated text in the form of the user's own file."""

import csv
import json
from pathlib import Path

import datasets
import pytest
from pyarrow import parquet

from pipeline.data.writers import write_synthetic
from pipeline.recipes.synth import Order, steps
from tests.data.own_files import (
    ROWS,
    prepared_table,
    sampled_rows,
    write_rows,
)


def test_samples_that_are_no_rows_are_left_out_and_counted(tmp_path: Path):
    prepared_table(write_rows(tmp_path / "own.jsonl", ROWS), row_template="")
    rows, said = sampled_rows(tmp_path)
    summary = json.loads((tmp_path / "outputs" / "nvib" / "nvib" / "summary.json").read_text())
    assert summary["samples/rejected"] == len(rows) == 30
    assert "synthetic.jsonl, without 30 that are no rows of its table" in said


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_are_written_with_the_names_the_order_and_the_types_of_the_table(tmp_path: Path, suffix: str):
    data = prepared_table(write_rows(tmp_path / f"own{suffix}", ROWS), row_template="", label_column="town")
    samples = [{"text": part["text"], "label": part["label"]} for part in data.splits["train"]]
    path, rejected = write_synthetic(
        [*samples, {"text": "name is", "label": "Ur"}], data.statistics["source"], tmp_path
    )
    assert (path.name, rejected) == (f"synthetic{suffix}", 1)
    loaded = datasets.load_dataset(
        {".csv": "csv", ".jsonl": "json", ".parquet": "parquet"}[suffix],
        data_files=str(path),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert loaded.column_names == list(ROWS[0])
    assert sorted(loaded["age"]) == sorted(row["age"] for row in loaded if row in ROWS)
    assert len(loaded) == len(samples)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_columns_divided_by_semicolons_or_tabs_come_back_so(tmp_path: Path, mark: str):
    path = tmp_path / "own.csv"
    lines = [f'{n}{mark}"the old king, {"x" + mark + "y"} saw the river"{mark}{n % 2}\n' for n in range(30)]
    path.write_text(f'id{mark}"a,text"{mark}mood\n' + "".join(lines))
    data = prepared_table(path, text_column="a,text", label_column="mood")
    rows = [{"text": f"one{mark}two", "label": "1"}, {"text": "a, b", "label": "0"}]
    written, _ = write_synthetic(rows, data.statistics["source"], tmp_path)
    with open(written, newline="") as file:
        found = list(csv.reader(file, delimiter=mark))
    assert found == [["a,text", "mood"], [f"one{mark}two", "1"], ["a, b", "0"]]


def test_a_dataset_of_the_hub_comes_back_as_json_lines_and_a_corpus_of_the_paper_not_at_all(tmp_path: Path):
    source = {"format": None, "text_column": "body", "label_column": "stars", "row_template": None, "columns": {}}
    rows = [{"text": "a cat", "label": "good"}, {"text": "a dog", "label": ""}]
    written, rejected = write_synthetic(rows, source | {"order": []}, tmp_path)
    assert (written.name, rejected) == ("synthetic.jsonl", 0)
    found = [json.loads(line) for line in written.read_text().splitlines()]
    assert found == [{"body": "a cat", "stars": "good"}, {"body": "a dog", "stars": None}]
    named = source | {"text_column": None, "label_column": None, "order": []}
    assert write_synthetic(rows, named, tmp_path) == (None, 0)
    assert write_synthetic(rows, {}, tmp_path) == (None, 0)  # prepared before sources were kept


def test_samples_whose_label_was_written_by_hand_are_rows_of_the_table_or_left_out(tmp_path: Path):
    data = prepared_table(write_rows(tmp_path / "own.parquet", ROWS), text_column="name", label_column="age")
    rows = [{"text": "a", "label": "31"}, {"text": "b", "label": 32}, {"text": "c"}, {"text": "d", "label": "many"}]
    written, rejected = write_synthetic(rows, data.statistics["source"], tmp_path)
    assert rejected == 1
    assert parquet.read_table(written).to_pylist() == [
        {"name": "a", "age": 31},
        {"name": "b", "age": 32},
        {"name": "c", "age": None},
    ]
    write_synthetic(rows[2:3], data.statistics["source"], tmp_path)
    assert [str(kind) for kind in parquet.read_schema(written).types] == ["string", "int64"]  # though none is there


def test_from_a_file_to_a_file_every_step_has_what_it_needs(tmp_path: Path):
    path = write_rows(tmp_path / "people.csv", ROWS)
    made = steps(Order(str(path), "name", "town", None, samples=10, max_steps=20))
    order = ("prepareDatasets.py", "train.py", "train.py", "sample.py", "reverseSampleEvaluation.py", "quality.py")
    assert tuple(step[0] for step in made) == order
    assert made[0] == ["prepareDatasets.py", "--DATA", str(path), "--TEXT_COLUMN", "name", "--LABEL_COLUMN", "town"]
    for step in made[4:]:  # R-PPL is in the report if both have the same judge
        assert step[-2:] == ["--LANGUAGE_MODEL", "people-lm"]
