"""The source of a text: a named corpus, a dataset of the Hugging Face hub, or a user's own file."""

import dataclasses
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.data.column_survey import ColumnSurvey
from pipeline.data.column_types import ColumnTypes
from pipeline.data.corpora import (
    EMBEDDED,
    HUB,
    NAMES,
    WIKITEXT,
    HubCorpus,
    hub_documents,
    wikipedia_articles,
    wikitext_documents,
    wikitext_files,
)
from pipeline.data.documents import Document, Split, divide, divided
from pipeline.data.file_format import Columns, Format, Row
from pipeline.data.formats import FORMATS, format_of, stem_of
from pipeline.data.row_template import RowTemplate
from pipeline.runtime.errors import UserError

ON_HUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*/[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}")  # owner/name


NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}")  # of prepared data, which is also a folder's name
DERIVED = 80  # characters of a name that is derived from a file's


def check_source(data: str) -> None:
    """Check that data are a named corpus, a dataset on the hub, or have the name of a file of a known format.

    Raises:
        UserError: they are none of these.
    """
    if data not in NAMES and format_of(data) is None and not _is_on_hub(data):
        raise UserError(
            f"unknown dataset {data!r}; choose one of {', '.join(NAMES)}, the path of a {', '.join(FORMATS)} file, "
            "or a dataset on the Hugging Face hub as owner/name"
        )


def dataset_name(data: str, name: str | None = None) -> str:
    """Return the name of the prepared data: the name of a corpus, or the stem of a user's file.

    A stem that cannot be the name of a folder is written in ASCII: letters without their accents, and `_` in place of
    all other characters but digits, `_`, `-` and `.`.

    Args:
        data: a name of `NAMES`, the path of a user's own file, or a dataset on the hub as owner/name.
        name: name that the user gives to the data, or None.

    Raises:
        UserError: the data are unknown, or the name is a corpus's or cannot be the name of a folder.
    """
    check_source(data)
    if name is not None:
        if not NAME.fullmatch(name):
            raise UserError(f"--NAME {name!r} must be 1 to 100 letters, digits, '_', '-' or '.', no '-' or '.' first")
        if name in NAMES and name != data:
            raise UserError(f"--NAME {name} is the name of a corpus; take another")
        return name
    if data in NAMES:
        return data
    if format_of(data) is None:
        return Path(data).name
    derived = _ascii_name(stem_of(data))
    if not derived or derived in NAMES:
        reason = f"would be known as {derived!r}, a corpus" if derived else "has no ASCII letter or digit in its name"
        raise UserError(f"--DATA {data} {reason}; say with --NAME how the data are known")
    return derived


def _is_on_hub(data: str) -> bool:
    return ON_HUB.fullmatch(data) is not None and format_of(data) is None and not Path(data).exists()


def _ascii_name(stem: str) -> str:
    """Write the stem of a file as the name of a folder; empty if it has no ASCII letter or digit."""
    if NAME.fullmatch(stem):
        return stem
    parted = "".join(letter for letter in unicodedata.normalize("NFKD", stem) if not unicodedata.combining(letter))
    return re.sub(r"[^A-Za-z0-9_.\-]+", "_", parted).lstrip("._-")[:DERIVED].rstrip("_")


