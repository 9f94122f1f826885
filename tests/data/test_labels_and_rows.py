"""Tables: labels in front of texts, and rows as texts and back."""

import csv
import dataclasses
import datetime
import json
import math
from pathlib import Path

import datasets
import pytest
from pyarrow import parquet

from pipeline.data.column_types import CATEGORIES, ColumnSurvey, ColumnTypes
from pipeline.data.corpora import HubCorpus, joined_columns
from pipeline.data.dataset import PreparedData, load_prepared
from pipeline.data.documents import Split
from pipeline.data.prepare import PreparationSettings, prepare
from pipeline.data.row_template import RowTemplate
from pipeline.data.text_source import TextSource
from pipeline.data.writers import write_synthetic
from pipeline.evaluation.copies import nearest
from pipeline.evaluation.diversity import text_figures
from pipeline.evaluation.judge import novel_perplexity, perplexity, tokenized_samples
from pipeline.evaluation.membership import members_and_others
from pipeline.experiments.load import load_experiment
from pipeline.recipes.synth import Order, steps
from pipeline.runtime.errors import UserError
from tests.helpers import call, one_line_of_error, text

SPLIT = Split(0.2, 0.2, 1)
SETTINGS = PreparationSettings("wordpiece", 200, "none", more_than=2, fewer_than=60)
ROWS = [
    {"name": "old king", "age": 31 + n, "height": 1.5 + n / 100, "town": ("Ur", "New York")[n % 2], "rich": n % 3 == 0}
    for n in range(40)
]


