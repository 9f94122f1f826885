"""Types of columns: found from values, kept as JSON, and applied to generated strings."""

import json
from typing import Any

import pytest

from pipeline.data.column_types import CATEGORIES, ColumnSurvey, ColumnTypes, column_type

VALUES: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "booleans": ([True, None, False], {"kind": "boolean"}, "bool"),
    "integers": ([3, -1, None], {"kind": "integer", "low": -1, "high": 3}, "int64"),
    "large integers": ([2**63, 1], {"kind": "integer", "low": 1, "high": 2**63}, "uint64"),
    "numbers": ([1, 2.5], {"kind": "number", "low": 1, "high": 2.5}, "double"),
    "numbers as text": (["7", "08.5"], {"kind": "number", "low": 7, "high": 8.5, "text": True}, "string"),
    "words for missing numbers": ([1, "NA"], {"kind": "integer", "low": 1, "high": 1, "missing": ["NA"]}, "int64"),
    "words for missing numbers alone": (["NA"], {"kind": "category", "values": ["NA"]}, "string"),
    "booleans and numbers": ([True, 1], {"kind": "category", "values": ["1", "True"]}, "string"),
    "words": (["b  a", "", "c"], {"kind": "category", "values": ["b a", "c"]}, "string"),
    "nothing": ([None, ""], {"kind": "category", "values": []}, "string"),
    "many words": ([f"w{n}" for n in range(CATEGORIES + 1)], {"kind": "text"}, "string"),
    "as many words as categories": (
        [f"w{n:04d}" for n in range(CATEGORIES)],
        {"kind": "category", "values": [f"w{n:04d}" for n in range(CATEGORIES)]},
        "string",
    ),
}


def described(values: list[Any], spelt: bool = False) -> dict[str, Any]:
    """Return the description of a column of these values."""
    survey = ColumnSurvey(spelt)
    for value in values:
        survey.see({"column": value})
    return survey.to_json()["column"]


@pytest.mark.parametrize("case", VALUES)
def test_a_column_has_the_first_type_that_fits_its_values(case: str):
    values, expected, arrow = VALUES[case]
    found = described(values)
    assert found == expected
    assert list(found) == list(expected)
    assert column_type(json.loads(json.dumps(found))).arrow() == arrow


@pytest.mark.parametrize("case", VALUES)
def test_the_values_of_a_column_are_read_back_from_their_strings(case: str):
    values = VALUES[case][0]
    found = described(values)
    types = ColumnTypes({"column": found})
    for value in values:
        read = types.value("column", "" if value is None else str(value))
        if value is None or value == "":
            assert read is None
        elif found["kind"] in ("category", "text"):
            assert read == " ".join(str(value).split())
        else:
            assert (type(read), read) == (type(value), value)


def test_numbers_of_a_format_that_spells_all_values_are_numbers():
    assert described(["7", "8"], spelt=True) == {"kind": "integer", "low": 7, "high": 8}
    assert ColumnTypes({"n": described(["7", "9"], spelt=True)}).value("n", "8") == 8


def test_a_string_of_an_unknown_column_stays_itself():
    assert ColumnTypes({}).value("column", "7") == "7"
    assert ColumnTypes({}).row({"a": "7", "b": ""}) == {"a": "7", "b": None}
