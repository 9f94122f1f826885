"""JSON lines (`.jsonl`): each line is an object whose keys are the columns."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.file_format import SINGLE_VALUES, Columns, Format, Row, finite, place
from pipeline.data.text_files import lines
from pipeline.runtime.errors import UserError, first_line
from pipeline.runtime.files import write_jsonl

_KINDS = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object", str: "text"}


class JsonLinesFormat(Format):
    """JSON lines, an object a line; the columns are the keys of the first object."""

    suffix = ".jsonl"

    def write(
        self, path: Path, rows: Sequence[Mapping[str, Any]], columns: Columns, types: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Write an object for each row, with its keys in the order of the row."""
        write_jsonl(path, map(dict, rows))

    def _columns(self, path: Path) -> Columns:
        return Columns(tuple(next(_objects(path), (1, {}))[1]))

    def _rows(
        self, path: Path, columns: Columns, text_column: str | None, others: Sequence[str] | None
    ) -> Iterator[Row]:
        keys: dict[str, None] = {}
        for number, row in _objects(path):
            where = f"{path}, line {number}"
            if others is None and keys and row.keys() != keys.keys():
                raise UserError(f"{where}: other keys than in the lines before; give every line the same")
            keys |= dict.fromkeys(row)
            values = {name: _value(where, name, row.get(name)) for name in (row if others is None else others)}
            text = None if text_column is None else _text(where, text_column, row.get(text_column))
            yield Row(text, values, number)
        for name in filter(None, (text_column, *(others or ()))):
            place(path, name, keys)


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Parse the objects of a file of JSON lines, each with the number of its line."""
    for number, line in enumerate(lines(path), 1):
        if line.isspace():
            continue
        try:
            row = json.loads(line.rstrip())
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}, line {number}, column {error.colno}: not valid JSON ({error.msg}); mend the line"
            ) from None
        except (ValueError, RecursionError) as error:  # a number with too many digits, or lists nested too deep
            raise UserError(f"{path}, line {number}: cannot be read ({first_line(error)}); mend the line") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: not an object ({_KINDS.get(type(row), 'null')}); mend the line")
        yield number, row


def _value(where: str, column: str, value: object) -> object:
    """Check that a value is a single one."""
    if isinstance(value, (list, dict)):
        raise UserError(f"{where}: column {column!r} holds {_KINDS[type(value)]}; {SINGLE_VALUES}")
    if isinstance(value, str):
        return _text(where, column, value)
    return finite(where, column, value)


def _text(where: str, column: str, value: object) -> str | None:
    """Check that a value is text or null, and that UTF-8 can encode it."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise UserError(f"{where}: column {column!r} holds {_KINDS[type(value)]}, not text; mend it or name another")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = ord(value[error.start])
        raise UserError(f"{where}: \\u{half:04x} is half a character; mend the line") from None
    return value
