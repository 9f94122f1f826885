"""Preparation of arbitrary tables: every cell comes back as it was, or one line names the cell that cannot."""

import csv
import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pipeline.data.documents import Split
from pipeline.data.preparation_settings import PreparationSettings
from pipeline.data.prepare import prepare
from pipeline.data.text_source import TextSource
from pipeline.runtime.errors import UserError

ROWS = 30  # at least so many, so that every split has rows

ANY = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)
MARKS = st.text(st.sampled_from("aZ09 ,.;:'\"{}[]()<>=+-−%$€|/\\\n\r\t\u00a0\u2028éकि你ا👍"), max_size=10)
NUMBERS = [
    *("0", "1", "-0", "+5", "007", "1.50", ".5", "5.", "1e-05", "9E+06", "-3", "1,234.50", "1.234,50", "1 000", "0,01"),
    *("$5", "5 €", "-$1,000.00", "12 %", "−4", "12345678901234567.25", "1e400", "NaN", "inf", "٣", "1_000", "0x1F"),
]
WORDS = [
    *(
        "",
        "",
        " ",
        "true",
        "True",
        "null",
        "None",
        "NA",
        "n/a",
        "nan",
        "[SEP]",
        "[PAD]",
        "<unk>",
        "[LABEL:a]",
        "a is b",
    ),
    *("2024-02-29", "03/04/2021", "2021-03-04 05:06:07", "10:24", "10:24 p.m.", "a@b.example", "+1 (555) 010-0180"),
    *("040.10", "A-0017", "O'Brien-Smith, Jr.", "1", "1.0", " 1", "1 ", "-", "é", "e\u0301", "U.S.", "a, b is c"),
]
SPELLED = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(WORDS), MARKS, ANY)
INTEGERS = st.one_of(st.integers(-3, 30), st.integers(-(2**63), 2**64 - 1), st.integers(-(10**30), 10**30))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
FLOATS = st.one_of(st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e-7, 1e16, 1e22]), FINITE)
SMALL = st.integers(-(2**63), 2**63 - 1)
# One pool of values for each kind of column.
SPELLED_POOLS = (
    st.sampled_from(NUMBERS),
    st.integers(-9999, 9999).map(str),
    st.decimals(-1000, 1000, places=2).map(str),
    st.decimals(0, 9_999_999, places=2).map("{:,}".format),
    FINITE.map(repr),
    st.dates().map(str),
    st.datetimes().map(str),
    st.times().map(str),
    st.uuids().map(str),
    st.sampled_from(WORDS),
    MARKS,
    ANY,
    SPELLED,
)
NULLABLE = tuple(st.one_of(st.none(), pool) for pool in SPELLED_POOLS)
JSON_POOLS = (
    *SPELLED_POOLS,
    *NULLABLE,
    INTEGERS,
    FLOATS,
    st.booleans(),
    st.none(),
    st.one_of(INTEGERS, FLOATS),
    st.one_of(st.none(), INTEGERS),
    st.one_of(st.none(), st.booleans(), INTEGERS, FLOATS, SPELLED),
)
PARQUET_POOLS: tuple[tuple[pa.DataType, st.SearchStrategy[Any]], ...] = (
    *((pa.string(), pool) for pool in (*SPELLED_POOLS, *NULLABLE)),
    *((pa.large_string(), pool) for pool in NULLABLE[-2:]),
    (pa.int64(), st.one_of(st.none(), SMALL)),
    (pa.int8(), st.integers(-128, 127)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float64(), st.one_of(st.none(), FLOATS)),
    (pa.float32(), st.floats(allow_nan=False, allow_infinity=False, width=32)),
    (pa.bool_(), st.one_of(st.none(), st.booleans())),
)
NAMES = st.one_of(
    st.sampled_from(["text", "label", "price {EUR}", "a, b", 'the "x"', "two\nlines", "is", "a is ", "{", "\\n", ","]),
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=6),
    MARKS.filter(bool),
)

