"""The source of a text: how often it is read, what its survey finds, and the form that it describes."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from pipeline.data import formats, text_files
from pipeline.data.dataset import load_prepared
from pipeline.data.delimiters import FIRST_ROWS
from pipeline.data.documents import SPLITS
from pipeline.data.file_format import Columns, Format, Row
from pipeline.data.prepare import PreparationSettings, prepare
from pipeline.data.text_source import TextSource
from pipeline.data.writers import write_synthetic
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import write_text
from tests.data.own_files import DOCUMENTS, ROWS, SPLIT, prepared_table, write, write_rows

COLUMNS = {"text_column": "name", "label_column": "town"}
TEMPLATE = {"row_template": "", "label_column": "town"}


class CountingFile(io.BytesIO):
    """A file that counts the bytes of the lines read from it."""

    taken = 0

    def __next__(self) -> bytes:
        line = super().__next__()
        CountingFile.taken += len(line)
        return line


def read_as_prepare_does(source: TextSource, rows: int = len(ROWS)) -> dict[str, Any]:
    """Use a source as a preparation does, and return its description."""
    found = source.survey()
    assert len(list(source.documents(found["columns"]))) == rows
    return source.described(found["columns"])


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("how", [COLUMNS, TEMPLATE], ids=["column", "template"])
def test_a_table_is_opened_for_its_first_rows_and_read_twice(
    tmp_path: Path, suffix: str, how: dict, monkeypatch: pytest.MonkeyPatch
):
    path, opened = write_rows(tmp_path / f"own{suffix}", ROWS * 5), []

    def counted(path: Path, mode: str) -> CountingFile:
        opened.append(path)
        return CountingFile(path.read_bytes())

    monkeypatch.setattr(text_files, "open", counted, raising=False)
    monkeypatch.setattr(CountingFile, "taken", 0)
    read_as_prepare_does(TextSource(str(path), SPLIT, **how), 5 * len(ROWS))
    first = path.read_bytes().splitlines(keepends=True)[: 1 + FIRST_ROWS if suffix == ".csv" else 1]
    assert opened == [path] * 3
    assert CountingFile.taken == 2 * path.stat().st_size + len(b"".join(first))


@pytest.mark.parametrize("how", [COLUMNS, TEMPLATE], ids=["column", "template"])
def test_the_rows_of_a_parquet_file_are_read_twice(tmp_path: Path, how: dict, monkeypatch: pytest.MonkeyPatch):
    path, read = write_rows(tmp_path / "own.parquet", ROWS), []
    iterate = parquet.ParquetFile.iter_batches

    def counted(file: parquet.ParquetFile, **options: Any) -> Iterator[Any]:
        read.append(options["columns"])
        return iterate(file, **options)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", counted)
    read_as_prepare_does(TextSource(str(path), SPLIT, **how))
    assert len(read) == 2


def test_flags_are_checked_on_creation_without_a_look_into_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    own = write(tmp_path, ".csv", b"\xff\0 no header")
    monkeypatch.setattr(text_files, "open", None, raising=False)
    assert TextSource(str(own), SPLIT, text_column="review").files == [own]
    with pytest.raises(UserError, match="name the same column; name two"):
        TextSource(str(own), SPLIT, text_column="review", label_column="review")
    with pytest.raises(UserError, match="name the column that holds the text with --TEXT_COLUMN"):
        TextSource(str(own), SPLIT)
    with pytest.raises(UserError, match="--ROW_TEMPLATE is of a table in a file"):
        TextSource("owner/name", SPLIT, row_template="")


def test_the_survey_counts_the_bytes_of_texts_and_the_labels_of_all_rows(tmp_path: Path):
    reviews = ["schön und gut", "", "  ", *DOCUMENTS]
    rows = [{"review": review, "stars": n} for n, review in enumerate(reviews)]
    source = TextSource(str(write_rows(tmp_path / "own.csv", rows)), SPLIT, text_column="review", label_column="stars")
    found = source.survey()
    texts = [document.text for document in source.documents(found["columns"])]
    assert texts == ["schön und gut", *DOCUMENTS]
    assert found["bytes"] == len("".join(texts).encode())
    stars = found["columns"]["stars"]
    assert (stars["kind"], stars["low"], stars["high"]) == ("integer", 0, len(reviews) - 1)
    assert (found["rows"], found["without_text"]) == (len(reviews), 2)


@pytest.mark.parametrize("how", [COLUMNS, TEMPLATE], ids=["column", "template"])
def test_the_survey_reports_a_fault_at_the_end_of_a_file(tmp_path: Path, how: dict):
    path = write_rows(tmp_path / "own.csv", ROWS)
    path.write_text(path.read_text() + "old king,31\n")
    with pytest.raises(UserError, match=r"own\.csv, line 42: 2 fields where the header has 5"):
        TextSource(str(path), SPLIT, **how).survey()


def test_the_description_of_a_table_is_what_statistics_json_holds(tmp_path: Path):
    path = tmp_path / "own.csv"
    path.write_text("town;name;rich\n" + "".join(f"Ur;old king {n};{n % 2}\n" for n in range(20)))
    data = prepared_table(path, row_template="{name} of {town}.", label_column="rich")
    assert data.statistics["source"] == {
        "format": ".csv",
        "text_column": None,
        "label_column": "rich",
        "row_template": "{name} of {town}.",
        "columns": data.statistics["source"]["columns"],
        "delimiter": ";",
        "order": ["town", "name", "rich"],
        "lossless": False,
    }
    columns = data.statistics["source"]["columns"]
    assert (columns["town"]["kind"], columns["town"]["values"]) == ("category", ["Ur"])
    assert [columns["rich"][name] for name in ("kind", "low", "high")] == ["integer", 0, 1]


def test_a_default_template_names_the_columns_beside_the_label(tmp_path: Path):
    path = write_rows(tmp_path / "own.jsonl", ROWS)
    template = TextSource(str(path), SPLIT, label_column="age", row_template="").template
    assert template is not None
    assert template.pattern == "name is {name}, height is {height}, town is {town}, rich is {rich}"


class BarFormat(Format):
    """Records between bars, as a new format would declare itself."""

    suffix = ".bar"
    spelt = True

    def write(
        self, path: Path, rows: Sequence[Mapping[str, Any]], columns: Columns, types: Mapping[str, Mapping[str, Any]]
    ) -> None:
        lines = ["|".join(columns.names), *("|".join(str(row[name]) for name in columns.names) for row in rows)]
        write_text(path, "\n".join(lines) + "\n")

    def _columns(self, path: Path, delimiter: str | None) -> Columns:
        return Columns(tuple(path.read_text().splitlines()[0].split("|")))

    def _rows(
        self, path: Path, columns: Columns, text_column: str | None, others: Sequence[str] | None
    ) -> Iterator[Row]:
        for line in path.read_text().splitlines()[1:]:
            row = dict(zip(columns.names, line.split("|"), strict=True))
            text = None if text_column is None else row[text_column]
            yield Row(text, {name: row[name] for name in (columns.names if others is None else others)})


def test_a_new_format_is_a_class_and_its_place_in_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(formats.FORMATS, ".bar", BarFormat())
    assert formats.listed_formats().startswith(".txt (a document a line), .csv, ")
    assert formats.listed_formats().endswith(" or .bar")
    path = write(tmp_path, ".bar", ("mood|review\n" + "".join(f"good|{line}\n" for line in DOCUMENTS)).encode())
    source = TextSource(str(path), SPLIT, text_column="review", label_column="mood")
    prepare(source, "own", tmp_path / "data", PreparationSettings("wordpiece", 150, "none"))
    data = load_prepared(tmp_path / "data", "own")
    assert sorted(text for name in SPLITS for text in data.splits[name]["text"]) == sorted(DOCUMENTS)
    written = write_synthetic([{"text": "a b", "label": "good"}], data.statistics["source"], tmp_path)
    assert (written.path, written.rejected) == (tmp_path / "synthetic.bar", 0)
    assert (tmp_path / "synthetic.bar").read_text() == "mood|review\ngood|a b\n"


def test_the_plan_of_a_preparation_holds_the_flags(tmp_path: Path):
    path = write_rows(tmp_path / "own.csv", ROWS)
    assert json.loads(json.dumps(TextSource(str(path), SPLIT, **COLUMNS).settings())) == {
        "data": str(path),
        "split": {"validation": 0.2, "test": 0.2, "seed": 3},
        "local_path": "None",
        "text_column": "name",
        "label_column": "town",
        "row_template": None,
        "column_types": {},
        "lossless": True,
        "delimiter": None,
    }
