"""Generated text in the form of the user's own file."""

import csv
import json
from pathlib import Path

import datasets
import pytest
from pyarrow import parquet

from pipeline.data.column_types import RejectedError
from pipeline.data.writers import TableForm, Written, write_synthetic
from pipeline.recipes.synth import NVAE, Order, sampling, training
from tests.data.own_files import (
    ROWS,
    prepared_table,
    sampled_rows,
    write_rows,
)


@pytest.mark.slow
def test_samples_that_are_no_rows_are_left_out_and_counted(tmp_path: Path):
    prepared_table(write_rows(tmp_path / "own.jsonl", ROWS), row_template="")
    rows, said = sampled_rows(tmp_path)
    summary = json.loads((tmp_path / "outputs" / "nvib" / "nvib" / "summary.json").read_text())
    assert summary["samples/rejected"] == len(rows) == 30
    assert "no sample is a row of the table" in said
    assert "synthetic.jsonl has no row:" in said
    assert "are a text that does not have the words of the row template, such as " in said
    assert "--COLUMN_TYPES column=text" in said
    written = tmp_path / "outputs" / "nvib" / "nvib" / "synthetic.jsonl"
    assert written.read_text() == ""


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_are_written_with_the_names_the_order_and_the_types_of_the_table(tmp_path: Path, suffix: str):
    data = prepared_table(write_rows(tmp_path / f"own{suffix}", ROWS), row_template="", label_column="town")
    samples = [{"text": part["text"], "label": part["label"]} for part in data.splits["train"]]
    written = write_synthetic([*samples, {"text": "name is", "label": "Ur"}], data.statistics["source"], tmp_path)
    assert written.path == tmp_path / f"synthetic{suffix}"
    assert (written.rows, written.rejected) == (len(samples), 1)
    loaded = datasets.load_dataset(
        {".csv": "csv", ".jsonl": "json", ".parquet": "parquet"}[suffix],
        data_files=str(written.path),
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
    written = write_synthetic(rows, data.statistics["source"], tmp_path)
    assert written.path is not None
    with open(written.path, newline="") as file:
        found = list(csv.reader(file, delimiter=mark))
    assert found == [["a,text", "mood"], [f"one{mark}two", "1"], ["a, b", "0"]]


def test_a_dataset_of_the_hub_comes_back_as_json_lines_and_a_corpus_of_the_paper_not_at_all(tmp_path: Path):
    source = {"format": None, "text_column": "body", "label_column": "stars", "row_template": None, "columns": {}}
    rows = [{"text": "a cat", "label": "good"}, {"text": "a dog", "label": ""}]
    written = write_synthetic(rows, source | {"order": []}, tmp_path)
    assert written.path == tmp_path / "synthetic.jsonl"
    assert written.rejected == 0
    found = [json.loads(line) for line in written.path.read_text().splitlines()]
    assert found == [{"body": "a cat", "stars": "good"}, {"body": "a dog", "stars": None}]
    named = source | {"text_column": None, "label_column": None, "order": []}
    assert write_synthetic(rows, named, tmp_path) == Written()
    assert write_synthetic(rows, {}, tmp_path) == Written()  # prepared before sources were kept


def test_samples_whose_label_was_written_by_hand_are_rows_of_the_table_or_left_out(tmp_path: Path):
    data = prepared_table(write_rows(tmp_path / "own.parquet", ROWS), text_column="name", label_column="age")
    rows = [{"text": "a", "label": "31"}, {"text": "b", "label": 32}, {"text": "c"}, {"text": "d", "label": "many"}]
    written = write_synthetic(rows, data.statistics["source"], tmp_path)
    assert written.explained() == ["1 have in column 'age' a value that is no number, such as 'many'"]
    assert parquet.read_table(written.path).to_pylist() == [
        {"name": "a", "age": 31},
        {"name": "b", "age": 32},
        {"name": "c", "age": None},
    ]
    write_synthetic(rows[2:3], data.statistics["source"], tmp_path)
    assert [str(kind) for kind in parquet.read_schema(written.path).types] == [
        "string",
        "int64",
    ]  # though none is there


COLUMNS = {"town": {"kind": "category", "values": ["Ur"]}, "age": {"kind": "integer", "low": 1, "high": 9}}
SOURCE = {
    "format": ".csv",
    "text_column": None,
    "label_column": None,
    "row_template": "{town} is {age}",
    "columns": COLUMNS,
    "delimiter": ",",
    "order": ["age", "town"],
    "lossless": True,
}


def test_the_most_frequent_reasons_are_explained_with_an_example(tmp_path: Path):
    texts = ["Ur is 5", *["Ur is 12"] * 3, *["Rome is 5"] * 4, *["Ur was 5"] * 2, "Ur is six", "Ur is 10"]
    written = write_synthetic([{"text": text} for text in texts], SOURCE, tmp_path)
    assert (written.rows, written.rejected) == (1, 11)
    assert written.explained() == [
        "4 have in column 'age' a value that lies outside 1 to 9, such as '12'",
        "4 have in column 'town' a value that is none of the values of the data, such as 'Rome'",
        "2 are a text that does not have the words of the row template, such as 'Ur was 5'",
    ]
    assert written.path is not None
    assert written.path.read_text() == "age,town\n5,Ur\n"


def test_data_of_earlier_versions_is_written_as_before(tmp_path: Path):
    """Its statistics have neither `lossless` nor `delimiter`, and its columns no `format`."""
    source = {key: value for key, value in SOURCE.items() if key not in ("lossless", "delimiter")}
    columns = COLUMNS | {"price": {"kind": "number", "low": 7, "high": 8.5, "text": True}, "note": {"kind": "text"}}
    source |= {"columns": columns, "row_template": "{town} is {age}, {price}; {note}"}
    source["order"] = ["age", "town", "price", "note"]
    written = write_synthetic([{"text": "U r is5 , 7. 25;a  b"}, {"text": "Ur is 5, 9; "}], source, tmp_path)
    assert (written.rows, written.rejected) == (1, 1)
    assert written.path is not None
    assert written.path.read_text() == "age,town,price,note\n5,Ur,7.25,a  b\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("two\nlines", "has a line break"),
        ("a\rb", "has a line break"),
        ("", "is empty"),
        (" ", "is empty"),
        ("a\0", "NUL"),
    ],
)
def test_a_text_that_is_no_document_of_plain_text_is_rejected(text: str, reason: str):
    form = TableForm({"format": ".txt"})
    assert form.row({"text": " a  b "}) == {"text": " a  b "}
    with pytest.raises(RejectedError, match=reason):
        form.row({"text": text})


