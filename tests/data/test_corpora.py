"""The corpora of the hub in their forms, and the real corpora with their published sizes."""

from pathlib import Path

import datasets
import pytest

from pipeline.data.corpora import HUB, HubCorpus, joined_columns
from pipeline.data.dataset import load_prepared
from pipeline.data.documents import SPLITS, Split
from pipeline.data.prepare import PreparationSettings, prepare
from pipeline.data.text_source import TextSource
from tests.helpers import ROOT, hub_files

SHARED = ROOT.parent / "shared"
SPLIT = Split(validation=0.1, test=0.2, seed=7)


def streamed(folder: Path, **parts: dict[str, list]) -> datasets.IterableDatasetDict:
    """Create a streaming dataset, as the hub's client delivers it."""
    files = {}
    for name, columns in parts.items():
        files[name] = str(folder / f"{name}.parquet")
        datasets.Dataset.from_dict(columns).to_parquet(files[name])
    return datasets.load_dataset("parquet", data_files=files, streaming=True)


def joined(loaded: datasets.IterableDatasetDict, corpus: HubCorpus) -> dict[str, list[str]]:
    """Read the texts of each split."""
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


def test_what_the_hub_delivers_is_prepared_and_leaves_nothing_in_its_cache(tmp_path: Path, monkeypatch):
    rows = {"sentence": [f"the old king saw the town and left it {number} ." for number in range(40)]}
    loaded = streamed(tmp_path, train=rows, validation=rows, test=rows)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: loaded)
    before = hub_files()
    prepare(TextSource("ptb", SPLIT), "ptb", tmp_path / "data", PreparationSettings("wordpiece", 150, "paper"))
    assert [len(part) for part in load_prepared(tmp_path / "data", "ptb").splits.values()] == [40, 40, 40]
    assert hub_files() == before


@pytest.mark.slow
def test_wikitext2_has_the_papers_numbers(tmp_path: Path):
    source, tokenizer = SHARED / "data" / "wikitext-2", SHARED / "tokenizers" / "bert-base-uncased"
    if not (source.is_dir() and tokenizer.is_dir()):
        pytest.skip(f"WikiText-2 or the BERT vocabulary is not in {SHARED}")
    settings = PreparationSettings(str(tokenizer), 8000, "paper")
    statistics = prepare(TextSource("wikitext2", SPLIT, source), "wikitext2", tmp_path, settings)
    published = {"train": 73_441, "validation": 7_698, "test": 9_084}
    assert {part: statistics[part]["sentences"] for part in published} == pytest.approx(published, rel=0.02)
    assert statistics["train"]["mean_length"] == pytest.approx(24.6, rel=0.02)


@pytest.mark.slow
def test_the_embedded_sample_has_some_twenty_thousand_sentences(tmp_path: Path):
    settings = PreparationSettings("wordpiece", 8000, "paper")
    statistics = prepare(TextSource("wikipedia-sample", Split(0.05, 0.05, 42)), "sample", tmp_path, settings)
    assert 15_000 <= sum(statistics[part]["sentences"] for part in ("train", "validation", "test")) <= 25_000
    assert statistics["vocabulary_size"] == 8000
