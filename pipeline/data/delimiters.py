"""The delimiter of a CSV file: found from its first rows, or named by the user."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.runtime.errors import UserError

FIRST_ROWS = 100  # rows below the header from which the delimiter is found
FIRST_CHARACTERS = 2**24  # a wrong delimiter may join all lines of a file to one record
WORDS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}


def is_delimiter(mark: str) -> bool:
    """Return True for a character that may divide columns: no letter, digit, quotation mark or line end."""
    return len(mark) == 1 and not mark.isalnum() and (mark.isprintable() or mark == "\t") and mark not in "\"'"


def shown(delimiter: str) -> str:
    """Write a delimiter for a message: `','`, or the word `tab`."""
    return "tab" if delimiter == "\t" else repr(delimiter)


def declared(line: str) -> str | None:
    """Return the delimiter that the line `sep=;` of Excel declares; None for any other line."""
    found = re.fullmatch(r"sep=(.|\\t)[\r\n]*", line, re.IGNORECASE)
    mark = None if found is None else found[1].replace("\\t", "\t")
    return mark if mark is not None and is_delimiter(mark) else None


def records(path: Path, content: Iterable[str], delimiter: str, before: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Parse the records of a CSV file, the header among them, each with the number of its first line.

    Args:
        path: file, for error messages.
        content: its lines.
        delimiter: character between two columns.
        before: lines of the file before `content`.

    Raises:
        UserError: the quotation marks of a record are wrong.
    """
    csv.field_size_limit(2**31 - 1)  # the default of 128 KiB is less than a long document
    reader = csv.reader(content, delimiter=delimiter, strict=True)
    while True:
        line = before + reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{path}, line {line}: cannot be read as CSV ({error}); mend its quotes") from None
        if record is None:
            return
        if record:  # an empty line is no record; a line of two quotation marks is one
            yield line, record


def ragged(path: Path, line: int, fields: int, header: int, delimiter: str) -> UserError:
    """Create the error for a record whose number of fields is not that of the header."""
    put = "text with a comma" if delimiter == "," else f"text with {shown(delimiter)}"
    return UserError(
        f"{path}, line {line}: {fields} fields where the header has {header}; mend the line (put {put} in quotes), or "
        "name another delimiter with --DELIMITER"
    )


def find_delimiter(path: Path, content: Iterable[str], before: int = 0) -> tuple[str, list[str]]:
    """Find the delimiter of a CSV file among comma, semicolon, tab and pipe.

    The delimiter divides the header and the first rows into the same number of fields, more than one. Of two that do,
    one that cuts a quoted field in pieces is no delimiter; nor is a decimal comma, which is between two digits wherever
    it is in the rows and before a space in the header. A file that no delimiter divides has one column, and a comma as
    its delimiter.

    Args:
        path: file, for error messages.
        content: its lines.
        before: lines of the file before `content`.

    Returns:
        The delimiter, and the column names of the header.

    Raises:
        UserError: two delimiters fit, or one divides the header or the rows, but not both alike. The message names the
            line.
    """
    head = _Head(content)
    divisions = [_divide(path, head, mark, before) for mark in WORDS]
    even = [one for one in divisions if one.even]
    even = [one for one in even if one.damage is None] or even
    even = [one for one in even if one.well_quoted] or even
    if len(even) > 1 and even[0].delimiter == "," and even[0].decimal:
        even = even[1:]
    if len(even) > 1:
        first, second = even[:2]
        raise UserError(
            f"{path}, line {first.line}: {shown(first.delimiter)} divides its rows into {first.columns} columns, "
            f"{shown(second.delimiter)} into {second.columns}; name the delimiter with --DELIMITER"
        )
    if even:
        return even[0].delimiter, even[0].header
    headed = [one for one in divisions if one.columns > 1]
    if headed:
        raise max(headed, key=lambda one: one.matching).error()
    below = next((one for one in divisions if one.delimiter != "," and one.even_below), None)
    if below is not None:
        raise below.error()
    if divisions[0].damage is not None and not divisions[0].found:
        raise divisions[0].damage
    return ",", divisions[0].header


