"""Values of a table's columns and their order, as conditions and constraints compare them."""

import difflib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import cached_property
from typing import Any

from pipeline.data.column_survey import MISSING
from pipeline.data.date_format import DateForm, form_of, forms
from pipeline.data.instants import instant, whole
from pipeline.data.number_format import NumberFormat, decimal_of
from pipeline.data.number_spelling import parse
from pipeline.runtime.errors import UserError

NUMBERS, DATES = ("integer", "number"), ("date", "time", "date-time")
SHOWN = 5  # members of a category in a message
MARGIN = 24 * 60  # minutes between a time in any zone and in UTC at most
UTC = {"+zz:zz": "+00:00", "+zzzz": "+0000", "+zz": "+00"}  # spellings of UTC in forms of zones

Key = Decimal | str  # place of a value in its column's order: a number, or the ISO form of a date


@dataclass(frozen=True)
class Bounds:
    """Interval of a column's ordered values.

    Args:
        low: smallest number, or earliest date in ISO form; None for no bound.
        high: largest number, or latest date; None for no bound.
        low_open: True if `low` itself is outside.
        high_open: True if `high` itself is outside.
    """

    low: Key | None = None
    high: Key | None = None
    low_open: bool = False
    high_open: bool = False

    def holds(self, key: Any) -> bool:
        """Return True if a value is inside."""
        return (self.low is None or key > self.low or (key == self.low and not self.low_open)) and (
            self.high is None or key < self.high or (key == self.high and not self.high_open)
        )

    def within(self, other: "Bounds") -> "Bounds":
        """Return the intersection of two intervals."""
        low, low_open = _tighter(self.low, self.low_open, other.low, other.low_open, operator.gt)
        high, high_open = _tighter(self.high, self.high_open, other.high, other.high_open, operator.lt)
        return Bounds(low, high, low_open, high_open)

    def of_integers(self) -> "Bounds":
        """Return the closed interval of the same integers."""
        low = None if self.low is None else Decimal(self.low).to_integral_value(ROUND_CEILING)
        high = None if self.high is None else Decimal(self.high).to_integral_value(ROUND_FLOOR)
        low = low + 1 if low is not None and self.low_open and low == self.low else low
        high = high - 1 if high is not None and self.high_open and high == self.high else high
        return Bounds(low, high)

    @property
    def empty(self) -> bool:
        """True if no value is inside."""
        low: Any = self.low
        high: Any = self.high
        if low is None or high is None:
            return False
        return low > high or (low == high and (self.low_open or self.high_open))


def _tighter(
    one: Key | None, one_open: bool, two: Key | None, two_open: bool, tighter: Callable[[Any, Any], bool]
) -> tuple[Key | None, bool]:
    if one is None or (two is not None and tighter(two, one)):
        return two, two_open
    return one, one_open or (one == two and two_open)


