"""Parquet tables (`.parquet`).

pyarrow loads only when such a file is read or written: this module is imported while a command line is parsed.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.arrow_types import array_of, arrow_type, is_single, is_text, python_values
from pipeline.data.column_types import column_type
from pipeline.data.file_format import SINGLE_VALUES, Columns, Format, Row, finite, place
from pipeline.data.text_files import COMPRESSED, unpacked
from pipeline.runtime.errors import UserError, first_line
from pipeline.runtime.files import replacing

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

BATCH_ROWS = 1000  # rows that are decoded together


class ParquetFormat(Format):
    """Parquet; columns that are read hold text, numbers, truth values, dates, times or decimals."""

    suffix = ".parquet"
    unit = "row"

    def write(
        self, path: Path, rows: Sequence[Mapping[str, Any]], columns: Columns, types: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Write rows in the Arrow types of the file that was read; in those of `types` where these are not known."""
        import pyarrow as pa
        from pyarrow import parquet

        # An unknown column holds text, as a column of text does.
        found = {name: column_type(types[name]).arrow() if name in types else "string" for name in columns.names}
        kinds = [arrow_type(columns.arrow.get(name, found[name])) for name in columns.names]
        pairs = zip(columns.names, kinds, strict=True)
        arrays = [array_of(name, [row[name] for row in rows], kind) for name, kind in pairs]
        schema = pa.schema(list(zip(columns.names, kinds, strict=True)))
        with replacing(path) as temporary:
            parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), temporary)

    def _columns(self, path: Path, delimiter: str | None) -> Columns:
        with _opened(path) as file:
            schema = file.schema_arrow
        kinds = {name: str(kind) for name, kind in zip(schema.names, schema.types, strict=True) if is_single(kind)}
        return Columns(tuple(schema.names), arrow=kinds)

    def _rows(
        self, path: Path, columns: Columns, text_column: str | None, others: Sequence[str] | None
    ) -> Iterator[Row]:
        row = 0
        with _opened(path) as file:
            schema = file.schema_arrow
            names = list(schema.names if others is None else others)
            for name in names:
                _check_type(path, name, schema.types[place(path, name, schema.names)], text=False)
            if text_column is not None:
                _check_type(path, text_column, schema.types[place(path, text_column, schema.names)], text=True)
            wanted = names if text_column is None else [*names, text_column]
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(dict.fromkeys(wanted))):
                columns_of_batch = [_values(path, name, batch.column(name), row) for name in wanted]
                for cells in zip(*columns_of_batch, strict=True):
                    row += 1
                    values = [
                        value if isinstance(value, str) else finite(f"{path}, row {row}", name, value)
                        for name, value in zip(wanted, cells, strict=True)
                    ]
                    text = None if text_column is None else values[-1]
                    yield Row(text, dict(zip(names, values, strict=False)), row)


def _values(path: Path, name: str, array: "pa.Array", before: int) -> list[Any]:
    """Convert the values of a column in a batch; the batch follows so many rows."""
    try:
        return python_values(array)
    except UnicodeDecodeError:
        row = next(number for number, cell in enumerate(array, before + 1) if not _is_unicode(cell))
        raise UserError(f"{path}, row {row}: no UTF-8; mend the row") from None
    except ValueError as error:
        raise UserError(
            f"{path}, row {before + error.args[0] + 1}: column {name!r} holds a value of the type {array.type} that "
            "cannot be written as text (a date beyond the years 0 to 9999, or with a time of day); mend it"
        ) from None


def _is_unicode(cell: Any) -> bool:
    try:
        cell.as_py()
    except UnicodeDecodeError:
        return False
    return True


@contextmanager
def _opened(path: Path) -> Iterator["parquet.ParquetFile"]:
    """Open a file, a compressed one from a temporary copy; errors of pyarrow's reader become a `UserError`."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        if path.suffix.lower() != COMPRESSED:
            with parquet.ParquetFile(path) as file:
                yield file
            return
        with tempfile.TemporaryFile() as whole:
            with unpacked(path) as content:
                shutil.copyfileobj(content, whole)
            with parquet.ParquetFile(whole) as file:
                yield file
    except pa.ArrowException as error:
        raise UserError(f"{path} cannot be read as Parquet ({first_line(error)}); mend the file") from None


def _check_type(path: Path, column: str, kind: "pa.DataType", text: bool) -> None:
    """Check that a column holds text, or at least single values."""
    if not (is_text(kind) if text else is_single(kind)):
        wanted = "not text; name another" if text else f"no text, number, truth value, date or time; {SINGLE_VALUES}"
        raise UserError(f"column {column!r} of {path} holds {kind}, {wanted}")