@dataclass(frozen=True)
class _Division:
    """The first rows of a file, divided by one delimiter.

    Args:
        path: file, for error messages.
        delimiter: the delimiter.
        found: records with the numbers of their lines, the header first.
        damage: error of the record behind them, or None.
        cut: True if the error may come from the end of the lines that are looked at, within a field.
        well_quoted: True if every quotation mark is around a field or within such a field.
    """

    path: Path
    delimiter: str
    found: Sequence[tuple[int, list[str]]]
    damage: UserError | None
    cut: bool
    well_quoted: bool

    @property
    def columns(self) -> int:
        """Fields of the header; 0 if it cannot be parsed."""
        return len(self.header)

    @property
    def header(self) -> list[str]:
        """Column names; empty if the header cannot be parsed."""
        return self.found[0][1] if self.found else []

    @property
    def line(self) -> int:
        """Line of the header."""
        return self.found[0][0]

    @property
    def matching(self) -> int:
        """Number of rows with as many fields as the header."""
        return sum(len(record) == self.columns for _, record in self.found[1:])

    @property
    def even(self) -> bool:
        """True if header and rows have the same number of fields, more than one."""
        return (self.damage is None or self.cut) and self.columns > 1 and self.matching == len(self.found) - 1

    @property
    def even_below(self) -> bool:
        """True if at least two rows below the header have the same number of fields, more than one."""
        counts = {len(record) for _, record in self.found[1:]}
        return self.damage is None and len(self.found) > 2 and len(counts) == 1 and counts != {1}

    @property
    def decimal(self) -> bool:
        """True if the delimiter is between two digits in all rows, and before a space in the header."""
        (_, header), *rows = self.found
        return all(field.startswith(" ") for field in header[1:]) and all(
            left[-1:].isdecimal() and right[:1].isdecimal()
            for _, record in rows
            for left, right in itertools.pairwise(record)
        )

    def error(self) -> UserError:
        """Return the error of the first record that is not divided as the header is."""
        for line, record in self.found:
            if len(record) != self.columns:
                return ragged(self.path, line, len(record), self.columns, self.delimiter)
        assert self.damage is not None, "an even division has no error"
        return self.damage


class _Head:
    """The first lines of a file, read as far as a parser needs them and kept for the next one."""

    def __init__(self, content: Iterable[str]) -> None:
        self._content, self._kept, self._characters = iter(content), list[str](), 0
        self.cut = False  # True if the lines ended at `FIRST_CHARACTERS`

    def lines(self) -> Iterator[str]:
        """Yield the lines from the first one, at most `FIRST_CHARACTERS` of them."""
        for number in itertools.count():
            if number == len(self._kept):
                self.cut = self.cut or self._characters > FIRST_CHARACTERS
                line = None if self.cut else next(self._content, None)
                if line is None:
                    return
                self._kept.append(line)
                self._characters += len(line)
            yield self._kept[number]


def _divide(path: Path, head: _Head, delimiter: str, before: int) -> _Division:
    """Divide the first rows by one delimiter."""
    found, damage, taken = [], None, list[str]()

    def content() -> Iterator[str]:
        for line in head.lines():
            taken.append(line)
            yield line

    try:
        for record in itertools.islice(records(path, content(), delimiter, before), FIRST_ROWS + 1):
            found.append(record)
    except UserError as error:
        damage = error
    return _Division(path, delimiter, found, damage, head.cut, _is_well_quoted("".join(taken), delimiter))


def _is_well_quoted(text: str, delimiter: str) -> bool:
    """Return True if each quotation mark of some records is around a field, or doubled within such a field."""
    mark = re.escape(delimiter)
    field = rf'(?:"[^"]*+(?:""[^"]*+)*+"|[^"\r\n{mark}]*+)'
    return re.fullmatch(rf"{field}(?:(?:{mark}|\r\n|\r|\n){field})*+", text) is not None
