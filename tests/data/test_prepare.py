"""prepareDatasets.py: what it writes, and how text without splits is divided."""

import os
from collections import Counter
from pathlib import Path

import pytest

from pipeline.data.dataset import load_prepared
from pipeline.data.documents import Split, divide
from pipeline.runtime.errors import UserError
from tests.data.own_files import MANY, SPLIT, prepare_file, texts, write_own, write_table, write_wikitext
from tests.helpers import call, hub_files, run

WRITTEN = {"dataset", "tokenizer", "statistics.json", "length_distribution.json", "length_distribution.png"}
WRITTEN |= {"checksums.json"}


@pytest.fixture(scope="module")
def wikitext(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder after the script prepared a tiny WikiText from a folder."""
    folder = tmp_path_factory.mktemp("wikitext")
    source = write_wikitext(folder / "source")
    options = ("--LOCAL_PATH", source, "--TOKENIZER", "wordpiece", "--VOCAB_SIZE", 120)
    before = hub_files()
    run("prepareDatasets.py", "--DATA", "wikitext2", *options, "--DATA_DIR", folder / "data")
    assert hub_files() == before
    return folder / "data"


# The written files.


@pytest.mark.slow
def test_the_script_writes_the_whole_dataset_and_nothing_else(wikitext: Path):
    assert os.listdir(wikitext) == ["wikitext2"]
    assert set(os.listdir(wikitext / "wikitext2")) == WRITTEN
    names = [path.name for path in wikitext.rglob("*") if path.is_file()]
    assert {Path(name).suffix for name in names} == {".json", ".png", ".arrow"}
    assert not [name for name in names if "cache" in name]
    assert (wikitext / "wikitext2" / "length_distribution.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_wikitext_is_cleaned_as_in_the_paper(wikitext: Path):
    data = load_prepared(wikitext, "wikitext2")
    assert [len(data.splits[part]) for part in ("train", "validation", "test")] == [40, 40, 40]
    assert all(sentence.endswith(", [UNK]'s man of war.") for sentence in texts(data))
    assert all(ids.count(data.tokenizer.unk_id) == 1 for ids in data.splits["test"]["input_ids"])


@pytest.mark.slow
def test_the_statistics_agree_with_the_dataset(wikitext: Path):
    data = load_prepared(wikitext, "wikitext2")
    for part, dataset in data.splits.items():
        lengths = [len(ids) - 1 for ids in dataset["input_ids"]]
        assert data.statistics[part] == {
            "sentences": len(lengths),
            "tokens": sum(lengths),
            "mean_length": pytest.approx(sum(lengths) / len(lengths)),
            "min_length": min(lengths),
            "max_length": max(lengths),
        }
    assert data.length_distribution == Counter(data.splits["train"]["length"])
    assert data.statistics["vocabulary_size"] == data.tokenizer.vocabulary_size <= 120


@pytest.mark.slow
def test_length_counts_the_end_token_but_not_the_start(wikitext: Path):
    data = load_prepared(wikitext, "wikitext2")
    for row in data.splits["validation"]:
        assert row["length"] == len(row["input_ids"]) - 1
        assert [row["input_ids"]] == data.tokenizer.encode([row["text"]])
        assert (row["input_ids"][0], row["input_ids"][-1]) == (data.tokenizer.cls_id, data.tokenizer.sep_id)


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl", ".parquet"])
def test_a_file_of_ones_own_is_prepared_unchanged(tmp_path: Path, suffix: str):
    data = prepare_file(write_own(tmp_path, suffix), tmp_path / "data", Split(validation=0.2, test=0.1, seed=7))
    assert texts(data) == sorted(MANY)
    assert [len(data.splits[part]) for part in ("train", "validation", "test")] == [84, 24, 12]
    assert set(os.listdir(tmp_path / "data" / "own")) == WRITTEN | {f"round_trip{suffix}"}


@pytest.mark.slow
def test_the_script_names_own_text_after_its_file(tmp_path: Path):
    own = write_own(tmp_path, ".csv")
    data_dir = tmp_path / "data"
    run("prepareDatasets.py", "--DATA", own, "--TEXT_COLUMN", "review", "--VOCAB_SIZE", 150, "--DATA_DIR", data_dir)
    assert os.listdir(data_dir) == ["own"]
    assert load_prepared(data_dir, "own").statistics["settings"]["clean"] == "none"


def test_own_text_is_cleaned_where_that_is_asked_for(tmp_path: Path):
    own = tmp_path / "own.txt"
    own.write_text("The KING saw\ta dog ; and left !\n" * 20)
    assert set(texts(prepare_file(own, tmp_path / "data"))) == {"The KING saw\ta dog ; and left !"}
    assert set(texts(prepare_file(own, tmp_path / "data", clean="paper"))) == {"the king saw a dog and left"}


def test_rows_without_text_are_passed_over(tmp_path: Path):
    own = write_table(tmp_path / "own.jsonl", review=[None, "", "  ", *MANY])
    assert texts(prepare_file(own, tmp_path / "data")) == sorted(MANY)


@pytest.mark.slow
def test_other_columns_of_a_table_may_change_their_type(tmp_path: Path):
    count = 12_000  # the reader settles on a type every 10,000 rows
    own = write_table(
        tmp_path / "own.csv",
        review=MANY * (count // len(MANY)),
        other=[str(row) if row < count - 9 else "none of these" for row in range(count)],
    )
    assert set(texts(prepare_file(own, tmp_path / "data"))) == set(MANY)


def test_sentences_are_kept_by_their_tokens_with_both_limits_exclusive(tmp_path: Path):
    limits = {"vocabulary_size": 1000, "more_than": 9, "fewer_than": 14, "whole": True}
    data = prepare_file(write_own(tmp_path, ".txt"), tmp_path / "data", accept_loss=True, **limits)
    kept = Counter(len(ids) for part in data.splits.values() for ids in part["input_ids"])
    every = Counter(len(ids) for ids in data.tokenizer.encode(MANY))
    assert kept == {length: every[length] for length in range(10, 14)}


def test_the_same_seed_gives_the_same_data_and_another_seed_another_division(tmp_path: Path):
    own = write_own(tmp_path, ".txt")
    first, second, other = (
        prepare_file(own, tmp_path / name, Split(0.1, 0.1, seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert first.splits["test"]["text"][:] == second.splits["test"]["text"][:] != other.splits["test"]["text"][:]
    assert texts(first) == texts(other)


def test_preparing_again_replaces_what_was_there(tmp_path: Path):
    own = write_own(tmp_path, ".txt")
    before = prepare_file(own, tmp_path / "data")
    own.write_text("\n".join(MANY[:60]))
    after = prepare_file(own, tmp_path / "data")
    assert (len(texts(before)), len(texts(after))) == (120, 60)
    assert os.listdir(tmp_path / "data") == ["own"]


def test_data_that_models_were_trained_on_are_kept_where_the_user_says_so(tmp_path: Path):
    own = write_own(tmp_path, ".txt")
    flags = ("--DATA", own, "--TOKENIZER", "bpe", "--DATA_DIR", tmp_path / "data")
    call("prepareDatasets.py", *flags)
    folder = tmp_path / "data" / own.stem
    keep = ("prepareDatasets.py", *flags, "--REPLACE", "False")
    call(*keep)  # the same data again
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    said = call(*keep, "--CLEAN", "paper", expect=2).stderr.splitlines()[-1]
    assert f"{folder} was prepared otherwise (clean was none, not paper, another tokenizer); take another" in said
    own.write_text("\n".join(MANY[:60]))
    assert "was prepared otherwise (another tokenizer)" in call(*keep, expect=2).stderr.splitlines()[-1]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert os.listdir(tmp_path / "data") == [own.stem]
    call("prepareDatasets.py", *flags)
    assert len(texts(load_prepared(tmp_path / "data", own.stem))) == 60


# The division of text without splits.


def test_a_division_loses_nothing_and_repeats_nothing():
    whole = list(divide(map(str, range(101)), Split(0.2, 0.1, 3), "the text"))
    assert Counter(part for part, _ in whole) == {0: 71, 1: 20, 2: 10}
    assert [document for _, document in whole] == [str(number) for number in range(101)]


def test_a_long_text_is_divided_a_thousand_documents_at_a_time_each_in_its_own_way():
    parts = [part for part, _ in divide(map(str, range(2_004)), Split(0.2, 0.1, 3), "the text")]
    first, second, rest = parts[:1000], parts[1000:2000], parts[2000:]
    assert Counter(first) == Counter(second) == {0: 700, 1: 200, 2: 100}
    assert first != second
    assert Counter(rest) == {0: 3, 1: 1}


def test_too_few_documents_to_divide_are_refused():
    with pytest.raises(UserError, match=r"own\.txt has too few documents with text \(2\)"):
        list(divide(["one", "two"], SPLIT, "own.txt"))
