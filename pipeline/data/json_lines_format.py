"""JSON lines (`.jsonl`): each line is an object whose keys are the columns."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.file_format import Columns, Format, Row, place
from pipeline.data.json_values import OBJECTS, checked_object, checked_text, checked_value
from pipeline.data.text_files import lines
from pipeline.runtime.errors import UserError, first_line
from pipeline.runtime.files import write_jsonl


class JsonLinesFormat(Format):
    """JSON lines, an object a line; the columns are the keys of the first object."""

    suffix = ".jsonl"

    def write(
        self, path: Path, rows: Sequence[Mapping[str, Any]], columns: Columns, types: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Write an object for each row, with its keys in the order of the row."""
        write_jsonl(path, map(dict, rows))

    def _columns(self, path: Path, delimiter: str | None) -> Columns:
        return Columns(tuple(next(self._objects(path), (1, {}))[1]))

    def _rows(
        self, path: Path, columns: Columns, text_column: str | None, others: Sequence[str] | None
    ) -> Iterator[Row]:
        keys: dict[str, None] = {}
        for number, row in self._objects(path):
            where = f"{path}, {self.unit} {number}"
            if others is None and keys and row.keys() != keys.keys():  # their order has no meaning
                raise UserError(f"{where}: other keys than in the {self.unit}s before; give every {self.unit} the same")
            keys |= dict.fromkeys(row)
            values = {name: checked_value(where, name, row.get(name)) for name in (row if others is None else others)}
            text = None if text_column is None else checked_text(where, text_column, row.get(text_column))
            yield Row(text, values, number)
        for name in filter(None, (text_column, *(others or ()))):
            place(path, name, keys)

    def _objects(self, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        """Parse the objects of a file, each with the number of its line or row."""
        for number, line in enumerate(lines(path), 1):
            if line.isspace():
                continue
            where = f"{path}, line {number}"
            try:
                row = OBJECTS.decode(line.rstrip())
            except json.JSONDecodeError as error:
                raise UserError(f"{where}, column {error.colno}: not valid JSON ({error.msg}); mend the line") from None
            except (ValueError, RecursionError) as error:  # a repeated key, too many digits, lists nested too deep
                raise UserError(f"{where}: cannot be read ({first_line(error)}); mend the line") from None
            yield number, checked_object(where, row)
