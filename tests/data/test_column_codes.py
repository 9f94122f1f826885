"""Codes of columns: every value comes back, every walk through the allowed tokens is a value, and no other is."""

import datetime
import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from pipeline.data import byte_level
from pipeline.data.column_code import ColumnCode, Permitted, ValueCode
from pipeline.data.date_code import DateCode
from pipeline.data.number_code import NumberCode
from pipeline.data.number_format import NumberFormat
from pipeline.data.row_codes import CODES
from pipeline.data.text_code import TextCode
from pipeline.data.text_tokenizer import SPECIAL

CENTS = NumberFormat(decimals=[0, 2], marks=["none", "some"])


def walk(code: ColumnCode, source: random.Random, permitted: Any = None) -> list[int]:
    """Choose allowed tokens at random until a value is whole."""
    tokens: list[int] = []
    while allowed := code.allowed(tokens, permitted):
        tokens.append(source.choice(allowed))
    return tokens


def every_value(code: ColumnCode, permitted: Any = None, begun: Sequence[int] = ()) -> list[str]:
    """Return all values that the allowed tokens lead to."""
    allowed = code.allowed(begun, permitted)
    if not allowed:
        value = code.decode(begun)
        assert value is not None, f"{begun} is a dead end"
        return [value]
    return [value for token in allowed for value in every_value(code, permitted, [*begun, token])]


CODED = [
    (ValueCode(["", "F", "M"]), ["", "F", "M"]),
    (NumberCode(CENTS, -1234, 56789, ["", "NA"]), ["", "NA", "0", "1.25", "-12.34", "567.89", "3.5", "100"]),
    (NumberCode(NumberFormat(decimals=[2, 2], marks=["some"]), 5, 99999), ["0.05", "999.99", "250.00"]),
    (DateCode("DD.MM.YYYY", ["padded"], (2019, 3, 5), (2021, 2, 28), ["?"]), ["?", "05.03.2019", "29.02.2020"]),
    (DateCode("hh:mm", ["single"], (6, 0, 0), (22, 30, 0), []), ["6:00", "22:30", "12:07"]),
    (DateCode("MM/DD/YYYY hh:mm am", ["padded", "AM"], (1999, 1, 1, 0, 0, 0), (2000, 1, 1, 0, 0, 0), []),
     ["01/31/1999 12:05 AM", "12/31/1999 11:59 PM"]),
]  # fmt: skip


@pytest.mark.parametrize(("code", "values"), CODED)
def test_values_come_back_from_their_tokens(code: ColumnCode, values: list[str]):
    again = CODES[code.kind].from_json(code.to_json())
    for value in values:
        tokens = code.encode(value)
        assert tokens is not None, value
        assert len(tokens) <= code.longest
        assert max(tokens) < code.size
        assert code.decode(tokens) == again.decode(again.encode(value) or ()) == value


@pytest.mark.parametrize(("code", "values"), CODED)
def test_every_walk_is_a_value(code: ColumnCode, values: list[str]):
    source = random.Random(1)
    for _ in range(500):
        tokens = walk(code, source)
        value = code.decode(tokens)
        assert value is not None
        assert code.encode(value) == tokens


def test_numbers_outside_the_range_or_of_another_spelling_have_no_tokens():
    code = NumberCode(CENTS, -1234, 56789)
    for value in ("-12.35", "567.90", "1.234", "01", "1.50", "x", "", "1e2"):
        assert code.encode(value) is None, value


def test_dates_that_do_not_exist_have_no_tokens():
    code = DateCode("YYYY-MM-DD", ["padded"], (2019, 1, 1), (2020, 12, 31), [])
    assert code.encode("2019-02-29") is None
    assert code.decode([0, 2 + 1, 2 + 12 + 28]) is None  # 29 February 2019
    days = set(every_value(code))
    start = datetime.date(2019, 1, 1)
    assert days == {str(start + datetime.timedelta(days=day)) for day in range(731)}


@pytest.mark.parametrize(
    "permitted",
    [
        Permitted(),
        Permitted(low=-7, high=13),
        Permitted(high=-3, specials=frozenset()),
        Permitted(only=(-12, 0, 5, 99), specials=frozenset({"NA"})),
        Permitted(low=3, high=5, excluded=frozenset({4})),
        Permitted(low=10, high=12, excluded=frozenset({10, 11})),
    ],
)
def test_walks_under_a_condition_are_the_numbers_that_satisfy_it(permitted: Permitted):
    code = NumberCode(NumberFormat(decimals=[0, 1], marks=["none", "some"]), -120, 345, ["", "NA"])
    found = every_value(code, permitted)
    assert len(found) == len(set(found))
    numbers = range(-120, 346) if permitted.only is None else permitted.only
    expected = {
        code.spelled(units)
        for units in numbers
        if (permitted.low is None or units >= permitted.low)
        and (permitted.high is None or units <= permitted.high)
        and units not in permitted.excluded
    }
    specials = {"", "NA"} if permitted.specials is None else permitted.specials
    assert set(found) == expected | specials


def test_walks_under_a_condition_are_the_dates_that_satisfy_it():
    code = DateCode("YYYY-MM-DD", ["padded"], (2019, 11, 3), (2020, 3, 9), [""])
    permitted = Permitted(
        low=(2020, 2, 27), high=(2020, 3, 1), excluded=frozenset({(2020, 3, 1)}), specials=frozenset()
    )
    assert every_value(code, (permitted,)) == ["2020-02-27", "2020-02-28", "2020-02-29"]


def test_a_text_ends_after_the_longest_value():
    tokenizer = byte_level.train(["good hotel", "bad hotel"], 300, SPECIAL)
    code = TextCode(tokenizer, range(len(SPECIAL), tokenizer.get_vocab_size()), longest=4)
    assert code.decode(code.encode("good [SEP] hötel")) == "good [SEP] hötel"
    assert code.decode(code.encode("")) == ""
    assert code.allowed([], None) == (*code.texts, code.end)
    assert code.allowed([70, 71, 72], None) == (code.end,)
    assert code.allowed([70, code.end], None) == ()


def test_a_text_under_a_condition_is_one_of_its_values():
    tokenizer = byte_level.train(["good hotel", "bad hotel"], 300, SPECIAL)
    code = TextCode(tokenizer, range(len(SPECIAL), tokenizer.get_vocab_size()), longest=20)
    permitted = tuple(tuple(code.encode(value)) for value in ("good", "good food", "bad"))
    assert set(every_value(code, permitted)) == {"good", "good food", "bad"}


def test_a_number_keeps_all_its_digits():
    code = NumberCode(NumberFormat(decimals=[0, 0], marks=["none"]), 0, 10**18)
    value = str(Decimal(123456789012345678))
    assert code.decode(code.encode(value) or ()) == value