Table = tuple[str, list[str], list[pa.DataType | None], list[list[Any]]]


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Draw a table: suffix, column names, Arrow types (of Parquet), rows."""
    suffix = draw(st.sampled_from([".csv", ".jsonl", ".parquet"]))
    names = draw(st.lists(NAMES, min_size=2, max_size=5, unique=True))
    count = draw(st.integers(ROWS, ROWS + 10))
    kinds: list[pa.DataType | None] = []
    columns = []
    for _ in names:
        kind, pool = None, st.nothing()
        if suffix == ".parquet":
            kind, pool = draw(st.sampled_from(PARQUET_POOLS))
        else:
            pool = draw(st.sampled_from(SPELLED_POOLS if suffix == ".csv" else JSON_POOLS))
        values = draw(st.lists(pool, min_size=1, max_size=12))
        step = draw(st.integers(1, 11))
        kinds.append(kind)
        columns.append([values[row * step // 2 % len(values)] for row in range(count)])
    # Single cells unlike the others of their column, or with the words of the default template.
    words = st.sampled_from(names).map(", {} is ".format)
    stray = st.one_of(SPELLED, words, SPELLED, INTEGERS, FLOATS) if suffix == ".jsonl" else st.one_of(SPELLED, words)
    for place in range(len(names)):
        if kinds[place] in (None, pa.string()):
            for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
                columns[place][draw(st.integers(0, count - 1))] = draw(stray)
    return suffix, names, kinds, [list(row) for row in zip(*columns, strict=True)]


def write_any(path: Path, table: Table) -> None:
    """Write a table with the libraries alone."""
    suffix, names, kinds, rows = table
    if suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([names, *rows])
    elif suffix == ".jsonl":
        lines = (json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in rows)
        path.write_bytes("".join(line + "\n" for line in lines).encode())
    else:
        arrays = [pa.array([row[place] for row in rows], kind) for place, kind in enumerate(kinds)]
        parquet.write_table(pa.table(arrays, names), path)


def read_any(path: Path) -> tuple[list[str], list[list[Any]]]:
    """Read names and rows of a table with the libraries alone."""
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            names, *rows = csv.reader(file)
        return names, [row for row in rows if row]
    if path.suffix == ".jsonl":
        objects = [json.loads(line) for line in path.read_bytes().decode().split("\n") if line]
        return list(objects[0]), [list(one.values()) for one in objects]
    table = parquet.read_table(path)
    return table.column_names, [list(row.values()) for row in table.to_pylist()]


def is_subsequence(rows: list[list[Any]], source: list[list[Any]]) -> bool:
    """Return True if rows are rows of the source in its order, with the same types."""
    remaining = iter([repr(row) for row in source])  # 1, 1.0, True, 0.0 and -0.0 differ
    return all(repr(row) in remaining for row in rows)


def prepare_any(table: Table, mode: str, tokenizer: str) -> None:
    """Prepare a table and compare round_trip.<format> with it, cell by cell; or check the one line of a refusal."""
    suffix, names, _, _ = table
    flags: dict[str, dict[str, Any]] = {
        "rows": {"row_template": ""},
        "rows and label": {"row_template": "", "label_column": names[-1]},
        "text and label": {"text_column": names[0], "label_column": names[-1]},
    }
    with tempfile.TemporaryDirectory() as folder:
        path, data_dir = Path(folder, f"own{suffix}"), Path(folder, "data")
        write_any(path, table)
        source = TextSource(str(path), Split(0.2, 0.2, 0), **flags[mode])
        limits = PreparationSettings(tokenizer, 300, "none", more_than=2, fewer_than=10_000, whole=True)
        try:
            statistics = prepare(source, "own", data_dir, limits)
        except UserError as error:
            message = str(error)
            assert "\n" not in message
            assert str(path) in message
            assert re.search(r"column |(?:line|row) \d|too few documents", message)
            assert not data_dir.exists() or not os.listdir(data_dir)
            return
        trip = statistics["round_trip"]
        held, rows = read_any(path)
        wanted = held if mode != "text and label" else [name for name in held if name in (names[0], names[-1])]
        found, again = read_any(data_dir / "own" / f"round_trip{suffix}")
        assert found == wanted
        assert is_subsequence(again, [[row[held.index(name)] for name in wanted] for row in rows])
        assert len(again) == trip["documents"] == statistics["train"]["sentences"]
        assert (trip["identical"], trip["differences"]) == (trip["documents"], [])


MODES = st.sampled_from(["rows", "rows", "rows and label", "text and label"])


def fuzzed(examples: int) -> Callable[[], None]:
    """Return the property test with a number of examples."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(tables(), MODES, st.booleans())
    def check(table: Table, mode: str, own: bool) -> None:
        prepare_any(table, mode, "table" if own and mode != "text and label" else "bpe")

    return check


@pytest.mark.slow
def test_every_table_comes_back_or_one_line_names_the_cell():
    fuzzed(60)()
