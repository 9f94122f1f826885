"""Documents from files: plain text, CSV, JSON lines and Parquet, a row at a time, every fault told with its place."""

import codecs
import csv
import io
import json
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from pipeline.runtime.errors import UserError, first_line

TEXT = "\0text"  # under which the text stands, whatever the columns' names
_KINDS = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object", str: "text"}
_SINGLE = "take columns of single values (--ROW_TEMPLATE may name some, and leaves the others out)"
_WIDE = {"UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)}


def rows(path: Path, form: str, column: str | None, others: Sequence[str] | None = ()) -> Iterator[dict[str, Any]]:
    """The documents of a file as rows: `text` under that name, other columns under their own.

    Rows without text are left out.

    Args:
        path: a file in UTF-8, with or without a byte order mark; lines end in any of the three ways.
        form: `text` (a document a line), `csv`, `json` (an object a line) or `parquet`.
        column: of a table, the one that holds text; None for rows without a `text`, none of which is left out.
        others: further columns of a table; None for all.

    Raises:
        UserError: the file cannot be read, is damaged or holds no text; the message says where.
    """
    path, empty = Path(path), True
    with _file_errors_told(path):
        for row in _READERS[form](path, column, others):
            if column is None and form != "text":
                empty = False
                yield row
            elif (text := row.pop(TEXT)) and not text.isspace():
                empty = False
                yield {**row, "text": text}
    if empty:
        place = f"column {column!r} of {path}" if column else path
        raise UserError(f"{place} holds no text; bring some")


def columns(path: Path, form: str) -> list[str]:
    """The columns of a table: a CSV file's header, the keys of the first JSON line, a Parquet file's schema.

    What they hold is not looked at: a table may have columns that nobody asks for.

    Raises:
        UserError: as `rows` does, or it has two columns of one name.
    """
    path = Path(path)
    with _file_errors_told(path):
        names = _HEADERS[form](path)
    if not names:
        raise UserError(f"{path} is empty; bring text")
    for name in names:
        _place(path, name, names)
    return names


@contextmanager
def _file_errors_told(path: Path) -> Iterator[None]:
    """Turn an empty file, and what the file system or Parquet's reader refuses, into a `UserError`."""
    import pyarrow as pa

    try:
        if not path.stat().st_size:
            raise UserError(f"{path} is empty; bring text")
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or first_line(error)}); mend that") from None
    except pa.ArrowException as error:
        raise UserError(f"{path} cannot be read as Parquet ({first_line(error)}); mend the file") from None


def _text(path: Path, column: None, others: Sequence[str]) -> Iterator[dict[str, Any]]:
    for line in _lines(path):
        yield {TEXT: line.rstrip("\r\n")}


def _csv(path: Path, column: str | None, others: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    records = _csv_records(path)
    _, header = next(records, (1, []))
    places = _places(path, column, others, header)
    line, words = 0, column is None
    for line, record in records:
        if len(record) != len(header):
            raise UserError(
                f"{path}, line {line}: {len(record)} fields where the header has {len(header)}; "
                "mend the line (text that holds a comma stands in quotes)"
            )
        words = words or not _is_number(record[places[TEXT]])
        yield {name: record[place] for name, place in places.items()}
    if line and not words:
        raise UserError(f"column {column!r} of {path} holds numbers, not text; name another")


def _csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The records of a CSV file, its header one of them, each with the line on which it begins."""
    csv.field_size_limit(2**31 - 1)  # 128 KiB otherwise, and text may be longer
    reader = csv.reader(_lines(path), delimiter=delimiter(path), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{path}, line {line}: cannot be read as CSV ({error}); mend its quotes") from None
        if record is None:
            return
        if record:  # an empty line is none
            yield line, record


def delimiter(path: Path) -> str:
    """What divides the columns of a CSV file: commas, or where its first line has none, semicolons or tabs."""
    line = re.sub('"[^"]*"', "", next(_lines(path), ""))  # what is quoted divides nothing
    return next((mark for mark in ",;\t" if mark in line), ",")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _json(path: Path, column: str | None, others: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    keys: dict[str, None] = {}
    for number, row in _json_objects(path):
        if others is None and keys and row.keys() != keys.keys():
            raise UserError(f"{path}, line {number}: other keys than in the lines before; give every line the same")
        keys |= dict.fromkeys(row)
        found = {name: _json_value(path, number, name, row.get(name)) for name in (row if others is None else others)}
        yield found if column is None else {**found, TEXT: _json_text(path, number, column, row.get(column))}
    for name in filter(None, (column, *(others or ()))):
        _place(path, name, keys)


def _json_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines, each with the number of its line."""
    for number, line in enumerate(_lines(path), 1):
        if line.isspace():
            continue
        try:
            row = json.loads(line.rstrip())
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}, line {number}, column {error.colno}: no JSON ({error.msg}); mend the line, one object each"
            ) from None
        except (ValueError, RecursionError) as error:  # a number of too many digits, lists too deep in lists
            raise UserError(f"{path}, line {number}: cannot be read ({first_line(error)}); mend the line") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: no object ({_KINDS.get(type(row), 'null')}); mend the line")
        yield number, row


def _json_value(path: Path, number: int, column: str, value: object) -> object:
    if isinstance(value, (list, dict)):
        raise UserError(f"{path}, line {number}: column {column!r} holds {_KINDS[type(value)]}; {_SINGLE}")
    if isinstance(value, str):
        return _json_text(path, number, column, value)
    return _finite(f"{path}, line {number}", column, value)


