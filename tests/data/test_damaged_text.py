"""Preparation of damaged text: refused in one line that gives the place, and nothing is changed."""

import codecs
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from pipeline.data.dataset import load_prepared
from pipeline.data.prepare import PreparationSettings, prepare
from pipeline.data.text_source import TextSource
from pipeline.runtime.errors import UserError
from tests.data.own_files import (
    DOCUMENTS,
    ODD_FOLDER,
    PLAIN,
    SCRIPTS,
    SPLIT,
    decoded,
    json_lines,
    parquet_file,
    prepare_file,
    snapshot,
    texts,
    write,
)
from tests.helpers import ROOT, one_line_of_error, run


@pytest.fixture(scope="module")
def prepared_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier")
    prepare_file(write(folder, ".txt", PLAIN), folder / "data")
    return folder / "data"


@pytest.fixture
def data_dir(prepared_once: Path, tmp_path: Path) -> Path:
    """A data folder that holds an earlier dataset called `own`."""
    return shutil.copytree(prepared_once, tmp_path / "data")


def options(path: Path, data_dir: Path) -> list[object]:
    column = [] if path.suffix == ".txt" else ["--TEXT_COLUMN", "review"]
    return ["--DATA", path, *column, "--VOCAB_SIZE", 150, "--DATA_DIR", data_dir]


def refused(path: Path, data_dir: Path) -> str:
    """Return the error of preparing a file in this process; check that nothing has changed."""
    before = snapshot(data_dir)
    with pytest.raises(UserError) as error:
        prepare_file(path, data_dir)
    assert snapshot(data_dir) == before
    assert os.listdir(data_dir) == ["own"]
    return str(error.value)


