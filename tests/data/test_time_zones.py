"""Conditions on dates and times with time zones, which compare instants, against Python's own arithmetic."""

import datetime
import operator
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.conditions import parse_where
from pipeline.data.constraints import read_constraints
from pipeline.data.date_code import DateCode, parts_of
from pipeline.data.row_conditions import permitted
from pipeline.runtime.errors import UserError
from tests.data.own_files import surveyed
from tests.data.test_column_codes import every_value

SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
ZONES = ("+00:00", "+02:00", "-05:30")
START = datetime.datetime(2023, 12, 31, 20, 0)


def _spelled(number: int) -> dict[str, str]:
    local = START + datetime.timedelta(minutes=number * 17)
    return {
        "zoned": f"{local:%Y-%m-%dT%H:%M}{ZONES[number % 3]}",
        "utc": f"{local:%Y-%m-%dT%H:%M:%S}Z",
        "german": f"{local:%d.%m.%Y %H:%M}{ZONES[number % 3].replace(':', '')}",
        "plain": f"{local:%Y-%m-%dT%H:%M}",
        "at": f"{local:%H:%M}{ZONES[number % 3]}",
        "clock": f"{local:%H:%M}",
    }


ROWS = [_spelled(number) for number in range(40)]
COLUMNS = surveyed(ROWS)


def code(name: str, zones: tuple[str, ...] = ()) -> DateCode:
    """Return the code of a column."""
    column = COLUMNS[name]
    low, high = (parts_of(column[end]) for end in ("low", "high"))
    return DateCode(column["form"], column["spellings"], low, high, [""], zones)


def instant(spelled: str) -> datetime.datetime:
    """Read a date, or a time of one day, without the project's readers."""
    if spelled[2] == ".":
        return datetime.datetime.strptime(spelled, "%d.%m.%Y %H:%M%z")
    return datetime.datetime.fromisoformat(
        spelled if "-" in spelled[:5] and "T" in spelled else f"2000-01-01T{spelled}"
    )


def test_the_table_has_columns_with_and_without_zones() -> None:
    assert {name: column["form"] for name, column in COLUMNS.items()} == {
        "zoned": "YYYY-MM-DDThh:mm+zz:zz",
        "utc": "YYYY-MM-DDThh:mm:ssZ",
        "german": "DD.MM.YYYY hh:mm+zzzz",
        "plain": "YYYY-MM-DDThh:mm",
        "at": "hh:mm+zz:zz",
        "clock": "hh:mm",
    }


def test_conditions_compare_instants_and_not_the_spelled_times() -> None:
    condition = parse_where("utc > 2024-01-01T00:00+02:00", COLUMNS)["utc"]
    assert condition.permits("2023-12-31T22:00:01Z")
    assert not condition.permits("2023-12-31T22:00:00Z")
    condition = parse_where("zoned = 2024-01-01T00:01Z", COLUMNS)["zoned"]
    assert condition.permits("2024-01-01T02:01+02:00")
    assert not condition.permits("2024-01-01T00:01+02:00")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zoned", "utc", "german", "at"])
def test_random_conditions_agree_with_an_evaluation_of_their_own(name: str) -> None:
    """Values have the form of the column or a plain one, in any zone; rows and walks of the code are compared."""
    chance, refused, kept = random.Random(4), 0, 0
    own = code(name, () if name == "utc" else tuple(z.replace(":", "") if name == "german" else z for z in ZONES))
    several = [row[name] for row in ROWS]
    for round in range(60):
        parts, checks = [], []
        for _ in range(chance.randint(1, 2)):
            shown = chance.choice(ROWS)[name]
            if chance.random() < 0.5:
                plain = chance.choice(ROWS)["at" if name == "at" else "zoned"]
                shown = plain[:-6] + chance.choice(["Z", "+01:00", "-0300"] if name != "at" else ZONES)
            sign = chance.choice([*SIGNS])
            parts.append(f"{name} {sign} '{shown}'")
            checks.append((SIGNS[sign], instant(shown)))

        def holds(value: str, checks: list[Any] = checks) -> bool:
            return all(sign(instant(value), end) for sign, end in checks)

        expected = {value for value in several if holds(value)}
        try:
            condition = parse_where(" and ".join(parts), COLUMNS)[name]
            chosen = permitted(condition, own, COLUMNS[name])
        except UserError as error:
            assert "no value of column" in str(error) or "in the form of column" in str(error), error
            refused += 1
            assert not expected or "in the form of column" in str(error), parts
            continue
        assert {value for value in several if condition.permits(value)} == expected, parts
        if name == "at" and round % 30 == 0:
            assert every_value(own, chosen) == [one for one in every_value(own) if one and holds(one)], parts
        for value in several:
            assert walks(own, value, chosen) == (value in expected), (parts, value)
        kept += bool(expected)
    assert refused < 40 and kept > 10


