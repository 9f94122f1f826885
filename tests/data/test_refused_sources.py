"""Sources and flags that prepareDatasets.py refuses without a change on disk."""

import os
import re
from pathlib import Path

import pytest

from pipeline.data.dataset import load_prepared
from pipeline.data.prepare import PreparationSettings, prepare
from pipeline.data.text_source import TextSource
from pipeline.runtime.errors import UserError
from tests.data.own_files import MANY, SPLIT, prepare_file, write_own, write_table, write_wikitext
from tests.helpers import run


def refusal(data_dir: Path, *arguments: object) -> str:
    """Return the only line on stderr beside progress bars; check that the data folder has not changed."""
    before = sorted(data_dir.iterdir()) if data_dir.is_dir() else []
    finished = run("prepareDatasets.py", *arguments, "--DATA_DIR", data_dir, expect=2)
    lines = re.sub(r"[^\r\n]*?/s\]", "", finished.stderr).split("\n")
    lines = [line.strip() for line in lines if line.strip()]
    assert len(lines) == 1, finished.stderr
    assert finished.stderr.endswith(f"{lines[0]}\n")
    assert lines[0].startswith("prepareDatasets.py: error: ")
    assert (sorted(data_dir.iterdir()) if data_dir.is_dir() else []) == before
    return lines[0]


def refused(path: Path, data_dir: Path) -> str:
    """Return the error of preparing a file in this process; check that the data folder has not changed."""
    before = os.listdir(data_dir) if data_dir.exists() else []
    with pytest.raises(UserError) as error:
        prepare_file(path, data_dir)
    assert (os.listdir(data_dir) if data_dir.exists() else []) == before
    return str(error.value)


@pytest.mark.slow
def test_an_unknown_dataset_is_refused_with_the_known_ones(tmp_path: Path):
    line = refusal(tmp_path / "data", "--DATA", "wikitext3")
    assert "'wikitext3'" in line
    assert "wikipedia-sample, wikitext2, wikitext103, ptb, yelp, yahoo" in line


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--VALIDATION_FRACTION", 1.5), "--VALIDATION_FRACTION: must be above 0 and below 1, got 1.5"),
        (("--TEST_FRACTION", 0), "--TEST_FRACTION: must be above 0 and below 1, got 0"),
        (("--VALIDATION_FRACTION", 0.5, "--TEST_FRACTION", 0.5), "--VALIDATION_FRACTION and --TEST_FRACTION"),
        (("--MORE_THAN", 20, "--FEWER_THAN", 21), "--MORE_THAN and --FEWER_THAN"),
        (("--VOCAB_SIZE", "many"), "--VOCAB_SIZE: must be an integer, got 'many'"),
    ],
)
def test_an_option_out_of_range_is_refused_by_its_name(tmp_path: Path, options: tuple, named: str):
    assert named in refusal(tmp_path / "data", "--DATA", "wikitext2", *options)


@pytest.mark.slow
def test_an_unreachable_hub_is_reported_and_an_earlier_dataset_survives(tmp_path: Path):
    good = tmp_path / "data" / "ptb"
    good.mkdir(parents=True)
    (good / "statistics.json").write_text("{}")
    line = refusal(tmp_path / "data", "--DATA", "ptb", "--TOKENIZER", "wordpiece")
    assert "hub did not deliver ptb-text-only/ptb_text_only" in line
    assert (good / "statistics.json").read_text() == "{}"
    assert "hub did not deliver the tokenizer 'bert-base-uncased'" in refusal(tmp_path / "data", "--DATA", "ptb")


@pytest.mark.slow
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path):
    own = tmp_path / "own.csv"
    own.write_bytes(b"review\n" + b"the old king\n" * 50 + b"\xff\xfe\n")
    line = refusal(tmp_path / "data", "--DATA", own, "--TEXT_COLUMN", "review")
    assert f"{own}, line 52, byte offset 657: no UTF-8 (byte 0xff)" in line


