"""Types of columns: found from values, kept as JSON, and applied to generated strings."""

import json
import math
from typing import Any

import pytest

from pipeline.data.column_survey import ColumnSurvey
from pipeline.data.column_types import CANDIDATES, CATEGORIES, FEW, KINDS, ColumnTypes, RejectedError, column_type

INTEGERS = {"decimals": [0, 0], "marks": ["none"]}
VALUES: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "booleans": ([True, None, False], {"kind": "boolean"}, "bool"),
    "integers": ([3, -1, None], {"kind": "integer", "low": -1, "high": 3, "format": INTEGERS}, "int64"),
    "large integers": ([2**63, 1], {"kind": "integer", "low": 1, "high": 2**63}, "uint64"),
    "numbers": ([1, 2.5], {"kind": "number", "low": 1, "high": 2.5}, "double"),
    "NaN": ([1.5, math.nan], {"kind": "number", "low": 1.5, "high": 1.5, "nan": True}, "double"),
    "NaN alone": ([math.nan], {"kind": "number", "low": None, "high": None, "nan": True}, "double"),
    "numbers as text": (["7", "8.5"], {"kind": "number", "low": 7, "high": 8.5, "text": True}, "string"),
    "numbers with leading zeros": (
        ["007", "417"],
        {"kind": "integer", "low": 7, "high": 417, "text": True, "format": {**INTEGERS, "width": 3}},
        "string",
    ),
    "words for missing numbers": ([1, "NA"], {"kind": "integer", "low": 1, "high": 1, "missing": ["NA"]}, "int64"),
    "words for missing numbers alone": (["NA"], {"kind": "category", "values": ["NA"]}, "string"),
    "booleans and numbers": ([True, 1], {"kind": "mixed", "values": ["1", "true"]}, "string"),
    "numbers and strings": ([1, "1"], {"kind": "mixed", "values": ['"1"', "1"]}, "string"),
    "null and empty": ([None, "", "a"], {"kind": "mixed", "values": ['""', '"a"']}, "string"),
    "words": (["b  a", "", "c"], {"kind": "category", "values": ["b  a", "c"], "empty": True}, "string"),
    "nothing": ([None], {"kind": "category", "values": []}, "string"),
    "few words": ([*"abcdefghijklmnopqrst"], {"kind": "category", "values": [*"abcdefghijklmnopqrst"]}, "string"),
    "more words": ([f"word {n}" for n in range(FEW + 1)], {"kind": "text"}, "string"),
    "repeated words": (
        [f"word {n:04d}" for n in range(CATEGORIES)] * 2,
        {"kind": "category", "values": [f"word {n:04d}" for n in range(CATEGORIES)]},
        "string",
    ),
    "many repeated words": ([f"word {n}" for n in range(CATEGORIES + 1)] * 2, {"kind": "text"}, "string"),
    "many values of several types": ([f"word {n}" for n in range(FEW)] + [1], {"kind": "mixed"}, "string"),
    "codes": (["AB-17", "CD-1"], {"kind": "identifier", "shapes": {"A-9": [[2, 2], [1, 1], [1, 2]]}}, "string"),
    "dates": (
        ["2020-01-31", "2020-02-01"],
        {
            "kind": "date",
            "form": "YYYY-MM-DD",
            "low": "2020-01-31",
            "high": "2020-02-01",
            "spellings": ["padded"],
        },
        "string",
    ),
}


def described(values: list[Any], spelt: bool = False) -> dict[str, Any]:
    """Return the description of a column of these values, after its way through JSON."""
    survey = ColumnSurvey(spelt)
    for value in values:
        survey.see({"column": value})
    return json.loads(json.dumps(survey.to_json()))["column"]


@pytest.mark.parametrize("case", VALUES)
def test_a_column_has_the_first_type_that_fits_its_values(case: str):
    values, expected, arrow = VALUES[case]
    found = described(values)
    assert found.pop("seen")["values"] == sum(value not in (None, "") for value in values)
    assert column_type(found).arrow() == arrow
    if "format" not in expected:
        found.pop("format", None)
    assert found == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize("case", VALUES)
def test_the_values_of_a_column_are_read_back_from_their_strings(case: str):
    values = VALUES[case][0]
    types = ColumnTypes({"column": described(values)})
    for value in values:
        read = types.value("column", types.spelling("column", value))
        assert (type(read), repr(read)) == (type(value), repr(value))


