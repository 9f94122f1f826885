"""prepareDatasets.py: what it writes from every kind of source, and how it refuses bad input."""

import csv
import json
import os
import re
from collections import Counter
from pathlib import Path

import datasets
import pytest

from pipeline.data.corpora import HUB, HubCorpus, joined_columns
from pipeline.data.dataset import PreparedData, load_prepared
from pipeline.data.documents import SPLITS, Split, divide
from pipeline.data.prepare import PreparationSettings, prepare
from pipeline.data.text_source import TextSource
from pipeline.runtime.errors import UserError
from tests.helpers import ROOT, run, text

DOCUMENTS = text(120).splitlines()
SHARED = ROOT.parent / "shared"
SPLIT = Split(validation=0.1, test=0.1, seed=7)
WRITTEN = {"dataset", "tokenizer", "statistics.json", "length_distribution.json", "length_distribution.png"}
WRITTEN |= {"checksums.json"}


def write_table(path: Path, **columns: list) -> Path:
    """Write a table of these columns in the format that the path's suffix names."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if path.suffix == ".csv":
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(columns))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        datasets.Dataset.from_dict(columns).to_parquet(path)
    return path


def write_own(folder: Path, suffix: str) -> Path:
    """The documents as a file of a user's own; in a table they are the column `review`."""
    if suffix != ".txt":
        return write_table(folder / f"own{suffix}", number=list(range(len(DOCUMENTS))), review=DOCUMENTS)
    path = folder / "own.txt"
    path.write_text("\n".join(DOCUMENTS) + "\n")
    return path


def write_wikitext(folder: Path) -> Path:
    """A folder of WikiText's form: headings, empty lines, spaces around marks, <unk>."""
    folder.mkdir()
    for seed, name in enumerate(("train", "valid", "test")):
        lines = [f" {line[:-2]} , <unk> 's Man @-@ of @-@ war . \n" for line in text(40, seed).splitlines()]
        (folder / f"wiki.{name}.tokens").write_text(" \n = Title = \n \n" + "".join(lines) + " \n")
    return folder


def prepare_file(path: Path, data_dir: Path, split: Split = SPLIT, **settings: object) -> PreparedData:
    """Prepare a user's own file in this process, and load the result."""
    wanted = {"tokenizer": "wordpiece", "vocabulary_size": 150, "clean": "none"} | settings
    prepare(TextSource(str(path), split, text_column=column_of(path)), "own", data_dir, PreparationSettings(**wanted))
    return load_prepared(data_dir, "own")


def column_of(path: Path) -> str | None:
    return None if path.suffix == ".txt" else "review"


def texts(data: PreparedData) -> list[str]:
    return sorted(sentence for part in data.splits.values() for sentence in part["text"])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of the hub's client, for scripts run as processes."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture(scope="module")
