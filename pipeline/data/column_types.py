"""Types of a table's columns: found from the values, kept in `statistics.json`, applied to generated strings."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.data.cleaning import without_space
from pipeline.data.column_type import ColumnType, Counts
from pipeline.data.date_column import DateColumn
from pipeline.data.identifier_columns import EmailColumn, IdentifierColumn, PhoneColumn, UuidColumn
from pipeline.data.number_column import NumberColumn
from pipeline.data.number_spelling import THOUSANDS

CATEGORIES = 1000  # distinct values of a category at most, where each has two rows on average
MANY_CATEGORIES = 10_000  # the same, where each has `OFTEN` rows on average, as the key of another table
OFTEN = 10
FEW = 20  # distinct values that make a category even if none is repeated


class BooleanColumn(ColumnType):
    """Column of booleans."""

    kinds = ("boolean",)

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> "BooleanColumn":
        """Create the type; it has no parameters."""
        return cls()

    def add(self, value: Any) -> bool:
        """Accept booleans."""
        return isinstance(value, bool)

    def fits(self, counts: Counts) -> bool:
        """Return True after at least one value."""
        return counts.values > 0

    def to_json(self) -> dict[str, Any]:
        """Return the kind alone."""
        return {"kind": "boolean"}

    def value(self, text: str) -> bool:
        """Convert `True` and `False`."""
        if text not in ("True", "False"):
            raise ValueError("is neither True nor False")
        return text == "True"

    def loose(self, text: str) -> bool:
        """Convert `True` and `False`, with white space between their letters."""
        return self.value(without_space(text))

    def arrow(self) -> str:
        """Return the alias of booleans."""
        return "bool"


class CategoryColumn(ColumnType):
    """One of at most `CATEGORIES` strings, or of `MANY_CATEGORIES` that are repeated often.

    Args:
        values: the strings.
        repeated: True if the column must repeat its values to be of this type.
    """

    kinds = ("category",)

    def __init__(self, values: Sequence[str] = (), repeated: bool = False) -> None:
        self._values = dict.fromkeys(values)
        self._repeated = repeated

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> "CategoryColumn":
        """Create the type from its values."""
        return cls(description["values"])

    def add(self, value: Any) -> bool:
        """Accept strings until there are too many distinct ones."""
        if not isinstance(value, str):
            return False
        self._values.setdefault(value)
        return len(self._values) <= MANY_CATEGORIES

    def fits(self, counts: Counts) -> bool:
        """Return True for repeated or few values; a column without values is a column of no category."""
        rows_a_value = 2 if len(self._values) <= CATEGORIES else OFTEN
        return len(self._values) * rows_a_value <= counts.values or (not self._repeated and len(self._values) <= FEW)

    def to_json(self) -> dict[str, Any]:
        """Describe the values in sorted order."""
        return {"kind": "category", "values": sorted(self._values)}

    def value(self, text: str) -> str:
        """Return the value with these characters."""
        if text not in self._values:
            raise ValueError("is none of the values of the data")
        return text

    def loose(self, text: str) -> str:
        """Return the value that differs in white space alone; of several, the one equal to the string."""
        if text in self._values:
            return text
        found = {without_space(known): known for known in sorted(self._values)}.get(without_space(text))
        return self.value(text) if found is None else found


class FreeTextColumn(ColumnType):
    """Column of free text."""

    kinds = ("text",)

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> "FreeTextColumn":
        """Create the type; it has no parameters."""
        return cls()

    def add(self, value: Any) -> bool:
        """Accept every string."""
        return isinstance(value, str)

    def fits(self, counts: Counts) -> bool:
        """Return True."""
        return True

    def to_json(self) -> dict[str, Any]:
        """Return the kind alone."""
        return {"kind": "text"}

    def value(self, text: str) -> str:
        """Return the text unchanged."""
        return text


class MixedColumn(ColumnType):
    """Values of several types (`1` and `"1"`, true, text), each spelled as in JSON, so that they remain apart."""

    kinds = ("mixed",)

    def __init__(self) -> None:
        self._known: dict[str, None] | None = {}

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> "MixedColumn":
        """Create the type from its values, if it has few."""
        made = cls()
        made._known = dict.fromkeys(description["values"]) if "values" in description else None
        return made

    def add(self, value: Any) -> bool:
        """Accept every value."""
        if self._known is not None:
            self._known.setdefault(self.spelling(value))
            self._known = self._known if len(self._known) <= CATEGORIES else None
        return True

    def fits(self, counts: Counts) -> bool:
        """Return True; repeated values make a choice among them."""
        if self._known is not None and len(self._known) > FEW and len(self._known) * 2 > counts.values:
            self._known = None
        return True

    def to_json(self) -> dict[str, Any]:
        """Describe the values, if they are few."""
        return {"kind": "mixed"} | ({} if self._known is None else {"values": sorted(self._known)})

    def spelling(self, value: Any) -> str:
        """Spell a value as in JSON."""
        return json.dumps(value, ensure_ascii=False)

    def value(self, text: str) -> Any:
        """Read a value as in JSON."""
        if self._known is not None and text not in self._known:
            raise ValueError("is none of the values of the data")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("is no value as JSON spells it") from None
        if isinstance(value, (list, dict)):
            raise ValueError("is no single value")
        return value

    def loose(self, text: str) -> Any:
        """Read the value that differs in white space alone; without known values, white space remains."""
        known = {without_space(one): one for one in self._known or ()}
        return self.value(known.get(without_space(text), text.strip()))


def _repeated_category() -> CategoryColumn:
    return CategoryColumn(repeated=True)


def _number(decimal: str) -> Callable[[], ColumnType]:
    return lambda: NumberColumn(decimal)


# In the order of their trial; a number has a candidate for each decimal mark.
CANDIDATES: tuple[Callable[[], ColumnType], ...] = (
    BooleanColumn,
    DateColumn,
    *map(_number, THOUSANDS),
    _repeated_category,
    UuidColumn,
    EmailColumn,
    PhoneColumn,
    IdentifierColumn,
    CategoryColumn,
    FreeTextColumn,
    MixedColumn,
)
KINDS: dict[str, type[ColumnType]] = {
    kind: type(one) for one in (candidate() for candidate in CANDIDATES) for kind in one.kinds
}


def column_type(description: Mapping[str, Any]) -> ColumnType:
    """Create a column's type from its description in `statistics.json`; an unknown kind is free text."""
    return KINDS.get(description["kind"], FreeTextColumn).from_json(description)


