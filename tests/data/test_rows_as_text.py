"""Rows of a table as texts and back, in the types of their columns."""

import csv
import datetime
import json
import math
from pathlib import Path

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from pipeline.data.column_survey import ColumnSurvey
from pipeline.data.column_types import CATEGORIES, ColumnTypes, RejectedError
from pipeline.data.formats import FORMATS
from pipeline.data.row_template import RowTemplate
from pipeline.data.writers import Written, write_synthetic
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
    data = prepared_table(write_rows(tmp_path / f"own{suffix}", ROWS), row_template="", tokenizer="bpe")
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
    expected = [{name: str(value) for name, value in row.items()} for row in ROWS] if suffix == ".csv" else ROWS
    assert sorted(found, key=lambda row: row["age"]) == expected


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
        (r"{a\}", "has a single {"),
        ("{}{a}", "cannot be read back"),
    ],
)
def test_a_template_that_could_not_be_read_back_is_refused(pattern: str, message: str):
    with pytest.raises(UserError, match=message):
        RowTemplate(pattern, ["a", "b", ""] if "{}" in pattern else ["a", "b"], "own.csv")


def test_what_is_no_row_or_has_a_value_of_another_kind_is_rejected():
    template = RowTemplate(None, ["age", "town"], "own")
    types = types_of({"age": 5, "town": "New York"}, {"age": 7, "town": "Ur"}, {"age": None, "town": "Ur"})
    assert types.row(template.values("age is 6, town is New York")) == {"age": 6, "town": "New York"}
    assert types.row(template.values("age is , town is Ur")) == {"age": None, "town": "Ur"}
    for text, reason in [
        ("age is 6, town is new york", "column 'town': 'new york' is none of the values of the data"),
        ("age is 8, town is Ur", "column 'age': '8' lies outside 5 to 7"),
        ("age is six, town is Ur", "column 'age': 'six' is no number"),
        ("age is 6, town is Rome", "column 'town': 'Rome' is none of"),
    ]:
        with pytest.raises(RejectedError, match=reason):
            types.row(template.values(text))
    assert template.values("age is 6, city is Ur") is None


def test_kinds_of_columns_follow_from_their_values():
    rows = {"id": "007", "n": "-3", "x": "1.5", "flag": True}, {"id": "12", "n": "4", "x": "2", "flag": False}
    kinds = {name: column["kind"] for name, column in surveyed(*rows).items()}
    assert kinds == {"id": "identifier", "n": "integer", "x": "number", "flag": "boolean"}


def written_back(path: Path, **how: object) -> Written:
    """Write the decoded rows of a table as samples."""
    data = prepared_table(path, row_template="", tokenizer="bpe", **how)
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
    written = written_back(write_rows(tmp_path / f"own{suffix}", rows), label_column="stars")
    assert written.path is not None
    if suffix == ".parquet":
        found = parquet.read_table(written.path).to_pylist()
    else:
        found = [json.loads(line) for line in written.path.read_text().splitlines()]
    assert (written.rows, written.rejected) == (40, 0)
    assert sorted(found, key=lambda row: row["code"]) == rows


def test_a_number_that_was_a_text_is_spelt_as_one_and_in_its_range():
    types = types_of(*({"n": n} for n in ("4", "1.50", "20")))
    for text, expected in [("7", "7"), ("4.25", "4.25"), ("4.", "4"), ("007", "7"), ("19.999", "20.00"), ("2e0", "2")]:
        assert types.row({"n": text}) == {"n": expected}
    for text in ("4. 25", "21", "1_0", "six", "20.01"):
        with pytest.raises(RejectedError):
            types.row({"n": text})


