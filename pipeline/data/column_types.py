"""Types of a table's columns: found from the values, kept in `statistics.json`, applied to generated strings."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pipeline.data.cleaning import clean_none, without_space

CATEGORIES = 1000  # distinct values of a column; a column with more holds free text
# The words that pandas, NumPy, R and spreadsheets write for a missing number.
MISSING = frozenset({"nan", "NaN", "NAN", "-nan", "NA", "<NA>", "N/A", "n/a", "#N/A", "NULL", "null", "None"})


class ColumnType(ABC):
    """A type that a column may have.

    A column begins with an object of every type of `TYPES` and gives each value to `add`. The first type that fits all
    values is the column's. A new type is a subclass and its entry in `TYPES`.

    Attributes:
        kinds: names of the type in `statistics.json`.
    """

    kinds: ClassVar[tuple[str, ...]]

    @classmethod
    @abstractmethod
    def from_json(cls, description: Mapping[str, Any]) -> "ColumnType":
        """Create the type from its description in `statistics.json`."""

    @abstractmethod
    def add(self, value: Any) -> bool:
        """Take a value into account that is not missing; return False if it cannot be of this type."""

    @abstractmethod
    def fits(self) -> bool:
        """Return True if the values so far make a column of this type; `add` refused none of them."""

    @abstractmethod
    def to_json(self, spelt: bool) -> dict[str, Any]:
        """Describe the type for `statistics.json`.

        Args:
            spelt: True if every value of the table was read as a string, numbers included.
        """

    @abstractmethod
    def value(self, text: str) -> Any:
        """Convert a string that is not empty to a value of the column.

        Raises:
            KeyError, ValueError: the string is no value of the column.
        """

    def arrow(self) -> str:
        """Return the alias of the Arrow type of the values in a Parquet file."""
        return "string"


class BooleanColumn(ColumnType):
    """Column of booleans."""

    kinds = ("boolean",)

    def __init__(self) -> None:
        self._empty = True

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> "BooleanColumn":
        """Create the type; it has no parameters."""
        return cls()

    def add(self, value: Any) -> bool:
        """Accept booleans."""
        self._empty = False
        return isinstance(value, bool)

    def fits(self) -> bool:
        """Return True after at least one value."""
        return not self._empty

    def to_json(self, spelt: bool) -> dict[str, Any]:
        """Return the kind alone."""
        return {"kind": "boolean"}

    def value(self, text: str) -> bool:
        """Convert `True` and `False`."""
        return {"True": True, "False": False}[without_space(text)]

    def arrow(self) -> str:
        """Return the alias of booleans."""
        return "bool"


class NumberColumn(ColumnType):
    """Numbers within the range of the values seen: `integer` if all of them are, otherwise `number`.

    A column may also hold words that replace a missing number (`MISSING`).
    """

    kinds = ("integer", "number")

    def __init__(self) -> None:
        self.integer, self.low, self.high = True, math.inf, -math.inf
        self.missing: set[str] = set()
        self.text = True  # numbers are written as text, also in formats with a type for numbers

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> "NumberColumn":
        """Create the type from its range, its words for missing numbers, and whether numbers are text."""
        made = cls()
        made.integer = description["kind"] == "integer"
        made.low, made.high = description["low"], description["high"]
        made.missing, made.text = set(description.get("missing", ())), description.get("text", False)
        return made

    def add(self, value: Any) -> bool:
        """Accept numbers, strings that spell a number, and words for a missing number."""
        kind = _number_kind(value)
        self.text = self.text and isinstance(value, str)
        if kind == "missing":
            self.missing.add(value.strip())
        elif kind is not None:
            # A float would round a large integer, and with it the bound.
            number = (int if kind == "integer" else float)(value)
            self.integer = self.integer and kind == "integer"
            self.low, self.high = min(self.low, number), max(self.high, number)
        return kind is not None

    def fits(self) -> bool:
        """Return True after at least one number."""
        return self.low <= self.high

    def to_json(self, spelt: bool) -> dict[str, Any]:
        """Describe the range; `text` marks numbers that were strings in a format with a type for numbers."""
        column = {"kind": "integer" if self.integer else "number", "low": self.low, "high": self.high}
        column |= {"missing": sorted(self.missing)} if self.missing else {}
        return column | ({"text": True} if self.text and not spelt else {})

    def value(self, text: str) -> float | str:
        """Convert a number within the range; a word for a missing number stays itself."""
        value = without_space(text)
        if value in self.missing:
            return value
        number = int(value) if self.integer or re.fullmatch(r"-?\d+", value) else float(value)
        if not self.low <= number <= self.high:
            raise ValueError("outside the range of the column")
        if not self.text:
            return number
        if _number_kind(value) not in self.kinds:
            raise ValueError("spelt like no number of the column")
        return value

    def arrow(self) -> str:
        """Return the alias: text stays text, and integers from 2**63 on need an unsigned type."""
        if self.text:
            return "string"
        if not self.integer:
            return "double"
        return "uint64" if self.high >= 2**63 else "int64"


class CategoryColumn(ColumnType):
    """One of at most `CATEGORIES` values."""

    kinds = ("category",)

    def __init__(self, values: Sequence[str] = ()) -> None:
        self._values = dict.fromkeys(values)

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> "CategoryColumn":
        """Create the type from its values."""
        return cls(description["values"])

    def add(self, value: Any) -> bool:
        """Accept values until there are too many distinct ones."""
        self._values.setdefault(clean_none(str(value)))
        return len(self._values) <= CATEGORIES

    def fits(self) -> bool:
        """Return True; a column without values is a column of no category."""
        return True

    def to_json(self, spelt: bool) -> dict[str, Any]:
        """Describe the values in sorted order."""
        return {"kind": "category", "values": sorted(self._values)}

    def value(self, text: str) -> str:
        """Return the value with these characters; of values that differ in white space alone, the one equal to it."""
        if text in self._values:
            return text
        return {without_space(known): known for known in sorted(self._values)}[without_space(text)]


class FreeTextColumn(ColumnType):
    """Column of free text."""

    kinds = ("text",)

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> "FreeTextColumn":
        """Create the type; it has no parameters."""
        return cls()

    def add(self, value: Any) -> bool:
        """Accept every value."""
        return True

    def fits(self) -> bool:
        """Return True."""
        return True

    def to_json(self, spelt: bool) -> dict[str, Any]:
        """Return the kind alone."""
        return {"kind": "text"}

    def value(self, text: str) -> str:
        """Return the text unchanged."""
        return text


TYPES: tuple[type[ColumnType], ...] = (BooleanColumn, NumberColumn, CategoryColumn, FreeTextColumn)


def column_type(description: Mapping[str, Any]) -> ColumnType:
    """Create a column's type from its description in `statistics.json`; an unknown kind is free text."""
    found = next((kind for kind in TYPES if description["kind"] in kind.kinds), FreeTextColumn)
    return found.from_json(description)


