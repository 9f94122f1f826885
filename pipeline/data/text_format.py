"""Plain text (`.txt`): each line is a document."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.file_format import TEXT, Columns, Format, Row
from pipeline.data.text_files import lines, write_lines


class TextFormat(Format):
    """Plain text, a document a line."""

    suffix = ".txt"
    is_table = False
    note = "a document a line"

    def write(
        self, path: Path, rows: Sequence[Mapping[str, Any]], columns: Columns, types: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Write the text of each row on a line."""
        for row in rows:
            if "\n" in row[TEXT] or "\r" in row[TEXT]:
                raise ValueError(
                    f"a text with a line break would be two documents of a {self.suffix} file: {row[TEXT]!r}"
                )
        write_lines(path, "".join(row[TEXT] + "\n" for row in rows))

    def _columns(self, path: Path, delimiter: str | None) -> Columns:
        return Columns()

    def _rows(
        self, path: Path, columns: Columns, text_column: str | None, others: Sequence[str] | None
    ) -> Iterator[Row]:
        for number, line in enumerate(lines(path), 1):
            yield Row(line.rstrip("\r\n"), {}, number)