class RejectedError(ValueError):
    """A generated string is no value of its column.

    Args:
        column: name of the column.
        text: the string.
        reason: reason, which completes "the value …".
    """

    def __init__(self, column: str, text: str, reason: str) -> None:
        super().__init__(f"column {column!r}: {text[:60]!r} {reason}")
        self.column, self.text, self.reason = column, text, reason


class ColumnTypes:
    """Spells the values of a table's columns as strings, and converts generated strings to values.

    Args:
        descriptions: description of each column, as `ColumnSurvey.to_json` returns them; an unknown kind is free text.
        lossless: False for strings of a tokenizer that does not keep white space.
    """

    def __init__(self, descriptions: Mapping[str, Mapping[str, Any]], lossless: bool = True) -> None:
        self._lossless = lossless
        self._types = {name: column_type(description) for name, description in descriptions.items()}
        # Strings that stay themselves: words for missing values, and the few that are of no other type.
        self._words: dict[str, dict[str, str]] = {}
        self._empty = {name for name, description in descriptions.items() if description.get("empty")}
        for name, description in descriptions.items():
            words = [*description.get("missing", ()), *(value for value, _, _ in description.get("outliers", ()))]
            self._words[name] = {word: word for word in words}
            if not lossless:
                self._words[name] |= {without_space(word): word for word in words}

    def spelling(self, name: str, value: Any) -> str:
        """Spell a value of a column as a string; a missing value is the empty string."""
        if value is None:
            return ""
        column = self._types.get(name)
        words = self._words.get(name, {})
        if column is None or (isinstance(value, str) and (value in words or (not value and name in self._empty))):
            return str(value)
        return column.spelling(value)

    def row(self, values: Mapping[str, str]) -> dict[str, Any]:
        """Convert strings to values of their columns.

        Raises:
            RejectedError: a string is no value of its column.
        """
        return {name: self.value(name, text) for name, text in values.items()}

    def value(self, name: str, text: str) -> Any:
        """Convert a string to a value of a column; None if it is empty, unchanged if the column is unknown.

        Raises:
            RejectedError: the string is no value of the column.
        """
        if not text:
            return "" if name in self._empty else None
        column, words = self._types.get(name), self._words.get(name, {})
        if column is None:
            return text
        if (known := words.get(text if self._lossless else without_space(text))) is not None:
            return known
        try:
            return column.value(text) if self._lossless else column.loose(text)
        except ValueError as error:
            raise RejectedError(name, text, str(error)) from None