REFUSED = {
    "an empty file": (".txt", b"", "is empty; bring text"),
    "one sentence": (".txt", b"The old king saw the river.\n", r"too few documents with text \(1\).*bring more"),
    "no sentence long enough": (
        ".txt",
        b"no\n" * 40,
        r"40 of 40 texts would be left out \(40 too short\); --MORE_THAN 3 keeps the short ones",
    ),
    "invalid UTF-8": (".txt", PLAIN + b"\nthe \xe9", f"line 41, byte offset {len(PLAIN) + 5}: .*0xe9.*UTF-8"),
    "a NUL byte": (".csv", b"review\nthe old\nking\0\n", "line 3, byte offset 19: a NUL byte.*UTF-8"),
    "UTF-16": (".txt", PLAIN.decode().encode("utf-16"), "in UTF-16; convert it to UTF-8: iconv"),
    "a malformed line": (
        ".jsonl",
        json_lines(*DOCUMENTS) + b'{"review": "the\n',
        "line 41, column 12: .*mend the line",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_the_script_refuses_in_one_line_that_says_where_and_changes_nothing(case: str, tmp_path: Path, data_dir: Path):
    suffix, content, expected = REFUSED[case]
    own = write(tmp_path / ODD_FOLDER, suffix, content)
    before = snapshot(data_dir)
    finished = run("prepareDatasets.py", *options(own, data_dir), expect=2)
    finished.stderr = re.sub(r"[^\r\n]*?/s\]", "", finished.stderr)  # progress bars
    line = one_line_of_error(finished)
    assert re.fullmatch(
        rf"prepareDatasets.py: error: (the train split of )?{re.escape(str(own))}\b.*{expected}.*", line
    )
    assert snapshot(data_dir) == before
    assert os.listdir(data_dir) == ["own"]


@pytest.mark.slow
def test_the_script_prepares_every_script_and_line_end_there_is(tmp_path: Path, data_dir: Path):
    lines = [line for line in SCRIPTS.values() for _ in range(8)]
    content = b"".join(line.encode() + (b"\r\n", b"\r", b"\n", b"\r\n\r\n")[row % 4] for row, line in enumerate(lines))
    own = write(tmp_path / ODD_FOLDER, ".txt", codecs.BOM_UTF8 + content)
    run("prepareDatasets.py", *options(own, data_dir))
    data = load_prepared(data_dir, "own")
    assert decoded(data) == texts(data) == sorted(lines)
    assert os.listdir(data_dir) == ["own"]


@pytest.mark.parametrize(
    ("suffix", "content", "expected"),
    [
        (".txt", b"\n\r\n \t \n\r", "{own} holds no text; give a file that contains text"),
        (".txt", codecs.BOM_UTF8, "{own} holds no text; give a file that contains text"),
        (".csv", b"review\n", "column 'review' of {own} holds no text"),
        (".csv", b"review\n1\n-2.5\n1e9\n", "column 'review' of {own} holds numbers, not text; name another"),
        (".csv", b"review,stars\n,1\n,2\n", "column 'review' of {own} holds no text"),
        (".csv", b"review,stars\nthe king\n", "{own}, line 2: 1 fields where the header has 2; mend"),
        (".csv", b"review\nthe king, the queen\n", "{own}, line 2: 2 fields where the header has 1; mend"),
        (".csv", b'review\none\n"two\nthree\n', "{own}, line 3: cannot be read as CSV (unexpected end of data); mend"),
        (".csv", b'review\n"a\nb"\n"one" two\n', "{own}, line 4: cannot be read as CSV ("),
        (".csv", b"review,review\na,b\n", "{own} has more than one column 'review'; rename one"),
        (".csv", b"title,stars\na,b\n", "{own} has no column 'review'; it has title, stars"),
        (".jsonl", json_lines(None, None), "column 'review' of {own} holds no text"),
        (".jsonl", json_lines("the king", 5), "{own}, line 2: column 'review' holds a number, not text; mend"),
        (".jsonl", json_lines(True), "{own}, line 1: column 'review' holds true or false, not text; mend"),
        (".jsonl", json_lines(["a"]), "{own}, line 1: column 'review' holds a list, not text; mend"),
        (".jsonl", json_lines({"a": "b"}), "{own}, line 1: column 'review' holds an object, not text; mend"),
        (".jsonl", json_lines("the king", "half \ud83d"), "{own}, line 2: \\ud83d is half a character; mend"),
        (".jsonl", b'"the king"\n', "{own}, line 1: not an object (text); mend"),
        (".jsonl", b"null\n", "{own}, line 1: not an object (null); mend"),
        (".jsonl", b"[" * 100_000, "{own}, line 1: cannot be read (maximum recursion"),
        (".jsonl", b'{"review": ' + b"1" * 5000 + b"}", "{own}, line 1: cannot be read ("),
        (".parquet", b"PAR1 and then something else", "{own} cannot be read as Parquet ("),
        (".parquet", b"", "{own} is empty; bring text"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(
    tmp_path: Path, data_dir: Path, suffix: str, content: bytes, expected: str
):
    own = write(tmp_path, suffix, content)
    assert refused(own, data_dir).startswith(expected.format(own=own))


@pytest.mark.parametrize(
    ("column", "name", "expected"),
    [
        (pa.array([0.5, 1.5]), "review", "column 'review' of {own} holds double, not text; name another"),
        (pa.array([None, None]), "review", "column 'review' of {own} holds null, not text; name another"),
        (pa.array([b"a", b"b"]), "review", "column 'review' of {own} holds binary, not text; name another"),
        (pa.array([["a"], ["b"]]), "review", "column 'review' of {own} holds list"),
        (pa.array([None, None], pa.string()), "review", "column 'review' of {own} holds no text"),
        (pa.array(["a", "b"]), "title", "{own} has no column 'review'; it has title"),
        (pa.array([b"the", b"\xff"]).view(pa.string()), "review", "{own}, row 2: no UTF-8; mend the row"),
    ],
)
def test_a_parquet_column_that_is_no_text_is_refused(
    tmp_path: Path, data_dir: Path, column: pa.Array, name: str, expected: str
):
    own = parquet_file(tmp_path / "own.parquet", column, name)
    assert refused(own, data_dir).startswith(expected.format(own=own))


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path, data_dir: Path):
    (tmp_path / "own.txt").mkdir()
    assert refused(tmp_path / "own.txt", data_dir).startswith(f"{tmp_path / 'own.txt'} is no file; --DATA names")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, data_dir: Path):
    own = write(tmp_path, ".txt", PLAIN)
    own.chmod(0)
    assert refused(own, data_dir) == f"{own} cannot be read (Permission denied); fix the cause"


@pytest.mark.parametrize("suffix", [".txt", ".parquet"])
def test_a_file_that_the_disk_does_not_deliver_is_refused_by_its_own_name(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
):
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    own = write(tmp_path, suffix, PLAIN)
    monkeypatch.setattr("pipeline.data.text_files.open", fail, raising=False)
    monkeypatch.setattr(parquet, "ParquetFile", fail)
    assert refused(own, data_dir) == f"{own} cannot be read (Permission denied); fix the cause"


def test_a_wrong_byte_in_wikitext_names_the_file_of_the_three(tmp_path: Path, data_dir: Path):
    for part in ("train", "valid", "test"):
        (tmp_path / f"wiki.{part}.tokens").write_bytes(PLAIN + (b"\n\xff" if part == "valid" else b""))
    with pytest.raises(UserError, match=rf"wiki\.valid\.tokens, line 41, byte offset {len(PLAIN) + 1}: no UTF-8"):
        prepare(
            TextSource("wikitext2", SPLIT, tmp_path),
            "wikitext2",
            data_dir,
            PreparationSettings("wordpiece", 150, "paper"),
        )
    assert os.listdir(data_dir) == ["own"]


@pytest.mark.slow
def test_the_next_preparation_removes_what_a_killed_one_left(data_dir: Path, tmp_path: Path):
    before = snapshot(data_dir)
    own = write(tmp_path, ".txt", PLAIN * 40)
    command = [sys.executable, ROOT / "prepareDatasets.py", *map(str, options(own, data_dir))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not [*data_dir.glob(".own.partial/new-*/work/*")]:
            time.sleep(0.005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    left = snapshot(data_dir)
    assert left.keys() > before.keys()
    assert before.items() <= left.items()
    with pytest.raises(UserError, match="holds no text"):
        prepare_file(write(tmp_path, ".txt", b"\n"), data_dir)
    assert snapshot(data_dir) == before