@pytest.mark.parametrize("word", ["nan", "NA", "#N/A", "NULL"])
def test_a_column_of_numbers_remains_one_where_a_word_marks_missing_ones(tmp_path: Path, word: str):
    rows = [{"n": n, "digits": 1234567890, "x": word if n % 5 == 0 else f"{n / 8}"} for n in range(40)]
    written = written_back(write_rows(tmp_path / "own.csv", rows))
    assert (written.rows, written.rejected) == (40, 0)
    assert written.path is not None
    with open(written.path, newline="") as file:
        found = sorted(csv.DictReader(file), key=lambda row: int(row["n"]))
    assert found == [{name: str(value) for name, value in row.items()} for row in rows]
    types = types_of(*({name: str(value) for name, value in row.items()} for row in rows), spelt=True)
    assert types.row({"n": "3", "x": "1.23"}) == {"n": "3", "x": "1.23"}  # no value of the table, but in its range
    with pytest.raises(RejectedError, match="lies outside"):
        types.row({"n": "3", "x": "9.5"})


def test_a_column_of_words_keeps_those_that_might_stand_for_missing_ones():
    columns = surveyed({"a": "NA", "b": "NA"}, {"a": "EU", "b": "NA"}, spelt=True)
    assert {name: column["values"] for name, column in columns.items()} == {"a": ["EU", "NA"], "b": ["NA"]}


def test_free_text_keeps_its_spaces():
    template = RowTemplate(None, ["name", "n"], "own")
    types = types_of(*({"name": f"Anna Maria {number}", "n": number} for number in range(CATEGORIES + 1)))
    assert types.row(template.values("name is Klara  von Berg , n is 5")) == {"name": "Klara  von Berg ", "n": 5}
    assert types.row(template.values("name is , n is 5")) == {"name": None, "n": 5}


ODD_NAMES = [
    "Q1: a",
    "ok?!",
    "b[0]",
    "",
    "price {EUR}",
    "text",
    "label",
    "two\nlines",
    "back\\slash",
    "{",
    "}}",
    "\\n",
    "%s",
]


def test_the_default_template_has_columns_of_any_name():
    template = RowTemplate(None, ODD_NAMES, "own")
    assert template.columns == ODD_NAMES
    assert r"{price \{EUR\}}, text is {text}" in template.pattern
    assert r"{two\nlines}, back\slash is {back\\slash}" in template.pattern
    values = {name: f"value {number}" for number, name in enumerate(ODD_NAMES)}
    assert template.values(template.text(values)) == values
    again = RowTemplate(template.pattern, ODD_NAMES, "own")
    assert again.text(values) == template.text(values)
    assert template.text(values).startswith(
        "Q1: a is value 0, ok?! is value 1, b[0] is value 2,  is value 3, price {EUR} is "
    )


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (r"{price \{EUR\}}", "price {EUR}"),
        (r"{two\nlines}", "two\nlines"),
        ("{two\nlines}", "two\nlines"),
        (r"{back\\slash}", "back\\slash"),
        (r"{back\slash}", "back\\slash"),
        (r"{\\n}", "\\n"),
        ("{text}", "text"),
        ("{label}", "label"),
        ("{}", ""),
    ],
)
def test_a_template_of_one_s_own_escapes_names(place: str, name: str):
    template = RowTemplate(f"It costs {place}.", ODD_NAMES, "own")
    assert template.columns == [name]
    assert template.text({name: "$5"}) == "It costs $5."
    assert template.values("It costs $5.") == {name: "$5"}


def test_double_braces_are_braces_of_the_text():
    template = RowTemplate("{{{a}}} is {b}", ["a", "b"], "own")
    assert template.text({"a": "1", "b": "2"}) == "{1} is 2"
    assert template.values("{1} is 2") == {"a": "1", "b": "2"}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_with_columns_of_any_name_comes_back(tmp_path: Path, suffix: str):
    names = ["price {EUR}", "text", "label", "two\nlines", "back\\slash"]
    rows = [{name: f"{place}-{n}" for place, name in enumerate(names)} for n in range(40)]
    written = written_back(write_rows(tmp_path / f"own{suffix}", rows))
    assert (written.rows, written.rejected) == (40, 0)
    assert written.path is not None
    found = [
        row.values for row in FORMATS[suffix].read(written.path, FORMATS[suffix].columns(written.path), None, None)
    ]
    assert sorted(found, key=lambda row: int(row["text"][2:])) == rows


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"a": "x", "b": "y", "c": "z"}, None),
        ({"a": "x and y", "b": "", "c": ""}, ("a", " and ")),
        ({"a": "", "b": "x, or y", "c": ""}, ("b", ", or ")),
        ({"a": "x", "b": "y", "c": "z and y, or z."}, None),
        ({"a": "x", "b": "y, or", "c": " z"}, None),
        ({"a": "x", "b": "y, or ", "c": "z"}, ("b", ", or ")),
        ({"a": "\n", "b": " ", "c": ""}, None),
    ],
)
def test_a_row_that_could_not_be_read_back_is_ambiguous(values: dict, expected: tuple | None):
    template = RowTemplate("{a} and {b}, or {c}.", ["a", "b", "c"], "own")
    assert template.ambiguous(values) == expected
    assert (template.values(template.text(values)) == values) == (expected is None)


