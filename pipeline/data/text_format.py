"""Plain text (`.txt`): each line is a document."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.file_format import TEXT, Columns, Format, Row
from pipeline.data.text_files import lines
from pipeline.runtime.files import write_text


class TextFormat(Format):
    """Plain text, a document a line."""

    suffix = ".txt"
    is_table = False
    note = "a document a line"

    def write(
        self, path: Path, rows: Sequence[Mapping[str, Any]], columns: Columns, types: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Write the text of each row on a line."""
        write_text(path, "".join(row[TEXT] + "\n" for row in rows))

    def _columns(self, path: Path) -> Columns:
        return Columns()

    def _rows(
        self, path: Path, columns: Columns, text_column: str | None, others: Sequence[str] | None
    ) -> Iterator[Row]:
        for number, line in enumerate(lines(path), 1):
            yield Row(line.rstrip("\r\n"), {}, number)
