"""Labels: special tokens in front of texts, from the table to samples and figures."""

import csv
import dataclasses
import json
from pathlib import Path

import datasets
import pytest

from pipeline.data.column_types import CATEGORIES
from pipeline.data.corpora import HubCorpus, joined_columns
from pipeline.evaluation.copies import nearest
from pipeline.evaluation.diversity import text_figures
from pipeline.evaluation.judge import novel_perplexity, perplexity, tokenized_samples
from pipeline.evaluation.membership import members_and_others
from pipeline.experiments.load import load_experiment
from pipeline.runtime.errors import UserError
from tests.data.own_files import (
    SPLIT,
    places,
    prepared_table,
    sampled_rows,
    write_rows,
)
from tests.helpers import call, one_line_of_error, text


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_sentence_has_the_token_of_its_document_s_label_in_front(tmp_path: Path, suffix: str):
    rows = [
        {"stars": n % 3, "review": " ".join(lines)}
        for n, lines in enumerate(zip(text(60).splitlines(), text(60, 1).splitlines(), strict=True))
    ]
    data = prepared_table(write_rows(tmp_path / f"own{suffix}", rows), text_column="review", label_column="stars")
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
    stars = data.statistics["source"]["columns"]["stars"]
    assert (stars["kind"], stars["low"], stars["high"]) == ("integer", 0, 2)


def test_a_column_of_too_many_values_is_no_label(tmp_path: Path):
    rows = [{"review": line, "number": n} for n, line in enumerate(text(CATEGORIES + 200).splitlines())]
    with pytest.raises(UserError, match="--LABEL_COLUMN number has more than 1000 different values"):
        prepared_table(write_rows(tmp_path / "own.csv", rows), text_column="review", label_column="number")


def test_a_text_that_spells_a_label_is_left_out(tmp_path: Path):
    rows = [{"review": line, "label": "good"} for line in text(40).splitlines()]
    rows.append({"review": "the old king saw [LABEL:good] and left the town .", "label": "good"})
    path = write_rows(tmp_path / "own.csv", rows)
    data = prepared_table(path, text_column="review", label_column="label")
    assert sum(len(part) for part in data.splits.values()) == 40
    assert data.statistics["texts"]["dropped"] == {"with a special token in its text": 1}
    assert data.statistics["texts"]["dropped_by_label"] == {"good": {"with a special token in its text": 1}}
    data = prepared_table(path, tokenizer="bpe", text_column="review", label_column="label")
    assert rows[-1]["review"] in [
        text for part in data.splits.values() for text in data.tokenizer.decode_batch(part["input_ids"])
    ]


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


def labelled(tmp_path: Path):
    """Prepare reviews with labels; return them and their training texts under the wrong labels."""
    reviews = [{"stars": 1 + 4 * (n % 2), "review": line} for n, line in enumerate(text(200).splitlines())]
    data = prepared_table(write_rows(tmp_path / "own.csv", reviews), text_column="review", label_column="stars")
    other = {"1": "5", "5": "1"}
    return data, [{"text": row["text"], "label": other[row["label"]]} for row in data.splits["train"]]


def test_a_sample_without_a_label_leaves_those_of_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data, rows = labelled(tmp_path)
    capsys.readouterr()
    expected = tokenized_samples(rows, data)["input_ids"]
    assert capsys.readouterr().out == ""
    for label in (None, "9", ["5"]):
        found = tokenized_samples([{**rows[0], "label": label}, *rows[1:]], data)["input_ids"]
        assert found[1:] == expected[1:]
        assert found[0] == [expected[0][0], *expected[0][2:]]
        assert f"1 of {len(rows)} samples have no label of the data" in capsys.readouterr().out


@pytest.mark.slow
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
    sampled_rows(tmp_path)
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


def test_samples_have_the_labels_of_the_training_set_or_the_one_that_is_asked_for(tmp_path: Path):
    reviews = [{"stars": 1 + 4 * (n % 4 == 0), "review": line} for n, line in enumerate(text(60).splitlines())]
    prepared_table(write_rows(tmp_path / "own.csv", reviews), text_column="review", label_column="stars")
    for decoding in ("greedy", "sample", "beam"):
        rows, _ = sampled_rows(tmp_path, "--DECODING", decoding, "--MAX_LENGTH", 9, "--MIN_LENGTH", 7)
        assert {row["label"] for row in rows} == {"1", "5"}
        assert sum(row["label"] == "1" for row in rows) > 15
        assert all(6 <= row["tokens_generated"] <= 8 for row in rows)  # the end token aside
        assert not any("LABEL" in row["text"] for row in rows)
    with open(tmp_path / "outputs" / "nvib" / "nvib" / "synthetic.csv", newline="") as file:
        written = list(csv.DictReader(file))
    assert written == [{"stars": row["label"], "review": row["text"]} for row in rows]
    assert {row["label"] for row in sampled_rows(tmp_path, "--LABEL", 5)[0]} == {"5"}
    evaluate = ("interpolation_evaluation.py", "--EXPERIMENT_NAME", "nvib", *places(tmp_path))
    call(*evaluate, "--RUN_INTERPOLATIONS", True, "--NUMBER_PAIRS", 3)
    path = tmp_path / "outputs" / "nvib" / "nvib" / "interpolations.jsonl"
    for row in map(json.loads, path.read_text().splitlines()):
        assert row["labels"].keys() == row["outputs"].keys()
        assert set(row["labels"].values()) <= {"1", "5", None}
    counts = json.loads((tmp_path / "data" / "own" / "statistics.json").read_text())["labels"]
    listed = f"'1' ({counts['1']}), '5' ({counts['5']})"
    assert f"the data has no label '7'; name one of these (training sentences): {listed}" in one_line_of_error(
        call(
            *("sample.py", "--EXPERIMENT_NAME", "nvib", "--LABEL", 7),
            *("--OUTPUT_DIR", tmp_path / "outputs", "--DATA_DIR", tmp_path / "data"),
            expect=2,
        )
    )


def test_the_missing_label_can_be_asked_for_and_white_space_of_a_label_counts(tmp_path: Path):
    kinds = ("", "a  b", "a b")
    reviews = [{"kind": kinds[n % 3], "review": line} for n, line in enumerate(text(60).splitlines())]
    prepared_table(write_rows(tmp_path / "own.csv", reviews), text_column="review", label_column="kind")
    for kind in kinds:
        rows, _ = sampled_rows(tmp_path, "--LABEL", kind)
        assert {row["label"] for row in rows} == {kind}
    with open(tmp_path / "outputs" / "nvib" / "nvib" / "synthetic.csv", newline="") as file:
        assert {row["kind"] for row in csv.DictReader(file)} == {"a b"}
