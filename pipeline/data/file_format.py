"""The interface of a file format, which reads a user's own text and writes generated text in the same form."""

import math
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pipeline.runtime.errors import UserError, first_line

TEXT = "text"  # key of the text in the rows that a format without columns writes
SINGLE_VALUES = "take columns of single values (--ROW_TEMPLATE may name some, and leaves the others out)"


class Row(NamedTuple):
    """A row of a file.

    Args:
        text: text of the row; None if it has none, or if no text column is read.
        values: values of the other columns, by column name.
        line: number of the row's first line in the file, from 1; of the row itself if `Format.unit` is `row`.
    """

    text: str | None
    values: dict[str, Any]
    line: int = 0


@dataclass(frozen=True)
class Columns:
    """The columns of a table.

    Args:
        names: column names in the order of the file; empty for plain text.
        delimiter: character between two columns of a CSV file.
        arrow: Arrow type of each column of a Parquet file, as `str` writes it, by column name.
    """

    names: tuple[str, ...] = ()
    delimiter: str = ","
    arrow: Mapping[str, str] = field(default_factory=dict)

    def only(self, names: Iterable[str]) -> "Columns":
        """Return these columns alone, in this order."""
        return replace(self, names=tuple(names))

    def to_json(self) -> dict[str, Any]:
        """Return the columns as a part of `source` in `statistics.json`."""
        held = {"delimiter": self.delimiter, "order": list(self.names)}
        return held | ({"arrow": dict(self.arrow)} if self.arrow else {})

    @classmethod
    def from_json(cls, source: Mapping[str, Any]) -> "Columns":
        """Create the columns from `source` of `statistics.json`, also of an older one without Arrow types."""
        return cls(tuple(source.get("order", ())), source.get("delimiter", ","), source.get("arrow", {}))


class Format(ABC):
    """A file format of a user's own text.

    A new format is a subclass in a module of its own, and its entry in `pipeline.data.formats`.

    Attributes:
        suffix: suffix of its files, with the dot.
        is_table: True if its files have columns.
        spelt: True if every value is read as a string, numbers included.
        delimited: True if its files have a delimiter, which the user may name.
        unit: `line` or `row`, the unit of `Row.line`.
        note: explanation behind the suffix in a `--help` text, or empty.
    """

    suffix: ClassVar[str]
    is_table: ClassVar[bool] = True
    spelt: ClassVar[bool] = False
    delimited: ClassVar[bool] = False
    unit: ClassVar[str] = "line"
    note: ClassVar[str] = ""

    def columns(self, path: Path, delimiter: str | None = None) -> Columns:
        """Read the column names from the start of a table, without a look at the columns' values.

        Args:
            path: file to read.
            delimiter: delimiter of a format with delimiters; None finds it.

        Raises:
            UserError: the file cannot be read, is empty, or has two columns of one name.
        """
        with _file_errors(path):
            found = self._columns(path, delimiter)
        if not found.names:
            raise UserError(f"{path} is empty; bring text")
        for name in found.names:
            place(path, name, found.names)
        return found

    def read(
        self, path: Path, columns: Columns, text_column: str | None = None, others: Sequence[str] | None = ()
    ) -> Iterator[Row]:
        """Read the rows of a file in one pass.

        Args:
            path: file to read.
            columns: columns of the file, as `columns` returns them; `Columns()` for plain text.
            text_column: column of a table that holds the text, or None.
            others: further columns to read, or None for all.

        Raises:
            UserError: the file cannot be read, is damaged or holds no text; the message gives the place.
        """
        found = False
        with _file_errors(path):
            for row in self._rows(path, columns, text_column, others):
                if row.text is not None and (not row.text or row.text.isspace()):
                    row = row._replace(text=None)
                found = found or row.text is not None or (self.is_table and text_column is None)
                yield row
        if not found:
            where = f"column {text_column!r} of {path}" if text_column else path
            raise UserError(f"{where} holds no text; give a file that contains text")

    @abstractmethod
    def write(
        self, path: Path, rows: Sequence[Mapping[str, Any]], columns: Columns, types: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Write rows to a file, whole or not at all and not compressed.

        Args:
            path: file to write.
            rows: values by column name; plain text is under the key `text`.
            columns: columns of the file.
            types: description of each column's type, as `ColumnSurvey.to_json` returns it.

        Raises:
            ValueError: the format cannot hold a value; the message names the value, and its column.
        """

    @abstractmethod
    def _columns(self, path: Path, delimiter: str | None) -> Columns:
        """Read the column names; none if the file holds no row."""

    @abstractmethod
    def _rows(
        self, path: Path, columns: Columns, text_column: str | None, others: Sequence[str] | None
    ) -> Iterator[Row]:
        """Read the rows; a row without text may have an empty text or None."""


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    """Turn an empty file and errors of the file system into a `UserError`."""
    try:
        if not path.stat().st_size:
            raise UserError(f"{path} is empty; bring text")
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or first_line(error)}); fix the cause") from None


def place(path: Path, column: str, names: Iterable[str]) -> int:
    """Return the position of a column.

    Raises:
        UserError: no column has this name, or several have it.
    """
    names = list(names)
    if names.count(column) == 1:
        return names.index(column)
    if column in names:
        raise UserError(f"{path} has more than one column {column!r}; rename one")
    held = textwrap.shorten(", ".join(names), 200, placeholder=" …")
    raise UserError(f"{path} has no column {column!r}; it has {held}")


def finite(where: str, column: str, value: Any) -> Any:
    """Check a single value that is no text; NaN stays NaN, apart from None.

    Raises:
        UserError: the number is infinite, or exceeds the range of a float.
    """
    try:
        if value is None or math.isfinite(value) or math.isnan(value):
            return value
    except OverflowError:  # an integer that exceeds the range of a float
        pass
    raise UserError(f"{where}: column {column!r} holds a number that is not finite, or too large; mend it")