class ColumnSurvey:
    """Finds the types of a table's columns from its values.

    Missing values (None and empty strings) do not affect a column's type.

    Args:
        spelt: True if every value is read as a string, numbers included, as in CSV.
    """

    def __init__(self, spelt: bool = False) -> None:
        self._spelt = spelt
        self._candidates: dict[str, list[ColumnType]] = {}

    def see(self, row: Mapping[str, Any]) -> None:
        """Take the values of a row into account."""
        for name, value in row.items():
            if name not in self._candidates:
                self._candidates[name] = [kind() for kind in TYPES]
            if value is not None and value != "":
                self._candidates[name] = [one for one in self._candidates[name] if one.add(value)]

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Describe each column seen: its kind, with the range or the values of the column."""
        found = {name: next(one for one in fitting if one.fits()) for name, fitting in self._candidates.items()}
        return {name: column.to_json(self._spelt) for name, column in found.items()}


class ColumnTypes:
    """Converts generated strings to values of a table's columns.

    Args:
        descriptions: description of each column, as `ColumnSurvey.to_json` returns them.
    """

    def __init__(self, descriptions: Mapping[str, Mapping[str, Any]]) -> None:
        self._types = {name: column_type(description) for name, description in descriptions.items()}

    def row(self, values: Mapping[str, str] | None) -> dict[str, Any] | None:
        """Convert strings to values of their columns; None if a string is not valid for its column."""
        if values is None:
            return None
        row = {}
        for name, value in values.items():
            try:
                row[name] = self.value(name, value)
            except (KeyError, ValueError):
                return None
        return row

    def value(self, name: str, text: str) -> Any:
        """Convert a string to a value of a column; None if it is empty, unchanged if the column is unknown.

        Raises:
            KeyError, ValueError: the string is no value of the column.
        """
        if not text:
            return None
        column = self._types.get(name)
        return text if column is None else column.value(text)


def _number_kind(value: Any) -> str | None:
    """Return `integer`, `number`, or `missing` for a word of `MISSING`; None for other values."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return "integer" if isinstance(value, int) else "number"
    text = str(value).strip()
    if text in MISSING:
        return "missing"
    number = re.fullmatch(r"-?(?:(0|[1-9]\d*)|\d+\.\d+(?:[eE][-+]?\d+)?)", text)  # 007 is a name
    if number is None or not math.isfinite(float(text)):  # so many digits are a name, too
        return None
    return "integer" if number[1] else "number"
