"""CSV tables (`.csv`, `.tsv`): columns between delimiters, under a header."""

import csv
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pipeline.data.delimiters import declared, find_delimiter, ragged, records
from pipeline.data.file_format import Columns, Format, Row, place
from pipeline.data.text_files import lines, write_lines
from pipeline.runtime.errors import UserError


class CsvFormat(Format):
    """Delimited values with a header; a record may span several lines.

    The delimiter is the one that the user names, the one of a first line `sep=;`, or found from the first rows.
    """

    suffix = ".csv"
    spelt = True
    delimited = True
    own_delimiter: ClassVar[str | None] = None  # delimiter of every file with this suffix

    def write(
        self, path: Path, rows: Sequence[Mapping[str, Any]], columns: Columns, types: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Write a header and a record for each row; a missing value is an empty field."""
        written = _Records()
        # With this end of a record, the writer puts a field with either character in quotes; not all versions of Python
        # do with another.
        writer = csv.writer(written, delimiter=columns.delimiter, lineterminator="\r\n")
        writer.writerow(columns.names)
        # A header that reads as the line `sep=;` follows one.
        mark = "" if declared(written[0]) is None else f"sep={columns.delimiter}\n"
        writer.writerows(["" if row[name] is None else row[name] for name in columns.names] for row in rows)
        write_lines(path, mark + "".join(written))

    def _columns(self, path: Path, delimiter: str | None) -> Columns:
        """Read the header, and find the delimiter from the first rows if it is not named."""
        content, before, mark = _opened(path)
        delimiter = delimiter or mark or self.own_delimiter
        if delimiter is None:
            delimiter, header = find_delimiter(path, content, before)
        else:
            _, header = next(records(path, content, delimiter, before), (1, []))
        return Columns(tuple(header), delimiter)

    def _rows(
        self, path: Path, columns: Columns, text_column: str | None, others: Sequence[str] | None
    ) -> Iterator[Row]:
        content, before, _ = _opened(path)
        found = records(path, content, columns.delimiter, before)
        _, header = next(found, (1, []))
        places = {name: place(path, name, header) for name in (header if others is None else others)}
        text_place = None if text_column is None else place(path, text_column, header)
        text, line, words = None, 0, text_place is None
        for line, record in found:
            if len(record) != len(header):
                raise ragged(path, line, len(record), len(header), columns.delimiter)
            if text_place is not None:
                text = record[text_place]
                words = words or not _is_number(text)
            yield Row(text, {name: record[number] for name, number in places.items()}, line)
        if line and not words:
            raise UserError(f"column {text_column!r} of {path} holds numbers, not text; name another")


class TsvFormat(CsvFormat):
    """CSV with tabs as its delimiters."""

    suffix = ".tsv"
    own_delimiter = "\t"


class _Records(list[str]):
    r"""Records of a CSV writer, each with `\n` at its end."""

    def write(self, record: str) -> None:
        r"""Take a record that ends with `\r\n`."""
        self.append(record.removesuffix("\r\n") + "\n")


def _opened(path: Path) -> tuple[Iterator[str], int, str | None]:
    """Open a file at its header.

    Returns:
        Lines from the header, number of lines before it, and the delimiter of Excel's line `sep=;`, or None.
    """
    content = lines(path)
    first = next(content, "")
    mark = declared(first)
    return (itertools.chain([first], content), 0, None) if mark is None else (content, 1, mark)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
