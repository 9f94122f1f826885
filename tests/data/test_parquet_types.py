"""Parquet files: Arrow types come back as they were, and values that cannot are refused by name."""

import datetime
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pipeline.data.arrow_types import arrow_type
from pipeline.data.file_format import Columns
from pipeline.data.formats import FORMATS
from pipeline.data.writers import write_synthetic
from pipeline.runtime.errors import UserError
from tests.data.own_files import parquet_file, prepared_table, write_table

PARQUET = FORMATS[".parquet"]
MOMENT = datetime.datetime(2020, 10, 25, 0, 30, tzinfo=datetime.UTC)  # an hour that occurs twice in Berlin
DAY = datetime.date(2020, 1, 31)
COLUMNS: dict[str, tuple[pa.DataType, list[Any], list[Any]]] = {
    "int32": (pa.int32(), [1, -(2**31)], [1, -(2**31)]),
    "uint64": (pa.uint64(), [2**64 - 1], [2**64 - 1]),
    "float32": (pa.float32(), [0.1, 16777217.0, math.nan], [0.1, 16777216.0, math.nan]),
    "float16": (pa.float16(), [0.1, 65504.0], [0.1, 65504.0]),
    "float64": (pa.float64(), [0.1, math.nan, 5e-324], [0.1, math.nan, 5e-324]),
    "bool": (pa.bool_(), [True, False], [True, False]),
    "string": (pa.string(), ["", "a\nb"], ["", "a\nb"]),
    "large_string": (pa.large_string(), ["a"], ["a"]),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), ["a", "b", "a"], ["a", "b", "a"]),
    "date32": (pa.date32(), [DAY, datetime.date(1, 1, 1)], ["2020-01-31", "0001-01-01"]),
    "timestamp_ms": (pa.timestamp("ms"), [1, 10**12], ["1970-01-01 00:00:00.001", "2001-09-09 01:46:40.000"]),
    "timestamp_ns": (pa.timestamp("ns"), [1], ["1970-01-01 00:00:00.000000001"]),
    "utc": (pa.timestamp("us", "UTC"), [MOMENT], ["2020-10-25 00:30:00Z"]),
    "berlin": (
        pa.timestamp("us", "Europe/Berlin"),
        [MOMENT, MOMENT + datetime.timedelta(hours=1, microseconds=5)],
        ["2020-10-25 02:30:00.000000+02:00", "2020-10-25 02:30:00.000005+01:00"],
    ),
    "time32": (pa.time32("ms"), [datetime.time(23, 59, 1, 500_000)], ["23:59:01.500"]),
    "time64": (pa.time64("ns"), [1, 3600 * 10**9], ["00:00:00.000000001", "01:00:00.000000000"]),
    "decimal128": (pa.decimal128(10, 2), [Decimal("1.50"), Decimal("-0.05")], ["1.50", "-0.05"]),
    "decimal256": (pa.decimal256(40, 12), [Decimal("0"), Decimal("1e19")], [f"{n}.000000000000" for n in (0, 10**19)]),
}


def read(path: Path, others: list[str] | None = None) -> tuple[Columns, list[dict]]:
    """Read the columns of a file, and the values of its rows."""
    columns = PARQUET.columns(path)
    return columns, [row.values for row in PARQUET.read(path, columns, None, others)]


@pytest.mark.parametrize("name", COLUMNS)
def test_values_and_types_come_back(tmp_path: Path, name: str):
    kind, values, strings = COLUMNS[name]
    path = parquet_file(tmp_path / "own.parquet", pa.array([None, *values], kind), name)
    columns, rows = read(path)
    assert repr([row[name] for row in rows]) == repr([None, *strings])
    again = Columns.from_json(columns.to_json())  # statistics.json holds them
    PARQUET.write(tmp_path / "new.parquet", rows, again, {})
    assert parquet.read_schema(tmp_path / "new.parquet").equals(parquet.read_schema(path))
    assert repr(parquet.read_table(tmp_path / "new.parquet")[name].to_pylist()) == repr(
        parquet.read_table(path)[name].to_pylist()
    )


@pytest.mark.parametrize("name", COLUMNS)
def test_a_type_is_found_by_what_it_is_called(name: str):
    kind = COLUMNS[name][0]
    assert arrow_type(str(kind)).equals(kind)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.floats(width=32, allow_infinity=False), min_size=1, max_size=20))
