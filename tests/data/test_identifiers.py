"""Columns of UUIDs, e-mail addresses, telephone numbers and other identifiers."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.column_survey import ColumnSurvey
from pipeline.data.column_type import Counts
from pipeline.data.column_types import CATEGORIES, ColumnTypes, RejectedError
from pipeline.data.identifier_columns import FORMS, IdentifierColumn
from pipeline.generation.new_identifiers import NewIdentifiers


def described(values: list[str]) -> dict[str, Any]:
    """Return the description of a column of a file of text, after its way through JSON."""
    survey = ColumnSurvey(spelt=True)
    for line, value in enumerate(values, 2):
        survey.see({"c": value}, line)
    return json.loads(json.dumps(survey.to_json()))["c"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("123e4567-e89b-12d3-a456-426614174000", "uuid"),
        ("O'Brien+x@mail-1.example.com", "e-mail"),
        ("анна@пример.рф", "e-mail"),
        ("+49 30 1234567", "phone"),
        ("+14155550100", "number"),
        ("(415) 555-0100", "phone"),
        ("415-555-0100 x12", "phone"),
        ("555-0100", "phone"),
        ("030/1234567", "phone"),
        ("12345-6789", "identifier"),
        ("978-3-16-148410-0", "identifier"),
        ("123-45-6789", "identifier"),
        ("A17", "identifier"),
        ("192.168.0.1", "identifier"),
        ("a@b", "category"),
        ("a word", "category"),
    ],
)
def test_a_column_has_the_kind_of_its_values(value: str, kind: str):
    assert described([value])["kind"].replace("integer", "number") == kind


def test_an_identifier_has_one_of_the_forms_of_its_column():
    found = described([f"AB-{n:04d}" for n in range(30)] + [f"x{n}" for n in range(8, 30)])
    assert found["kind"] == "identifier"
    assert found["seen"]["form"] == "AA-9999 or a9…9"
    types = ColumnTypes({"c": found})
    for text in ("ZZ-9999", "q7", "q77"):
        assert types.value("c", text) == text
    for text in ("ABC-0001", "AB-001", "ab-0001", "q777", "7", "AB-0001 "):
        with pytest.raises(RejectedError, match="has not the form AA-9999 or a9…9"):
            types.value("c", text)


def test_leading_zeros_of_several_widths_make_codes():
    found = described([f"{'0' * (n % 3)}{n}" for n in range(40)])
    assert (found["kind"], found["seen"]["form"]) == ("identifier", "9…9")


@pytest.mark.parametrize(
    ("seen", "other", "reason"),
    [
        ("123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456", "is no uuid"),
        ("a@b.de", "a@b", "is no e-mail"),
        ("+49 30 1234567", "call me", "is no phone"),
    ],
)
def test_a_new_value_is_of_the_kind(seen: str, other: str, reason: str):
    types = ColumnTypes({"c": described([seen])})
    assert types.value("c", seen) == seen
    with pytest.raises(RejectedError, match=reason):
        types.value("c", other)


def test_repeated_identifiers_are_a_choice_and_many_of_them_keep_their_form():
    few = [f"C-{n}" for n in range(10, 40)] * 3
    assert described(few)["kind"] == "category"
    many = [f"C-{n}" for n in range(1000, 1000 + CATEGORIES + 1)] * 3
    assert described(many)["kind"] == "identifier"
    often = [f"C-{n}" for n in range(1000, 1000 + 2 * CATEGORIES)] * 10  # as the key of another table
    assert described(often)["kind"] == "category"
    assert described([f"u{n}@mail.example.com" for n in range(CATEGORIES + 1)] * 3)["kind"] == "e-mail"


def test_names_and_sentences_are_no_identifiers():
    assert described([f"{letter}nna" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"])["kind"] == "text"
    assert described([f"{n} bottles of beer" for n in range(30)])["kind"] == "text"
    shapes = [f"{'x-' * n}1" for n in range(FORMS + 30)]
    assert described(shapes)["kind"] == "text"


def test_words_for_missing_values_alone_are_no_identifiers():
    assert described(["NA", "n/a", "NULL"])["kind"] == "category"


def test_white_space_that_a_tokenizer_added_is_removed():
    for seen, spaced in [("AB-0017", "AB - 00 17"), ("a.b@mail.example.com", "a . b @ mail . example . com")]:
        types = ColumnTypes({"c": described([seen])}, lossless=False)
        assert types.value("c", spaced) == seen
        with pytest.raises(RejectedError):
            types.value("c", "something else")
    phone = ColumnTypes({"c": described(["+49 30 1234567"])}, lossless=False)
    assert phone.value("c", "+ 49 30 1234567") == "+ 49 30 1234567"  # its own spaces are unknown


def test_new_values_have_a_form_of_the_column():
    """Letters of both cases at one place make `iD-085` of these, which is no value of the column."""
    values = [f"id-{n:03d}" for n in range(30)] + [f"ID-{n:03d}" for n in range(30, 60)]
    rows = cast(Any, SimpleNamespace(fields={"c": None}))
    column = described(values)
    maker = NewIdentifiers("c", column, set(values), rows, seed=1, attempt=0)
    made = [maker.value(number) for number in range(60)]
    types = ColumnTypes({"c": column})
    assert [types.value("c", one) for one in made] == made
    assert {one[:2] for one in made} == {"id", "ID"}


@given(st.lists(st.text(max_size=12), max_size=12))
def test_every_identifier_that_was_added_is_accepted_again(values: list[str]):
    column = IdentifierColumn()
    accepted = [value for value in values if column.add(value)]
    assert column.fits(Counts(len(accepted), len(accepted))) == bool(accepted)
    again = IdentifierColumn.from_json(json.loads(json.dumps(column.to_json())))
    assert again.form == column.form
    assert [again.value(value) for value in accepted] == accepted
