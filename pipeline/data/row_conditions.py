"""Conditions on the values of a column, in the form in which the code of the column takes them."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pipeline.data.column_code import ColumnCode, Permitted, ValueCode
from pipeline.data.conditions import Bounds, ColumnCondition
from pipeline.data.date_code import DateCode, parts_of
from pipeline.data.floating_code import WIDE
from pipeline.data.number_code import NumberCode
from pipeline.data.text_code import TextCode
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
        only = only if condition.present else [""]
        found = None if only is None else tuple(tuple(code.encode(value)) for value in only if condition.permits(value))
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


def _of_dates(condition: ColumnCondition, code: DateCode) -> Permitted:
    """Write the bounds as parts of dates."""
    bounds = condition.bounds
    low, high = (None if end is None else code.of_numbers(parts_of(str(end))) for end in (bounds.low, bounds.high))
    excluded = {parts for value in condition.excluded if (parts := code.parts(value)) is not None}
    excluded |= {end for end, opened in ((low, bounds.low_open), (high, bounds.high_open)) if end and opened}
    only = None
    if condition.only is not None:
        only = tuple(sorted(parts for value in condition.only if (parts := code.parts(value)) is not None))
    only = only if condition.present else ()
    return Permitted(low, high, only, frozenset(excluded), _specials(condition, code))


def _specials(condition: ColumnCondition, code: NumberCode | DateCode) -> frozenset[str]:
    return frozenset(value for value in code.specials.values if condition.permits(value))
