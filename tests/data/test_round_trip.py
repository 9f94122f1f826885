"""round_trip.<format>: the training documents after tokenizing and writing back, as a perfect model would give them."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from pipeline.data import prepare as preparation
from pipeline.data import round_trip as trips
from pipeline.data.csv_format import CsvFormat
from pipeline.data.tokenizer import TextTokenizer
from pipeline.reporting.preparation import report
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import check_files, read_record, write_csv
from tests.data.own_files import MANY, prepare_file, write_own, write_table, write_wikitext
from tests.helpers import call, one_line_of_error

SPACED = [
    f"The U.S. shop sold {n} at £{n}.90,  O'Brien - said (10:{n:02d}); it's e.g. well-known..." for n in range(60)
]
PLAIN = [line.replace(" .", ".") for line in MANY]
KINDS = ["good", "bad", "4.50", "4.5"]


def prepare_own(path: Path, *flags: object) -> str:
    """Run prepareDatasets.py on a file; return its output."""
    fractions = ("--VALIDATION_FRACTION", 0.2, "--TEST_FRACTION", 0.2, "--SEED", 3, "--VOCAB_SIZE", 400)
    return call("prepareDatasets.py", "--DATA", path, "--DATA_DIR", path.parent / "data", *fractions, *flags).stdout


def result(path: Path) -> dict[str, Any]:
    """Return `round_trip` of statistics.json."""
    return json.loads((path.parent / "data" / "own" / "statistics.json").read_text())["round_trip"]


def back(path: Path) -> Path:
    return path.parent / "data" / "own" / f"round_trip{path.suffix}"


# Its form.


def test_the_lines_of_a_text_come_back(tmp_path: Path):
    own = tmp_path / "own.txt"
    own.write_text("\n".join(SPACED) + "\n")
    said = prepare_own(own, "--WHOLE_DOCUMENTS", True, "--FEWER_THAN", 200)
    lines = back(own).read_text().splitlines()
    assert len(lines) == 36
    assert lines == [line for line in SPACED if line in set(lines)]
    assert result(own) == {"documents": 36, "identical": 36, "share": 100.0, "differences": []}
    assert f"100.0 % of 36 training documents come back as they were from tokens; see {back(own)}" in said


def test_the_sentences_of_a_text_come_back(tmp_path: Path):
    own = tmp_path / "own.txt"
    own.write_text("\n".join(f"{one}  今天{one}。{one[:-2]}! Then it ended." for one in MANY) + "\n")
    said = prepare_own(own)
    assert result(own)["identical"] == result(own)["documents"] == 72
    assert "100.0 % of 72 training documents" in said
    text = own.read_text()
    assert all(line in text for line in back(own).read_text().splitlines())


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    "flags",
    [
        ("--TEXT_COLUMN", "review", "--LABEL_COLUMN", "kind", "--WHOLE_DOCUMENTS", True),
        ("--ROW_TEMPLATE", ""),
        ("--ROW_TEMPLATE", "", "--LABEL_COLUMN", "kind"),
    ],
    ids=["text", "rows", "rows and label"],
)
def test_the_rows_of_a_table_come_back_in_its_own_format(tmp_path: Path, suffix: str, flags: tuple[object, ...]):
    kinds = [KINDS[n % 4] for n in range(60)]
    codes = [f"{n:03d}.10" for n in range(60)]
    own = write_table(tmp_path / f"own{suffix}", kind=kinds, review=SPACED, code=codes)
    said = prepare_own(own, *flags, "--FEWER_THAN", 400)
    if suffix == ".parquet":
        rows = parquet.read_table(back(own)).to_pylist()
    elif suffix == ".jsonl":
        rows = [json.loads(line) for line in back(own).read_text().splitlines()]
    else:
        with open(back(own), newline="") as file:
            rows = list(csv.DictReader(file))
    source = [dict(zip(("kind", "review", "code"), row, strict=True)) for row in zip(kinds, SPACED, codes, strict=True)]
    wanted = ["kind", "review"] if "--TEXT_COLUMN" in flags else ["kind", "review", "code"]
    source = [{name: row[name] for name in wanted} for row in source]
    assert len(rows) == 36
    assert rows == [row for row in source if row in rows]
    assert list(rows[0]) == wanted
    assert result(own) == {"documents": 36, "identical": 36, "share": 100.0, "differences": []}
    assert "100.0 % of 36 training documents" in said


def test_only_the_first_thousand_training_documents_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trips, "DOCUMENTS", 20)
    own = write_own(tmp_path, ".txt")
    prepare_file(own, tmp_path / "data", tokenizer="bpe", vocabulary_size=300)
    assert len(back(own).read_text().splitlines()) == result(own)["documents"] == 20


def test_a_carriage_return_in_a_cell_comes_back(tmp_path: Path):
    write_csv(tmp_path / "table.csv", ["a", "b"], [["x\ry", "\r"], ["x\ny", "é\r\n"]])
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["a", "b"], ["x\ry", "\r"], ["x\ny", "é\r\n"]]
    assert (tmp_path / "table.csv").read_bytes().startswith(b"a,b\n")


# Its differences.


def test_what_wordpiece_changes_is_listed_with_its_place(tmp_path: Path):
    own = tmp_path / "own.txt"
    own.write_text("\n".join([*PLAIN[:30], *SPACED[:30]]) + "\n")
    said = prepare_own(own, "--TOKENIZER", "wordpiece", "--WHOLE_DOCUMENTS", True, "--FEWER_THAN", 200)
    found = result(own)
    assert 0 < found["identical"] < found["documents"] == 36
    assert found["share"] == pytest.approx(100 * found["identical"] / 36)
    first = found["differences"][0]
    number = int(first.split(":")[0].removeprefix("line "))
    assert first.startswith(f"line {number}: {repr([*PLAIN[:30], *SPACED[:30]][number - 1])[:60]}… became ")
    assert "£" in first.split(" became ")[1]
    assert f"  {first}" in said
    assert f"{found['share']:.1f} % of 36 training documents" in said
    assert len(found["differences"]) == 10


def test_what_the_papers_cleaning_changes_is_listed(tmp_path: Path):
    own = write_table(tmp_path / "own.csv", review=[f"The KING saw {n} dogs!" for n in range(60)])
    flags = ("--TEXT_COLUMN", "review", "--WHOLE_DOCUMENTS", True, "--CLEAN", "paper")
    said = prepare_own(own, *flags)
    found = result(own)
    assert (found["identical"], found["share"], found["documents"]) == (0, 0.0, 36)
    assert any(
        one.startswith("line ") and "'The KING saw " in one and " became 'the king saw " in one
        for one in found["differences"]
    )
    assert "--CLEAN paper lowers the case" in said
    with open(back(own), newline="") as file:
        assert all(row["review"].startswith("the king saw ") for row in csv.DictReader(file))


def test_a_loss_of_the_decoder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    decode = TextTokenizer.decode

    def lossy(self: TextTokenizer, ids: Sequence[int]) -> str:
        return decode(self, ids).replace("queen", "king")

    monkeypatch.setattr(TextTokenizer, "decode", lossy)
    own = write_own(tmp_path, ".csv")
    prepare_file(own, tmp_path / "data", tokenizer="bpe", vocabulary_size=300, whole=True)
    found = result(own)
    read = list(csv.DictReader(own.read_text().splitlines()))
    assert 0 < found["identical"] < found["documents"]
    for one in found["differences"]:
        place, change = one.split(": ", 1) if ", column" not in one else one.split(", column 'review': ")
        text = read[int(place.removeprefix("line ")) - 2]["review"]
        assert "queen" in text
        assert change.startswith(repr(text)[:60])
    report_lines = report(json.loads((tmp_path / "data/own/statistics.json").read_text()), tmp_path / "data" / "own")
    assert found["differences"][0] in report_lines


def test_a_loss_of_one_document_of_many_is_not_rounded_away(tmp_path: Path):
    own = write_own(tmp_path, ".txt")
    data = prepare_file(own, tmp_path / "data", tokenizer="bpe", vocabulary_size=300)
    lost = {"documents": 100_000, "identical": 99_999, "share": 99.999, "differences": ["line 7: 'a' became 'b'"]}
    said = report(data.statistics | {"round_trip": lost}, tmp_path / "data" / "own")
    assert "99.9 % of 100,000 training documents" in said
    assert "line 7: 'a' became 'b'" in said


def test_a_loss_of_the_format_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write = CsvFormat.write

    def lossy(self: CsvFormat, path: Path, rows: Iterable[dict[str, Any]], *rest: Any) -> None:
        write(self, path, [{name: value.replace("dog", "cat") for name, value in row.items()} for row in rows], *rest)

    monkeypatch.setattr(CsvFormat, "write", lossy)
    own = write_own(tmp_path, ".csv")
    prepare_file(own, tmp_path / "data", tokenizer="bpe", vocabulary_size=300, whole=True)
    found = result(own)
    assert 0 < found["identical"] < found["documents"]
    assert all(one.startswith("line ") and one.endswith("in round_trip.csv") for one in found["differences"])


def test_a_row_that_is_lost_by_the_format_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write = CsvFormat.write
    monkeypatch.setattr(CsvFormat, "write", lambda self, path, rows, *rest: write(self, path, [*rows[:-3]], *rest))
    own = write_own(tmp_path, ".csv")
    prepare_file(own, tmp_path / "data", tokenizer="bpe", vocabulary_size=300, whole=True)
    found = result(own)
    assert found["identical"] == found["documents"] - 3


# Its file.


def test_the_checksums_cover_the_file(tmp_path: Path):
    own = write_own(tmp_path, ".txt")
    prepare_file(own, tmp_path / "data", tokenizer="bpe", vocabulary_size=300)
    folder = tmp_path / "data" / "own"
    assert "round_trip.txt" in read_record(folder / "checksums.json", "")["files"]
    check_files(folder, "prepare it")
    back(own).write_text(back(own).read_text().replace("king", "king "))
    with pytest.raises(UserError, match=r"round_trip\.txt"):
        check_files(folder, "prepare it")


def test_a_named_corpus_has_no_round_trip(tmp_path: Path):
    source = write_wikitext(tmp_path / "source")
    flags = ("--LOCAL_PATH", source, "--TOKENIZER", "wordpiece", "--VOCAB_SIZE", 120, "--DATA_DIR", tmp_path / "data")
    assert "come back" not in call("prepareDatasets.py", "--DATA", "wikitext2", *flags).stdout
    assert not list((tmp_path / "data" / "wikitext2").glob("round_trip*"))


@pytest.mark.parametrize("ended_in", ["round_trip", "write_json"])
def test_an_ended_preparation_gives_the_same_file_when_it_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended_in: str
):
    """End the preparation before the round trip is written, and behind it."""
    kinds = [KINDS[n % 4] for n in range(60)]
    own = write_table(tmp_path / "own.csv", review=SPACED, kind=kinds)
    flags = ("--ROW_TEMPLATE", "", "--LABEL_COLUMN", "kind", "--FEWER_THAN", 400)
    prepare_own(own, *flags)
    whole, share = back(own).read_bytes(), result(own)
    (tmp_path / "data").rename(tmp_path / "whole")
    work = getattr(preparation, ended_in)

    def end(*arguments: Any) -> Any:
        if ended_in == "round_trip" or Path(arguments[0]).name == "statistics.json":
            raise KeyboardInterrupt
        return work(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(preparation, ended_in, end)
        with pytest.raises((KeyboardInterrupt, AssertionError)):
            prepare_own(own, *flags)
    assert not (tmp_path / "data" / "own").exists()
    assert (tmp_path / "data" / ".own.partial").exists()
    prepare_own(own, *flags)
    assert back(own).read_bytes() == whole
    assert result(own) == share


def test_columns_that_are_not_kept_are_named(tmp_path: Path):
    own = tmp_path / "own.csv"
    own.write_text("id,text,stars,note\n" + "".join(f"{n},{line},{n % 2},x\n" for n, line in enumerate(MANY)))
    flags = ("--DATA", own, "--DATA_DIR", tmp_path / "data", "--TEXT_COLUMN", "text", "--LABEL_COLUMN", "stars")
    assert "columns that are not kept: 'id', 'note'\n" in call("prepareDatasets.py", *flags).stdout
    line = one_line_of_error(
        call("prepareDatasets.py", *flags[:4], "--ROW_TEMPLATE", "--COLUMN_TYPES", "id=mixed", expect=2)
    )
    assert "--COLUMN_TYPES id=mixed is for the types of JSON and Parquet" in line
    line = one_line_of_error(
        call("prepareDatasets.py", *flags[:4], "--LABEL_COLUMN", "id", "--ROW_TEMPLATE", "{id} of {note}", expect=2)
    )
    assert "--ROW_TEMPLATE names 'id', which is the --LABEL_COLUMN" in line
