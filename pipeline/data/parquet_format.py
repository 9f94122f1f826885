"""Parquet tables (`.parquet`).

pyarrow loads only when such a file is read or written: this module is imported while a command line is parsed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.column_types import column_type
from pipeline.data.file_format import SINGLE_VALUES, Columns, Format, Row, finite, place
from pipeline.runtime.errors import UserError, first_line
from pipeline.runtime.files import replacing

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 1000  # rows that are decoded together


class ParquetFormat(Format):
    """Parquet; columns that are read hold text, numbers or truth values."""

    suffix = ".parquet"
    unit = "row"

    def write(
        self, path: Path, rows: Sequence[Mapping[str, Any]], columns: Columns, types: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Write rows in the types of their columns, also if every value of a column is missing."""
        import pyarrow as pa
        from pyarrow import parquet

        # An unknown column holds text, as a column of text does.
        held = {name: column_type(types[name]).arrow() if name in types else "string" for name in columns.names}
        schema = pa.schema([(name, pa.type_for_alias(alias)) for name, alias in held.items()])
        with replacing(path) as temporary:
            parquet.write_table(pa.Table.from_pylist(list(rows), schema), temporary)

    def _columns(self, path: Path) -> Columns:
        from pyarrow import parquet

        with _parquet_errors(path), parquet.ParquetFile(path) as file:
            return Columns(tuple(file.schema_arrow.names))

    def _rows(
        self, path: Path, columns: Columns, text_column: str | None, others: Sequence[str] | None
    ) -> Iterator[Row]:
        from pyarrow import parquet

        row = 0
        try:
            with _parquet_errors(path), parquet.ParquetFile(path) as file:
                schema = file.schema_arrow
                names = list(schema.names if others is None else others)
                for name in names:
                    _check_type(path, name, schema.types[place(path, name, schema.names)], text=False)
                if text_column is not None:
                    _check_type(path, text_column, schema.types[place(path, text_column, schema.names)], text=True)
                wanted = names if text_column is None else [*names, text_column]
                for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(dict.fromkeys(wanted))):
                    for cells in zip(*(batch.column(name) for name in wanted), strict=True):
                        row += 1
                        values = [
                            value if isinstance(value, str) else finite(f"{path}, row {row}", name, value)
                            for name, value in zip(wanted, (cell.as_py() for cell in cells), strict=True)
                        ]
                        text = None if text_column is None else values[-1]
                        yield Row(text, dict(zip(names, values, strict=False)), row)
        except UnicodeDecodeError:
            raise UserError(f"{path}, row {row}: no UTF-8; mend the row") from None


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    """Turn errors of pyarrow's reader into a `UserError`."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        raise UserError(f"{path} cannot be read as Parquet ({first_line(error)}); mend the file") from None


def _check_type(path: Path, column: str, kind: "pa.DataType", text: bool) -> None:
    """Check that a column holds text, or at least single values."""
    import pyarrow as pa

    held = kind.value_type if pa.types.is_dictionary(kind) else kind
    words = pa.types.is_string(held) or pa.types.is_large_string(held)
    single = words or any(fits(held) for fits in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean))
    if not (words if text else single):
        wanted = "not text; name another" if text else f"no text, number or truth value; {SINGLE_VALUES}"
        raise UserError(f"column {column!r} of {path} holds {kind}, {wanted}")
