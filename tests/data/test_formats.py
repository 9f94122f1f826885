"""File formats: every encoding, script and line end is read, row by row."""

import codecs
import json
import re
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.file_format import Columns
from pipeline.data.formats import FORMATS
from pipeline.runtime.errors import UserError
from tests.data.own_files import (
    DOCUMENTS,
    PLAIN,
    SCRIPTS,
    json_lines,
    parquet_file,
    texts_of,
    write,
)


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_text_of_every_script_comes_back_in_its_order(tmp_path: Path, name: str, suffix: str):
    line = SCRIPTS[name]
    content = {
        ".txt": f"{line}\n" * 20,
        ".csv": "review\n" + f"{line}\n" * 20,
        ".jsonl": json_lines(*[line] * 20).decode(),
    }
    assert texts_of(write(tmp_path, suffix, content[suffix].encode())) == [line] * 20


@pytest.mark.parametrize("bom", [b"", codecs.BOM_UTF8], ids=["bare", "BOM"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
def test_line_ends_and_a_byte_order_mark_are_no_text(tmp_path: Path, suffix: str, end: str, bom: bytes):
    lines = ["the king", "", "  ", "the\u2028queen", ""]
    if suffix == ".csv":
        lines = ["review,stars", *(f'"{line}",5' if line else "" for line in lines)]
    if suffix == ".jsonl":
        lines = [json.dumps({"review": line}, ensure_ascii=False) if line else "" for line in lines]
    own = write(tmp_path, suffix, bom + end.join(lines).encode())
    assert texts_of(own) == ["the king", "the\u2028queen"]


def test_a_document_of_a_csv_file_may_hold_lines_and_be_long(tmp_path: Path):
    long = "the old king " * 100_000
    own = write(tmp_path, ".csv", f'review\n"the king\r\nsaw, ""the"" queen"\n{long}\n'.encode())
    assert texts_of(own) == ['the king\r\nsaw, "the" queen', long]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_encodings_are_named_where_they_are_marked_and_refused_where_not(tmp_path: Path, encoding: str):
    with_mark, without = ((mark + PLAIN.decode()).encode(encoding) for mark in ("\ufeff", ""))
    with pytest.raises(UserError, match=f"is in {encoding[:6].upper()}; convert"):
        texts_of(write(tmp_path, ".txt", with_mark))
    with pytest.raises(UserError, match=r"line 1, byte offset [01]: a NUL byte"):
        texts_of(write(tmp_path, ".txt", without))


@pytest.mark.parametrize("before", [b"", codecs.BOM_UTF8, b"one\r\n\r\xc3\xa9\r\n", codecs.BOM_UTF8 + b"one\r"])
@pytest.mark.parametrize("suffix", [".txt", ".csv"])
def test_a_wrong_byte_is_found_where_it_is(tmp_path: Path, suffix: str, before: bytes):
    line = len(re.findall(rb"\r\n|\r|\n", before)) + 1
    for wrong in (b"\xff", b"\0"):
        own = write(tmp_path, suffix, before + b"a" + wrong + b"\r\n")
        with pytest.raises(UserError, match=rf"own\{suffix}, line {line}, byte offset {len(before) + 1}:"):
            texts_of(own, "one")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_every_kind_of_text_that_parquet_has_is_read_and_nulls_are_passed_over(tmp_path: Path, kind: pa.DataType):
    own = parquet_file(tmp_path / "own.parquet", pa.array([None, *DOCUMENTS, "", None]).cast(kind))
    assert texts_of(own) == DOCUMENTS


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_column_may_hold_numbers_and_nothing_beside_text(tmp_path: Path, suffix: str):
    table = {".csv": b"review,n\n12,1\n,2\nthe king,3\n", ".jsonl": json_lines("12", None, "the king") + b'{"n": 1}\n'}
    own = write(tmp_path, suffix, table[suffix])
    assert texts_of(own) == ["12", "the king"]


ANY = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
PIECES = st.sampled_from(
    [b"review", b"\n", b"\r", b",", b'"', b"{", b"}", b":", b"[", b"\\", b"\xff", b"\0", b"\xef\xbb\xbf"]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES | st.binary(max_size=4) | ANY.map(str.encode)).map(b"".join), st.sampled_from([*FORMATS]))
def test_arbitrary_bytes_are_text_or_refused(content: bytes, suffix: str):
    with tempfile.TemporaryDirectory() as folder:
        own = write(Path(folder), suffix, content)
        try:
            found = texts_of(own)
        except UserError as error:
            assert str(own) in str(error)
        else:
            assert found
            assert all(found_text.strip() and found_text.encode() for found_text in found)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_each_row_has_the_number_of_its_first_line(tmp_path: Path, end: str):
    contents = {
        ".txt": (["the king", "", "the queen"], [1, 2, 3]),
        ".csv": (["review,n", '"the', 'king",1', "", "the queen,2", ",3"], [2, 5, 6]),
        ".jsonl": (['{"review": "the king"}', "", '{"review": null}', '{"review": "the queen"}'], [1, 3, 4]),
    }
    for suffix, (lines, numbers) in contents.items():
        form, own = FORMATS[suffix], write(tmp_path, suffix, end.join(lines).encode())
        columns, column = (form.columns(own), "review") if form.is_table else (Columns(), None)
        assert form.unit == "line"
        assert [row.line for row in form.read(own, columns, column)] == numbers


def test_each_row_of_a_parquet_file_has_its_own_number(tmp_path: Path):
    own, form = parquet_file(tmp_path / "own.parquet", pa.array([*DOCUMENTS, None] * 60)), FORMATS[".parquet"]
    assert form.unit == "row"
    assert [row.line for row in form.read(own, form.columns(own), "review")] == list(range(1, 41 * 60 + 1))
