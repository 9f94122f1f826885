"""The file formats of a user's own text, by suffix."""

from pathlib import Path

from pipeline.data.csv_format import CsvFormat
from pipeline.data.file_format import Format
from pipeline.data.json_lines_format import JsonLinesFormat
from pipeline.data.parquet_format import ParquetFormat
from pipeline.data.text_format import TextFormat

FORMATS: dict[str, Format] = {
    form.suffix: form for form in (TextFormat(), CsvFormat(), JsonLinesFormat(), ParquetFormat())
}


def format_of(path: str | Path) -> Format | None:
    """Return the format of a file by its suffix; None for another suffix."""
    return FORMATS.get(Path(path).suffix)


def listed_formats() -> str:
    """List the suffixes for a `--help` text: `.txt (a document a line), .csv, .jsonl or .parquet`."""
    *first, last = (f"{form.suffix} ({form.note})" if form.note else form.suffix for form in FORMATS.values())
    return f"{', '.join(first)} or {last}"
