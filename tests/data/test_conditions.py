"""Conditions on the columns of a table, read from `--WHERE` and compared with an evaluation of their own."""

import operator
import random
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from pipeline.data.conditions import parse_where
from pipeline.data.ordered_column import Bounds
from pipeline.runtime.errors import UserError
from tests.data.own_files import surveyed

SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
FIRST = date(2020, 3, 1)


def _spelled(number: int) -> dict[str, str]:
    return {
        "age": "" if number % 10 == 9 else str(20 + number),
        "price": f"{number % 7},{number % 10}0",
        "start": f"{FIRST + timedelta(days=number):%d.%m.%Y}",
        "weight": f"{50 + number % 40}.{number % 10} kg",
        "sex": "FM"[number % 2],
        "full name": ("Ada Byron", "and", "it's")[number % 3],
        "zip": ("01", "007", "0300")[number % 3],
        "note": f"remark {number} about {'x' * number} and more",
    }


COLUMNS = surveyed(_spelled(number) for number in range(60))


def _permits(where: str, column: str, spelled: str) -> bool:
    return parse_where(where, COLUMNS)[column].permits(spelled)


def test_the_table_has_a_column_of_each_kind() -> None:
    kinds = {name: column["kind"] for name, column in COLUMNS.items()}
    assert kinds["age"] == "integer" and kinds["price"] == "number" and kinds["start"] == "date"
    assert kinds["sex"] == kinds["full name"] == kinds["zip"] == "category" and kinds["note"] == "text"


@pytest.mark.parametrize(
    ("where", "column", "inside", "outside"),
    [
        ("age > 30", "age", ["31", "99"], ["30", "", "NA"]),
        ("age>=30 AND age<>40", "age", ["30", "41"], ["29", "40", ""]),
        ("age between 30 and 32 and sex = F", "age", ["30", "32"], ["29", "33"]),
        ("age in (30, 31)", "age", ["30", "031"], ["32", ""]),
        ("age not in (30,31)", "age", ["32"], ["30", "31", ""]),
        ("age is missing", "age", ["", "NA"], ["30"]),
        ("age Is Not Missing", "age", ["30"], [""]),
        ("price = 3.5", "price", ["3,50", "3,5"], ["3,51", ""]),
        ("price > '3,5'", "price", ["3,60"], ["3,50"]),
        ("weight > 60", "weight", ["60.1 kg"], ["60.0 kg", ""]),
        ("weight <= '60.5 kg'", "weight", ["60.5 kg"], ["60.6 kg"]),
        ("start = 2020-03-05", "start", ["05.03.2020"], ["06.03.2020"]),
        ("start != 2020-03-05", "start", ["06.03.2020"], ["05.03.2020"]),
        ("start in (2020-03-05, 07.03.2020)", "start", ["05.03.2020", "07.03.2020"], ["06.03.2020"]),
        ("start < 03.03.2020", "start", ["02.03.2020"], ["03.03.2020", "01.04.2020"]),
        ("`full name` = 'and'", "full name", ["and"], ["Ada Byron"]),
        ("\"full name\" in ('it''s', \"Ada Byron\")", "full name", ["it's", "Ada Byron"], ["and"]),
        ("zip >= 7", "zip", ["007", "0300"], ["01"]),
        ("note = 'a b'", "note", ["a b"], ["a", ""]),
    ],
)
def test_conditions_permit_the_values_that_they_name(
    where: str, column: str, inside: list[str], outside: list[str]
) -> None:
    assert [one for one in inside if not _permits(where, column, one)] == []
    assert [one for one in outside if _permits(where, column, one)] == []


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("age > 30 or sex = F", "for 'or', take 'in (a, b)'"),
        ("ag > 30", "no column 'ag'; there are age"),
        ("sex = f", "no value 'f'; it has F"),
        ("age = old", "'old' is no number; column 'age' has 20 to 7"),
        ("start > soon", "'soon' is no date of column 'start'; write it as DD.MM.YYYY"),
        ("start > 2020-02-31", "is no date"),
        ("sex > F", "no order"),
        ("note < x", "no order"),
        ("age", "ends after"),
        ("age >", "ends after"),
        ("age in (1, 2", "ends after"),
        ("age ~ 3", "is no sign"),
        ("age = 30 sex = F", "expected 'and'"),
        ("note = )", "expected a value in place of ')'"),
        ("sex = and", "expected a value"),
        ("age > 'x", "cannot be read"),
        (" ", "is empty"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(where: str, words: str) -> None:
    with pytest.raises(UserError) as refusal:
        parse_where(where, COLUMNS)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "where",
    [
        "age > 30 and age < 30",
        "age > 30 and age < 31",
        "age > 500",
        "age = 500",
        "age = 30.5",
        "age between 40 and 30",
        "age between 30 and 31 and age not in (30, 31)",
        "age in (30, 31) and age > 50",
        "age is missing and age > 30",
        "age is missing and age is not missing",
        "price <= 0 and price != 0",
        "start < 2020-01-01",
        "start = 2019-01-01",
        "sex != F and sex != M",
        "sex = F and sex = M",
        "zip > 300",
    ],
)
def test_what_nothing_satisfies_is_refused(where: str) -> None:
    with pytest.raises(UserError, match="no value of column"):
        parse_where(where, COLUMNS)


def test_bounds_of_integers_are_closed() -> None:
    assert parse_where("age > 30.5 and age < 40", COLUMNS)["age"].bounds == Bounds(Decimal(31), Decimal(39))
    assert Bounds(Decimal(-2), Decimal("-0.5"), True).of_integers() == Bounds(Decimal(-1), Decimal(-1))
    assert Bounds(Decimal(0), None).of_integers() == Bounds(Decimal(0), None)


def test_a_category_of_numbers_keeps_the_members_within_the_bounds() -> None:
    assert parse_where("zip >= 7", COLUMNS)["zip"].only == frozenset({"007", "0300"})


def _alone(name: str, spelled: str) -> Any:
    """Read a value without the project's readers."""
    if name == "start":
        day, month, year = map(int, spelled.split("."))
        return date(year, month, day)
    return Decimal(spelled.replace(",", ".")) if name in ("age", "price") else spelled


def test_random_conditions_agree_with_an_evaluation_of_their_own() -> None:
    chance, rows, refused = random.Random(27), [_spelled(number) for number in range(60)], 0
    for _ in range(1500):
        parts, checks = [], []
        for _ in range(chance.randint(1, 3)):
            name = chance.choice(["age", "price", "start", "sex"])
            value = chance.choice([row[name] for row in rows if row[name]])
            sign = chance.choice([*SIGNS] if name != "sex" else ["=", "==", "!=", "<>"])
            shown = value
            if name == "start" and chance.random() < 0.5:
                shown = _alone(name, value).isoformat()
            parts.append(f"{name} {sign} '{shown}'")
            checks.append((name, SIGNS[sign], _alone(name, value)))
        expected = [
            all(bool(row[name]) and holds(_alone(name, row[name]), value) for name, holds, value in checks)
            for row in rows
        ]
        try:
            found = parse_where(" and ".join(parts), COLUMNS)
        except UserError:
            refused += 1
            assert not any(expected), parts
            continue
        assert [all(one.permits(row[name]) for name, one in found.items()) for row in rows] == expected, parts
    assert 50 < refused < 1000
