"""CSV tables (`.csv`): columns between commas, semicolons or tabs, under a header."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.file_format import Columns, Format, Row, place
from pipeline.data.text_files import lines
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import write_csv


class CsvFormat(Format):
    """Comma-separated values with a header; a record may span several lines."""

    suffix = ".csv"
    spelt = True

    def write(
        self, path: Path, rows: Sequence[Mapping[str, Any]], columns: Columns, types: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Write a header and a record for each row; a missing value is an empty field."""
        cells = (["" if row[name] is None else row[name] for name in columns.names] for row in rows)
        write_csv(path, columns.names, cells, columns.delimiter)

    def _columns(self, path: Path) -> Columns:
        """Read the header and the delimiter: a comma, or a semicolon or tab if the first line has no comma."""
        content = lines(path)
        first = next(content, "")
        unquoted = re.sub('"[^"]*"', "", first)  # quoted characters delimit nothing
        delimiter = next((mark for mark in ",;\t" if mark in unquoted), ",")
        _, header = next(_records(path, itertools.chain([first], content), delimiter), (1, []))
        return Columns(tuple(header), delimiter)

    def _rows(
        self, path: Path, columns: Columns, text_column: str | None, others: Sequence[str] | None
    ) -> Iterator[Row]:
        records = _records(path, lines(path), columns.delimiter)
        _, header = next(records, (1, []))
        places = {name: place(path, name, header) for name in (header if others is None else others)}
        text_place = None if text_column is None else place(path, text_column, header)
        text, line, words = None, 0, text_place is None
        for line, record in records:
            if len(record) != len(header):
                raise UserError(
                    f"{path}, line {line}: {len(record)} fields where the header has {len(header)}; "
                    "mend the line (put text with a comma in quotes)"
                )
            if text_place is not None:
                text = record[text_place]
                words = words or not _is_number(text)
            yield Row(text, {name: record[number] for name, number in places.items()}, line)
        if line and not words:
            raise UserError(f"column {text_column!r} of {path} holds numbers, not text; name another")


def _records(path: Path, content: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Parse the records of a CSV file, the header among them, each with the number of its first line."""
    csv.field_size_limit(2**31 - 1)  # the default of 128 KiB is less than a long document
    reader = csv.reader(content, delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{path}, line {line}: cannot be read as CSV ({error}); mend its quotes") from None
        if record is None:
            return
        if record:  # an empty line is no record
            yield line, record


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
