"""Constraints between the columns of a table, read from a file and compared with an evaluation of their own."""

import json
import operator
import random
import re
import warnings
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.column_survey import MISSING
from pipeline.data.constraints import NODES, Constraints, read_constraints
from pipeline.runtime.errors import UserError
from tests.data.own_files import surveyed

FIRST = date(2020, 3, 1)
SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _spelled(number: int) -> dict[str, str]:
    return {
        "age": "" if number % 10 == 9 else str(20 + number),
        "count": "NA" if number % 10 == 8 else str(number - 30),
        "price": f"{number % 7},{number % 10}5",
        "total": f"{number}.{number % 4 * 25:02}",
        "unit cost": f"{number * 3}.{number % 10}",
        "start": f"{FIRST + timedelta(days=number * 7 % 60):%d.%m.%Y}",
        "end": f"{FIRST + timedelta(days=number):%Y-%m-%d}",
        "city": ("Bern", "Genf", "Chur")[number % 3],
        "µ": str(number + 100),
    }


COLUMNS = surveyed(_spelled(number) for number in range(60))
ROW = _spelled(1)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Constraints]:
    """Return a function that reads entries, or a text that is no JSON, as a file of constraints."""

    def of(*entries: Any) -> Constraints:
        path = tmp_path / "rules.json"
        path.write_text(json.dumps(list(entries)))
        return read_constraints(path, COLUMNS)

    return of


Read = Callable[..., Constraints]


def _value(read: Read, formula: str, **row: str) -> str | None:
    return read({"formula": formula}).formulas[0].value(ROW | row)


def _refusal(read: Read, *entries: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(*entries)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_table_has_the_kinds_of_columns_that_constraints_compare() -> None:
    kinds = {name: column["kind"] for name, column in COLUMNS.items()}
    assert kinds["age"] == kinds["count"] == kinds["µ"] == "integer"
    assert kinds["price"] == kinds["total"] == kinds["unit cost"] == "number"
    assert kinds["start"] == kinds["end"] == "date" and kinds["city"] == "category"


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize(("left", "right"), [("age", "price"), ("total", "unit cost"), ("count", "age")])
def test_inequalities_of_numbers_compare_as_python_does(read: Read, left: str, sign: str, right: str) -> None:
    draw, rule, seen = random.Random(1), read({"inequality": f"{left} {sign} {right}"}), set[bool]()
    for _ in range(300):
        one, two = (Decimal(draw.randrange(12)) / draw.choice((1, 2, 4)) for _ in range(2))
        holds = rule.holds(ROW | {left: _comma(left, one), right: _comma(right, two)})
        assert holds == SIGNS[sign](one, two), (one, two)
        seen.add(holds)
    assert seen == {True, False}


def _comma(name: str, value: Decimal) -> str:
    return str(value).replace(".", ",") if name == "price" else str(value)


@pytest.mark.parametrize("sign", SIGNS)
def test_inequalities_of_dates_compare_days_in_any_form(read: Read, sign: str) -> None:
    draw, rule, seen = random.Random(2), read({"inequality": f"start {sign} end"}), set[bool]()
    for _ in range(300):
        one, two = (FIRST + timedelta(days=draw.randrange(60)) for _ in range(2))
        holds = rule.holds(ROW | {"start": f"{one:%d.%m.%Y}", "end": f"{two:%Y-%m-%d}"})
        assert holds == SIGNS[sign](one, two), (one, two)
        seen.add(holds)
    assert seen == {True, False}


@pytest.mark.parametrize("word", ["", "NA", "unknown"])
def test_a_value_without_order_satisfies_an_inequality(read: Read, word: str) -> None:
    assert read({"inequality": "count > age"}).holds(ROW | {"count": word})
    assert not read({"inequality": "count > age"}).holds(ROW | {"count": "3", "age": "4"})


@pytest.mark.parametrize("entry", ["µ < price", "µ <= price", "price > µ", "price >= µ"])
def test_an_inequality_that_no_row_can_satisfy_is_refused(read: Read, entry: str) -> None:
    with pytest.raises(UserError, match=r"entry 1: no row can satisfy it, for .*'µ' is 100 to 159"):
        read({"inequality": entry})
    assert read({"inequality": "count >= µ"})  # count may be missing
    assert read({"inequality": entry}, {"formula": "price = age * 9"})  # computed beyond its range
    assert read({"inequality": entry.translate(str.maketrans("<>", "><"))})


@pytest.mark.parametrize("names", ["city", ["city"], ["city", "'unit cost'"]])
def test_unique_gives_the_values_of_its_columns(read: Read, names: Any) -> None:
    (plain, new) = read({"unique": names}, {"unique": names, "new": True}).unique
    assert not plain.new and new.new
    assert plain.key(ROW) == new.key(ROW) == ("Genf", "3.1")[: len(plain.columns)]


def test_conditions_are_those_of_where(read: Read) -> None:
    rule = read({"where": "age > 30 and city = Bern"}, {"where": "price <= 3"})
    row = ROW | {"age": "31", "city": "Bern", "price": "3,00"}
    assert rule.holds(row)
    for name, value in {"age": "30", "city": "Genf", "price": "3,01"}.items():
        assert not rule.holds(row | {name: value})


def test_formulas_compute_as_exact_fractions_do(read: Read) -> None:
    draw, computed = random.Random(3), 0
    for _ in range(300):
        expression = _expression(draw, 3)
        numbers = {
            "age": draw.randrange(60),
            "count": draw.randrange(-9, 9),
            "price": Decimal(draw.randrange(900)) / 100,
        }
        row = {name: _comma(name, Decimal(number)) for name, number in numbers.items()}
        spelled = _value(read, f"`unit cost` = {expression}", **row)
        try:
            expected = eval(_constants_as_fractions(expression), {"F": Fraction}, _fractions(numbers))
        except ZeroDivisionError:
            assert spelled is None
            continue
        computed += 1
        assert spelled is not None and Fraction(spelled) == round(Fraction(expected), 1), expression
    assert computed > 200


def _expression(draw: random.Random, depth: int) -> str:
    if depth == 0 or draw.random() < 0.2:
        return draw.choice(("age", "count", "price", "2", "0.5", ".25", "3."))
    one, two = _expression(draw, depth - 1), _expression(draw, depth - 1)
    return draw.choice((f"({one} {draw.choice('+-*/')} {two})", f"{one} {draw.choice('+-*/')} {two}", f"-{one}"))


def _constants_as_fractions(expression: str) -> str:
    return re.sub(r"[0-9]+\.(?![0-9])|[0-9]*\.?[0-9]+", lambda found: f"F({float(found[0])})", expression)


def _fractions(numbers: dict[str, Any]) -> dict[str, Fraction]:
    return {name: Fraction(number) for name, number in numbers.items()}


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("age = 35 / 4", None),
        ("age = 36 / 4", "9"),
        ("age = count / 3 * 3", "5"),
        ("age = count * 0.2", "1"),
        ("age = 1 / (count - 5)", None),
        ("total = 1 / 3", "0.33"),
        ("total = 0.125", "0.12"),
        ("total = 0.135", "0.14"),
        ("total = 0.1250000000000000000000000000000000000000000001", "0.13"),
        ("total = 1_000.5", "1000.50"),
        ("price = count + 0.5", "5,50"),
        ("age = 0x10", "16"),
        ("age = 9007199254740993.0", "9007199254740993"),
        ("age = 123456789012345678901234567890123456789 + 1", "123456789012345678901234567890123456790"),
        ("total = 0.1 + 123456789012345678901234567890.0", "123456789012345678901234567890.10"),
        ("age = µ + 1", "102"),
        ("total = `unit cost` * 2", "6.20"),
        ("`unit cost` = 1", "1.0"),
    ],
)
def test_a_formula_is_exact_and_never_rounds_to_an_integer(read: Read, formula: str, value: str | None) -> None:
    assert _value(read, formula, count="5") == value


