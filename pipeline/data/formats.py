"""The file formats of a user's own text, by suffix."""

from pathlib import Path

from pipeline.data.csv_format import CsvFormat, TsvFormat
from pipeline.data.file_format import Format
from pipeline.data.json_array_format import JsonArrayFormat
from pipeline.data.json_lines_format import JsonLinesFormat
from pipeline.data.parquet_format import ParquetFormat
from pipeline.data.text_files import COMPRESSED
from pipeline.data.text_format import TextFormat

FORMATS: dict[str, Format] = {
    form.suffix: form
    for form in (TextFormat(), CsvFormat(), TsvFormat(), JsonLinesFormat(), JsonArrayFormat(), ParquetFormat())
}


def format_of(path: str | Path) -> Format | None:
    """Return the format of a file by its suffix, in upper or lower case, with or without `.gz` behind it.

    Generated text is written under the plain suffix in lower case, and not compressed.

    Returns:
        The format, or None for another suffix.
    """
    return FORMATS.get(_plain(path).suffix.lower())


def stem_of(path: str | Path) -> str:
    """Return the name of a file without the suffixes of its format and of its compression."""
    return _plain(path).stem


def listed_formats() -> str:
    """List the suffixes for a `--help` text: `.txt (a document a line), .csv, … or .parquet`."""
    *first, last = (f"{form.suffix} ({form.note})" if form.note else form.suffix for form in FORMATS.values())
    return f"{', '.join(first)} or {last}"


def _plain(path: str | Path) -> Path:
    """Return a path without the suffix of its compression."""
    path = Path(path)
    return path.with_suffix("") if path.suffix.lower() == COMPRESSED else path