@given(
    st.lists(st.text("ab ,.", max_size=6), min_size=3, max_size=3), st.sampled_from(["{a}ab{b}a{c}", "{a}, {b}. {c}b"])
)
def test_every_row_is_read_back_or_ambiguous(values: list[str], pattern: str):
    template = RowTemplate(pattern, ["a", "b", "c"], "own")
    row = dict(zip("abc", values, strict=True))
    ambiguous = template.ambiguous(row)
    assert (ambiguous is None) == (template.values(template.text(row)) == row)
    if ambiguous is not None:
        assert ambiguous[0] in row
        assert ambiguous[1] in pattern


def test_an_ambiguous_row_is_refused_with_its_line(tmp_path: Path):
    rows = [{"a": "x" if n != 6 else "x, b is y", "b": "y"} for n in range(20)]
    path = write_rows(tmp_path / "own.csv", rows)
    with pytest.raises(UserError, match=r"own\.csv, line 8: the value of column 'a' holds ', b is '"):
        prepared_table(path, row_template="", tokenizer="bpe")


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
    written = write_synthetic(rows, data.statistics["source"], tmp_path)
    assert (written.rows, written.rejected) == (len(rows), 0)
    kind = {".jsonl": "json", ".parquet": "parquet"}[suffix]
    loaded = datasets.load_dataset(kind, data_files=str(written.path), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.column_names == [name for name in ROWS[0] if name in str(how) or name == "rich"]
    with pytest.raises(UserError, match="take columns of single values"):
        prepared_table(path, row_template="")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_number_that_is_none_stays_apart_and_one_without_end_is_refused(tmp_path: Path, suffix: str):
    rows = [{"name": "old king", "x": (1.5, math.nan, None)[n % 3]} for n in range(21)]
    data = prepared_table(write_rows(tmp_path / f"own{suffix}", rows), row_template="", tokenizer="bpe")
    column = data.statistics["source"]["columns"]["x"]
    assert (column["kind"], column["low"], column["high"], column["nan"]) == ("number", 1.5, 1.5, True)
    expected = {"name is old king, x is 1.5", "name is old king, x is nan", "name is old king, x is "}
    assert {row["text"] for row in data.splits["train"]} == expected
    rows[6]["x"] = math.inf
    with pytest.raises(UserError, match=r"own.*(line|row) 7: column 'x' holds a number that is not finite"):
        prepared_table(write_rows(tmp_path / f"own{suffix}", rows), row_template="")


def test_a_whole_number_of_too_many_digits_is_refused_in_json_and_kept_in_csv(tmp_path: Path):
    rows = [{"name": "old king", "x": 10**400 if n == 6 else n} for n in range(20)]
    with pytest.raises(UserError, match=r"own\.jsonl, line 7: column 'x' holds a number that .* too large"):
        prepared_table(write_rows(tmp_path / "own.jsonl", rows), row_template="")
    types = types_of(*({"x": str(row["x"])} for row in rows), spelt=True)
    assert [types.value("x", str(row["x"])) for row in rows] == [str(row["x"]) for row in rows]


def test_lines_with_other_keys_are_refused(tmp_path: Path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"a": 1, "b": 2}\n{"a": 1}\n')
    with pytest.raises(UserError, match=r"own\.jsonl, line 2: other keys than in the lines before"):
        prepared_table(path, row_template="")