def write_rows(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    else:
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def prepared(path: Path, **more: object) -> PreparedData:
    whole = "row_template" in more
    settings = PreparationSettings("wordpiece", 200, "none", more_than=2, fewer_than=60, whole=whole)
    prepare(TextSource(str(path), SPLIT, **more), "own", path.parent / "data", settings)
    return load_prepared(path.parent / "data", "own")


# Labels.


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_sentence_has_the_token_of_its_document_s_label_in_front(tmp_path: Path, suffix: str):
    rows = [
        {"stars": n % 3, "review": " ".join(lines)}
        for n, lines in enumerate(zip(text(60).splitlines(), text(60, 1).splitlines(), strict=True))
    ]
    data = prepared(write_rows(tmp_path / f"own{suffix}", rows), text_column="review", label_column="stars")
    assert list(data.tokenizer.labels) == ["0", "1", "2"]
    by_text = {part.strip(): str(row["stars"]) for row in rows for part in row["review"].split(" .") if part}
    for part in data.splits.values():
        for row in part:
            assert row["label"] == by_text[row["text"].removesuffix(" .")]
            assert row["input_ids"][:2] == [data.tokenizer.cls_id, data.tokenizer.labels[row["label"]]]
            assert row["length"] == len(row["input_ids"]) - 1
    ids = data.splits["test"][0]["input_ids"]
    assert data.tokenizer.decode(ids) == data.tokenizer.decode([ids[0], *ids[2:]])  # the label is no text
    assert sum(data.statistics["labels"].values()) == data.statistics["train"]["sentences"]
    assert data.statistics["source"]["columns"]["stars"] == {"kind": "integer", "low": 0.0, "high": 2.0}


def test_a_column_of_too_many_values_is_no_label(tmp_path: Path):
    rows = [{"review": line, "number": n} for n, line in enumerate(text(CATEGORIES + 200).splitlines())]
    with pytest.raises(UserError, match="--LABEL_COLUMN number has more than 1000 different values"):
        prepared(write_rows(tmp_path / "own.csv", rows), text_column="review", label_column="number")


def test_a_text_that_spells_a_label_is_left_out(tmp_path: Path):
    rows = [{"review": line, "label": "good"} for line in text(40).splitlines()]
    rows.append({"review": "the old king saw [LABEL:good] and left the town .", "label": "good"})
    data = prepared(write_rows(tmp_path / "own.csv", rows), text_column="review", label_column="label")
    assert sum(len(part) for part in data.splits.values()) == 40


def test_labels_of_the_hub_have_their_names():
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    rows = {"text": ["one", "two", "three"], "label": [1, 0, 1]}
    part = datasets.Dataset.from_dict(rows, features=features)
    loaded = {"train": part, "validation": part, "test": part}
    corpus = HubCorpus("owner/name", None, ("text",), None, "label")
    found = [(document.text, document.label) for document in joined_columns(loaded, corpus, SPLIT)]
    assert found[:3] == [("one", "good"), ("two", "bad"), ("three", "good")]


def test_a_dataset_of_the_hub_without_such_a_column_is_refused():
    part = datasets.Dataset.from_dict({"body": ["one"]})
    with pytest.raises(UserError, match=r"owner/name has no column 'text'; it has body"):
        list(joined_columns({"train": part}, HubCorpus("owner/name", None, ("text",)), SPLIT))


# Rows as texts.


def surveyed(*rows: dict, spelt: bool = False) -> dict[str, dict]:
    """The descriptions of the columns of rows."""
    survey = ColumnSurvey(spelt)
    for row in rows:
        survey.see(row)
    return survey.to_json()


def types_of(*rows: dict, spelt: bool = False) -> ColumnTypes:
    return ColumnTypes(surveyed(*rows, spelt=spelt))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_row_becomes_a_text_that_becomes_the_row(tmp_path: Path, suffix: str):
    data = prepared(write_rows(tmp_path / f"own{suffix}", ROWS), row_template="")
    source = data.statistics["source"]
    assert source["row_template"] == "name is {name}, age is {age}, height is {height}, town is {town}, rich is {rich}"
    template = RowTemplate(source["row_template"], list(ROWS[0]), "own")
    types = ColumnTypes(source["columns"])
    assert sum(len(part) for part in data.splits.values()) == len(ROWS)
    found = []
    for part in data.splits.values():
        for row in part:
            assert row["text"].startswith("name is old king, age is ")
            found.append(types.row(template.values(data.tokenizer.decode(row["input_ids"]))))
    expected = [{**row, "rich": str(row["rich"])} for row in ROWS] if suffix == ".csv" else ROWS
    assert sorted(found, key=lambda row: row["age"]) == [pytest.approx(row) for row in expected]


def test_a_template_of_one_s_own_takes_the_columns_that_it_names(tmp_path: Path):
    path = write_rows(tmp_path / "own.jsonl", ROWS)
    data = prepared(path, row_template="In {town} lives {name} ({age}).", label_column="rich")
    assert data.splits["train"][0]["text"] in {f"In {row['town']} lives old king ({row['age']})." for row in ROWS}
    assert set(data.tokenizer.labels) == {"False", "True"}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{nobody} is here", "names 'nobody'; own.csv has a, b"),
        ("nothing here", "names no column"),
        ("{a}{b}", "cannot be read back: put words between its columns"),
        ("{a} {b}", "cannot be read back"),
        ("{a} and {a}", "each once"),
        ("{a", "has a single {; write {column}"),
        ("{a} }", "has a single }"),
    ],
)
def test_a_template_that_could_not_be_read_back_is_refused(pattern: str, message: str):
    with pytest.raises(UserError, match=message):
        RowTemplate(pattern, ["a", "b"], "own.csv")


def test_what_is_no_row_or_has_a_value_of_another_kind_is_rejected():
    template = RowTemplate(None, ["age", "town"], "own")
    types = types_of({"age": 5, "town": "New York"}, {"age": 7, "town": "Ur"}, {"age": None, "town": "Ur"})
    assert types.row(template.values("age is 6, town is new york")) is None
    assert types.row(template.values("age is 6, town is New York")) == {"age": 6, "town": "New York"}
    assert types.row(template.values("age is , town is Ur")) == {"age": None, "town": "Ur"}
    assert types.row(template.values("age is 8, town is Ur")) is None  # above all there are
    assert types.row(template.values("age is six, town is Ur")) is None
    assert types.row(template.values("age is 6, town is Rome")) is None
    assert template.values("age is 6, city is Ur") is None


def test_kinds_of_columns_follow_from_their_values():
    rows = {"id": "007", "n": "-3", "x": "1.5", "flag": True}, {"id": "12", "n": "4", "x": "2", "flag": False}
    kinds = {name: column["kind"] for name, column in surveyed(*rows).items()}
    assert kinds == {"id": "category", "n": "integer", "x": "number", "flag": "boolean"}