@pytest.mark.parametrize("word", ["", *sorted(MISSING)])
def test_a_missing_input_gives_a_missing_value(read: Read, word: str) -> None:
    assert _value(read, "total = count + age", count=word) == ""


def test_another_word_or_an_enormous_number_cannot_be_computed(read: Read) -> None:
    assert _value(read, "total = count + age", count="unknown") is None
    assert _value(read, "total = count * 0", count="1e99999") is None
    assert _value(read, f"total = {' * '.join(['1e308'] * 90)}") is None
    assert read({"formula": "total = count + age"}).completed(ROW | {"count": "unknown"}) is None


def test_a_quoted_column_is_not_taken_for_one_of_that_name(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text('{"formula": "total = `unit cost` + column_0_"}')
    (formula,) = read_constraints(path, COLUMNS | {"column_0_": COLUMNS["age"]}).formulas
    assert formula.value(ROW | {"unit cost": "1.5", "column_0_": "20"}) == "21.50"


def test_formulas_are_computed_after_those_that_they_read(read: Read) -> None:
    rules = read({"formula": "total = age + 1"}, {"formula": "age = count * 2"}, {"formula": "count = µ - 100"})
    row = rules.completed(ROW | {"µ": "104"})
    assert row is not None and (row["count"], row["age"], row["total"]) == ("4", "8", "9.00")
    assert row["city"] == ROW["city"]


def test_one_object_is_a_list_of_one(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "one.json"
    path.write_text('{"unique": ["city", "age"]}')
    assert read_constraints(path, COLUMNS) == read({"unique": ["city", "age"]})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, "expected an object with one of inequality, unique, formula, where"),
        ({}, "expected an object with one of"),
        ({"unique": "age", "where": "age > 30"}, "expected an object with one of"),
        ({"where": "age > 30", "new": True}, "'new' means nothing for where"),
        ({"inequality": "age = price"}, "write an inequality as"),
        ({"inequality": 3}, "inequality must be a text"),
        ({"inequality": "age < size"}, "there is no column 'size'"),
        ({"inequality": "age < city"}, "'age' is of type integer and 'city' of type category"),
        ({"inequality": "age < start"}, "needs two numbers, or two dates"),
        ({"unique": []}, "unique must be the name of a column"),
        ({"unique": ["age", 3]}, "unique must be the name of a column"),
        ({"unique": ["age", "age"]}, "unique names column 'age' twice"),
        ({"unique": ["age", "'age'"]}, "unique names column 'age' twice"),
        ({"unique": "age", "new": 1}, "new must be true or false"),
        ({"unique": "size"}, "there is no column 'size'"),
        ({"where": "age > 999"}, "--WHERE: no value of column 'age'"),
        ({"where": ["age"]}, "where must be a text"),
        ({"formula": "total"}, "write a formula as"),
        ({"formula": "size = age"}, "there is no column 'size'"),
        ({"formula": "total = size"}, "there is no column 'size'"),
        ({"formula": "total = city"}, "'city' is of type category, and a formula needs numbers"),
        ({"formula": "city = age"}, "'city' is of type category, and a formula needs numbers"),
        ({"formula": "total = "}, "'' is no formula"),
        ({"formula": "total = age +"}, "'age +' is no formula"),
        ({"formula": "total = age\0"}, "is no formula"),
        ({"formula": "total = age ** 2"}, "columns, numbers, + - * / and () alone"),
        ({"formula": "total = abs(age)"}, "columns, numbers, + - * / and () alone"),
        ({"formula": "total = age(3)"}, "columns, numbers, + - * / and () alone"),
        ({"formula": "total = True"}, "columns, numbers, + - * / and () alone"),
        ({"formula": "total = 2j"}, "columns, numbers, + - * / and () alone"),
        ({"formula": "total = '\\d'"}, "columns, numbers, + - * / and () alone"),
        ({"formula": "total = 1e400"}, "the number 1e400 is outside the range"),
        ({"formula": "total = -1e-999999999"}, "the number 1e-999999999 is outside the range"),
        ({"formula": f"total = {'9' * 400}"}, f"the number {'9' * 59}… is outside the range"),
        ({"formula": f"total = 0x{'f' * 6000}"}, "is outside the range"),
        ({"formula": f"total = {'9' * 6000}"}, "is no formula"),
    ],
)
def test_a_damaged_entry_is_refused_with_its_number(read: Read, entry: Any, message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = _refusal(read, {"unique": "city"}, entry)
    assert "rules.json, entry 2: " in said and message in said


@pytest.mark.parametrize("expression", ["(" * 150 + "age" + ")" * 150, "-" * 100_000 + "age", "(" * 9000, "-(" * 90])
def test_a_deep_formula_is_refused_in_one_short_line(read: Read, expression: str) -> None:
    said = _refusal(read, {"formula": f"total = {expression} + {'size' * 30}"})
    assert "entry 1" in said and len(said.partition("entry 1")[2]) < 600


def test_a_formula_has_at_most_so_many_nodes(read: Read) -> None:
    assert _value(read, f"total = {'-' * (NODES - 1)}age", age="7") == "-7.00"
    said = _refusal(read, {"formula": f"total = {'-' * NODES}age"})
    assert f"'{'-' * 59}…' has 201 columns, numbers and operations; at most 200" in said


@pytest.mark.parametrize("content", ['"a < b"', "[]", "3", "null"])
def test_a_file_without_entries_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rules.json"
    path.write_text(content)
    with pytest.raises(UserError, match="holds no list; write"):
        read_constraints(path, COLUMNS)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ('[{"inequality": "age < count", "inequality": "age > count"}]', "inequality"),
        ('{"unique": "city", "new": true, "new": false}', "new"),
        ('[{"where": "age > 30"}, {"where": "age > 30", "x": {"a\\n": 1, "a\\n": 1}}]', r"a\n"),
    ],
)
def test_a_key_that_occurs_twice_is_refused_by_its_name(tmp_path: Path, content: str, key: str) -> None:
    path = tmp_path / "rules.json"
    path.write_text(content)
    with pytest.raises(UserError) as refusal:
        read_constraints(path, COLUMNS)
    said = str(refusal.value)
    assert "rules.json cannot be read" in said and f"an object has the key '{key}' twice; write it once" in said
    assert "\n" not in said


def test_formulas_that_need_each_other_are_refused_with_their_entries(read: Read) -> None:
    first, second = {"formula": "age = count + 1"}, {"formula": "count = age - 1"}
    behind, before = {"formula": "total = age"}, {"formula": "price = µ"}
    said = _refusal(read, behind, first, {"unique": "city"}, before, second)
    assert said.endswith("rules.json, entries 2 and 5: the formulas of age, count need each other")
    assert "entry 1: the formula of 'age' needs 'age' itself" in _refusal(read, {"formula": "age = age + 1"}, behind)


def test_two_formulas_of_a_column_are_refused_with_their_entries(read: Read) -> None:
    said = _refusal(read, {"formula": "age = 1"}, {"unique": "city"}, {"formula": "age = 2"})
    assert "entries 1 and 3: both formulas compute 'age'" in said


def test_a_column_without_a_form_of_numbers_is_not_computed(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text('{"formula": "odd = age"}')
    with pytest.raises(UserError, match="column 'odd' has no number in the data"):
        read_constraints(path, COLUMNS | {"odd": {"kind": "number", "low": None, "high": None}})