class OrderedColumn:
    """Reads values of a column: spelled ones, and those of a condition.

    Args:
        name: name of the column.
        description: its type, as `ColumnSurvey` describes it.
    """

    def __init__(self, name: str, description: Mapping[str, Any]) -> None:
        self.name, self.kind = name, str(description["kind"])
        self.description = description
        members = description.get("values") if self.kind == "category" else None
        self.members: list[str] | None = None if members is None else [str(one) for one in members]
        self.format = NumberFormat.from_json(description["format"]) if "format" in description else NumberFormat()

    @cached_property
    def ordered(self) -> bool:
        """True if `<` means something: for numbers, dates, and categories whose members are all numbers."""
        if self.kind in NUMBERS or self.kind in DATES:
            return True
        return bool(self.members) and all(self.key(one) is not None for one in self.members or () if one not in MISSING)

    @cached_property
    def seen(self) -> Bounds:
        """Range of the data; without bounds if the column has no range, and wider for zones that differ."""
        low, high = self.description.get("low"), self.description.get("high")
        if self.kind not in (*NUMBERS, *DATES) or low is None or high is None:
            return Bounds()
        if self.kind not in DATES:
            return Bounds(decimal_of(low), decimal_of(high))
        if not self.has_zone:
            return Bounds(whole(low), whole(high))
        margin = 0 if self._form.in_utc else MARGIN
        return Bounds(instant(whole(low), margin), instant(whole(high), -margin))

    @property
    def choices(self) -> list[str] | None:
        """Values of a category or of booleans; None for other columns."""
        return ["True", "False"] if self.kind == "boolean" else self.members

    @property
    def _form(self) -> DateForm:
        return form_of(self.description["form"])

    @property
    def has_zone(self) -> bool:
        """True for dates or times with a time zone, which are compared by their instants."""
        return self.kind in DATES and self._form.has_zone

    def key(self, spelled: str) -> Key | None:
        """Return the place of a spelled value in the order; None if it is no number or date.

        That of a date or time with a zone is its instant, the ISO form in UTC.
        """
        if self.kind in DATES:
            return self._form.comparable(spelled)
        try:
            return self.format.read(spelled)
        except ValueError:
            return None

    def read(self, text: str) -> Key:
        """Return the place of a value of a condition, in the column's form or a plain one.

        Raises:
            UserError: the text is no number or date.
        """
        if (key := self.key(text)) is not None:
            return key
        if self.kind in DATES:
            for form in map(form_of, forms(text)):
                if form.kind == self.kind and form.picture.startswith(("YYYY", "hh")):
                    key = form.comparable(text)
                    if form.has_zone != self.has_zone or key is None:
                        raise UserError(self._other_zone(text))
                    return key
            form = self.description["form"]
            raise UserError(f"--WHERE: {text!r} is no {self.kind} of column {self.name!r}; write it as {form}")
        plain = parse(text)
        if plain is None or plain.thousands:
            seen = (self.description.get("seen") or {}).get("range") or "numbers"
            raise UserError(f"--WHERE: {text!r} is no number; column {self.name!r} has {seen}")
        if plain.measure not in ("", self.format.measure):
            unit = f"the unit {self.format.measure!r}" if self.format.measure else "no unit"
            raise UserError(f"--WHERE: {text!r} has the unit {plain.measure!r}, and column {self.name!r} has {unit}")
        return plain.value

    def _other_zone(self, text: str) -> str:
        """Say that a value of a condition has a time zone and the column none, or the other way round."""
        if self.has_zone:
            example = (self.description.get("seen") or {}).get("examples") or [self._form.picture]
            return (
                f"--WHERE: {text!r} has no time zone, and the values of column {self.name!r} have one; write it with "
                f"one, as in {example[0]}"
            )
        return f"--WHERE: {text!r} has a time zone, and the values of column {self.name!r} have none; write it without"

    def member(self, text: str) -> str:
        """Return a value of a condition that is compared for equality.

        Raises:
            UserError: the column has no such value.
        """
        if self.kind in NUMBERS or self.kind in DATES:
            words = {*self.description.get("missing", ()), *(one[0] for one in self.description.get("outliers", ()))}
            if text in words:
                return text
            key = self.read(text)
            if self.kind in NUMBERS or self.key(text) is not None:
                return text
            # A date in ISO form is spelled as those of the column, with which it is compared.
            zone = next((zone for picture, zone in UTC.items() if self._form.picture.endswith(picture)), None)
            spelled = self._form.write(str(key), self.description.get("spellings", ()), zone)
            if spelled is None or self.key(spelled) != key:
                raise UserError(f"--WHERE: write {text!r} in the form of column {self.name!r}, {self._form.picture}")
            return spelled
        known = self.choices
        if known is None or text in known:
            return text
        same = [one for one in known if one.lower() == text.lower()]
        if self.kind == "boolean" and same:
            return same[0]
        near = difflib.get_close_matches(text, known, SHOWN, 0.5) or sorted(known)[:SHOWN]
        more = " …" if len(known) > len(near) else ""
        raise UserError(f"--WHERE: column {self.name!r} has no value {text!r}; it has {', '.join(near)}{more}")