def written_back(path: Path, **how: object) -> tuple[Path, int]:
    """The rows of a table from their tokens, written as samples are, and how many were rejected."""
    data = prepared(path, row_template="", **how)
    rows = [
        {"text": data.tokenizer.decode(row["input_ids"]), "label": row.get("label")}
        for part in data.splits.values()
        for row in part
    ]
    return write_synthetic(rows, data.statistics["source"], path.parent)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_values_come_back_in_their_types_and_whole(tmp_path: Path, suffix: str):
    """Numbers that are texts, integers that no float holds, and names that differ in white space alone."""
    rows = [
        {
            "code": str(10000 + n),
            "price": f"{n}.50",
            "number": (2**53 + 1, 2**63 - 1, -(2**63), -1)[n % 4],
            "town": ("New York", "NewYork")[n % 2],
            "stars": ("4", "5")[n % 2],
        }
        for n in range(40)
    ]
    path, rejected = written_back(write_rows(tmp_path / f"own{suffix}", rows), label_column="stars")
    if suffix == ".parquet":
        found = parquet.read_table(path).to_pylist()
    else:
        found = [json.loads(line) for line in path.read_text().splitlines()]
    assert rejected == 0
    assert sorted(found, key=lambda row: row["code"]) == rows


def test_a_number_that_was_a_text_is_spelt_as_one_and_in_its_range():
    types = types_of(*({"n": n} for n in ("4", "1.50", "20")))
    assert [types.row({"n": text}) for text in ("7", "4. 25", "21", "007", "1_0", "six")] == [
        {"n": "7"},
        {"n": "4.25"},
        None,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize("word", ["nan", "NA", "#N/A", "NULL"])
def test_a_column_of_numbers_remains_one_where_a_word_stands_for_missing_ones(tmp_path: Path, word: str):
    rows = [{"n": n, "digits": 1234567890, "x": word if n % 5 == 0 else f"{n / 8}"} for n in range(40)]
    path, rejected = written_back(write_rows(tmp_path / "own.csv", rows))
    assert rejected == 0
    with open(path, newline="") as file:
        found = sorted(csv.DictReader(file), key=lambda row: int(row["n"]))
    assert found == [{name: str(value) for name, value in row.items()} for row in rows]
    types = types_of(*rows, spelt=True)
    assert types.row({"n": "3", "x": "1.23"}) == {"n": 3, "x": 1.23}  # no value of the table, but within its range
    assert types.row({"n": "3", "x": "9.5"}) is None


def test_a_column_of_words_keeps_those_that_might_stand_for_missing_ones():
    columns = surveyed({"a": "NA", "b": "NA"}, {"a": "EU", "b": "NA"}, spelt=True)
    assert {name: column["values"] for name, column in columns.items()} == {"a": ["EU", "NA"], "b": ["NA"]}


def test_free_text_keeps_its_spaces():
    template = RowTemplate(None, ["name", "n"], "own")
    types = types_of(*({"name": f"Anna Maria {number}", "n": number} for number in range(CATEGORIES + 1)))
    assert types.row(template.values("name is Klara von Berg , n is 5")) == {"name": "Klara von Berg", "n": 5}
    assert types.row(template.values("name is , n is 5")) == {"name": None, "n": 5}


def test_names_of_columns_may_hold_what_python_s_formats_would_read():
    template = RowTemplate(None, ["Q1: a", "ok?!", "b[0]", ""], "own")
    values = {"Q1: a": "x", "ok?!": "y", "b[0]": "z", "": "1"}
    assert template.values(template.text(values)) == values
    assert RowTemplate("{{{a}}} is {b}", ["a", "b"], "own").text({"a": 1, "b": 2}) == "{1} is 2"


def with_odd_columns(path: Path) -> Path:
    """A table that has, beside text and labels, columns that cannot be values of a row."""
    if path.suffix == ".jsonl":
        return write_rows(path, [{"tags": ["a"], "at": {"x": 1}, **row} for row in ROWS])
    odd = [{"tags": ["a"], "at": datetime.date(2020, 1, 1), **row} for row in ROWS]
    return write_rows(path, odd)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("how", [{"text_column": "name"}, {"row_template": "{name} of {town}"}])
def test_columns_that_nobody_asks_for_may_hold_anything(tmp_path: Path, suffix: str, how: dict):
    path = with_odd_columns(tmp_path / f"own{suffix}")
    data = prepared(path, **how, label_column="rich")
    assert data.statistics["source"]["order"] == ["tags", "at", *ROWS[0]]
    rows = [{"text": part["text"], "label": part["label"]} for part in data.splits["train"]]
    written, rejected = write_synthetic(rows, data.statistics["source"], tmp_path)
    assert rejected == 0
    kind = {".jsonl": "json", ".parquet": "parquet"}[suffix]
    loaded = datasets.load_dataset(kind, data_files=str(written), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.column_names == [name for name in ROWS[0] if name in str(how) or name == "rich"]
    with pytest.raises(UserError, match="take columns of single values"):
        prepared(path, row_template="")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_number_that_is_none_is_missing_and_one_without_end_is_refused(tmp_path: Path, suffix: str):
    rows = [{"name": "old king", "x": 1.5 if n % 2 else math.nan} for n in range(20)]
    data = prepared(write_rows(tmp_path / f"own{suffix}", rows), row_template="")
    assert data.statistics["source"]["columns"]["x"] == {"kind": "number", "low": 1.5, "high": 1.5}
    assert {row["text"] for row in data.splits["train"]} == {"name is old king, x is 1.5", "name is old king, x is"}
    rows[6]["x"] = math.inf
    with pytest.raises(UserError, match=r"own.*(line|row) 7: column 'x' holds a number that is not finite"):
        prepared(write_rows(tmp_path / f"own{suffix}", rows), row_template="")


def test_a_whole_number_of_too_many_digits_is_refused_or_a_name(tmp_path: Path):
    rows = [{"name": "old king", "x": 10**400 if n == 6 else n} for n in range(20)]
    with pytest.raises(UserError, match=r"own\.jsonl, line 7: column 'x' holds a number that .* too large"):
        prepared(write_rows(tmp_path / "own.jsonl", rows), row_template="")
    data = prepared(write_rows(tmp_path / "own.csv", rows), row_template="", label_column="name")
    assert data.statistics["source"]["columns"]["x"]["kind"] == "category"


def test_lines_with_other_keys_are_refused(tmp_path: Path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"a": 1, "b": 2}\n{"a": 1}\n')
    with pytest.raises(UserError, match=r"own\.jsonl, line 2: other keys than in the lines before"):
        prepared(path, row_template="")


def labelled(tmp_path: Path):
    """Reviews with labels, and their training texts, each under the label that it does not have."""
    reviews = [{"stars": 1 + 4 * (n % 2), "review": line} for n, line in enumerate(text(200).splitlines())]
    data = prepared(write_rows(tmp_path / "own.csv", reviews), text_column="review", label_column="stars")
    other = {"1": "5", "5": "1"}
    return data, [{"text": row["text"], "label": other[row["label"]]} for row in data.splits["train"]]


def test_a_copy_under_another_label_is_a_copy(tmp_path: Path):
    data, rows = labelled(tmp_path)
    train, size, labels = data.splits["train"], data.tokenizer.vocabulary_size, data.tokenizer.label_ids
    copied = tokenized_samples(rows, data)
    assert copied["input_ids"] != train["input_ids"]
    assert nearest(copied, train, size, 0.0, labels).exact.all()
    assert nearest(copied, train, size, 0.2, labels).overlap.min() == 1.0
    figures = text_figures(copied, data)
    assert figures["exact_training_fraction"] == 1.0
    without = text_figures(tokenized_samples([{"text": row["text"]} for row in rows], data), data)
    assert {name: figures[name] for name in ("distinct_1", "distinct_2")} == {
        name: without[name] for name in ("distinct_1", "distinct_2")
    }
    synthetic(tmp_path)
    samples = tmp_path / "outputs" / "nvib" / "nvib" / "samples.jsonl"
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    call("quality.py", "--EXPERIMENT_NAME", "nvib", *places(tmp_path), "--DROP_COPIES", 0.01)
    measured = json.loads((samples.parent / "quality.json").read_text())
    assert measured["figures"]["copies"]["exact_copies"]["synthetic"] == 1.0
    assert (samples.parent / "samples_without_copies.jsonl").read_text() == ""
    seen = dataclasses.replace(data, splits={**data.splits, "test": copied})
    assert "others" not in members_and_others(seen, "test")


def test_what_lies_between_labelled_texts_is_judged_with_its_label(tmp_path: Path):
    data, rows = labelled(tmp_path)
    small = ("--DIM_H", 16, "--MAX_STEPS", 30, "--LEARNING_RATE", 0.01, "--BATCH_SIZE", 8, "--DATA", "own")
    call("train.py", "--EXPERIMENT_NAME", "lm", "--MODEL", "LM", *small, *places(tmp_path))
    judge = load_experiment(tmp_path / "outputs", "nvib", "lm", tmp_path / "data")
    made = [
        {"source": "a", "target": "b", "outputs": {"0.5": row["text"]}, "labels": {"0.5": row["label"]}} for row in rows
    ]
    expected = perplexity(judge.model, tokenized_samples(rows, data), data, 32, "with labels")
    assert novel_perplexity(judge, made, 32) == {"interpolation/tau_0.5/novel_forward_perplexity": expected}
    made[0]["labels"]["0.5"] = None  # a text that the model began without one
    assert novel_perplexity(judge, made, 32)["interpolation/tau_0.5/novel_forward_perplexity"] > expected


# From a file to a file.


def places(folder: Path) -> tuple[object, ...]:
    return ("--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")


def synthetic(folder: Path, *flags: object) -> tuple[list[dict], str]:
    """What sample.py makes with a model that has hardly been trained: rows of samples.jsonl, and what it said."""
    if not (folder / "outputs").exists():
        small = ("--DIM_H", 16, "--MAX_STEPS", 2, "--BATCH_SIZE", 8)
        call("train.py", "--EXPERIMENT_NAME", "nvib", "--MODEL", "NVIB", "--DATA", "own", *small, *places(folder))
    said = call("sample.py", "--EXPERIMENT_NAME", "nvib", "--NUMBER_SAMPLES", 30, *places(folder), *flags).stdout
    path = folder / "outputs" / "nvib" / "nvib" / "samples.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()], said


def test_samples_have_the_labels_of_the_training_set_or_the_one_that_is_asked_for(tmp_path: Path):
    reviews = [{"stars": 1 + 4 * (n % 4 == 0), "review": line} for n, line in enumerate(text(60).splitlines())]
    prepared(write_rows(tmp_path / "own.csv", reviews), text_column="review", label_column="stars")
    for decoding in ("greedy", "sample", "beam"):
        rows, _ = synthetic(tmp_path, "--DECODING", decoding, "--MAX_LENGTH", 9, "--MIN_LENGTH", 7)
        assert {row["label"] for row in rows} == {"1", "5"}
        assert sum(row["label"] == "1" for row in rows) > 15
        assert all(6 <= row["tokens_generated"] <= 8 for row in rows)  # the end token aside
        assert not any("LABEL" in row["text"] for row in rows)
    with open(tmp_path / "outputs" / "nvib" / "nvib" / "synthetic.csv", newline="") as file:
        written = list(csv.DictReader(file))
    assert written == [{"stars": row["label"], "review": row["text"]} for row in rows]
    assert {row["label"] for row in synthetic(tmp_path, "--LABEL", 5)[0]} == {"5"}
    evaluate = ("interpolation_evaluation.py", "--EXPERIMENT_NAME", "nvib", *places(tmp_path))
    call(*evaluate, "--RUN_INTERPOLATIONS", True, "--NUMBER_PAIRS", 3)
    path = tmp_path / "outputs" / "nvib" / "nvib" / "interpolations.jsonl"
    for row in map(json.loads, path.read_text().splitlines()):
        assert row["labels"].keys() == row["outputs"].keys()
        assert set(row["labels"].values()) <= {"1", "5", None}
    assert "no label '7' (it has 1, 5)" in one_line_of_error(
        call(
            *("sample.py", "--EXPERIMENT_NAME", "nvib", "--LABEL", 7),
            *("--OUTPUT_DIR", tmp_path / "outputs", "--DATA_DIR", tmp_path / "data"),
            expect=2,
        )
    )


def test_samples_that_are_no_rows_are_left_out_and_counted(tmp_path: Path):
    prepared(write_rows(tmp_path / "own.jsonl", ROWS), row_template="")
    rows, said = synthetic(tmp_path)
    summary = json.loads((tmp_path / "outputs" / "nvib" / "nvib" / "summary.json").read_text())
    assert summary["samples/rejected"] == len(rows) == 30
    assert "synthetic.jsonl, without 30 that are no rows of its table" in said


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_are_written_with_the_names_the_order_and_the_types_of_the_table(tmp_path: Path, suffix: str):
    data = prepared(write_rows(tmp_path / f"own{suffix}", ROWS), row_template="", label_column="town")
    samples = [{"text": part["text"], "label": part["label"]} for part in data.splits["train"]]
    path, rejected = write_synthetic(
        [*samples, {"text": "name is", "label": "Ur"}], data.statistics["source"], tmp_path
    )
    assert (path.name, rejected) == (f"synthetic{suffix}", 1)
    loaded = datasets.load_dataset(
        {".csv": "csv", ".jsonl": "json", ".parquet": "parquet"}[suffix],
        data_files=str(path),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert loaded.column_names == list(ROWS[0])
    assert sorted(loaded["age"]) == sorted(row["age"] for row in loaded if row in ROWS)
    assert len(loaded) == len(samples)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_columns_divided_by_semicolons_or_tabs_come_back_so(tmp_path: Path, mark: str):
    path = tmp_path / "own.csv"
    lines = [f'{n}{mark}"the old king, {"x" + mark + "y"} saw the river"{mark}{n % 2}\n' for n in range(30)]
    path.write_text(f'id{mark}"a,text"{mark}mood\n' + "".join(lines))
    data = prepared(path, text_column="a,text", label_column="mood")
    rows = [{"text": f"one{mark}two", "label": "1"}, {"text": "a, b", "label": "0"}]
    written, _ = write_synthetic(rows, data.statistics["source"], tmp_path)
    with open(written, newline="") as file:
        found = list(csv.reader(file, delimiter=mark))
    assert found == [["a,text", "mood"], [f"one{mark}two", "1"], ["a, b", "0"]]


def test_a_dataset_of_the_hub_comes_back_as_json_lines_and_a_corpus_of_the_paper_not_at_all(tmp_path: Path):
    source = {"format": None, "text_column": "body", "label_column": "stars", "row_template": None, "columns": {}}
    rows = [{"text": "a cat", "label": "good"}, {"text": "a dog", "label": ""}]
    written, rejected = write_synthetic(rows, source | {"order": []}, tmp_path)
    assert (written.name, rejected) == ("synthetic.jsonl", 0)
    found = [json.loads(line) for line in written.read_text().splitlines()]
    assert found == [{"body": "a cat", "stars": "good"}, {"body": "a dog", "stars": None}]
    named = source | {"text_column": None, "label_column": None, "order": []}
    assert write_synthetic(rows, named, tmp_path) == (None, 0)
    assert write_synthetic(rows, {}, tmp_path) == (None, 0)  # prepared before sources were kept


def test_samples_whose_label_was_written_by_hand_are_rows_of_the_table_or_left_out(tmp_path: Path):
    data = prepared(write_rows(tmp_path / "own.parquet", ROWS), text_column="name", label_column="age")
    rows = [{"text": "a", "label": "31"}, {"text": "b", "label": 32}, {"text": "c"}, {"text": "d", "label": "many"}]
    written, rejected = write_synthetic(rows, data.statistics["source"], tmp_path)
    assert rejected == 1
    assert parquet.read_table(written).to_pylist() == [
        {"name": "a", "age": 31},
        {"name": "b", "age": 32},
        {"name": "c", "age": None},
    ]
    write_synthetic(rows[2:3], data.statistics["source"], tmp_path)
    assert [str(kind) for kind in parquet.read_schema(written).types] == ["string", "int64"]  # though none is there


def test_from_a_file_to_a_file_every_step_has_what_it_needs(tmp_path: Path):
    path = write_rows(tmp_path / "people.csv", ROWS)
    made = steps(Order(str(path), "name", "town", None, samples=10, max_steps=20))
    order = ("prepareDatasets.py", "train.py", "train.py", "sample.py", "reverseSampleEvaluation.py", "quality.py")
    assert tuple(step[0] for step in made) == order
    assert made[0] == ["prepareDatasets.py", "--DATA", str(path), "--TEXT_COLUMN", "name", "--LABEL_COLUMN", "town"]
    for step in made[4:]:  # R-PPL is in the report if both have the same judge
        assert step[-2:] == ["--LANGUAGE_MODEL", "people-lm"]