def walks(own: DateCode, spelled: str, chosen: Any) -> bool:
    """Return True if a value's tokens are permitted one by one."""
    tokens = own.encode(spelled)
    assert tokens is not None
    return all(token in own.allowed(tokens[:place], chosen) for place, token in enumerate(tokens))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("utc > 2024-01-01T00:00", "'2024-01-01T00:00' has no time zone, and the values of column 'utc' have one"),
        ("zoned = '2024-01-01 00:00:00'", "write it with one, as in 2023-12-31T20:00+00:00"),
        (
            "plain > 2024-01-01T00:00Z",
            "'2024-01-01T00:00Z' has a time zone, and the values of column 'plain' have none",
        ),
        ("plain in (2024-01-01T00:00+01:00)", "write it without"),
        ("clock < 10:00Z", "has a time zone"),
        ("at < 10:00", "has no time zone"),
        ("utc > 2025-01-01T00:00-14:00", "no value of column 'utc' satisfies"),
        ("plain = 2024-01-01T00:01:30", "write '2024-01-01T00:01:30' in the form of column 'plain', YYYY-MM-DDThh:mm"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(where: str, message: str) -> None:
    with pytest.raises(UserError) as refusal:
        parse_where(where, COLUMNS)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


def test_an_inequality_compares_instants_and_needs_zones_on_both_sides(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text('{"inequality": "zoned <= utc"}')
    rules = read_constraints(tmp_path / "rules.json", COLUMNS)
    assert rules.holds({"zoned": "2024-01-01T02:00+02:00", "utc": "2024-01-01T00:00:00Z"})
    assert not rules.holds({"zoned": "2024-01-01T00:00-05:30", "utc": "2024-01-01T00:00:00Z"})
    (tmp_path / "rules.json").write_text('{"inequality": "plain <= utc"}')
    with pytest.raises(UserError, match="entry 1: 'utc' has time zones and 'plain' has none"):
        read_constraints(tmp_path / "rules.json", COLUMNS)


@pytest.mark.parametrize(
    ("where", "first", "last", "count"),
    [
        ("clock >= 12:00:30 and clock <= 12:02:30", "12:01", "12:02", 2),
        ("clock > 12:00 and clock < 12:03", "12:01", "12:02", 2),
        ("clock between 12:00 and 12:01 and clock != 12:00", "12:01", "12:01", 1),
    ],
)
def test_bounds_finer_than_the_column_are_those_of_its_values(where: str, first: str, last: str, count: int) -> None:
    found = every_value(code("clock"), permitted(parse_where(where, COLUMNS)["clock"], code("clock"), COLUMNS["clock"]))
    assert (found[0], found[-1], len(found)) == (first, last, count)


@pytest.mark.parametrize("where", ["clock > 12:00 and clock < 12:01", "clock > 12:00:10 and clock < 12:00:50"])
def test_bounds_between_two_neighbours_are_refused(where: str) -> None:
    with pytest.raises(UserError, match="no value of column 'clock' satisfies"):
        permitted(parse_where(where, COLUMNS)["clock"], code("clock"), COLUMNS["clock"])


def test_the_ends_of_the_calendar_are_no_error() -> None:
    columns = surveyed({"at": f"{year:04}-06-01T00:00+05:00"} for year in (1, 500, 9998))
    assert parse_where("at > 0001-01-01T00:00+14:00", columns)["at"].permits("0001-06-01T00:00+05:00")
    assert parse_where("at < 9999-12-31T23:00-14:00", columns)["at"].permits("9998-06-01T00:00+05:00")
