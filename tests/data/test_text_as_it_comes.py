"""Preparation of text as people have it: every encoding, script and kind of damage is prepared or refused by name."""

import codecs
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pipeline.data.cleaning import paragraphs, split_document
from pipeline.data.dataset import PreparedData, load_prepared
from pipeline.data.documents import Split
from pipeline.data.file_format import Columns
from pipeline.data.formats import FORMATS
from pipeline.data.prepare import PreparationSettings, prepare
from pipeline.data.text_source import TextSource
from pipeline.data.tokenizer import train_wordpiece
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import replacing_folder
from tests.helpers import ROOT, one_line_of_error, run, text

DOCUMENTS = text(40).splitlines()
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


def csv_text(*records: tuple[str, ...]) -> bytes:
    return "".join(",".join(record) + "\n" for record in records).encode()


def json_lines(*values: object, column: str = "review") -> bytes:
    return "".join(json.dumps({column: value, "stars": 5}) + "\n" for value in values).encode()


def parquet_file(path: Path, column: pa.Array, name: str = "review") -> Path:
    parquet.write_table(pa.table({name: column}), path)
    return path


def write(folder: Path, suffix: str, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"own{suffix}"
    path.write_bytes(content)
    return path


def prepare_file(path: Path, data_dir: Path, **changes: object) -> PreparedData:
    """Prepare a file in this process, and load the result."""
    wanted = {"tokenizer": "wordpiece", "vocabulary_size": 150, "clean": "none"} | changes
    column = None if path.suffix == ".txt" else "review"
    prepare(TextSource(str(path), SPLIT, text_column=column), "own", data_dir, PreparationSettings(**wanted))
    return load_prepared(data_dir, "own")


def rows(path: Path, column: str = "review") -> list[str]:
    """The texts of a file."""
    form = FORMATS[path.suffix]
    read = form.read(path, form.columns(path) if form.is_table else Columns(), column if form.is_table else None)
    return [row.text for row in read if row.text is not None]


def texts(data: PreparedData) -> list[str]:
    return sorted(sentence for part in data.splits.values() for sentence in part["text"])


def decoded(data: PreparedData) -> list[str]:
    return sorted(data.tokenizer.decode(ids) for part in data.splits.values() for ids in part["input_ids"])


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def prepared_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier")
    prepare_file(write(folder, ".txt", PLAIN), folder / "data")
    return folder / "data"


@pytest.fixture
def data_dir(prepared_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder that holds an earlier dataset called `own`."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return shutil.copytree(prepared_once, tmp_path / "data")


def options(path: Path, data_dir: Path) -> list[object]:
    column = [] if path.suffix == ".txt" else ["--TEXT_COLUMN", "review"]
    return ["--DATA", path, *column, "--VOCAB_SIZE", 150, "--DATA_DIR", data_dir]


def refused(path: Path, data_dir: Path) -> str:
    """The error of preparing a file in this process, which changed nothing."""
    before = snapshot(data_dir)
    with pytest.raises(UserError) as error:
        prepare_file(path, data_dir)
    assert snapshot(data_dir) == before
    assert os.listdir(data_dir) == ["own"]
    return str(error.value)


# The script, as a process.

REFUSED = {
    "an empty file": (".txt", b"", "is empty; bring text"),
    "one sentence": (".txt", b"The old king saw the river.\n", r"too few documents with text \(1\).*bring more"),
    "no sentence long enough": (
        ".txt",
        b"no\n" * 40,
        "no sentence of more than 5 and fewer than 50 tokens.*bring more",
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


def test_the_script_prepares_every_script_and_line_end_there_is(tmp_path: Path, data_dir: Path):
    lines = [line for line in SCRIPTS.values() for _ in range(8)]
    content = b"".join(line.encode() + (b"\r\n", b"\r", b"\n", b"\r\n\r\n")[row % 4] for row, line in enumerate(lines))
    own = write(tmp_path / ODD_FOLDER, ".txt", codecs.BOM_UTF8 + content)
    run("prepareDatasets.py", *options(own, data_dir))
    data = load_prepared(data_dir, "own")
    assert decoded(data) == texts(data) == sorted(lines)
    assert os.listdir(data_dir) == ["own"]


# Every other case, in this process.


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_text_of_every_script_comes_back_in_its_order(tmp_path: Path, name: str, suffix: str):
    line = SCRIPTS[name]
    content = {
        ".txt": f"{line}\n" * 20,
        ".csv": "review\n" + f"{line}\n" * 20,
        ".jsonl": json_lines(*[line] * 20).decode(),
    }
    assert rows(write(tmp_path, suffix, content[suffix].encode())) == [line] * 20


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
    assert rows(own) == ["the king", "the\u2028queen"]


def test_a_document_of_a_csv_file_may_hold_lines_and_be_long(tmp_path: Path):
    long = "the old king " * 100_000
    own = write(tmp_path, ".csv", f'review\n"the king\r\nsaw, ""the"" queen"\n{long}\n'.encode())
    assert rows(own) == ['the king\r\nsaw, "the" queen', long]


@pytest.mark.parametrize(
    ("unit", "size", "more"),
    [("ab", 10**7, set()), ("the old king saw the river . ", 10**6, {"the old king saw the river ."})],
    ids=["a word", "sentences"],
)
def test_a_line_of_megabytes_is_prepared(tmp_path: Path, unit: str, size: int, more: set[str]):
    own = write(tmp_path, ".txt", PLAIN + b"\n" + (unit * (size // len(unit))).encode())
    assert set(texts(prepare_file(own, tmp_path / "data"))) == {*DOCUMENTS} | more


@pytest.mark.parametrize(("length", "learnt"), [(100, True), (101, False)])
def test_a_word_too_long_to_be_cut_is_not_trained_on(length: int, learnt: bool):
    word = ("xz" * length)[:length]
    tokenizer = train_wordpiece([*DOCUMENTS, word] * 9, 150, lower_case=False)
    assert any("xz" in token for token in tokenizer.tokenizer.get_vocab()) == learnt
    assert (tokenizer.unk_id not in tokenizer.encode([word])[0]) == learnt


def test_combining_and_joining_characters_stay_when_case_does(tmp_path: Path):
    own = write(tmp_path, ".txt", "\n".join([*SCRIPTS.values()] * 10).encode())
    data = prepare_file(own, tmp_path / "data", vocabulary_size=2000)
    assert set(decoded(data)) == set(SCRIPTS.values())
    assert not any(data.tokenizer.unk_id in ids for part in data.splits.values() for ids in part["input_ids"])


def test_a_sentence_that_spells_a_special_token_is_left_out(tmp_path: Path):
    odd = [f"the old king saw {token} and left" for token in ("[PAD]", "[CLS]", "[SEP]")]
    data = prepare_file(write(tmp_path, ".txt", "\n".join([*DOCUMENTS, *odd]).encode()), tmp_path / "data")
    assert texts(data) == sorted(DOCUMENTS)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_encodings_are_named_where_they_are_marked_and_refused_where_not(tmp_path: Path, encoding: str):
    with_mark, without = ((mark + PLAIN.decode()).encode(encoding) for mark in ("\ufeff", ""))
    with pytest.raises(UserError, match=f"is in {encoding[:6].upper()}; convert"):
        rows(write(tmp_path, ".txt", with_mark))
    with pytest.raises(UserError, match=r"line 1, byte offset [01]: a NUL byte"):
        rows(write(tmp_path, ".txt", without))


@pytest.mark.parametrize("before", [b"", codecs.BOM_UTF8, b"one\r\n\r\xc3\xa9\r\n", codecs.BOM_UTF8 + b"one\r"])
@pytest.mark.parametrize("suffix", [".txt", ".csv"])
def test_a_wrong_byte_is_found_where_it_is(tmp_path: Path, suffix: str, before: bytes):
    line = len(re.findall(rb"\r\n|\r|\n", before)) + 1
    for wrong in (b"\xff", b"\0"):
        own = write(tmp_path, suffix, before + b"a" + wrong + b"\r\n")
        with pytest.raises(UserError, match=rf"own\{suffix}, line {line}, byte offset {len(before) + 1}:"):
            rows(own, "one")


@pytest.mark.parametrize(
    ("suffix", "content", "expected"),
    [
        (".txt", b"\n\r\n \t \n\r", "{own} holds no text; bring some"),
        (".txt", codecs.BOM_UTF8, "{own} holds no text; bring some"),
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
        (".jsonl", b'"the king"\n', "{own}, line 1: no object (text); mend"),
        (".jsonl", b"null\n", "{own}, line 1: no object (null); mend"),
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


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_every_kind_of_text_that_parquet_has_is_read_and_nulls_are_passed_over(tmp_path: Path, kind: pa.DataType):
    own = parquet_file(tmp_path / "own.parquet", pa.array([None, *DOCUMENTS, "", None]).cast(kind))
    assert rows(own) == DOCUMENTS


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_column_may_hold_numbers_and_nothing_beside_text(tmp_path: Path, suffix: str):
    table = {".csv": b"review,n\n12,1\n,2\nthe king,3\n", ".jsonl": json_lines("12", None, "the king") + b'{"n": 1}\n'}
    own = write(tmp_path, suffix, table[suffix])
    assert rows(own) == ["12", "the king"]


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path, data_dir: Path):
    (tmp_path / "own.txt").mkdir()
    assert refused(tmp_path / "own.txt", data_dir).startswith(f"{tmp_path / 'own.txt'} is no file; --DATA names")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, data_dir: Path):
    own = write(tmp_path, ".txt", PLAIN)
    own.chmod(0)
    assert refused(own, data_dir) == f"{own} cannot be read (Permission denied); mend that"


@pytest.mark.parametrize("suffix", [".txt", ".parquet"])
def test_a_file_that_the_disk_does_not_deliver_is_refused_by_its_own_name(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
):
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    own = write(tmp_path, suffix, PLAIN)
    monkeypatch.setattr("pipeline.data.text_files.open", fail, raising=False)
    monkeypatch.setattr(parquet, "ParquetFile", fail)
    assert refused(own, data_dir) == f"{own} cannot be read (Permission denied); mend that"


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


# Arbitrary text.

WORDS = st.sampled_from(
    ["the", "king", "saw", "naïve", "עיר", "می‌خواهد", "🎉", "👨‍👩‍👧", "e\u0301", "3.5", "Dr.", "end.", "[SEP]", "<unk>"]
)
BREAKS = st.sampled_from(
    [" ", " ", " ", " ", "\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x1e", "\x85", "\u2028", "\u2029"]
)
ANY = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
DOCUMENT = st.lists(st.one_of(WORDS, WORDS, ANY, BREAKS), min_size=4, max_size=24).map(" ".join)

CLEANED = st.sampled_from(["none", "none", "paper"])


def write_documents(folder: Path, suffix: str, documents: list[str]) -> tuple[Path, list[str]]:
    """Documents in a file of this kind, and the documents that it then holds."""
    path = folder / f"own{suffix}"
    if suffix == ".txt":
        path.write_bytes("\n".join(documents).encode())
        return path, re.split(r"\r\n|\r|\n", "\n".join(documents))
    if suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["review", "n"], *([document, 0] for document in documents)])
    elif suffix == ".jsonl":
        path.write_bytes(b"".join(json.dumps({"review": document}).encode() + b"\n" for document in documents))
    else:
        parquet_file(path, pa.array(documents, pa.string()))
    return path, documents


def without_space(text: str) -> str:
    return "".join(text.split())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(DOCUMENT, max_size=16), st.sampled_from([*FORMATS]), st.integers(2, 4), CLEANED)
def test_arbitrary_documents_are_prepared_whole_or_refused(
    documents: list[str], suffix: str, more_than: int, clean: str
):
    with tempfile.TemporaryDirectory() as folder:
        own, held = write_documents(Path(folder), suffix, documents)
        data_dir = Path(folder) / "data"
        try:
            data = prepare_file(own, data_dir, more_than=more_than, fewer_than=12, clean=clean)
        except UserError as error:
            assert str(own) in str(error)
            assert not os.listdir(data_dir)
            return
        check_invariants(data, held, more_than, 12, clean)


def check_invariants(data: PreparedData, documents: list[str], more_than: int, fewer_than: int, clean: str) -> None:
    """What holds of every prepared dataset, of whatever documents."""
    tokenizer = data.tokenizer
    reserved = {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id}
    for name, part in data.splits.items():
        for row in part:
            ids = row["input_ids"]
            assert (ids[0], ids[-1]) == (tokenizer.cls_id, tokenizer.sep_id)
            assert reserved.isdisjoint(ids[1:-1])
            assert more_than < len(ids) < fewer_than
            assert row["length"] == len(ids) - 1
            assert [ids] == tokenizer.encode([row["text"]])
            assert 0 <= min(ids) <= max(ids) < tokenizer.vocabulary_size
            assert tokenizer.decode(ids)
            if name == "train" and tokenizer.unk_id not in ids:
                assert without_space(tokenizer.decode(ids)) == without_space(row["text"])
            if name == "train" and "[UNK]" not in row["text"]:
                assert tokenizer.unk_id not in ids
        lengths = part["length"][:]
        assert data.statistics[name] == {
            "sentences": len(lengths),
            "tokens": sum(lengths),
            "mean_length": sum(lengths) / len(lengths),
            "min_length": min(lengths),
            "max_length": max(lengths),
        }
    assert data.length_distribution == Counter(data.splits["train"]["length"])
    sentences = [sentence for document in documents for sentence in split_document(document, clean)]
    ids = zip(sentences, tokenizer.encode(sentences), strict=True)
    kept = [text for text, row in ids if more_than < len(row) < fewer_than and reserved.isdisjoint(row[1:-1])]
    assert texts(data) == sorted(kept)


@settings(max_examples=200, deadline=None)
@given(DOCUMENT)
def test_no_character_is_lost_between_document_and_sentences(document: str):
    sentences = split_document(document, "none")
    assert without_space("".join(sentences)) == without_space("".join(paragraphs(document)))
    assert all(sentence and sentence == " ".join(sentence.split()) for sentence in sentences)


PIECES = st.sampled_from(
    [b"review", b"\n", b"\r", b",", b'"', b"{", b"}", b":", b"[", b"\\", b"\xff", b"\0", b"\xef\xbb\xbf"]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES | st.binary(max_size=4) | ANY.map(str.encode)).map(b"".join), st.sampled_from([*FORMATS]))
def test_arbitrary_bytes_are_text_or_refused(content: bytes, suffix: str):
    with tempfile.TemporaryDirectory() as folder:
        own = write(Path(folder), suffix, content)
        try:
            found = rows(own)
        except UserError as error:
            assert str(own) in str(error)
        else:
            assert found
            assert all(found_text.strip() and found_text.encode() for found_text in found)


# A preparation that is killed, and two at once.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to replace, with a file `content` that says `old`."""
    path = tmp_path / "data" / "own"
    path.mkdir(parents=True)
    (path / "content").write_text("old")
    return path


def content(folder: Path) -> str:
    """What the folder says, which is alone where it is."""
    assert os.listdir(folder.parent) == [folder.name]
    assert os.listdir(folder) == ["content"]
    return (folder / "content").read_text()


REPLACE = """
import os, signal, sys
from pathlib import Path
from pipeline.runtime.files import replacing_folder

with replacing_folder(Path(sys.argv[1])) as temporary:
    (temporary / "content").write_text("new")
    {body}
"""
KILLED_BETWEEN_THE_RENAMES = """
    replace, done = os.replace, []
    def once(*paths):
        if done:
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(replace(*paths))
    os.replace = once
"""


@pytest.fixture
def start(folder: Path) -> Iterator:
    """Starts a process that replaces the folder with one that says `new`."""
    started = []

    def start(body: str) -> subprocess.Popen:
        command = [sys.executable, "-c", REPLACE.format(body=body), folder]
        started.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_folder_killed_between_its_renames_is_put_back_by_the_next(folder: Path, start):
    assert start(KILLED_BETWEEN_THE_RENAMES).wait() == -signal.SIGKILL
    assert not folder.exists()
    with pytest.raises(UserError, match="nothing to prepare"), replacing_folder(folder):
        assert (folder / "content").read_text() == "old"
        raise UserError("nothing to prepare")
    assert content(folder) == "old"


def test_a_folder_killed_between_its_renames_may_be_replaced_by_the_next(folder: Path, start):
    start(KILLED_BETWEEN_THE_RENAMES).wait()
    with replacing_folder(folder) as temporary:
        (temporary / "content").write_text("newer")
    assert content(folder) == "newer"


def test_an_old_folder_comes_back_where_the_new_one_cannot_take_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name.startswith("new-"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space"), replacing_folder(folder):
        pass
    assert content(folder) == "old"


def test_a_folder_that_a_living_process_writes_is_left_to_it(folder: Path, start):
    process = start('print("ready", flush=True); sys.stdin.readline()')
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(UserError, match=rf"another process is writing {folder}; wait"), replacing_folder(folder):
        pass
    process.communicate("go on\n")
    assert process.returncode == 0
    assert content(folder) == "new"


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
