"""Columns of strings that name one thing each: UUIDs, e-mail addresses, telephone numbers and other identifiers."""

import functools
import itertools
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from pipeline.data.cleaning import without_space
from pipeline.data.column_type import ColumnType, Counts

FORMS = 8  # shapes of an identifier at most
LONGEST = 24  # runs of a shape at most
LONGEST_TEXT = 256  # characters of an identifier at most
_SPACES = re.compile(r"\s")


class PatternColumn(ColumnType):
    """Strings that match a pattern: UUIDs, e-mail addresses, telephone numbers."""

    tolerant = True
    pattern: ClassVar[re.Pattern[str]]
    _seen = False

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> "ColumnType":
        """Create the type; it has no parameters."""
        return cls()

    def add(self, value: Any) -> bool:
        """Accept strings that match the pattern."""
        found = isinstance(value, str) and len(value) <= LONGEST_TEXT and self.pattern.fullmatch(value) is not None
        self._seen = self._seen or found
        return found

    def fits(self, counts: Counts) -> bool:
        """Return True after at least one value; a few repeated ones are a category, which is tried before."""
        return self._seen

    def to_json(self) -> dict[str, Any]:
        """Return the kind alone."""
        return {"kind": self.kinds[0]}

    def value(self, text: str) -> str:
        """Return a string that matches the pattern."""
        if self.pattern.fullmatch(text) is None:
            raise ValueError(f"is no {self.kinds[0]}")
        return text

    def loose(self, text: str) -> str:
        """Return a string that matches the pattern without its white space."""
        return self.value(without_space(text))


class UuidColumn(PatternColumn):
    """Column of UUIDs."""

    kinds = ("uuid",)
    pattern = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")


class EmailColumn(PatternColumn):
    """Column of e-mail addresses."""

    kinds = ("e-mail",)
    pattern = re.compile(r"[^\s@,;<>\"]{1,64}@[^\s@,;<>\"]+\.[^\W\d_][^\s@,;<>\".]+")


class PhoneColumn(PatternColumn):
    """Column of telephone numbers with marks between their groups."""

    kinds = ("phone",)
    pattern = re.compile(
        # Seven to fifteen digits that begin as a number for all countries or for one's own, or are grouped as one;
        # other digits with marks are ZIP codes, ISBNs, identifiers.
        r"(?=(?:\D*\d){7,15}\D*$)(?=[+(0]|.* |(?:\d{3}[.-])?\d{3}[.-]\d{4}$)"
        r"\+?[(\d][\d ()./-]*(?: ?(?:x|ext\.?) ?\d{1,6})?",
        re.ASCII,
    )

    def loose(self, text: str) -> str:
        """Return the string, since its spaces do not follow from its digits."""
        return text


class IdentifierColumn(ColumnType):
    """Strings of letters, digits and marks in one of a few orders, such as `A-0017`, or digits that are no numbers.

    Whole numbers of a JSON or Parquet file are identifiers where the user says so, and stay numbers.
    """

    kinds = ("identifier",)
    tolerant = True

    def __init__(self) -> None:
        self._shapes: dict[str, list[list[int]]] = {}  # shortest and longest of each run, by shape
        self._integers = False

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> "IdentifierColumn":
        """Create the type from its shapes."""
        made = cls()
        made._integers = description.get("integers", False)
        made._shapes = {shape: [list(ends) for ends in widths] for shape, widths in description["shapes"].items()}
        made.form = made._form()
        return made

    def add(self, value: Any) -> bool:
        """Accept strings of a few shapes with a digit and without white space, or whole numbers from 0 on."""
        if self.wanted and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            if self._shapes and not self._integers:
                return False  # strings and numbers
            self._integers, value = True, str(value)
        elif self._integers:
            return False
        if not isinstance(value, str) or len(value) > LONGEST_TEXT:
            return False
        shape, widths = _runs(value)
        if shape not in self._shapes:
            if len(self._shapes) == FORMS or "9" not in shape or len(shape) > LONGEST or _SPACES.search(shape):
                return False
            self._shapes[shape] = [[width, width] for width in widths]
        for ends, width in zip(self._shapes[shape], widths, strict=True):
            ends[:] = min(ends[0], width), max(ends[1], width)
        return True

    def fits(self, counts: Counts) -> bool:
        """Return True after at least one value; a few repeated ones are a category, which is tried before."""
        self.form = self._form()
        return bool(self._shapes)

    def _form(self) -> str:
        return " or ".join(
            "".join(
                run * low + (f"…{run}" if high > low else "") for run, (low, high) in zip(shape, widths, strict=True)
            )
            for shape, widths in list(self._shapes.items())[:3]
        )

    def to_json(self) -> dict[str, Any]:
        """Describe the shapes with the widths of their runs."""
        return {"kind": "identifier", "shapes": self._shapes} | ({"integers": True} if self._integers else {})

    def value(self, text: str) -> str | int:
        """Return a string of one of the shapes, or a number with as many digits."""
        shape, widths = _runs(text)
        ends = self._shapes.get(shape)
        if ends is None or not all(low <= width <= high for width, (low, high) in zip(widths, ends, strict=True)):
            raise ValueError(f"has not the form {self.form}")
        if self._integers and text != str(int(text)):
            raise ValueError("begins with 0, as no number does")
        return int(text) if self._integers else text

    def loose(self, text: str) -> str | int:
        """Return a value of one of the shapes without its white space."""
        return self.value(without_space(text))

    def arrow(self) -> str:
        """Return the alias of 64-bit integers or strings."""
        return "int64" if self._integers else "string"


@functools.lru_cache(maxsize=1024)
def _kind(character: str) -> str:
    if character in "0123456789":
        return "9"
    if character.isalpha():
        return "A" if character.isupper() else "a"
    return character


def _runs(text: str) -> tuple[str, list[int]]:
    """Return the shape of a string and the lengths of its runs.

    A shape has a character for each run of digits (9), of capital letters (A), of other letters (a), and of any other
    character, which is itself.
    """
    runs = [(kind, sum(1 for _ in run)) for kind, run in itertools.groupby(text, _kind)]
    return "".join(kind for kind, _ in runs), [width for _, width in runs]
