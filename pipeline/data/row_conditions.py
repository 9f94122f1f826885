"""Conditions on the values of a column, in the form in which the code of the column takes them."""

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipeline.data.column_code import ColumnCode, Permitted, ValueCode
from pipeline.data.conditions import Bounds, ColumnCondition
from pipeline.data.date_code import DateCode, Parts, parts_of
from pipeline.data.floating_code import WIDE
from pipeline.data.instants import DAY, shifted
from pipeline.data.number_code import NumberCode
from pipeline.data.text_code import PRESENT, TextCode
from pipeline.runtime.errors import UserError


def permitted(condition: ColumnCondition, code: ColumnCode, description: Mapping[str, Any]) -> Any:
    """Return a condition as the code of its column takes it (see `ColumnCode.allowed`).

    Args:
        condition: condition on the column.
        code: code of the column.
        description: type of the column, as `ColumnSurvey` describes it.

    Raises:
        UserError: no value of the column satisfies the condition.
    """
    if isinstance(code, ValueCode):
        found: Any = tuple(token for token, value in enumerate(code.values) if condition.permits(value))
    elif isinstance(code, NumberCode):
        found = _of_numbers(condition, code)
    elif isinstance(code, DateCode):
        found = _of_dates(condition, code)
    else:
        assert isinstance(code, TextCode)
        only = None if condition.only is None else sorted(condition.only)
        if not condition.present:  # missing values, as the column has them
            only = [*description.get("missing", ()), *([""] if code.empty else [])]
        found = (
            PRESENT if only is None else tuple(tuple(code.encode(value)) for value in only if condition.permits(value))
        )
    if (found is not None and found == ()) or not code.allowed((), found):
        seen = (description.get("seen") or {}).get("range") or ""
        raise UserError(
            f"--WHERE: no value of column {condition.column!r} satisfies the condition"
            f"{f'; its values are {seen}' if seen else ''}"
        )
    return found


def _of_numbers(condition: ColumnCondition, code: NumberCode) -> Permitted:
    """Write the bounds in units of the last decimal."""
    low, high = _inside(condition.bounds, code)
    only = None if condition.only is None else tuple(sorted(_numbers(condition.only, code)))
    only = only if condition.present else ()
    excluded = frozenset(_numbers(condition.excluded, code))
    return Permitted(low, high, only, excluded, _specials(condition, code))


def _inside(bounds: Bounds, code: NumberCode) -> tuple[int | None, int | None]:
    """Return the smallest and the largest number of units within bounds."""
    low, high = (None if end is None else Decimal(end).scaleb(code.decimals, WIDE) for end in (bounds.low, bounds.high))
    smallest = None if low is None else math.ceil(low) + (bounds.low_open and low == math.ceil(low))
    largest = None if high is None else math.floor(high) - (bounds.high_open and high == math.floor(high))
    return smallest, largest


def _numbers(values: frozenset[str], code: NumberCode) -> list[int]:
    found = []
    for value in values:
        try:
            units = code.form.read(value).scaleb(code.decimals, WIDE)
        except (ValueError, ArithmeticError):
            continue
        if units == units.to_integral_value():
            found.append(int(units))
    return found


@dataclass(frozen=True)
class _Local:
    """An instant in the time of a zone, as a column spells it.

    Args:
        parts: parts of the date, cut off behind the last that the column has.
        exact: True if nothing is cut off.
        day: days behind the day of a time without a date, 0 for dates.
    """

    parts: Parts
    exact: bool
    day: int

    @staticmethod
    def of(key: str, code: DateCode, offset: int) -> "_Local":
        """Return an instant, or a date without a zone, in the time of a zone."""
        day = 0
        if code.form.has_zone:
            key = shifted(key, offset)
            if code.form.kind == "time":
                date, _, key = key.partition("T")
                day = (datetime.date.fromisoformat(date) - DAY).days
        numbers = parts_of(key)
        return _Local(code.of_numbers(numbers), not code.has_rest(numbers), day)


def _of_dates(condition: ColumnCondition, code: DateCode) -> tuple[Permitted, ...]:
    """Write the bounds as parts of dates in the time of each zone; empty if no zone has any."""
    found = tuple(_in_zone(condition, code, offset) for offset in code.offsets)
    return found if any(code.allowed((), (one,)) for one in found) else ()


def _in_zone(condition: ColumnCondition, code: DateCode, offset: int) -> Permitted:
    bounds, reader = condition.bounds, condition.reader
    assert reader is not None, "conditions on dates are read by their column"
    low, high = (None if end is None else _Local.of(str(end), code, offset) for end in (bounds.low, bounds.high))

    def all_of(values: frozenset[str]) -> set[Parts]:
        read = (_Local.of(str(key), code, offset) for value in values if (key := reader.key(value)) is not None)
        return {one.parts for one in read if one.exact and not one.day}

    excluded = all_of(condition.excluded)
    if low is not None and not low.day and (bounds.low_open or not low.exact):
        excluded.add(low.parts)
    if high is not None and not high.day and bounds.high_open and high.exact:
        excluded.add(high.parts)
    only = None if condition.only is None else tuple(sorted(all_of(condition.only)))
    beyond = (low is not None and low.day > 0) or (high is not None and high.day < 0)
    return Permitted(
        None if low is None or low.day else low.parts,
        None if high is None or high.day else high.parts,
        only if condition.present and not beyond else (),
        frozenset(excluded),
        _specials(condition, code),
    )


def _specials(condition: ColumnCondition, code: NumberCode | DateCode) -> frozenset[str]:
    return frozenset(value for value in code.specials.values if condition.permits(value))
