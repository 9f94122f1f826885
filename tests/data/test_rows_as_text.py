"""Rows of a table as texts and back, in the types of their columns."""

import csv
import datetime
import json
import math
from pathlib import Path

import datasets
import pytest
from pyarrow import parquet

from pipeline.data.column_types import CATEGORIES, ColumnSurvey, ColumnTypes
from pipeline.data.row_template import RowTemplate
from pipeline.data.writers import write_synthetic
from pipeline.runtime.errors import UserError
from tests.data.own_files import (
    ROWS,
    prepared_table,
    write_rows,
)


def surveyed(*rows: dict, spelt: bool = False) -> dict[str, dict]:
    """Describe the columns of rows."""
    survey = ColumnSurvey(spelt)
    for row in rows:
        survey.see(row)
    return survey.to_json()


def types_of(*rows: dict, spelt: bool = False) -> ColumnTypes:
    return ColumnTypes(surveyed(*rows, spelt=spelt))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_row_becomes_a_text_that_becomes_the_row(tmp_path: Path, suffix: str):
    data = prepared_table(write_rows(tmp_path / f"own{suffix}", ROWS), row_template="")
    source = data.statistics["source"]
    assert source["row_template"] == "name is {name}, age is {age}, height is {height}, town is {town}, rich is {rich}"
    template = RowTemplate(source["row_template"], list(ROWS[0]), "own")
    types = ColumnTypes(source["columns"])
    assert sum(len(part) for part in data.splits.values()) == len(ROWS)
    found = []
    for part in data.splits.values():
        for row in part:
            assert row["text"].startswith("name is old king, age is ")
            found.append(types.row(template.values(data.tokenizer.decode(row["input_ids"]))))
    expected = [{**row, "rich": str(row["rich"])} for row in ROWS] if suffix == ".csv" else ROWS
    assert sorted(found, key=lambda row: row["age"]) == [pytest.approx(row) for row in expected]


def test_a_template_of_one_s_own_takes_the_columns_that_it_names(tmp_path: Path):
    path = write_rows(tmp_path / "own.jsonl", ROWS)
    data = prepared_table(path, row_template="In {town} lives {name} ({age}).", label_column="rich")
    assert data.splits["train"][0]["text"] in {f"In {row['town']} lives old king ({row['age']})." for row in ROWS}
    assert set(data.tokenizer.labels) == {"False", "True"}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{nobody} is here", "names 'nobody'; own.csv has a, b"),
        ("nothing here", "names no column"),
        ("{a}{b}", "cannot be read back: put words between its columns"),
        ("{a} {b}", "cannot be read back"),
        ("{a} and {a}", "each once"),
        ("{a", "has a single {; write {column}"),
        ("{a} }", "has a single }"),
    ],
)
def test_a_template_that_could_not_be_read_back_is_refused(pattern: str, message: str):
    with pytest.raises(UserError, match=message):
        RowTemplate(pattern, ["a", "b"], "own.csv")


def test_what_is_no_row_or_has_a_value_of_another_kind_is_rejected():
    template = RowTemplate(None, ["age", "town"], "own")
    types = types_of({"age": 5, "town": "New York"}, {"age": 7, "town": "Ur"}, {"age": None, "town": "Ur"})
    assert types.row(template.values("age is 6, town is new york")) is None
    assert types.row(template.values("age is 6, town is New York")) == {"age": 6, "town": "New York"}
    assert types.row(template.values("age is , town is Ur")) == {"age": None, "town": "Ur"}
    assert types.row(template.values("age is 8, town is Ur")) is None  # above all there are
    assert types.row(template.values("age is six, town is Ur")) is None
    assert types.row(template.values("age is 6, town is Rome")) is None
    assert template.values("age is 6, city is Ur") is None


def test_kinds_of_columns_follow_from_their_values():
    rows = {"id": "007", "n": "-3", "x": "1.5", "flag": True}, {"id": "12", "n": "4", "x": "2", "flag": False}
    kinds = {name: column["kind"] for name, column in surveyed(*rows).items()}
    assert kinds == {"id": "category", "n": "integer", "x": "number", "flag": "boolean"}


def written_back(path: Path, **how: object) -> tuple[Path, int]:
    """Write the decoded rows of a table as samples; return the file and the number of rejected rows."""
    data = prepared_table(path, row_template="", **how)
    rows = [
        {"text": data.tokenizer.decode(row["input_ids"]), "label": row.get("label")}
        for part in data.splits.values()
        for row in part
    ]
    return write_synthetic(rows, data.statistics["source"], path.parent)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_values_come_back_in_their_types_and_whole(tmp_path: Path, suffix: str):
    """Numbers as text, integers beyond the precision of a float, and names that differ in white space alone."""
    rows = [
        {
            "code": str(10000 + n),
            "price": f"{n}.50",
            "number": (2**53 + 1, 2**63 - 1, -(2**63), -1)[n % 4],
            "town": ("New York", "NewYork")[n % 2],
            "stars": ("4", "5")[n % 2],
        }
        for n in range(40)
    ]
    path, rejected = written_back(write_rows(tmp_path / f"own{suffix}", rows), label_column="stars")
    if suffix == ".parquet":
        found = parquet.read_table(path).to_pylist()
    else:
        found = [json.loads(line) for line in path.read_text().splitlines()]
    assert rejected == 0
    assert sorted(found, key=lambda row: row["code"]) == rows


