"""Conditions on the values of a table's columns, as `--WHERE` writes them: `age > 30 and sex = F`."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from pipeline.data.column_survey import MISSING
from pipeline.data.ordered_column import DATES, NUMBERS, SHOWN, Bounds, OrderedColumn
from pipeline.runtime.errors import UserError

_SIGNS = ("=", "==", "!=", "<>", "<", "<=", ">", ">=", "(", ")", ",")
_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`)|(?P<sign><=|>=|!=|<>|==|=|<|>|\(|\)|,)"""
    r"""|(?P<word>[^\s<>=!(),'"`]+))"""
)
_ORDER = ("<", "<=", ">", ">=")


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
        if self.missing or (self.present and self._satisfiable()):
            return
        seen = "" if self.reader is None else (self.reader.description.get("seen") or {}).get("range")
        raise UserError(
            f"--WHERE: no value of column {self.column!r} satisfies the conditions on it"
            f"{f'; its values are {seen}' if seen else ''}"
        )

    def _satisfiable(self) -> bool:
        """Return True if a value of the data's range satisfies the condition."""
        reader = self.reader
        if reader is None:
            return self.only != frozenset() and not self.bounds.empty
        values = reader.choices if self.only is None else self.only
        if values is not None:
            return any(self.permits(one) and self._is_seen(one) for one in values)
        bounds = self.bounds.within(reader.seen)
        bounds = bounds.of_integers() if reader.kind == "integer" else bounds
        low: Any = bounds.low
        high: Any = bounds.high
        if bounds.empty or low is None or high is None:
            return not bounds.empty
        # As many values as are excluded may be all that the bounds leave.
        excluded = {reader.key(one) for one in self.excluded}
        if reader.kind == "integer" and high - low < len(excluded):
            return any(low + step not in excluded for step in range(int(high - low) + 1))
        return low != high or low not in excluded

    def _is_seen(self, spelled: str) -> bool:
        """Return True for a value in the range of the data; a word among numbers or dates has no range."""
        reader = self.reader
        if reader is None or reader.kind not in (*NUMBERS, *DATES) or (key := reader.key(spelled)) is None:
            return True
        integral = reader.kind != "integer" or Decimal(key) == Decimal(key).to_integral_value()
        return integral and reader.seen.holds(key)


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
    for name, condition in found.items():
        condition.check()
        if columns[name]["kind"] == "integer":
            found[name] = replace(condition, bounds=condition.bounds.of_integers())
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

    def value(offset: int) -> str:
        found = word(offset)
        if not isinstance(found, _Quoted) and (found in _SIGNS or found.lower() in ("and", "or")):
            raise UserError(f"--WHERE: expected a value in place of {str(found)!r}; put it in quotes if it is one")
        return str(found)

    name = value(0)
    if name not in columns:
        near = difflib.get_close_matches(name, columns, SHOWN, 0.5) or list(columns)[:20]
        raise UserError(f"--WHERE: there is no column {name!r}; there are {', '.join(near)}")
    reader = OrderedColumn(name, columns[name])
    base, sign = ColumnCondition(name, reader=reader), word(1).lower()
    if sign in ("=", "=="):
        return replace(base, only=frozenset([reader.member(value(2))])), place + 3
    if sign in ("!=", "<>"):
        return replace(base, excluded=frozenset([reader.member(value(2))])), place + 3
    if sign in _ORDER:
        return _bounded(base, reader, [(sign, value(2))]), place + 3
    if sign == "between":
        if word(3).lower() != "and":
            raise UserError(f"--WHERE: write {name} between a and b")
        return _bounded(base, reader, [(">=", value(2)), ("<=", value(4))]), place + 5
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
        values.append(reader.member(value(offset)))
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
    return replace(base, bounds=bounds)
