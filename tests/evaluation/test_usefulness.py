"""Usefulness: a classifier that learns from synthetic text."""

import dataclasses
import random
from pathlib import Path

import pytest
from sklearn.metrics import accuracy_score, f1_score

from pipeline.evaluation.judge import as_split
from pipeline.evaluation.sample_quality import Material, measure
from pipeline.evaluation.usefulness import Labelled, labelled_samples, labelled_split, majority, usefulness
from pipeline.experiments.load import load_experiment
from pipeline.runtime.errors import UserError


def reviews(count: int, seed: int) -> Labelled:
    draw = random.Random(seed)
    kinds = {"good": ("fine", "lovely", "bright"), "bad": ("dull", "grim", "flat")}
    labels = draw.choices(("good", "bad"), (2, 1), k=count)
    return Labelled([" ".join(draw.choices((*kinds[k], "the", "a", "film"), k=6)) for k in labels], labels)


def test_a_classifier_learns_from_text_what_its_labels_say():
    test = reviews(200, 1)
    learned = usefulness(reviews(200, 2), test)
    assert learned.accuracy.low > 0.9
    assert learned.accuracy.low <= learned.accuracy.value <= learned.accuracy.high
    good = reviews(200, 3)
    wrong = Labelled(good.texts, random.Random(0).sample(good.labels, len(good)))
    assert usefulness(wrong, test).accuracy.value < learned.accuracy.low
    nothing = majority(good, test)
    assert nothing.accuracy.value == pytest.approx(accuracy_score(test.labels, ["good"] * 200))
    assert nothing.macro_f1.value == pytest.approx(f1_score(test.labels, ["good"] * 200, average="macro"))


@pytest.mark.parametrize("texts", [["a", "b"], ["", " "]])
def test_text_that_teaches_nothing_leaves_the_most_common_label(texts: list[str]):
    train = Labelled(texts, ["good", "good"] if texts[0] else ["good", "bad"])
    assert usefulness(train, reviews(50, 1)) == majority(train, reviews(50, 1))


def test_text_without_a_label_is_left_out_and_foreign_labels_are_refused():
    split = as_split([[2, 5, 3], [2, 6, 3], [2, 7, 3]])
    assert labelled_split(split, str) is None
    split = split.add_column("label", ["good", "bad", None])
    real = labelled_split(split, lambda sentences: [str(ids[1]) for ids in sentences])
    assert real == Labelled(["5", "6"], ["good", "bad"])
    rows = [{"text": "p", "label": "good"}, {"text": "q", "label": None}, {"text": "r"}]
    assert labelled_samples(rows, real) == Labelled(["p"], ["good"])
    assert labelled_samples(rows[1:], real) is None
    with pytest.raises(UserError, match="labels neutral, of which the training text has none"):
        labelled_samples([{"text": "p", "label": "neutral"}], real)


@pytest.mark.slow
def test_labels_bring_the_figures_of_usefulness(trained: Path):
    known = load_experiment(trained / "outputs", "nvib", "nvib", trained / "data")
    splits = {
        part: split.add_column("label", ["cat" if " cat" in text else "none" for text in split["text"]])
        for part, split in known.data.splits.items()
    }
    known = dataclasses.replace(known, data=dataclasses.replace(known.data, splits=splits))
    texts = known.data.tokenizer.decode_batch(splits["train"]["input_ids"][:60])
    rows = [{"text": text, "label": "cat" if " cat" in text else "none"} for text in texts]
    figures = measure(Material(known, rows, "test", None, 0.2, None, 32)).as_json()["figures"]
    assert figures["copies"]["exact_copies"]["synthetic"] == 1.0
    assert figures["copies"]["nearer_than_held_out"]["synthetic"]["value"] > 0.95
    accuracy = figures["usefulness"]["classifier_accuracy"]
    assert accuracy["synthetic"]["low"] <= accuracy["synthetic"]["value"] <= accuracy["synthetic"]["high"]
    assert set(figures["usefulness"]) == {
        f"{kind}_{name}" for kind in ("classifier", "majority") for name in ("accuracy", "macro_f1")
    }
