"""Whole numbers of a JSON or Parquet file that the user calls identifiers: new ones, and still numbers."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.data.own_files import places
from tests.helpers import call

pytestmark = pytest.mark.slow
KNOWN = range(1000, 1200)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_samples_have_new_numbers_of_the_same_form(tmp_path: Path, suffix: str):
    path = tmp_path / f"own.{suffix}"
    rows = [{"id": number, "kind": "ab"[number % 2]} for number in KNOWN]
    if suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        parquet.write_table(pa.Table.from_pylist(rows), path)
    own = ("--ROW_TEMPLATE", "--COLUMN_TYPES", "id=identifier", "--DATA_DIR", tmp_path / "data")
    call("prepareDatasets.py", "--DATA", path, *own)
    small = ("--DIM_H", 16, "--MAX_STEPS", 3, "--BATCH_SIZE", 16)
    call("train.py", "--EXPERIMENT_NAME", "lm", "--MODEL", "LM", "--DATA", "own", *small, *places(tmp_path))
    flags = ("--EXPERIMENT_NAME", "lm", "--NUMBER_SAMPLES", 60, "--DECODING", "sample")
    call("sample.py", *flags, *places(tmp_path))
    found = next((tmp_path / "outputs").glob(f"*/lm/synthetic.{suffix}"))
    if suffix == "jsonl":
        made = [json.loads(line) for line in found.read_text().splitlines()]
    else:
        table = parquet.read_table(found)
        assert table.schema.field("id").type == pa.int64()
        made = table.to_pylist()
    numbers = [row["id"] for row in made]
    assert len(made) == len(set(numbers)) == 60
    assert all(isinstance(number, int) and 1000 <= number <= 9999 and number not in KNOWN for number in numbers)


def test_numbers_and_strings_are_not_identifiers_of_one_column(tmp_path: Path):
    rows = [{"id": number if number % 2 else f"A-{number}", "kind": "a"} for number in KNOWN]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = ("--ROW_TEMPLATE", "--COLUMN_TYPES", "id=identifier", "--DATA_DIR", tmp_path / "data")
    said = call("prepareDatasets.py", "--DATA", tmp_path / "own.jsonl", *own, expect=2).stderr
    assert "column 'id' is no identifier; line 2 holds 1001" in said