@pytest.mark.parametrize("case", [case for case in VALUES if "text" not in case])
def test_white_space_that_a_tokenizer_adds_changes_no_value(case: str):
    values = VALUES[case][0]
    found = described(values)
    types = ColumnTypes({"column": found}, lossless=False)
    if found["kind"] == "text" or (found["kind"] == "mixed" and "values" not in found):
        return  # their own spaces are unknown
    for value in values:
        spaced = " ".join(types.spelling("column", value).replace(" ", ""))
        read = types.value("column", spaced)
        assert (type(read), repr(read)) == (type(value), repr(value))


def test_strings_of_numbers_stay_strings_where_a_format_spells_all_values():
    found = described(["7", "9"], spelt=True)
    assert (found["kind"], found["low"], found["high"], found["text"]) == ("integer", 7, 9, True)
    assert ColumnTypes({"n": found}).value("n", "8") == "8"


@pytest.mark.parametrize(
    ("values", "text", "reason"),
    [
        ([True], "true", "is neither True nor False"),
        ([1, 5], "six", "is no number"),
        ([1, 5], "2.5", "is no integer"),
        ([1, 5], "6", "lies outside 1 to 5"),
        ([0.5, 1e30], "1e31", r"lies outside 0\.5 to 1E\+30"),
        (["a", "b"], "c", "is none of the values of the data"),
        ([1, "1"], "2", "is none of the values of the data"),
        ([*range(30), *map(str, range(30))], "two", "is no value as JSON spells it"),
        ([*range(30), *map(str, range(30))], "[2]", "is no single value"),
        (["2020-01-01"], "1.1.2020", "is no date of the form YYYY-MM-DD"),
    ],
)
def test_a_string_that_is_no_value_of_its_column_is_rejected_with_the_reason(values: list, text: str, reason: str):
    types = ColumnTypes({"c": described(values)})
    with pytest.raises(RejectedError, match=reason) as rejected:
        types.row({"c": text})
    assert (rejected.value.column, rejected.value.text) == ("c", text)


def test_a_new_number_has_the_format_and_the_type_of_its_column():
    types = ColumnTypes(
        {"price": described(["$1,250.00", "$7.50"]), "x": described([1.25, 7.5]), "n": described([1, 9])}
    )
    assert types.row({"price": "$1000", "x": "3", "n": "4.0"}) == {"price": "$1,000.00", "x": 3.0, "n": 4}
    assert [type(types.value(name, "3")) for name in ("x", "n")] == [float, int]
    assert types.value("price", "8.125") == "$8.12"


@pytest.mark.parametrize(
    ("description", "text", "value"),
    [
        ({"kind": "number", "low": 7, "high": 8.5, "text": True}, "8.25", "8.25"),
        ({"kind": "number", "low": 7, "high": 8.5, "text": True}, "8 . 25", "8.25"),
        ({"kind": "number", "low": 7, "high": 8.5}, "8.25", 8.25),
        ({"kind": "integer", "low": -1, "high": 3, "missing": ["N/A"]}, "- 1", -1),
        ({"kind": "integer", "low": -1, "high": 3, "missing": ["N/A"]}, "N / A", "N/A"),
        ({"kind": "boolean"}, "True", True),
        ({"kind": "category", "values": ["New York", "Ur"]}, "NewYork", "New York"),
        ({"kind": "text"}, "a b", "a b"),
        ({"kind": "text"}, "", None),
        ({"kind": "colour", "shades": 7}, "blue", "blue"),
    ],
)
def test_descriptions_of_earlier_versions_are_read(description: dict, text: str, value: object):
    """They have no format, and their tokenizers did not keep white space."""
    read = ColumnTypes({"c": description}, lossless=False).value("c", text)
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize("text", ["9", "6.9", "007", "1_0", "+8", "seven"])
def test_a_range_of_earlier_versions_refuses_what_it_refused(text: str):
    with pytest.raises(RejectedError):
        ColumnTypes({"c": {"kind": "number", "low": 7, "high": 8.5, "text": True}}, lossless=False).value("c", text)


def test_every_kind_has_one_class_and_a_name_for_the_flag():
    assert {kind for candidate in CANDIDATES for kind in candidate().kinds} == set(KINDS)
    assert "integer" in KINDS
    assert KINDS["date"] is KINDS["time"]


def test_a_string_of_an_unknown_column_stays_itself():
    assert ColumnTypes({}).value("column", "7") == "7"
    assert ColumnTypes({}).row({"a": "7", "b": ""}) == {"a": "7", "b": None}
    assert ColumnTypes({}).spelling("column", 7) == "7"