def wikitext(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder after the script prepared a tiny WikiText from a folder."""
    folder = tmp_path_factory.mktemp("wikitext")
    source = write_wikitext(folder / "source")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(folder / "hub"))
        options = ("--LOCAL_PATH", source, "--TOKENIZER", "wordpiece", "--VOCAB_SIZE", 120)
        run("prepareDatasets.py", "--DATA", "wikitext2", *options, "--DATA_DIR", folder / "data")
    return folder / "data"


# What is written.


def test_the_script_writes_the_whole_dataset_and_nothing_else(wikitext: Path):
    assert os.listdir(wikitext) == ["wikitext2"]
    assert set(os.listdir(wikitext / "wikitext2")) == WRITTEN
    names = [path.name for path in wikitext.rglob("*") if path.is_file()]
    assert {Path(name).suffix for name in names} == {".json", ".png", ".arrow"}
    assert not [name for name in names if "cache" in name]
    assert (wikitext / "wikitext2" / "length_distribution.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_is_left_in_the_home_of_the_hubs_client(wikitext: Path):
    assert not [path for path in (wikitext.parent / "hub").rglob("*") if path.is_file()]


def test_wikitext_is_cleaned_as_in_the_paper(wikitext: Path):
    data = load_prepared(wikitext, "wikitext2")
    assert [len(data.splits[part]) for part in ("train", "validation", "test")] == [40, 40, 40]
    assert all(sentence.endswith(", [UNK]'s man of war.") for sentence in texts(data))
    assert all(ids.count(data.tokenizer.unk_id) == 1 for ids in data.splits["test"]["input_ids"])


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


def test_length_counts_the_end_token_but_not_the_start(wikitext: Path):
    data = load_prepared(wikitext, "wikitext2")
    for row in data.splits["validation"]:
        assert row["length"] == len(row["input_ids"]) - 1
        assert [row["input_ids"]] == data.tokenizer.encode([row["text"]])
        assert (row["input_ids"][0], row["input_ids"][-1]) == (data.tokenizer.cls_id, data.tokenizer.sep_id)


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl", ".parquet"])
def test_a_file_of_ones_own_is_prepared_as_it_stands(tmp_path: Path, suffix: str):
    data = prepare_file(write_own(tmp_path, suffix), tmp_path / "data")
    assert texts(data) == sorted(DOCUMENTS)
    assert [len(data.splits[part]) for part in ("train", "validation", "test")] == [96, 12, 12]
    assert set(os.listdir(tmp_path / "data" / "own")) == WRITTEN


def test_the_script_names_own_text_after_its_file(tmp_path: Path, hub: Path):
    own = write_own(tmp_path, ".csv")
    data_dir = tmp_path / "data"
    run("prepareDatasets.py", "--DATA", own, "--TEXT_COLUMN", "review", "--VOCAB_SIZE", 150, "--DATA_DIR", data_dir)
    assert os.listdir(data_dir) == ["own"]
    assert load_prepared(data_dir, "own").statistics["settings"]["clean"] == "none"


def test_own_text_is_cleaned_where_that_is_asked_for(tmp_path: Path):
    own = tmp_path / "own.txt"
    own.write_text("The KING saw\ta dog ; and left !\n" * 20)
    assert set(texts(prepare_file(own, tmp_path / "data"))) == {"The KING saw a dog ; and left !"}
    assert set(texts(prepare_file(own, tmp_path / "data", clean="paper"))) == {"the king saw a dog and left"}


def test_rows_without_text_are_passed_over(tmp_path: Path):
    own = write_table(tmp_path / "own.jsonl", review=[None, "", "  ", *DOCUMENTS])
    assert texts(prepare_file(own, tmp_path / "data")) == sorted(DOCUMENTS)


def test_other_columns_of_a_table_may_change_their_type(tmp_path: Path):
    count = 12_000  # the reader settles on a type every 10,000 rows
    own = write_table(
        tmp_path / "own.csv",
        review=DOCUMENTS * (count // len(DOCUMENTS)),
        other=[str(row) if row < count - 9 else "none of these" for row in range(count)],
    )
    assert set(texts(prepare_file(own, tmp_path / "data"))) == set(DOCUMENTS)


def test_sentences_are_kept_by_their_tokens_with_both_limits_exclusive(tmp_path: Path):
    data = prepare_file(
        write_own(tmp_path, ".txt"), tmp_path / "data", vocabulary_size=1000, more_than=9, fewer_than=14
    )
    kept = Counter(len(ids) for part in data.splits.values() for ids in part["input_ids"])
    every = Counter(len(ids) for ids in data.tokenizer.encode(DOCUMENTS))
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
    own.write_text("\n".join(DOCUMENTS[:60]))
    after = prepare_file(own, tmp_path / "data")
    assert (len(texts(before)), len(texts(after))) == (120, 60)
    assert os.listdir(tmp_path / "data") == ["own"]


# How text without splits is divided.


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


# What the hub delivers, in its forms.


def streamed(folder: Path, **parts: dict[str, list]) -> datasets.IterableDatasetDict:
    """A dataset as the hub's client delivers it: it streams."""
    files = {}
    for name, columns in parts.items():
        files[name] = str(folder / f"{name}.parquet")
        datasets.Dataset.from_dict(columns).to_parquet(files[name])
    return datasets.load_dataset("parquet", data_files=files, streaming=True)


def joined(loaded: datasets.IterableDatasetDict, corpus: HubCorpus) -> dict[str, list[str]]:
    """The texts of each split."""
    found = {name: [] for name in SPLITS}
    for document in joined_columns(loaded, corpus, SPLIT):
        found[SPLITS[document.part]].append(document.text)
    return found


def test_splits_of_the_hub_are_taken_as_they_are(tmp_path: Path):
    texts = {name: [f"{name} {row}" for row in range(5)] for name in SPLITS}
    sentences = {name: {"sentence": column} for name, column in texts.items()}
    assert joined(streamed(tmp_path, **sentences), HUB["ptb"]) == texts


def test_a_missing_validation_split_is_taken_from_training(tmp_path: Path):
    reviews = {"train": [f"review {row}" for row in range(40)], "test": ["a test"]}
    parts = {name: {"label": [0] * len(rows), "text": rows} for name, rows in reviews.items()}
    found = joined(streamed(tmp_path, **parts), HUB["yelp"])
    assert {name: len(part) for name, part in found.items()} == {"train": 36, "validation": 4, "test": 1}
    assert sorted([*found["train"], *found["validation"]]) == sorted(reviews["train"])
    assert joined(streamed(tmp_path, **parts), HUB["yelp"]) == found


def test_several_columns_become_a_line_each(tmp_path: Path):
    rows = {"id": [1, 2, 3], "question_content": ["why ?", "", None], "best_answer": ["so .", "yes .", "no ."]}
    parts = dict.fromkeys(SPLITS, rows)
    found = joined(streamed(tmp_path, **parts), HUB["yahoo"])
    assert found["train"] == ["why ?\nso .", "yes .", "no ."]


def test_what_the_hub_delivers_is_prepared_and_leaves_nothing_in_its_cache(tmp_path: Path, hub: Path, monkeypatch):
    rows = {"sentence": [f"the old king saw the town and left it {number} ." for number in range(40)]}
    loaded = streamed(tmp_path, train=rows, validation=rows, test=rows)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: loaded)
    prepare(TextSource("ptb", SPLIT), "ptb", tmp_path / "data", PreparationSettings("wordpiece", 150, "paper"))
    assert [len(part) for part in load_prepared(tmp_path / "data", "ptb").splits.values()] == [40, 40, 40]
    assert not [path for path in hub.rglob("*") if path.is_file()]


