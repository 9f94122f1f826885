"""Samples in the form that the user's own text came in: the same format, columns and types."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.table_rows import ColumnTypes, RowTemplate
from pipeline.runtime.files import replacing, write_csv, write_jsonl, write_text

LABEL = "label"  # a row of samples has it under this key
NAME = "synthetic"


def write_synthetic(
    rows: Sequence[Mapping[str, Any]], source: Mapping[str, Any], folder: Path
) -> tuple[Path | None, int]:
    """Write samples as `synthetic.<format>`, those of a dataset on the hub as JSON lines.

    Args:
        rows: samples, each with its `text`, and with its `label` where the data has labels.
        source: how the text came, as `statistics.json` has it.
        folder: for the file.

    Returns:
        The file, None for text that was nobody's own, and how many samples it lacks: what could not be read back as a
        row of the table.
    """
    suffix = source.get("format") or (".jsonl" if source.get("text_column") else None)
    if suffix is None:
        return None, 0
    path = folder / f"{NAME}{suffix}"
    if suffix == ".txt":
        write_text(path, "".join(row["text"] + "\n" for row in rows))
        return path, 0
    table = [made for row in rows if (made := _row(row, source)) is not None]
    names = _columns(source)
    if suffix == ".jsonl":
        write_jsonl(path, table)
    elif suffix == ".csv":
        cells = ([_cell(row[name]) for name in names] for row in table)
        write_csv(path, names, cells, source.get("delimiter", ","))
    else:
        _write_parquet(path, table, {name: source["columns"].get(name, {}) for name in names})
    return path, len(rows) - len(table)


def _columns(source: Mapping[str, Any]) -> list[str]:
    """The columns that are written, in the order that the source had them, as far as it is known."""
    written = {source["text_column"], source["label_column"]} - {None}
    if source["row_template"] is not None:
        written |= set(RowTemplate(source["row_template"], list(source["columns"]), "the data").columns)
    known = [name for name in source["order"] if name in written]
    return known + [name for name in (source["text_column"], source["label_column"]) if name in written - set(known)]


def _row(row: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any] | None:
    """A sample as a row of the table; None if it is none."""
    types = ColumnTypes(source["columns"])
    made: dict[str, Any] = {}
    if source["row_template"] is None:
        made[source["text_column"]] = row["text"]
    else:
        read = types.row(RowTemplate(source["row_template"], list(source["columns"]), "the data").values(row["text"]))
        if read is None:
            return None
        made |= read
    if (label := source["label_column"]) is not None:
        try:
            made[label] = types.value(label, "" if row.get(LABEL) is None else str(row[LABEL]))
        except (KeyError, ValueError):  # no label of the table, written by hand
            return None
    return {name: made[name] for name in _columns(source)}


def _cell(value: Any) -> Any:
    return "" if value is None else value


def _write_parquet(path: Path, table: Sequence[Mapping[str, Any]], columns: Mapping[str, Mapping[str, Any]]) -> None:
    """Write rows in the types of their columns (see `ColumnTypes`), even where all of a column is missing."""
    import pyarrow as pa
    from pyarrow import parquet

    def held(column: Mapping[str, Any]) -> pa.DataType:
        integer = pa.uint64() if column.get("high", 0) >= 2**63 else pa.int64()
        types = {"integer": integer, "number": pa.float64(), "boolean": pa.bool_()}
        return pa.string() if column.get("text") else types.get(column.get("kind"), pa.string())

    schema = pa.schema([(name, held(column)) for name, column in columns.items()])
    with replacing(path) as temporary:
        parquet.write_table(pa.Table.from_pylist(list(table), schema), temporary)