def test_a_character_that_no_text_file_holds_is_rejected_in_csv_alone():
    columns = {"note": {"kind": "text"}}
    source = SOURCE | {"columns": columns, "row_template": "it is {note}", "order": ["note"]}
    with pytest.raises(RejectedError, match=r"column 'note'.*NUL"):
        TableForm(source).row({"text": "it is \0"})
    assert TableForm(source | {"format": ".jsonl"}).row({"text": "it is \0"}) == {"note": "\0"}


def test_labels_keep_their_types():
    columns = {"stars": {"kind": "mixed", "values": ['"1"', "1", "true"]}}
    source = SOURCE | {"format": ".jsonl", "text_column": "text", "label_column": "stars", "row_template": None}
    form = TableForm(source | {"columns": columns, "order": ["stars", "text"]})
    labels = [form.row({"text": "a", "label": label})["stars"] for label in ("1", '"1"', "true", None)]
    assert [(type(label), label) for label in labels] == [(int, 1), (str, "1"), (bool, True), (type(None), None)]


def test_from_a_file_to_a_file_every_step_has_what_it_needs(tmp_path: Path):
    path = write_rows(tmp_path / "people.csv", ROWS)
    wanted = Order(str(path), "name", "town", None, samples=10, max_steps=20)
    made = [*training(wanted), *sampling(wanted, NVAE)]
    order = ("prepareDatasets.py", *["train.py"] * 3, "sample.py", "reverseSampleEvaluation.py", "quality.py")
    assert tuple(step[0] for step in made) == order
    assert made[0] == ["prepareDatasets.py", "--DATA", str(path), "--TEXT_COLUMN", "name", "--LABEL_COLUMN", "town"]
    for step in made[5:]:  # R-PPL is in the report if both have the same judge
        assert step[-2:] == ["--LANGUAGE_MODEL", "people-lm"]