def _finite(place: str, column: str, value: Any) -> Any:
    """A single value that is no text; a number that is none (NaN) stands for a missing one, as pandas writes it."""
    try:
        if value is None or math.isfinite(value):
            return value
        if math.isnan(value):
            return None
    except OverflowError:  # a whole number beyond what a float holds
        pass
    raise UserError(f"{place}: column {column!r} holds a number that is not finite, or too large; mend it")


def _json_text(path: Path, number: int, column: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise UserError(
            f"{path}, line {number}: column {column!r} holds {_KINDS[type(value)]}, not text; mend it or name another"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = ord(value[error.start])
        raise UserError(f"{path}, line {number}: \\u{half:04x} is half a character; mend the line") from None
    return value


def _parquet(path: Path, column: str | None, others: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    from pyarrow import parquet

    row = 0
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            places = _places(path, column, others, schema.names)
            for name, place in places.items():
                _check_parquet(path, schema.names[place], schema.types[place], text=name == TEXT)
            names = [schema.names[place] for place in places.values()]
            for batch in file.iter_batches(batch_size=1000, columns=list(dict.fromkeys(names))):
                for values in zip(*(batch.column(name) for name in names), strict=True):
                    row += 1
                    found = ((name, value.as_py()) for name, value in zip(places, values, strict=True))
                    yield {
                        name: value if isinstance(value, str) else _finite(f"{path}, row {row}", name, value)
                        for name, value in found
                    }
    except UnicodeDecodeError:
        raise UserError(f"{path}, row {row}: no UTF-8; mend the row") from None


def _check_parquet(path: Path, column: str, kind: Any, text: bool) -> None:
    """See to it that a column holds text, or at least single values."""
    import pyarrow as pa

    held = kind.value_type if pa.types.is_dictionary(kind) else kind
    words = pa.types.is_string(held) or pa.types.is_large_string(held)
    single = words or any(fits(held) for fits in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean))
    if not (words if text else single):
        wanted = "not text; name another" if text else f"no text, number or truth value; {_SINGLE}"
        raise UserError(f"column {column!r} of {path} holds {kind}, {wanted}")


_READERS: dict[str, Callable[[Path, str | None, Sequence[str] | None], Iterator[dict[str, Any]]]] = {
    "text": _text,
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
}


def _csv_header(path: Path) -> list[str]:
    return next(_csv_records(path), (1, []))[1]


def _json_keys(path: Path) -> list[str]:
    return list(next(_json_objects(path), (1, {}))[1])


def _parquet_names(path: Path) -> list[str]:
    from pyarrow import parquet

    return parquet.read_schema(path).names


_HEADERS: dict[str, Callable[[Path], list[str]]] = {"csv": _csv_header, "json": _json_keys, "parquet": _parquet_names}


def _places(path: Path, column: str | None, others: Sequence[str] | None, names: Sequence[str]) -> dict[str, int]:
    """Which of a table's columns are read, and under which name."""
    places = {name: _place(path, name, names) for name in (names if others is None else others)}
    return places if column is None else {**places, TEXT: _place(path, column, names)}


def _place(path: Path, column: str, names: Iterable[str]) -> int:
    """Which of a table's columns has this name."""
    names = list(names)
    if names.count(column) == 1:
        return names.index(column)
    if column in names:
        raise UserError(f"{path} has more than one column {column!r}; rename one")
    held = textwrap.shorten(", ".join(names), 200, placeholder=" …")
    raise UserError(f"{path} has no column {column!r}; it has {held}")


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file, each with its end: `\\n`, `\\r\\n` or `\\r`."""
    number, offset = 1, 0  # of the next line, and of its first byte
    with open(path, "rb") as file:
        for data in file:
            if offset == 0:
                _refuse_wide(path, data)
            text = _decoded(path, data, number, offset)
            offset += len(data)
            for line in io.StringIO(text, newline=""):
                number += 1
                yield line


def _refuse_wide(path: Path, data: bytes) -> None:
    """Refuse text whose byte order mark is not UTF-8's."""
    for encoding in ("UTF-32", "UTF-16"):  # one of UTF-32's begins like one of UTF-16's
        if data.startswith(_WIDE[encoding]):
            raise UserError(f"{path} is in {encoding}; convert it to UTF-8: iconv -f {encoding} -t UTF-8")


def _decoded(path: Path, data: bytes, number: int, offset: int) -> str:
    """Bytes that end with `\\n` or the file as text: those of line `number`, at `offset` of the file."""
    if b"\0" in data:
        _refuse_byte(path, data, number, offset, data.index(b"\0"), "a NUL byte, as in UTF-16 or in no text at all")
    try:
        return data.decode("utf-8-sig" if offset == 0 else "utf-8")
    except UnicodeDecodeError as error:
        # error.object lacks the byte order mark where there was one.
        at = error.start + len(data) - len(error.object)
        return _refuse_byte(path, data, number, offset, at, f"no UTF-8 (byte 0x{data[at]:02x})")


def _refuse_byte(path: Path, data: bytes, number: int, offset: int, at: int, reason: str) -> NoReturn:
    line = number + data.count(b"\r", 0, at)
    raise UserError(f"{path}, line {line}, byte offset {offset + at}: {reason}; save the file in UTF-8")
