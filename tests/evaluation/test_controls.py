"""Unigrams: the words and lengths of the training text, in no order."""

import itertools
from collections import Counter

import numpy as np
import pytest

from pipeline.data.dataset import PreparedData, load_prepared
from pipeline.data.documents import Split
from pipeline.data.prepare import PreparationSettings, prepare
from pipeline.data.text_source import TextSource
from pipeline.evaluation.controls import unigram_sentences
from tests.helpers import text


@pytest.fixture(scope="module", params=[False, True], ids=["without labels", "with labels"])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Sentences, with a label in front of each if the parameter is True."""
    folder = tmp_path_factory.mktemp("controls")
    lines = [f'"{line}",{("good", "bad", "good")[n % 3]}\n' for n, line in enumerate(text(300).splitlines())]
    (folder / "tiny.csv").write_text("review,mood\n" + "".join(lines))
    label = "mood" if request.param else None
    source = TextSource(str(folder / "tiny.csv"), Split(0.1, 0.1, 0), text_column="review", label_column=label)
    prepare(source, "tiny", folder / "data", PreparationSettings("wordpiece", 200, "none", 2, 60))
    return load_prepared(folder / "data", "tiny")


def shares(counts: Counter[int]) -> dict[int, float]:
    return {value: count / counts.total() for value, count in counts.items()}


def test_unigrams_have_the_words_lengths_and_labels_of_the_training_text(data: PreparedData):
    unigrams, train = unigram_sentences(data, 3000), data.splits["train"]
    for split in (unigrams, train):
        assert split["length"] == [len(ids) - 1 for ids in split["input_ids"]]
    kinds = {"words": [], "lengths": [], "first": []}
    for split in (unigrams, train):
        sentences = split["input_ids"]
        kinds["words"].append(shares(Counter(itertools.chain.from_iterable(sentences))))
        kinds["lengths"].append(shares(Counter(split["length"])))
        kinds["first"].append(shares(Counter(ids[1] for ids in sentences if ids[1] in data.tokenizer.label_ids)))
    for name, (own, real) in kinds.items():
        assert own.keys() == real.keys(), name
        assert all(own[key] == pytest.approx(real[key], abs=0.03) for key in own), name
    first = kinds["first"][0]
    assert bool(first) == bool(data.tokenizer.label_ids)
    assert sum(first.values()) == pytest.approx(1.0 if first else 0.0)


def test_unigrams_are_in_no_order_and_end_once(data: PreparedData):
    tokenizer = data.tokenizer
    labels = set(tokenizer.label_ids)
    full_stop = tokenizer.encode(["."])[0][1]
    sentences = unigram_sentences(data, 500)["input_ids"]
    for ids in sentences:
        assert (ids[0], ids[-1]) == (tokenizer.cls_id, tokenizer.sep_id)
        assert not {tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id} & set(ids[1:-1])
        assert not labels & set(ids[2:-1])
    assert all(ids[-2] == full_stop for ids in data.splits["train"]["input_ids"])
    assert np.mean([ids[-2] == full_stop for ids in sentences]) < 0.3


def test_unigrams_are_the_same_again_and_others_with_another_seed(data: PreparedData):
    first, again, other = (unigram_sentences(data, 20, seed)["input_ids"] for seed in (0, 0, 1))
    assert first == again != other
