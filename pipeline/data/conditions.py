"""Conditions on the values of a table's columns, as `--WHERE` writes them: `age > 30 and sex = F`."""

import difflib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from typing import Any

from pipeline.data.column_survey import MISSING
from pipeline.data.date_format import form_of, forms
from pipeline.data.number_format import NumberFormat, decimal_of
from pipeline.data.number_spelling import parse
from pipeline.runtime.errors import UserError

NUMBERS, DATES = ("integer", "number"), ("date", "time", "date-time")
SHOWN = 5  # members of a category in a message
_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`)|(?P<sign><=|>=|!=|<>|==|=|<|>|\(|\)|,)"""
    r"""|(?P<word>[^\s<>=!(),'"`]+))"""
)
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

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

    def key(self, spelled: str) -> Key | None:
        """Return the place of a spelled value in the order; None if it is no number or date."""
        if self.kind in DATES:
            found = form_of(self.description["form"]).read(spelled)
            return None if found is None else found[0]
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
            for picture in forms(text):
                found = form_of(picture).read(text)
                if found is not None and form_of(picture).kind == self.kind and picture.startswith(("YYYY", "hh")):
                    return found[0]
            form = self.description["form"]
            raise UserError(f"--WHERE: {text!r} is no {self.kind} of column {self.name!r}; write it as {form}")
        plain = parse(text)
        if plain is None or plain.thousands:
            seen = (self.description.get("seen") or {}).get("range") or "numbers"
            raise UserError(f"--WHERE: {text!r} is no number; column {self.name!r} has {seen}")
        return plain.value

    def member(self, text: str) -> str:
        """Return a value of a condition that is compared for equality.

        Raises:
            UserError: the column has no such value.
        """
        if self.kind in NUMBERS or self.kind in DATES:
            words = {*self.description.get("missing", ()), *(one[0] for one in self.description.get("outliers", ()))}
            if text not in words:
                self.read(text)
            return text
        known = ["True", "False"] if self.kind == "boolean" else self.members
        if known is None or text in known:
            return text
        same = [one for one in known if one.lower() == text.lower()]
        if self.kind == "boolean" and same:
            return same[0]
        near = difflib.get_close_matches(text, known, SHOWN, 0.5) or sorted(known)[:SHOWN]
        more = " …" if len(known) > len(near) else ""
        raise UserError(f"--WHERE: column {self.name!r} has no value {text!r}; it has {', '.join(near)}{more}")


@dataclass(frozen=True)
class ColumnCondition:
    """Condition on the values of one column.

    Args:
        column: name of the column.
        bounds: interval of numbers or dates.
        only: spelled values that are permitted; None for all.
        excluded: spelled values that are not permitted.
        missing: True if a missing value, spelled as an empty text, is permitted.
        present: True if another value than a missing one is permitted.
        reader: reads the values of the column.
    """

    column: str
    bounds: Bounds = field(default_factory=Bounds)
    only: frozenset[str] | None = None
    excluded: frozenset[str] = field(default_factory=frozenset)
    missing: bool = False
    present: bool = True
    reader: OrderedColumn | None = field(default=None, compare=False, repr=False)

    def permits(self, spelled: str) -> bool:
        """Return True if the spelled value satisfies the condition."""
        if not spelled or (spelled in MISSING and not (self.only and spelled in self.only)):
            return self.missing
        if not self.present or self._among(spelled, self.excluded):
            return False
        if self.only is not None and not self._among(spelled, self.only):
            return False
        if self.bounds == Bounds():
            return True
        key = None if self.reader is None else self.reader.key(spelled)
        return key is not None and self.bounds.holds(key)

    def _among(self, spelled: str, values: frozenset[str]) -> bool:
        """Compare values as their column does: 40.10 is 40.1 in a column of numbers."""
        if spelled in values:
            return True
        reader = self.reader
        if reader is None or reader.kind not in (*NUMBERS, *DATES) or not values:
            return False
        key = reader.key(spelled)
        return key is not None and any(reader.key(value) == key for value in values)

    def both(self, other: "ColumnCondition") -> "ColumnCondition":
        """Return the condition that both hold."""
        only = self.only if other.only is None else other.only
        if self.only is not None and other.only is not None:
            only = frozenset(one for one in self.only if other._among(one, other.only))
        return replace(
            self,
            bounds=self.bounds.within(other.bounds),
            only=only,
            excluded=self.excluded | other.excluded,
            missing=self.missing and other.missing,
            present=self.present and other.present,
        )

    def check(self) -> None:
        """Check that the conditions on the column do not exclude each other.

        Raises:
            UserError: nothing satisfies them.
        """
        values = None if self.only is None else [one for one in self.only if self.permits(one)]
        if not self.missing and (not self.present or self.bounds.empty or values == []):
            raise UserError(f"--WHERE: no value of column {self.column!r} satisfies the conditions on it")


def parse_where(text: str, columns: Mapping[str, Any]) -> dict[str, ColumnCondition]:
    """Read conditions: comparisons joined by `and`.

    `=`, `!=`, `<`, `<=`, `>`, `>=`, `in (a, b)`, `not in (a, b)`, `between a and b`, `is missing`, `is not missing`.
    Names and values with spaces or signs stand in quotes.

    Args:
        text: the conditions.
        columns: types of the columns, as `ColumnSurvey` describes them.

    Returns:
        A condition for each column that is named; several on one column are joined.

    Raises:
        UserError: the text cannot be read, names no column or value of the table, or excludes everything.
    """
    tokens, found = _tokens(text), dict[str, ColumnCondition]()
    place = 0
    while True:
        condition, place = _comparison(tokens, place, columns)
        known = found.get(condition.column)
        found[condition.column] = condition if known is None else known.both(condition)
        if place == len(tokens):
            break
        word = tokens[place]
        if word.lower() == "or":
            raise UserError("--WHERE joins conditions by 'and'; for 'or', take 'in (a, b)', or sample twice")
        if word.lower() != "and":
            raise UserError(f"--WHERE: expected 'and' in place of {word!r} in {text!r}")
        place += 1
    for condition in found.values():
        condition.check()
    return found


class _Quoted(str):
    """A token in quotes, which is no word of the language."""

    def lower(self) -> str:
        """Return no keyword."""
        return "'"


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    place, end = 0, len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None:
            raise UserError(f"--WHERE cannot be read from {text[place : place + 30]!r}; put names and values in quotes")
        if (quoted := match["quoted"]) is not None:
            tokens.append(_Quoted(quoted[1:-1].replace(quoted[0] * 2, quoted[0])))
        else:
            tokens.append(match["sign"] or match["word"])
        place = match.end()
    if not tokens:
        raise UserError("--WHERE is empty; write conditions such as 'age > 30 and sex = F', or leave it out")
    return tokens


def _comparison(tokens: Sequence[str], place: int, columns: Mapping[str, Any]) -> tuple[ColumnCondition, int]:
    """Read one comparison; return it and the place behind it."""

    def word(offset: int) -> str:
        if place + offset >= len(tokens):
            raise UserError(f"--WHERE ends after {' '.join(tokens)!r}; write: column, sign, value")
        return tokens[place + offset]

    name = str(word(0))
    if name not in columns:
        near = difflib.get_close_matches(name, columns, SHOWN, 0.5) or list(columns)[:20]
        raise UserError(f"--WHERE: there is no column {name!r}; there are {', '.join(near)}")
    reader = OrderedColumn(name, columns[name])
    base, sign = ColumnCondition(name, reader=reader), word(1).lower()
    if sign in ("=", "=="):
        return replace(base, only=frozenset([reader.member(str(word(2)))])), place + 3
    if sign in ("!=", "<>"):
        return replace(base, excluded=frozenset([reader.member(str(word(2)))])), place + 3
    if sign in _ORDER:
        return _bounded(base, reader, [(sign, str(word(2)))]), place + 3
    if sign == "between":
        if word(3).lower() != "and":
            raise UserError(f"--WHERE: write {name} between a and b")
        return _bounded(base, reader, [(">=", str(word(2))), ("<=", str(word(4)))]), place + 5
    if sign == "is":
        positive = word(2).lower() != "not"
        if word(2 if positive else 3).lower() != "missing":
            raise UserError(f"--WHERE: write {name} is missing, or {name} is not missing")
        return replace(base, missing=positive, present=not positive), place + (3 if positive else 4)
    negative = sign == "not"
    if word(1 + negative).lower() != "in" or word(2 + negative) != "(":
        raise UserError(f"--WHERE: {word(1)!r} is no sign; take =, !=, <, <=, >, >=, in (…), between, is missing")
    offset, values = 3 + negative, list[str]()
    while True:
        values.append(reader.member(str(word(offset))))
        if word(offset + 1) not in (",", ")"):
            raise UserError(f"--WHERE: write {name} in (a, b), with quotes around values that have spaces")
        offset += 2
        if word(offset - 1) == ")":
            break
    if negative:
        return replace(base, excluded=frozenset(values)), place + offset
    return replace(base, only=frozenset(values)), place + offset


def _bounded(base: ColumnCondition, reader: OrderedColumn, ends: Sequence[tuple[str, str]]) -> ColumnCondition:
    """Add bounds to a condition; of a category of numbers, keep the members within them."""
    if not reader.ordered:
        raise UserError(
            f"--WHERE: column {reader.name!r} has no order (its type is {reader.kind}); compare it with = or in (…)"
        )
    bounds = Bounds()
    for sign, text in ends:
        key, opened = reader.read(text), sign in ("<", ">")
        end = Bounds(high=key, high_open=opened) if "<" in sign else Bounds(low=key, low_open=opened)
        bounds = bounds.within(end)
    if reader.members is not None:
        inside = [one for one in reader.members if (key := reader.key(one)) is not None and bounds.holds(key)]
        return replace(base, only=frozenset(inside))
    description = reader.description
    if reader.kind in NUMBERS and description.get("low") is not None:
        seen = Bounds(decimal_of(description["low"]), decimal_of(description["high"]))
    elif reader.kind in DATES:
        seen = Bounds(description["low"], description["high"])
    else:
        seen = Bounds()
    if bounds.within(seen).empty:
        raise UserError(
            f"--WHERE: no value of column {reader.name!r} satisfies the condition; its values are "
            f"{(description.get('seen') or {}).get('range')}"
        )
    return replace(base, bounds=bounds)