def test_every_float_of_32_bits_comes_back_from_its_text(
    tmp_path_factory: pytest.TempPathFactory, values: list[float | None]
):
    folder = tmp_path_factory.mktemp("floats")
    path = parquet_file(folder / "own.parquet", pa.array([1.5, *values], pa.float32()), "x")
    columns, rows = read(path)
    texts = [{"x": None if row["x"] is None else str(row["x"])} for row in rows]
    for held in (rows, texts):
        PARQUET.write(folder / "new.parquet", held, columns, {})
        found = parquet.read_table(folder / "new.parquet")["x"].to_pylist()
        assert repr(found) == repr(parquet.read_table(path)["x"].to_pylist())
    shown = [Decimal(text["x"]).normalize() for text in texts if text["x"] is not None]
    assert all(number.is_nan() or len(number.as_tuple().digits) <= 9 for number in shown)  # as many as 32 bits hold


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (pa.date32(), "31.01.2020", "column 'x': '31.01.2020' is no value of the type date32[day]"),
        (pa.timestamp("ms"), "2020-01-01 00:00:00.0001", "column 'x': '2020-01-01 00:00:00.0001' is no value of the"),
        (pa.timestamp("us", "UTC"), "2020-01-01 00:00:00", "column 'x': '2020-01-01 00:00:00' is no value of the type"),
        (pa.time32("ms"), "25:00:00", "column 'x': '25:00:00' is no value of the type time32[ms]"),
        (pa.decimal128(5, 2), "1.555", "column 'x': '1.555' is no value of the type decimal128(5, 2)"),
        (pa.decimal128(5, 2), "much", "column 'x': 'much' is no value of the type decimal128(5, 2)"),
        (pa.int32(), 2**31, "column 'x': 2147483648 is no value of the type int32"),
        (pa.int32(), 1.5, "column 'x': 1.5 is no value of the type int32"),
        (pa.int32(), "one", "column 'x': 'one' is no value of the type int32"),
        (pa.float32(), 1e300, "column 'x': 1e+300 is no value of the type float"),
        (pa.string(), 1, "column 'x': 1 is no value of the type string"),
        (pa.dictionary(pa.int32(), pa.string()), 1, "column 'x': 1 is no value of the type string"),
        (pa.bool_(), "maybe", "column 'x': 'maybe' is no value of the type bool"),
    ],
)
def test_a_value_that_its_type_does_not_hold_is_refused_by_column_and_value(
    tmp_path: Path, kind: pa.DataType, value: Any, message: str
):
    rows = [{"x": None}, {"x": value}]
    with pytest.raises(ValueError) as error:
        PARQUET.write(tmp_path / "own.parquet", rows, Columns(("x",), arrow={"x": str(kind)}), {})
    assert str(error.value).startswith(message)
    assert not list(tmp_path.iterdir())


def test_strings_become_the_numbers_and_truth_values_of_their_column(tmp_path: Path):
    columns = Columns(("n", "b"), arrow={"n": "int8", "b": "bool"})
    rows = [{"n": "7", "b": "True"}, {"n": 8, "b": False}, {"n": None, "b": None}]
    PARQUET.write(tmp_path / "own.parquet", rows, columns, {})
    found = [{"n": 7, "b": True}, {"n": 8, "b": False}, {"n": None, "b": None}]
    assert parquet.read_table(tmp_path / "own.parquet").to_pylist() == found


@pytest.mark.parametrize(
    "array",
    [pa.array([0, 3_000_000], pa.int32()).view(pa.date32()), pa.array([0, 2**60], pa.int64()).view(pa.timestamp("us"))],
    ids=["date", "timestamp"],
)
def test_a_date_that_no_string_gives_back_is_refused_by_its_row(tmp_path: Path, array: pa.Array):
    path = parquet_file(tmp_path / "own.parquet", pa.concat_arrays([*[array[:1]] * 2000, array]), "when")
    with pytest.raises(UserError, match=r"own\.parquet, row 2002: column 'when' holds a value of the type .*; mend it"):
        read(path)


def test_a_row_without_unicode_is_named(tmp_path: Path):
    path = parquet_file(tmp_path / "own.parquet", pa.array([b"a"] * 1500 + [b"\xff"]).view(pa.string()), "x")
    with pytest.raises(UserError, match=r"own\.parquet, row 1501: no UTF-8; mend the row"):
        read(path)


def test_columns_that_hold_no_single_values_are_still_refused(tmp_path: Path):
    path = tmp_path / "own.parquet"
    parquet.write_table(pa.table({"n": pa.array([1], pa.int8()), "list": [[1]], "bytes": [b"a"]}), path)
    columns, rows = read(path, ["n"])
    assert (columns.names, columns.arrow, rows) == (("n", "list", "bytes"), {"n": "int8"}, [{"n": 1}])
    for name in ("list", "bytes"):
        with pytest.raises(
            UserError, match=f"column '{name}' of .* no text, number, truth value, date or time; take col"
        ):
            read(path, [name])


def test_the_schema_of_the_user_s_file_is_that_of_the_synthetic_one(tmp_path: Path):
    path = write_table(tmp_path / "plain.parquet", review=[f"the old king saw {n} rivers" for n in range(30)])
    texts = parquet.read_table(path)["review"].combine_chunks()
    numbers = pa.array([n % 3 for n in range(30)], pa.int8())
    parquet.write_table(pa.table({"n": numbers, "review": texts.cast(pa.large_string())}), path)
    data = prepared_table(path, text_column="review", label_column="n")
    source = data.statistics["source"]
    assert source["arrow"] == {"n": "int8", "review": "large_string"}
    result = write_synthetic([{"text": "a king", "label": "2"}], source, tmp_path)
    written = result.path
    assert written is not None
    assert result.rejected == 0
    assert parquet.read_schema(written).equals(parquet.read_schema(path))
    older = {key: value for key, value in source.items() if key != "arrow"}
    write_synthetic([{"text": "a king", "label": "2"}], older, tmp_path)
    assert [str(kind) for kind in parquet.read_schema(written).types] == ["int64", "string"]


def test_a_column_of_missing_values_alone_comes_back(tmp_path: Path):
    path = tmp_path / "own.parquet"
    texts = [f"the old king saw {n} rivers" for n in range(30)]
    parquet.write_table(pa.table({"n": pa.nulls(30), "review": texts}), path)
    data = prepared_table(path, tokenizer="bpe", row_template="")
    assert data.statistics["round_trip"]["share"] == 100.0
    assert parquet.read_schema(tmp_path / "data" / "own" / "round_trip.parquet").equals(parquet.read_schema(path))


def test_a_table_without_rows_is_refused(tmp_path: Path):
    parquet.write_table(pa.table({"review": pa.array([], pa.string())}), tmp_path / "own.parquet")
    with pytest.raises(UserError, match=r"own\.parquet holds no text"):
        prepared_table(tmp_path / "own.parquet", row_template="")
