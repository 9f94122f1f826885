"""Columns of numbers: as numbers, or as strings with marks and units."""

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pipeline.data.cleaning import without_space
from pipeline.data.column_type import ColumnType, Counts
from pipeline.data.number_format import FormatSurvey, NumberFormat, decimal_of, exact

NAN = repr(math.nan)


class NumberColumn(ColumnType):
    """Numbers within the range of the values seen: `integer` if all of them are, otherwise `number`.

    Args:
        decimal: decimal mark of numbers that are strings.
    """

    kinds = ("integer", "number")
    tolerant = True

    def __init__(self, decimal: str = ".") -> None:
        self.integer = True
        self.low: Decimal | None = None  # None if NaN is the only value
        self.high: Decimal | None = None
        self.nan = False  # NaN as a number, which is not a missing value
        self.text = True  # numbers are strings
        self.format: NumberFormat | None = None  # None for data of earlier versions
        self._seen = FormatSurvey(decimal)
        self._takes_numbers = decimal == "."
        self._strings = self._numbers = self._nan_word = False

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> "NumberColumn":
        """Create the type from its range, its format, and whether its numbers are strings."""
        made = cls()
        made.integer = description["kind"] == "integer"
        if description["low"] is not None:
            made.low, made.high = decimal_of(description["low"]), decimal_of(description["high"])
        made.nan, made.text = description.get("nan", False), description.get("text", False)
        if "format" in description:
            made.format = NumberFormat.from_json(description["format"])
            made.form = made.format.example()
        return made

    def look(self, values: Sequence[Any]) -> None:
        """Choose the thousands mark."""
        self._seen.look(value for value in values if isinstance(value, str))

    def add(self, value: Any) -> bool:
        """Accept numbers, and strings that spell a number with the decimal mark."""
        if isinstance(value, str):
            return self._add(value, True)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self._takes_numbers:
            return False
        if isinstance(value, float) and math.isnan(value):
            self.nan, self.integer = True, False
            return self.wanted is None or (self.wanted == "number" and self._is_sound())
        return self._add(repr(value), False)

    def _add(self, text: str, is_string: bool) -> bool:
        found = self._seen.add(text)
        if found is None:
            self._nan_word = self._nan_word or text == NAN
            return False
        if is_string:
            self._strings = True
        else:
            self._numbers = True
        number = found.value
        self.integer = self.integer and found.decimals is None and not found.exponent
        if self.low is None or self.high is None:
            self.low = self.high = number
        elif number < self.low:
            self.low = number
        elif number > self.high:
            self.high = number
        return self.wanted is None or ((self.integer or self.wanted == "number") and self._is_sound())

    def _is_sound(self) -> bool:
        """Return True for numbers that are all strings or none, without codes that zeros lead."""
        return (
            self._seen.consistent()
            and not (self._strings and (self._numbers or self.nan))
            and not (self.nan and self._nan_word)  # the word and the number are spelled alike
        )

    def fits(self, counts: Counts) -> bool:
        """Return True for numbers that are all strings or none; repeated codes with leading zeros are no numbers."""
        if not (self._strings or self._numbers or self.nan) or not self._is_sound():
            return False
        if self._seen.padded and self.wanted is None and counts.distinct * 2 <= counts.values:
            return False
        self.text = self._strings
        self.integer = self.integer and self.wanted != "number"
        self.format = self._seen.found()
        self.form = self.format.example()
        return True

    def to_json(self) -> dict[str, Any]:
        """Describe the range and the format; `text` marks numbers that are strings."""
        assert self.format is not None, "no number was seen"
        low, high = (None if end is None else exact(end) for end in (self.low, self.high))
        column: dict[str, Any] = {"kind": "integer" if self.integer else "number", "low": low, "high": high}
        column |= {"text": True} if self.text else {}
        return column | ({"nan": True} if self.nan else {}) | {"format": self.format.to_json()}

    def spelling(self, value: Any) -> str:
        """Return a string as it is, and the shortest digits of a number that give it back."""
        return value if isinstance(value, str) else repr(value)

    def value(self, text: str) -> float | str:
        """Convert a number within the range; a new one is written in the column's format."""
        if self.nan and text == NAN:
            return math.nan
        if self.low is None:
            raise ValueError("is not NaN, the only number of the column")
        if self.format is None:
            return self._of_earlier_data(text)
        try:
            number = self.format.read(text)
        except ValueError:
            raise ValueError("is no number") from None
        if self.integer and number != number.to_integral_value():
            raise ValueError("is no integer")
        spelled = text if self.format.fits(text) else self.format.write(number)
        self._check_range(self.format.read(spelled))
        return spelled if self.text else _native(spelled)

    def loose(self, text: str) -> float | str:
        """Convert a number with white space between its characters."""
        bare = without_space(text)
        return self.value(bare if self.format is None else self.format.spaced(bare))

    def _of_earlier_data(self, text: str) -> float | str:
        """Convert a number as the version did that described the column without a format."""
        number = int(text) if self.integer or re.fullmatch(r"-?\d+", text) else float(text)
        if not math.isfinite(number):
            raise ValueError("is no number of the column")
        self._check_range(Decimal(str(number)))
        spelled = re.fullmatch(r"-?(?:(0|[1-9]\d*)|\d+\.\d+(?:[eE][-+]?\d+)?)", text, re.ASCII)
        if self.text and (spelled is None or (self.integer and spelled[1] is None)):
            raise ValueError("is no number of the column")
        return text if self.text else number

    def _check_range(self, number: Decimal) -> None:
        assert self.low is not None and self.high is not None
        if not self.low <= number <= self.high:
            raise ValueError(f"lies outside {self.extent()}")

    def arrow(self) -> str:
        """Return the alias: strings stay strings, and integers from 2**63 on need an unsigned type."""
        if self.text:
            return "string"
        if not self.integer or self.nan:
            return "double"
        return "uint64" if self.high is not None and self.high >= 2**63 else "int64"

    def extent(self) -> str:
        """Return `low to high`, long numbers rounded to 7 digits."""
        if self.low is None or self.high is None:
            return NAN
        return " to ".join(str(end) if len(str(end)) <= 12 else f"{end:.7g}" for end in (self.low, self.high))


def _native(spelled: str) -> int | float:
    """Convert the digits of a number to an integer if they are one, otherwise to a float."""
    return int(spelled) if re.fullmatch(r"[-+]?\d+", spelled, re.ASCII) else float(spelled)