def test_a_number_that_was_a_text_is_spelt_as_one_and_in_its_range():
    types = types_of(*({"n": n} for n in ("4", "1.50", "20")))
    assert [types.row({"n": text}) for text in ("7", "4. 25", "21", "007", "1_0", "six")] == [
        {"n": "7"},
        {"n": "4.25"},
        None,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize("word", ["nan", "NA", "#N/A", "NULL"])
def test_a_column_of_numbers_remains_one_where_a_word_marks_missing_ones(tmp_path: Path, word: str):
    rows = [{"n": n, "digits": 1234567890, "x": word if n % 5 == 0 else f"{n / 8}"} for n in range(40)]
    path, rejected = written_back(write_rows(tmp_path / "own.csv", rows))
    assert rejected == 0
    with open(path, newline="") as file:
        found = sorted(csv.DictReader(file), key=lambda row: int(row["n"]))
    assert found == [{name: str(value) for name, value in row.items()} for row in rows]
    types = types_of(*rows, spelt=True)
    assert types.row({"n": "3", "x": "1.23"}) == {"n": 3, "x": 1.23}  # no value of the table, but within its range
    assert types.row({"n": "3", "x": "9.5"}) is None


def test_a_column_of_words_keeps_those_that_might_stand_for_missing_ones():
    columns = surveyed({"a": "NA", "b": "NA"}, {"a": "EU", "b": "NA"}, spelt=True)
    assert {name: column["values"] for name, column in columns.items()} == {"a": ["EU", "NA"], "b": ["NA"]}


def test_free_text_keeps_its_spaces():
    template = RowTemplate(None, ["name", "n"], "own")
    types = types_of(*({"name": f"Anna Maria {number}", "n": number} for number in range(CATEGORIES + 1)))
    assert types.row(template.values("name is Klara von Berg , n is 5")) == {"name": "Klara von Berg", "n": 5}
    assert types.row(template.values("name is , n is 5")) == {"name": None, "n": 5}


def test_names_of_columns_may_hold_what_python_s_formats_would_read():
    template = RowTemplate(None, ["Q1: a", "ok?!", "b[0]", ""], "own")
    values = {"Q1: a": "x", "ok?!": "y", "b[0]": "z", "": "1"}
    assert template.values(template.text(values)) == values
    assert RowTemplate("{{{a}}} is {b}", ["a", "b"], "own").text({"a": 1, "b": 2}) == "{1} is 2"


def with_odd_columns(path: Path) -> Path:
    """Write a table with further columns of lists, objects and dates."""
    if path.suffix == ".jsonl":
        return write_rows(path, [{"tags": ["a"], "at": {"x": 1}, **row} for row in ROWS])
    odd = [{"tags": ["a"], "at": datetime.date(2020, 1, 1), **row} for row in ROWS]
    return write_rows(path, odd)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("how", [{"text_column": "name"}, {"row_template": "{name} of {town}"}])
def test_columns_that_nobody_asks_for_may_hold_anything(tmp_path: Path, suffix: str, how: dict):
    path = with_odd_columns(tmp_path / f"own{suffix}")
    data = prepared_table(path, **how, label_column="rich")
    assert data.statistics["source"]["order"] == ["tags", "at", *ROWS[0]]
    rows = [{"text": part["text"], "label": part["label"]} for part in data.splits["train"]]
    written, rejected = write_synthetic(rows, data.statistics["source"], tmp_path)
    assert rejected == 0
    kind = {".jsonl": "json", ".parquet": "parquet"}[suffix]
    loaded = datasets.load_dataset(kind, data_files=str(written), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.column_names == [name for name in ROWS[0] if name in str(how) or name == "rich"]
    with pytest.raises(UserError, match="take columns of single values"):
        prepared_table(path, row_template="")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_number_that_is_none_is_missing_and_one_without_end_is_refused(tmp_path: Path, suffix: str):
    rows = [{"name": "old king", "x": 1.5 if n % 2 else math.nan} for n in range(20)]
    data = prepared_table(write_rows(tmp_path / f"own{suffix}", rows), row_template="")
    assert data.statistics["source"]["columns"]["x"] == {"kind": "number", "low": 1.5, "high": 1.5}
    assert {row["text"] for row in data.splits["train"]} == {"name is old king, x is 1.5", "name is old king, x is nan"}
    rows[6]["x"] = math.inf
    with pytest.raises(UserError, match=r"own.*(line|row) 7: column 'x' holds a number that is not finite"):
        prepared_table(write_rows(tmp_path / f"own{suffix}", rows), row_template="")


def test_a_whole_number_of_too_many_digits_is_refused_or_a_name(tmp_path: Path):
    rows = [{"name": "old king", "x": 10**400 if n == 6 else n} for n in range(20)]
    with pytest.raises(UserError, match=r"own\.jsonl, line 7: column 'x' holds a number that .* too large"):
        prepared_table(write_rows(tmp_path / "own.jsonl", rows), row_template="")
    data = prepared_table(write_rows(tmp_path / "own.csv", rows), row_template="", label_column="name")
    assert data.statistics["source"]["columns"]["x"]["kind"] == "category"


def test_lines_with_other_keys_are_refused(tmp_path: Path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"a": 1, "b": 2}\n{"a": 1}\n')
    with pytest.raises(UserError, match=r"own\.jsonl, line 2: other keys than in the lines before"):
        prepared_table(path, row_template="")
