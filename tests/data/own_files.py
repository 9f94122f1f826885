"""Files of a user's own, as the tests of the data room write them."""

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from pyarrow import parquet

from pipeline.data.column_survey import ColumnSurvey
from pipeline.data.dataset import PreparedData, load_prepared
from pipeline.data.documents import Split
from pipeline.data.file_format import Columns
from pipeline.data.formats import FORMATS
from pipeline.data.prepare import PreparationSettings, prepare
from pipeline.data.text_source import TextSource
from tests.helpers import call, text

DOCUMENTS = text(40).splitlines()
MANY = text(120).splitlines()
PLAIN = "\n".join(DOCUMENTS).encode()
SPLIT = Split(validation=0.2, test=0.2, seed=3)
SCRIPTS = {
    "emoji": "I love 🎉 parties with 👨‍👩‍👧 and 👍🏽 so much",
    "Hebrew": "המלך הזקן ראה את הנהר ואת העיר",
    "Persian": "پادشاه می‌خواهد که رودخانه را ببیند",
    "Hindi": "बूढ़े राजा ने नदी और शहर को देखा",
    "combining": "le vieux roi a e\u0301te\u0301 re\u0301veille\u0301 par un chien",
}
ODD_FOLDER = "mes données 数据 [1] {a}"
ROWS = [
    {
        "name": "old king",
        "age": 31 + n,
        "height": (150 + n) / 100,  # few digits, which every reader of CSV reads exactly
        "town": ("Ur", "New York")[n % 2],
        "rich": n % 3 == 0,
    }
    for n in range(40)
]


def json_lines(*values: object, column: str = "review") -> bytes:
    """Encode values of one column as JSON lines, beside a column of numbers."""
    return "".join(json.dumps({column: value, "stars": 5}) + "\n" for value in values).encode()


def parquet_file(path: Path, column: pa.Array, name: str = "review") -> Path:
    """Write a Parquet file of one column."""
    parquet.write_table(pa.table({name: column}), path)
    return path


def write(folder: Path, suffix: str, content: bytes) -> Path:
    """Write bytes as the file `own` with this suffix."""
    folder.mkdir(exist_ok=True)
    path = folder / f"own{suffix}"
    path.write_bytes(content)
    return path


def prepare_file(
    path: Path, data_dir: Path, split: Split = SPLIT, accept_loss: bool = False, **changes: Any
) -> PreparedData:
    """Prepare a file in this process and load the result; in a table, the text column is `review`."""
    wanted: dict[str, Any] = {"tokenizer": "wordpiece", "vocabulary_size": 150, "clean": "none"} | changes
    column = None if path.suffix == ".txt" else "review"
    source = TextSource(str(path), split, text_column=column)
    prepare(source, "own", data_dir, PreparationSettings(**wanted), accept_loss)
    return load_prepared(data_dir, "own")


def texts_of(path: Path, column: str = "review") -> list[str]:
    """Read the texts of a file."""
    form = FORMATS[path.suffix]
    read = form.read(path, form.columns(path) if form.is_table else Columns(), column if form.is_table else None)
    return [row.text for row in read if row.text is not None]


def texts(data: PreparedData) -> list[str]:
    """Return the sentences of all splits, sorted."""
    return sorted(sentence for part in data.splits.values() for sentence in part["text"])


def decoded(data: PreparedData) -> list[str]:
    """Decode the token ids of all splits, sorted."""
    return sorted(data.tokenizer.decode(ids) for part in data.splits.values() for ids in part["input_ids"])


def snapshot(folder: Path) -> dict[str, bytes]:
    """Read every file under a folder, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_rows(path: Path, rows: list[dict]) -> Path:
    """Write rows in the format that the suffix of the path names."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    elif path.suffix != ".csv":
        raise ValueError(f"write rows in {path.suffix} here")
    else:
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def surveyed(rows: Iterable[Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """Return the types of the columns of spelled rows."""
    survey = ColumnSurvey(True)
    for row in rows:
        survey.see(row)
    return survey.to_json()


def prepared_table(path: Path, **more: Any) -> PreparedData:
    """Prepare a table in this process under these columns or this template, and load the result."""
    whole, tokenizer = "row_template" in more, more.pop("tokenizer", "wordpiece")
    size = 200 if tokenizer == "wordpiece" else 500
    settings = PreparationSettings(tokenizer, size, "none", more_than=2, fewer_than=200, whole=whole)
    prepare(TextSource(str(path), SPLIT, **more), "own", path.parent / "data", settings)
    return load_prepared(path.parent / "data", "own")


def places(folder: Path) -> tuple[object, ...]:
    """Return the flags of a test's output and data folders."""
    return ("--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")


def sampled_rows(folder: Path, *flags: object) -> tuple[list[dict], str]:
    """Sample from a barely trained model; return the rows of samples.jsonl and the output of sample.py."""
    if not (folder / "outputs").exists():
        small = ("--DIM_H", 16, "--MAX_STEPS", 2, "--BATCH_SIZE", 8)
        call("train.py", "--EXPERIMENT_NAME", "nvib", "--MODEL", "NVIB", "--DATA", "own", *small, *places(folder))
    said = call("sample.py", "--EXPERIMENT_NAME", "nvib", "--NUMBER_SAMPLES", 30, *places(folder), *flags).stdout
    path = folder / "outputs" / "nvib" / "nvib" / "samples.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()], said


def write_table(path: Path, **columns: list) -> Path:
    """Write a table of these columns in the format that the suffix of the path names."""
    return write_rows(path, [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])


def write_own(folder: Path, suffix: str) -> Path:
    """Write `MANY` as a file of a user's own; in a table they are the column `review`."""
    if suffix != ".txt":
        return write_table(folder / f"own{suffix}", number=list(range(len(MANY))), review=MANY)
    path = folder / "own.txt"
    path.write_text("\n".join(MANY) + "\n")
    return path


def write_wikitext(folder: Path) -> Path:
    """Write a folder in the form of WikiText: headings, empty lines, spaces around marks, <unk>."""
    folder.mkdir()
    for seed, name in enumerate(("train", "valid", "test")):
        lines = [f" {line[:-2]} , <unk> 's Man @-@ of @-@ war . \n" for line in text(40, seed).splitlines()]
        (folder / f"wiki.{name}.tokens").write_text(" \n = Title = \n \n" + "".join(lines) + " \n")
    return folder
