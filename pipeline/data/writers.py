"""Generated text in the form of the user's own: the same format, columns and types."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.data.column_types import ColumnTypes, RejectedError
from pipeline.data.file_format import TEXT, Columns
from pipeline.data.formats import FORMATS
from pipeline.data.row_template import RowTemplate

LABEL = "label"  # key of the label in a row of samples
NAME = "synthetic"
OF_THE_HUB = ".jsonl"  # form of samples of a dataset on the hub, which has no file
SHOWN = 3  # reasons in a message


@dataclass
class Written:
    """Result of writing samples in the form of the user's own.

    Args:
        path: the file; None for a named corpus, which has no form.
        rows: rows of the file.
        rejected: samples that are no rows of the table, left out.
        reasons: samples left out, by reason.
        examples: one of them for each reason.
    """

    path: Path | None = None
    rows: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def explained(self) -> list[str]:
        """Return a line for each of the most frequent reasons, with its number of samples and an example."""
        return [
            f"{count:,} {reason}, such as {self.examples[reason]}" for reason, count in self.reasons.most_common(SHOWN)
        ]


class TableForm:
    """The form of a user's text, in which samples become rows.

    Args:
        source: form of the text, as `TextSource.described` returns it and `statistics.json` holds it.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        self.source = source
        self.suffix: str | None = source.get("format") or (OF_THE_HUB if source.get("text_column") else None)
        self.is_table = self.suffix is not None and FORMATS[self.suffix].is_table
        if not self.is_table:
            self.columns = Columns()
            return
        lossless = source.get("lossless", False)  # data of earlier versions has tokens that do not keep white space
        self._types = ColumnTypes(source["columns"], lossless)
        pattern = source["row_template"]
        names = list(source["columns"])
        self._template = None if pattern is None else RowTemplate(pattern, names, "the data", lossless)
        self.columns = Columns.from_json(source).only(self._written())

    def _written(self) -> list[str]:
        """Return the columns to write, in the order of the source; columns of unknown order come last."""
        own = [name for name in (self.source["text_column"], self.source["label_column"]) if name is not None]
        written = {*own, *(() if self._template is None else self._template.columns)}
        known = [name for name in self.source["order"] if name in written]
        return known + [name for name in own if name not in known]

    def row(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """Convert a sample to a row of the table, or to a document.

        Args:
            sample: its `text`, and its `label` if the data has labels.

        Raises:
            RejectedError: the sample cannot be a row.
        """
        text = sample[TEXT]
        if not self.is_table:
            if "\n" in text or "\r" in text:
                raise RejectedError("", text, "has a line break, which ends a document")
            if not text or text.isspace():
                raise RejectedError("", text, "is empty")
            _check_characters("", text)
            return {TEXT: text}
        made: dict[str, Any] = {}
        if self._template is None:
            if not text.strip():
                raise RejectedError("", text, "is empty")
            made[self.source["text_column"]] = text
        else:
            values = self._template.values(text)
            if values is None:
                raise RejectedError("", text, "does not have the words of the row template")
            made |= self._types.row(values)
        if (label := self.source["label_column"]) is not None:
            made[label] = self._types.value(label, "" if sample.get(LABEL) is None else str(sample[LABEL]))
        if FORMATS[self.suffix or ""].spelt:
            for name, value in made.items():
                _check_characters(name, value)
        return {name: made[name] for name in self.columns.names}

    def write(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows to a file of the form, whole or not at all."""
        assert self.suffix is not None, "a named corpus has no form"
        FORMATS[self.suffix].write(path, rows, self.columns, self.source.get("columns") or {})


def _check_characters(column: str, value: Any) -> None:
    """Reject a text with a character that no text file may hold."""
    if isinstance(value, str) and "\0" in value:
        raise RejectedError(column, value, "has a NUL character, which no text file holds")


def write_synthetic(rows: Sequence[Mapping[str, Any]], source: Mapping[str, Any], folder: Path) -> Written:
    """Write samples as `synthetic.<format>`; samples of a dataset on the hub as JSON lines.

    Args:
        rows: samples, each with its `text`, and with its `label` if the data has labels.
        source: form of the text, as `TextSource.described` returns it and `statistics.json` holds it.
        folder: folder of the file.

    Returns:
        The file, None for a named corpus; and the samples left out, since they could not be rows of the table.
    """
    form, written = TableForm(source), Written()
    if form.suffix is None:
        return written
    written.path = folder / f"{NAME}{form.suffix}"
    table = []
    for row in rows:
        try:
            table.append(form.row(row))
        except RejectedError as rejected:
            where = f"have in column {rejected.column!r} a value that " if rejected.column else "are a text that "
            reason = where + rejected.reason
            written.reasons[reason] += 1
            written.examples.setdefault(reason, repr(rejected.text[:60]))
    form.write(written.path, table)
    written.rows, written.rejected = len(table), len(rows) - len(table)
    return written
