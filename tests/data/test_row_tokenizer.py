"""Columns as tables have them: numbers of all sizes, fractions of seconds, zones, far years."""

import random
from typing import Any

import pyarrow as pa
import pytest

from pipeline.data.arrow_types import python_values
from pipeline.data.column_code import ColumnCode, Permitted, ValueCode
from pipeline.data.column_type import ColumnType, Counts
from pipeline.data.date_code import DateCode, parts_of
from pipeline.data.date_column import DateColumn
from pipeline.data.floating_code import FloatingCode
from pipeline.data.number_code import NumberCode
from pipeline.data.number_column import NumberColumn
from pipeline.data.row_codes import CODES, _Column
from tests.data.own_files import surveyed

DRAW = random.Random(0)


def coded(column: ColumnType, values: list[str]) -> ColumnCode | None:
    """Choose the code of a column, and read it from its description."""
    column.look(values)
    assert [column.add(value) for value in values] == [True] * len(values)
    assert column.fits(Counts(2000, 2000))
    found = _Column(column.to_json())
    for value in ["", *values]:
        found.add(value)
    code = found.code()
    return None if code is None else CODES[code.kind].from_json(code.to_json())


def walk(code: ColumnCode, permitted: Any = None) -> list[int]:
    tokens: list[int] = []
    while allowed := code.allowed(tokens, permitted):
        tokens.append(DRAW.choice(allowed))
    return tokens


def check_walks(code: ColumnCode, column: ColumnType) -> None:
    """Check that walks through the allowed tokens are values of the column."""
    for _ in range(200):
        tokens = walk(code)
        value = code.decode(tokens)
        assert value is not None
        assert code.encode(value) == tokens
        if value:
            column.value(value)


NUMBERS = {
    "shortest digits": [repr(10 ** DRAW.uniform(-9, 12)) for _ in range(2000)],
    "nine decimals": [f"{10 ** DRAW.uniform(-9, 12):.9f}" for _ in range(2000)],
    "exponents and zero": ["0", *(f"{-(10 ** DRAW.uniform(-9, 12)):.3e}" for _ in range(2000))],
    "all exponents": [repr(DRAW.gauss(0, 1) * 10 ** DRAW.randint(-300, 300)) for _ in range(2000)],
    "long integers": [str(10**25 + DRAW.randint(0, 10**20)) for _ in range(2000)],
}


@pytest.mark.parametrize("values", NUMBERS.values(), ids=NUMBERS)
def test_numbers_of_all_sizes_come_back_and_every_walk_is_one_of_the_column(values: list[str]):
    column = NumberColumn(".")
    code = coded(column, values)
    assert isinstance(code, FloatingCode)
    for value in values:
        assert code.form.read(code.decode(code.encode(value) or ()) or "") == code.form.read(value)
    check_walks(code, column)


@pytest.mark.parametrize("values", NUMBERS.values(), ids=NUMBERS)
def test_walks_under_a_condition_are_numbers_of_all_sizes_that_satisfy_it(values: list[str]):
    code = coded(NumberColumn("."), values)
    assert isinstance(code, FloatingCode)
    units = sorted(one for value in values[:100] if (one := code.units(value)) is not None)
    bounds = Permitted(low=units[10], high=units[40], excluded=frozenset(units[10:12]), specials=frozenset())
    for permitted in (bounds, Permitted(only=(units[3], units[5]), specials=frozenset())):
        for _ in range(50):
            found = code.units(code.decode(walk(code, permitted)) or "")
            assert found is not None
            if permitted.only is not None:
                assert found in permitted.only
            else:
                assert units[10] <= found <= units[40]
                assert found not in units[10:12]


def test_numbers_that_are_spelled_in_too_many_ways_keep_their_value():
    values = [f"{number / 10}{'0' * (number % 3)}" for number in range(6000)]
    code = coded(NumberColumn("."), values)
    assert isinstance(code, NumberCode)
    assert code.loose
    for value in values:
        assert float(code.decode(code.encode(value) or ()) or "") == float(value)


DATES = {
    "fractions": [f"2024-01-{1 + n % 28:02} 10:00:{n % 60:02}.{n % 1000:03}" for n in range(1500)],
    "one zone": [f"2024-01-{1 + n % 28:02}T{n % 24:02}:{n % 60:02}:{n // 30:02}+02:00" for n in range(1500)],
    "two zones": [f"2024-01-{1 + n % 28:02}T{n % 24:02}:{n % 60:02}:{n // 30:02}+0{1 + n % 2}:00" for n in range(1500)],
    "far years": [
        "0001-01-01",
        "9999-12-31",
        "2024-02-29",
        *(f"{1970 + n % 60}-05-{1 + n % 28:02}" for n in range(99)),
    ],
}


@pytest.mark.parametrize(("missing", "few"), [(0, True), (10, True), (390, False)])
def test_numbers_have_a_token_each_where_each_is_in_ten_rows(missing: int, few: bool):
    numbers = [f"{number % 20}.5" for number in range(400 - missing)] + ["", "NA"] * (missing // 2)
    (column,) = surveyed({"size": value} for value in numbers).values()
    found = _Column(column)
    for value in numbers:
        found.add(value)
    assert isinstance(found.code(), ValueCode if few else NumberCode)


@pytest.mark.parametrize("values", DATES.values(), ids=DATES)
def test_dates_with_fractions_zones_and_far_years_come_back(values: list[str]):
    column = DateColumn()
    code = coded(column, values)
    assert isinstance(code, DateCode)
    assert code.specials.values == [""]
    for value in values:
        assert code.decode(code.encode(value) or ()) == value
    check_walks(code, column)


def test_bounds_of_dates_with_fractions_and_zones_hold():
    low, high = "2024-01-10T10:00:05.250", "2024-01-10T10:00:06"
    ends = Permitted(low=(2024, 1, 10, 10, 0, 5, 2, 5, 0), high=(2024, 1, 10, 10, 0, 6, 0, 0, 0), specials=frozenset())
    code = coded(DateColumn(), DATES["fractions"])
    assert isinstance(code, DateCode)
    assert code.of_numbers(parts_of(low)) == ends.low
    assert code.of_numbers(parts_of(high)) == ends.high
    for _ in range(50):
        value = (code.decode(walk(code, (ends,))) or "").replace(" ", "T")
        assert low <= value <= high + ".000"


def test_timestamps_of_a_column_have_a_fraction_all_or_none():
    moments = pa.array([1_000_000, 1_005_000, None], pa.timestamp("us"))
    assert python_values(moments) == ["1970-01-01 00:00:01.000000", "1970-01-01 00:00:01.005000", None]
    assert python_values(moments.slice(0, 1)) == ["1970-01-01 00:00:01"]