@pytest.mark.parametrize("missing", ["folder", "file"])
def test_a_folder_without_wikitexts_files_is_refused_by_their_names(tmp_path: Path, missing: str):
    source = tmp_path / "source"
    names = {"folder": "wiki.train.tokens, wiki.valid.tokens, wiki.test.tokens", "file": "wiki.valid.tokens"}
    if missing == "file":
        (write_wikitext(source) / "wiki.valid.tokens").unlink()
    settings = PreparationSettings("wordpiece", 150, "paper")
    with pytest.raises(UserError, match=f"{source} holds no {names[missing]};"):
        prepare(TextSource("wikitext2", SPLIT, source), "wikitext2", tmp_path / "data", settings)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["own.txt", "own.csv", "own.jsonl", "own.parquet"])
def test_an_empty_file_is_refused_as_empty(tmp_path: Path, name: str):
    (tmp_path / name).touch()
    assert f"{tmp_path / name} is empty" in refused(tmp_path / name, tmp_path / "data")


def test_a_truncated_parquet_file_is_refused_by_its_path(tmp_path: Path):
    own = write_own(tmp_path, ".parquet")
    own.write_bytes(own.read_bytes()[:-100])
    assert f"{own} cannot be read as Parquet" in refused(own, tmp_path / "data")


def test_a_file_that_is_not_there_is_refused_by_its_path(tmp_path: Path):
    assert f"{tmp_path / 'absent.txt'} is not there" in refused(tmp_path / "absent.txt", tmp_path / "data")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_missing_column_is_refused_with_the_columns_that_there_are(tmp_path: Path, suffix: str):
    own = write_table(tmp_path / f"own{suffix}", title=MANY, stars=[5] * len(MANY))
    assert f"{own} has no column 'review'; it has title, stars" in refused(own, tmp_path / "data")


def test_a_table_needs_a_column_and_plain_text_has_none(tmp_path: Path):
    settings = PreparationSettings("wordpiece", 150, "none")
    for suffix, column in ((".csv", None), (".txt", "review")):
        with pytest.raises(UserError, match=rf"--TEXT_COLUMN.*own\{suffix}|own\{suffix}.*--TEXT_COLUMN"):
            prepare(
                TextSource(str(write_own(tmp_path, suffix)), SPLIT, None, column), "own", tmp_path / "data", settings
            )


@pytest.mark.parametrize("empty", ["train", "validation", "test"])
@pytest.mark.parametrize("text", ["this", " = A heading = "])
def test_a_split_that_ends_empty_is_named(tmp_path: Path, empty: str, text: str):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for part in ("train", "valid", "test"):
        words = text if empty.startswith(part) else "this sentence has enough words in it to pass the limits ."
        (folder / f"wiki.{part}.tokens").write_text(f"{words}\n" * 40)
    with pytest.raises(UserError, match=f"{empty} split|no sentence to train a tokenizer on"):
        prepare(
            TextSource("wikitext2", SPLIT, folder),
            "wikitext2",
            tmp_path / "data",
            PreparationSettings("wordpiece", 150, "paper"),
        )
    assert not (tmp_path / "data" / "wikitext2").exists()


def test_text_of_which_no_sentence_passes_the_limits_is_refused_and_the_earlier_dataset_survives(tmp_path: Path):
    own = write_own(tmp_path, ".txt")
    before = prepare_file(own, tmp_path / "data").fingerprint
    own.write_text("too short\n" * 30)
    message = refused(own, tmp_path / "data")
    assert "30 of 30 texts would be left out (30 too short); --MORE_THAN 3 keeps the short ones" in message
    with pytest.raises(UserError, match=r"no sentence of more than 5 and fewer than 50 tokens \(of 18\)"):
        prepare(
            TextSource(str(own), SPLIT), "own", tmp_path / "data", PreparationSettings("wordpiece", 150, "none"), True
        )
    assert load_prepared(tmp_path / "data", "own").fingerprint == before


def test_a_data_folder_that_cannot_be_written_is_refused_by_its_path(tmp_path: Path):
    own = write_own(tmp_path, ".txt")
    with pytest.raises(UserError, match=rf"cannot prepare data in {own}.*--DATA_DIR"):
        prepare_file(own, own)


@pytest.mark.parametrize("data", ["reviews", "reviews.doc", "../.txt", "reviews.gz", "own.txt.bz2"])
def test_data_of_an_unknown_kind_are_refused(tmp_path: Path, data: str):
    settings = PreparationSettings("wordpiece", 150, "none")
    with pytest.raises(UserError, match=r"unknown dataset"):
        prepare(TextSource(data, SPLIT), "own", tmp_path / "data", settings)
