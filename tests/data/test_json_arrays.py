"""JSON files: arrays of objects, numbers with all their digits, and the one line for what would be lost."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import text_files
from pipeline.data.file_format import Columns
from pipeline.data.formats import FORMATS
from pipeline.runtime.errors import UserError

JSON = FORMATS[".json"]


def rows_of(path: Path, others: list[str] | None = None) -> list[dict]:
    """Read the values of all rows."""
    form = FORMATS[path.suffix]
    return [row.values for row in form.read(path, form.columns(path), None, others)]


def write(folder: Path, content: str, suffix: str = ".json") -> Path:
    """Write the file `own`."""
    path = folder / f"own{suffix}"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    return path


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**200), 2**200), st.floats(allow_infinity=False), st.text(max_size=9)
)
NAMES = ("a", 'b "]},{\n')
ROWS = st.lists(st.tuples(VALUES, VALUES).map(lambda row: dict(zip(NAMES, row, strict=True))), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.sampled_from([None, 2]), st.booleans(), st.sampled_from([1, 2, 5, 2**16]))
def test_an_array_is_read_from_pieces_of_any_size_and_written_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict], indent: int | None, ascii_only: bool, size: int
):
    path = write(tmp_path_factory.mktemp("json"), json.dumps(rows, indent=indent, ensure_ascii=ascii_only))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "PIECE_BYTES", size)
        found = rows_of(path)
        JSON.write(path, found, JSON.columns(path), {})
        again = rows_of(path)
    assert repr(found) == repr(rows) == repr(again)  # of equal types, and NaN is NaN
    assert repr(json.loads(path.read_text(encoding="utf-8"))) == repr(rows)


def test_rows_have_their_numbers_and_no_more_text_is_held_than_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path, json.dumps([{"a": "x" * 1000}] * 1000))
    taken = []
    whole = text_files.pieces

    def counted(path: Path):
        for piece in whole(path):
            taken.append(len(piece))
            yield piece

    monkeypatch.setattr("pipeline.data.json_array_format.pieces", counted)
    rows = JSON.read(path, Columns(("a",)), "a")
    assert [next(rows).line for _ in range(3)] == [1, 2, 3]
    assert sum(taken) <= 2**16
    assert JSON.unit == "row"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty; bring text"),
        (" \n ", "is empty; bring text"),
        ("[]", "is empty; bring text"),
        ('{"a": 1}\n{"a": 2}\n', ", line 1: not an array of objects, but an object; name a file of JSON lines .jsonl"),
        ("\n7", ", line 2: not an array of objects, but no array; mend the file"),
        ('[{"a": 1}, 7]', ", row 2: not an object (a number); mend it"),
        ('[{"a": 1}, [1, 2]]', ", row 2: not an object (a list); mend it"),
        ('[{"a": 1},\n{"a": 1},\n]', ", row 3, line 3: not valid JSON (Expecting value); mend the row"),
        (
            '[{"a": 1}\n{"a": 1}]',
            ", row 1, line 2: not valid JSON (expecting ',' or ']' behind the row); mend the file",
        ),
        ('[{"a": 1},\n{"a": "b', ", row 2, line 2: not valid JSON (Unterminated string starting at); mend the row"),
        ('[{"a": 1}', ", row 1, line 1: not valid JSON (expecting ',' or ']' behind the row); mend the file"),
        ('[{"a": 1}] x', ", line 1: not valid JSON (text behind the array); mend the file"),
        ('[{"a": 1},\n{"b": 2}]', ", row 2: other keys than in the rows before; give every row the same"),
        ('[{"a": 1, "b": 2},\n{"b": 2}]', ", row 2: other keys than in the rows before; give"),
        ('[{"a": 1},\n{"a": 2, "a": 3}]', ", row 2: cannot be read (the key 'a' occurs twice); mend the row"),
        ('[{"a": "\\ud83d"}]', ", row 1: \\ud83d is half a character; mend it"),
        ('[{"a": [1]}]', ", row 1: column 'a' holds a list; take columns of single values"),
        ('[{"a": Infinity}]', ", row 1: column 'a' holds a number that is not finite, or too large; mend it"),
        ('[{"a": ' + "[" * 100_000, ", row 1: cannot be read (maximum recursion"),
    ],
)
def test_a_damaged_array_is_refused_with_its_row(tmp_path: Path, content: str, expected: str):
    path = write(tmp_path, content)
    with pytest.raises(UserError) as error:
        rows_of(path)
    assert str(error.value).replace(f"{path} is", "is").removeprefix(str(path)).startswith(expected)


def test_a_fault_far_from_the_end_is_found_without_the_rest_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(text_files, "PIECE_BYTES", 100)
    path = write(tmp_path, '[{"a" 1, "b": 2, "c": "and more than sixteen characters"},\n' + '{"a": 1},\n' * 50 + "\0")
    with pytest.raises(UserError, match="row 1, line 1: not valid JSON"):
        rows_of(path)
    path.write_bytes(b'[{"a": "\xc3\xa9"},\n\r\n{"a": "\xff"}]')
    for size in (1, 5, 16, 100):  # the pieces end within a character, between \r and \n, and elsewhere
        monkeypatch.setattr(text_files, "PIECE_BYTES", size)
        with pytest.raises(UserError, match=r"line 3, byte offset 23: no UTF-8 \(byte 0xff\)"):
            rows_of(path)


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize(
    "literal", ["12345678901234567.25", "0.1000000000000000055", "1e-400", "1e-99999999999999999999"]
)
def test_a_number_whose_digits_a_float_does_not_keep_is_refused(tmp_path: Path, suffix: str, literal: str):
    rows = [f'{{"n": "x", "price": {number}}}' for number in ("0.1", literal)]
    path = write(tmp_path, f"[{','.join(rows)}]" if suffix == ".json" else "\n".join(rows), suffix)
    with pytest.raises(UserError) as error:
        rows_of(path)
    unit = "row" if suffix == ".json" else "line"
    assert str(error.value) == (
        f"{path}, {unit} 2: column 'price' holds {literal}, with more digits than a number keeps; write it as text, in "
        "quotes"
    )
    assert rows_of(path, ["n"]) == [{"n": "x"}] * 2  # a column that is not read may hold it


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_numbers_texts_and_missing_values_stay_apart(tmp_path: Path, suffix: str):
    literals = [
        "1",
        "1.0",
        '"1"',
        "true",
        '"True"',
        "null",
        '""',
        "NaN",
        "0.10",
        "1e5",
        "-0.0",
        str(10**30 + 1),
        "5e-324",
    ]
    rows = [f'{{"a": {literal}}}' for literal in literals]
    path = write(tmp_path, f"[{','.join(rows)}]" if suffix == ".json" else "\n".join(rows), suffix)
    values = [row["a"] for row in rows_of(path)]
    wanted = [1, 1.0, "1", True, "True", None, "", math.nan, 0.1, 100000.0, -0.0, 10**30 + 1, 5e-324]
    assert repr(values) == repr(wanted)
    FORMATS[suffix].write(path, [{"a": value} for value in values], Columns(("a",)), {})
    assert repr([row["a"] for row in rows_of(path)]) == repr(wanted)


def test_a_key_that_occurs_twice_in_a_line_is_refused(tmp_path: Path):
    path = write(tmp_path, '{"a": 1}\n\n{"a": 2, "b": 3, "b": 3}\n', ".jsonl")
    with pytest.raises(
        UserError, match=r"own\.jsonl, line 3: cannot be read \(the key 'b' occurs twice\); mend the line"
    ):
        rows_of(path)


def test_other_keys_are_refused_and_their_order_has_no_meaning(tmp_path: Path):
    path = write(tmp_path, '{"a": 1, "b": 2}\n{"b": 3, "a": 4}', ".jsonl")
    assert rows_of(path) == [{"a": 1, "b": 2}, {"a": 4, "b": 3}]
    path = write(tmp_path, '{"a": 1, "b": 2}\n{"a": 1}', ".jsonl")
    with pytest.raises(UserError, match="line 2: other keys than in the lines before; give every line the same"):
        rows_of(path)


def test_no_row_is_an_empty_array(tmp_path: Path):
    JSON.write(tmp_path / "own.json", [], Columns(("a",)), {})
    assert json.loads((tmp_path / "own.json").read_text()) == []