# What is refused.


def refusal(data_dir: Path, *arguments: object) -> str:
    """The one line that the script leaves on stderr, progress bars aside; it left nothing else behind."""
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
    """The error of preparing a file in this process, which left nothing new in the data folder."""
    before = os.listdir(data_dir) if data_dir.exists() else []
    with pytest.raises(UserError) as error:
        prepare_file(path, data_dir)
    assert (os.listdir(data_dir) if data_dir.exists() else []) == before
    return str(error.value)


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


def test_an_unreachable_hub_is_told_and_an_earlier_dataset_survives(tmp_path: Path, hub: Path):
    good = tmp_path / "data" / "ptb"
    good.mkdir(parents=True)
    (good / "statistics.json").write_text("{}")
    line = refusal(tmp_path / "data", "--DATA", "ptb", "--TOKENIZER", "wordpiece")
    assert "hub did not deliver ptb-text-only/ptb_text_only" in line
    assert (good / "statistics.json").read_text() == "{}"
    assert "hub did not deliver the tokenizer 'bert-base-uncased'" in refusal(tmp_path / "data", "--DATA", "ptb")


def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, hub: Path):
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
    own = write_table(tmp_path / f"own{suffix}", title=DOCUMENTS, stars=[5] * len(DOCUMENTS))
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
    assert re.search(r"no sentence of more than 5 and fewer than 50 tokens \(of 2\d\)", refused(own, tmp_path / "data"))
    assert load_prepared(tmp_path / "data", "own").fingerprint == before


def test_a_data_folder_that_cannot_be_written_is_refused_by_its_path(tmp_path: Path):
    own = write_own(tmp_path, ".txt")
    with pytest.raises(UserError, match=rf"cannot prepare data in {own}.*--DATA_DIR"):
        prepare_file(own, own)


@pytest.mark.parametrize("data", ["reviews", "reviews.doc", "../.txt", "-own.txt", "a b.txt", "ptb.txt"])
def test_a_name_that_no_folder_could_have_is_refused(tmp_path: Path, data: str):
    settings = PreparationSettings("wordpiece", 150, "none")
    with pytest.raises(UserError, match=r"unknown dataset|rename the file"):
        prepare(TextSource(data, SPLIT), "own", tmp_path / "data", settings)


# The real corpora.


def test_wikitext2_has_the_papers_numbers(tmp_path: Path):
    source, tokenizer = SHARED / "data" / "wikitext-2", SHARED / "tokenizers" / "bert-base-uncased"
    if not (source.is_dir() and tokenizer.is_dir()):
        pytest.skip(f"WikiText-2 or the BERT vocabulary is not in {SHARED}")
    settings = PreparationSettings(str(tokenizer), 8000, "paper")
    statistics = prepare(TextSource("wikitext2", SPLIT, source), "wikitext2", tmp_path, settings)
    published = {"train": 73_441, "validation": 7_698, "test": 9_084}
    assert {part: statistics[part]["sentences"] for part in published} == pytest.approx(published, rel=0.02)
    assert statistics["train"]["mean_length"] == pytest.approx(24.6, rel=0.02)


def test_the_embedded_sample_has_some_twenty_thousand_sentences(tmp_path: Path):
    settings = PreparationSettings("wordpiece", 8000, "paper")
    statistics = prepare(TextSource("wikipedia-sample", Split(0.05, 0.05, 42)), "sample", tmp_path, settings)
    assert 15_000 <= sum(statistics[part]["sentences"] for part in ("train", "validation", "test")) <= 25_000
    assert statistics["vocabulary_size"] == 8000
