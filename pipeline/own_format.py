"""Samples in the form that the user's own text came in: the same format, columns and types."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.files import replacing, write_csv, write_jsonl, write_text
from pipeline.row_text import ColumnTypes, RowTemplate

LABEL = "label"  # a row of samples has it under this key
NAME = "synthetic"


def write_synthetic(rows: Sequence[Mapping[str, Any]], source: Mapping[str, Any], folder: Path) -> tuple[Path, int]:
    """Write samples as `synthetic.<format>`.

    Args:
        rows: samples, each with its `text`, and with its `label` where the data has labels.
        source: how the text came, as `statistics.json` has it.
        folder: for the file.

    Returns:
        The file, and how many samples it lacks: what could not be read back as a row of the table.
    """
    suffix = source["format"] or (".jsonl" if source["text_column"] else ".txt")
    path = folder / f"{NAME}{suffix}"
    if suffix == ".txt":
        write_text(path, "".join(row["text"] + "\n" for row in rows))
        return path, 0
    table = [made for row in rows if (made := _row(row, source)) is not None]
    names = _columns(source)
    if suffix == ".jsonl":
        write_jsonl(path, table)
    elif suffix == ".csv":
        write_csv(path, names, ([_cell(row[name]) for name in names] for row in table))
    else:
        _write_parquet(path, table, names)
    return path, len(rows) - len(table)


def _columns(source: Mapping[str, Any]) -> list[str]:
    """The columns that are written, in the order that the source had them, as far as it is known."""
    label = [source["label_column"]] if source["label_column"] is not None else []
    if source["row_template"] is None:
        return [source["text_column"], *label]
    template = RowTemplate(source["row_template"], list(source["columns"]), "the data")
    return [name for name in source["columns"] if name in {*template.columns, *label}]


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
    if source["label_column"] is not None:
        made[source["label_column"]] = types.value(source["label_column"], row[LABEL])
    return {name: made[name] for name in _columns(source)}


def _cell(value: Any) -> Any:
    return "" if value is None else value


def _write_parquet(path: Path, table: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    with replacing(path) as temporary:
        parquet.write_table(pa.table({name: [row[name] for row in table] for name in names}), temporary)
