"""Text for a terminal: samples in the form of the user's own, and why some are not among them."""

from collections import Counter
from pathlib import Path

import pytest

from pipeline.data.writers import Written, write_synthetic
from pipeline.reporting.console import of_own_form, on_one_line
from tests.data.own_files import ROWS, places, prepared_table, sampled_rows, write_rows
from tests.helpers import call

GOOD = {"text": "name is old king, age is 33, height is 1.52, town is Ur, rich is True"}
OUT_OF_RANGE = {"text": "name is old king, age is 99, height is 1.52, town is Ur, rich is True"}
NO_TOWN = {"text": "name is old king, age is 33, height is 1.52, town is Rome, rich is True"}
NO_ROW = {"text": "the king is old"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = write_rows(tmp_path_factory.mktemp("own") / "own.csv", ROWS)
    return prepared_table(path, tokenizer="bpe", row_template="").statistics["source"]


def test_samples_that_are_rows_need_no_explanation(source: dict, tmp_path: Path):
    written = write_synthetic([GOOD], source, tmp_path)
    assert of_own_form(written) == f"as the data came: {tmp_path / 'synthetic.csv'}"


def test_the_most_frequent_reasons_are_given_with_column_and_example(source: dict, tmp_path: Path):
    written = write_synthetic([GOOD] * 4 + [OUT_OF_RANGE] * 3 + [NO_TOWN] * 2 + [NO_ROW], source, tmp_path)
    first, *reasons = of_own_form(written).splitlines()
    assert first == (
        f"as the data came: {tmp_path / 'synthetic.csv'}, with 4 rows, without 6 samples that are not of the form:"
    )
    assert reasons == [
        "  3 have in column 'age' a value that lies outside 31 to 70, such as '99'",
        "  2 have in column 'town' a value that is none of the values of the data, such as 'Rome'",
        "  1 are a text that does not have the words of the row template, such as 'the king is old'",
    ]


def test_where_no_sample_is_a_row_the_message_says_what_to_do(source: dict, tmp_path: Path):
    first, *_, remedy = of_own_form(write_synthetic([NO_TOWN, NO_ROW], source, tmp_path)).splitlines()
    assert first.startswith("no sample is a row of the table; ")
    assert remedy.startswith("train longer (--MAX_STEPS), or allow what a column refuses")


def test_where_no_sample_is_a_line_nothing_is_said_of_columns(tmp_path: Path):
    path = tmp_path / "synthetic.txt"
    written = Written(path, rejected=1, reasons=Counter({"are empty": 1}), examples={"are empty": "''"})
    first, *_, remedy = of_own_form(written).splitlines()
    assert first == f"no sample is a line of the text; {path} has no line:"
    assert remedy == "train longer (--MAX_STEPS)"


def test_sample_py_explains_that_no_sample_is_a_row(tmp_path: Path):
    prepared_table(write_rows(tmp_path / "own.csv", ROWS), tokenizer="bpe", row_template="")
    _, said = sampled_rows(tmp_path)
    assert "no sample is a row of the table; " in said
    assert "30 are a text that does not have the words of the row template, such as " in said
    assert "prepareDatasets.py --COLUMN_TYPES column=text" in said
    call("sample.py", "--EXPERIMENT_NAME", "nvib", "--NUMBER_SAMPLES", 2, *places(tmp_path))


def test_a_text_of_several_lines_takes_one():
    assert on_one_line("a\nb\r\nc\td\x1b[2J\u2028e") == "a\\nb\\r\\nc\td\\x1b[2J\\u2028e"