@dataclass(frozen=True)
class TextSource:
    """A text to prepare, as the flags of prepareDatasets.py name it.

    The flags are checked on creation, without a look into the text. The header of a user's table is read once, when
    `columns` is first used; `survey` and `documents` are one pass over the text each.

    Args:
        data: a name of `NAMES`, the path of a user's own file, or a dataset on the hub as owner/name.
        split: division of text that has no splits of its own.
        local_path: folder with WikiText's files, in place of the hub.
        text_column: column of a table that holds the text.
        label_column: column of a table that holds labels.
        row_template: template that makes a text of a table's row, in place of a text column; empty for the default one.
        delimiter: character between two columns of a CSV file; None finds it.
        column_types: types that the user names, by column.
        lossless: True if texts keep their white space on the way to tokens and back.

    Raises:
        UserError: the flags contradict each other, or a file does not exist; the message names the flag.
    """

    data: str
    split: Split
    local_path: Path | None = None
    text_column: str | None = None
    label_column: str | None = None
    row_template: str | None = None
    delimiter: str | None = None
    column_types: Mapping[str, str] = field(default_factory=dict)
    lossless: bool = True

    def __post_init__(self) -> None:
        data = self.data
        check_source(data)
        if self.local_path is not None and data not in WIKITEXT:
            raise UserError(f"--LOCAL_PATH holds WikiText and means nothing for --DATA {data}; leave it out")
        if self.format is not None:
            _check_file(Path(data))
        if self.delimiter is not None and (self.format is None or not self.format.delimited):
            marked = " and ".join(suffix for suffix, form in FORMATS.items() if form.delimited)
            raise UserError(f"--DELIMITER is for {marked} files and means nothing for --DATA {data}; leave it out")
        if self.is_table:
            self._check_columns()
            return
        for flag, value in (
            ("--TEXT_COLUMN", self.text_column),
            ("--LABEL_COLUMN", self.label_column),
            ("--ROW_TEMPLATE", self.row_template),
            ("--COLUMN_TYPES", self.column_types or None),
        ):
            if value is not None:
                raise UserError(f"{flag} is for tables and means nothing for --DATA {data}; leave it out")

    def _check_columns(self) -> None:
        """Check the flags that name the columns of a table."""
        if self.text_column is None and self.row_template is None:
            raise UserError(
                f"--DATA {self.data} is a table; name the column that holds the text with --TEXT_COLUMN, or make a "
                "text of each row with --ROW_TEMPLATE"
            )
        if self.text_column is not None and self.row_template is not None:
            raise UserError(
                "--TEXT_COLUMN and --ROW_TEMPLATE are two ways to make text of a table; leave one of them out"
            )
        if self.row_template is not None and self.format is None:
            raise UserError(
                "--ROW_TEMPLATE is of a table in a file; save the dataset as one, or name its --TEXT_COLUMN"
            )
        if self.label_column is not None and self.label_column == self.text_column:
            raise UserError("--TEXT_COLUMN and --LABEL_COLUMN name the same column; name two")

    @property
    def format(self) -> Format | None:
        """Format of a user's own file; None for a named corpus and a dataset of the hub."""
        return None if self.data in NAMES else format_of(self.data)

    @property
    def is_own(self) -> bool:
        """True for a user's own text; False for a named corpus."""
        return self.data not in NAMES

    @property
    def is_table(self) -> bool:
        """True for a file with columns, and for a dataset of the hub that is none of the named corpora."""
        return self.data not in NAMES and (self.format is None or self.format.is_table)

    @property
    def files(self) -> list[Path]:
        """Files that hold the text; empty if it comes from a package or the hub.

        Raises:
            UserError: one of WikiText's files is missing.
        """
        if self.local_path is not None:
            return list(wikitext_files(self.local_path).values())
        return [] if self.format is None else [Path(self.data)]

    @cached_property
    def columns(self) -> Columns:
        """Columns of a table in a file, read from its header once; none for other sources.

        Raises:
            UserError: the header cannot be read, or has two columns of one name.
        """
        if self.format is None or not self.is_table:
            return Columns()
        return self.format.columns(Path(self.data), self.delimiter)

    @cached_property
    def template(self) -> RowTemplate | None:
        """Template that makes texts of a table's rows; the default one has every column but the label's.

        Raises:
            UserError: the table lacks a column, or no row could be read back from its text.
        """
        if self.row_template is None:
            return None
        names = self.columns.names
        if self.label_column is not None and self.label_column not in names:
            raise UserError(f"{self.data} has no column {self.label_column!r}; it has {', '.join(names)}")
        others = [name for name in names if name != self.label_column]
        if self.row_template and self.label_column in RowTemplate(self.row_template, names, self.data).columns:
            raise UserError(
                f"--ROW_TEMPLATE names {self.label_column!r}, which is the --LABEL_COLUMN and has a token of its own; "
                "leave one of them out"
            )
        return RowTemplate(self.row_template or None, others, self.data, self.lossless)

    def documents(self, columns: Mapping[str, Any]) -> Iterator[Document]:
        """Read all documents with text in one pass, always in the same order.

        Args:
            columns: types of the columns, as `survey` returns them.

        Raises:
            UserError: the text does not exist, cannot be read or is damaged, or a row cannot be read back from its
                text; the message gives the place.
        """
        if self.local_path is not None:
            return wikitext_documents(self.local_path)
        if self.data == EMBEDDED:
            return divided(((article, None) for article in wikipedia_articles()), self.split, EMBEDDED)
        if self.format is not None:
            return divided((one[:2] for one in self._texts(self.format, columns)), self.split, self.data)
        names = () if self.text_column is None else (self.text_column,)
        corpus = HUB.get(self.data) or HubCorpus(self.data, None, names, None, self.label_column)
        return hub_documents(corpus, self.data, self.split)

    def rows(self, columns: Mapping[str, Any]) -> Iterator[tuple[Document, Row | None]]:
        """Read all documents as `documents` does, each with its row of the file; None for a text of the hub."""
        if self.format is None:
            yield from ((document, None) for document in self.documents(columns))
            return
        for part, (text, label, row) in divide(self._texts(self.format, columns), self.split, self.data):
            yield Document(part, text, label), row

    def survey(self) -> dict[str, Any]:
        """Read a text in files once before the long work, so that every fault of the files is reported first.

        Returns:
            `bytes`: size of the text in UTF-8, None if it comes from a package or the hub.
            `columns`: types of the columns that are kept, as `ColumnSurvey` describes them.
            `rows`: rows of a user's own file.
            `without_text`: rows that have no text and are no documents.

        Raises:
            UserError: a file cannot be read or is damaged; the message gives the place.
        """
        found: dict[str, Any] = {"bytes": None, "columns": {}, "rows": 0, "without_text": 0}
        if self.format is None:
            if self.local_path is not None:
                found["bytes"] = sum(len(document.text.encode()) for document in wikitext_documents(self.local_path))
            return found
        types = ColumnSurvey(self.format.spelt, self.column_types, self.format.unit)
        found["bytes"] = 0
        for row in self.format.read(Path(self.data), self.columns, self.text_column, self._others()):
            types.see(row.values, row.line)
            found["rows"] += 1
            found["without_text"] += self.template is None and row.text is None
            if self.template is None:
                found["bytes"] += len((row.text or "").encode())
            else:
                spelled = {name: "" if value is None else str(value) for name, value in row.values.items()}
                found["bytes"] += len(self.template.text(spelled).encode())
        return found | {"columns": types.to_json()}

    def settings(self) -> dict[str, Any]:
        """Return the flags as JSON holds them."""
        return dataclasses.asdict(self) | {"local_path": str(self.local_path)}

    def described(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Describe the form of the text, from which `write_synthetic` writes generated text in the same form.

        Args:
            columns: types of the columns, as `survey` returns them.

        Returns:
            `source` of `statistics.json`.
        """
        return {
            "format": None if self.format is None else self.format.suffix,
            "text_column": self.text_column,
            "label_column": self.label_column,
            "row_template": None if self.template is None else self.template.pattern,
            "columns": columns,
            "lossless": self.lossless,
        } | self.columns.to_json()

    def _texts(self, form: Format, columns: Mapping[str, Any]) -> Iterator[tuple[str, str | None, Row]]:
        """Read the text, the label and the row of each row of a user's own file that has a text."""
        types = ColumnTypes(columns, self.lossless)
        for row in form.read(Path(self.data), self.columns, self.text_column, self._others()):
            text = row.text
            if self.template is not None:
                values = {name: types.spelling(name, row.values[name]) for name in self.template.columns}
                if (collision := self.template.ambiguous(values)) is not None:
                    name, words = collision
                    raise UserError(
                        f"{self.data}, {form.unit} {row.line}: the value of column {name!r} holds {words!r}, the words "
                        "behind it, so that it could not be read back; choose other words with --ROW_TEMPLATE"
                    )
                text = self.template.text(values)
            if text is not None:
                label = self.label_column
                yield text, None if label is None else types.spelling(label, row.values[label]), row

    def _others(self) -> list[str] | None:
        """Return the columns to read beside the text column; None for all columns of the table."""
        others = [] if self.template is None else list(self.template.columns)
        others += [] if self.label_column is None else [self.label_column]
        return None if self.template is not None and set(others) == set(self.columns.names) else others


def _check_file(path: Path) -> None:
    if not os.path.isfile(path):  # unlike Path.is_file, it raises nothing for a name too long
        what = "is no file" if os.path.exists(path) else "is not there"
        raise UserError(f"{path} {what}; --DATA names one of {', '.join(NAMES)} or a file")
