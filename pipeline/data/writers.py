"""Generated text in the form of the user's own: the same format, columns and types."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.column_types import ColumnTypes
from pipeline.data.file_format import TEXT, Columns
from pipeline.data.formats import FORMATS
from pipeline.data.row_template import RowTemplate

LABEL = "label"  # key of the label in a row of samples
NAME = "synthetic"
OF_THE_HUB = ".jsonl"  # form of samples of a dataset on the hub, which has no file


def write_synthetic(
    rows: Sequence[Mapping[str, Any]], source: Mapping[str, Any], folder: Path
) -> tuple[Path | None, int]:
    """Write samples as `synthetic.<format>`; samples of a dataset on the hub as JSON lines.

    Args:
        rows: samples, each with its `text`, and with its `label` if the data has labels.
        source: form of the text, as `TextSource.described` returns it and `statistics.json` holds it.
        folder: folder of the file.

    Returns:
        The file, None for a named corpus; and the number of samples left out, since they could not be read back as rows
        of the table.
    """
    suffix = source.get("format") or (OF_THE_HUB if source.get("text_column") else None)
    if suffix is None:
        return None, 0
    path, form = folder / f"{NAME}{suffix}", FORMATS[suffix]
    if not form.is_table:
        form.write(path, [{TEXT: row["text"]} for row in rows], Columns(), {})
        return path, 0
    template, types = _template(source), ColumnTypes(source["columns"])
    columns = Columns.from_json(source).only(_written(source, template))
    table = [made for row in rows if (made := _row(row, source, template, types)) is not None]
    form.write(path, [{name: row[name] for name in columns.names} for row in table], columns, source["columns"])
    return path, len(rows) - len(table)


def _template(source: Mapping[str, Any]) -> RowTemplate | None:
    pattern = source["row_template"]
    return None if pattern is None else RowTemplate(pattern, list(source["columns"]), "the data")


def _written(source: Mapping[str, Any], template: RowTemplate | None) -> list[str]:
    """Return the columns to write, in the order of the source; columns of unknown order come last."""
    own = [name for name in (source["text_column"], source["label_column"]) if name is not None]
    written = {*own, *(() if template is None else template.columns)}
    known = [name for name in source["order"] if name in written]
    return known + [name for name in own if name not in known]


def _row(
    row: Mapping[str, Any], source: Mapping[str, Any], template: RowTemplate | None, types: ColumnTypes
) -> dict[str, Any] | None:
    """Convert a sample to a row of the table; None if it cannot be one."""
    made: dict[str, Any] = {}
    if template is None:
        made[source["text_column"]] = row["text"]
    else:
        read = types.row(template.values(row["text"]))
        if read is None:
            return None
        made |= read
    if (label := source["label_column"]) is not None:
        try:
            made[label] = types.value(label, "" if row.get(LABEL) is None else str(row[LABEL]))
        except (KeyError, ValueError):  # the label was written by hand and is no label of the table
            return None
    return made
