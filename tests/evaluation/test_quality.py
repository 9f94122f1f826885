"""Are samples good and safe: the figures against slow and plain computations, planted copies, and the script."""

import dataclasses
import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from pipeline.data.batches import collate
from pipeline.evaluation import copies, ngrams
from pipeline.evaluation.bootstrap import area_estimate, area_under_curve
from pipeline.evaluation.copies import nearest, worst_cases
from pipeline.evaluation.judge import as_split, fingerprint, tokenized
from pipeline.evaluation.mauve import mauve, sentence_features
from pipeline.evaluation.membership import losses, members_and_others
from pipeline.evaluation.ngrams import Sentences, covered, divergence
from pipeline.evaluation.sample_quality import Material, coverage, measure
from pipeline.evaluation.usefulness import Labelled, labelled_samples, labelled_split, majority, usefulness
from pipeline.experiments.load import load_experiment
from pipeline.reporting.quality_page import page
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_record, write_record
from tests.helpers import call, one_line_of_error, prepare_tiny, run

TINY = ("--DIM_H", 16, "--BATCH_SIZE", 32, "--DATA", "tiny", "--MAX_STEPS", 12)
MARKUP = "<script>alert(1)</script> & <b>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Tiny data, an NVAE with samples, and a language model; of the samples one is a copy and one nearly."""
    folder = tmp_path_factory.mktemp("quality")
    prepare_tiny(folder / "data")
    for name, model in (("nvib", "NVIB"), ("lm", "LM")):
        call("train.py", *at(folder, name), "--MODEL", model, *TINY)
    call("sample.py", *at(folder, "nvib"), "--NUMBER_SAMPLES", 40, "--DECODING", "sample")
    planted = [*exact_and_near(loaded(folder).data), MARKUP]
    with open(experiment(folder) / "samples.jsonl", "a") as file:
        file.writelines(json.dumps({"text": t, "drawn_length": 9, "tokens_generated": 8}) + "\n" for t in planted)
    return folder


def at(folder: Path, name: str) -> tuple[object, ...]:
    return ("--EXPERIMENT_NAME", name, "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")


def experiment(folder: Path, name: str = "nvib") -> Path:
    return folder / "outputs" / "nvib" / name


def loaded(folder: Path, name: str = "nvib"):
    return load_experiment(folder / "outputs", "nvib", name, folder / "data")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def exact_and_near(data) -> tuple[str, str]:
    """A training sentence, and another with one of its words replaced."""
    texts = sorted(data.tokenizer.decode_batch(data.splits["train"]["input_ids"]), key=len)
    words = texts[-1].split()
    words[5] = "cat" if words[5] != "cat" else "dog"
    return texts[-2], " ".join(words)


# Copies.


def edits(a: list[int], b: list[int]) -> int:
    """Levenshtein's distance, by the book."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


def grams(ids: list[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]


def texts_with_copies() -> tuple[list[list[int]], list[list[int]]]:
    """Sentences of which some are training sentences with any number of edits, and the training sentences."""
    draw = random.Random(0)
    train = [[2, *(draw.randrange(5, 25) for _ in range(draw.randrange(1, 15))), 3] for _ in range(120)]
    own = [[2, 3], [2, 7, 3], [2, 99, 98, 97, 3], list(train[0]), [2, *train[1][1:-1], *train[2][1:-1], 3]]
    for number in range(70):
        words = list(draw.choice(train)[1:-1])
        for _ in range(number % 5):
            place = draw.randrange(len(words) + 1)
            kind = draw.choice(("insert", "delete", "replace"))
            words[place : place + (kind != "insert")] = [] if kind == "delete" else [draw.randrange(5, 25)]
        own.append([2, *words, 3])
    return own, train


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.35, 0.5])
def test_no_near_copy_is_missed_that_a_comparison_with_every_sentence_finds(monkeypatch, threshold: float):
    monkeypatch.setattr(copies, "BESIDE", 1)  # so that only the bound of shared bigrams can find them
    own, train = texts_with_copies()
    found = nearest(as_split(own), as_split(train), 100, threshold)
    near = 0
    for number, ids in enumerate(own):
        every = [edits(ids[1:-1], t[1:-1]) / max(len(ids) - 2, len(t) - 2) for t in train]
        if min(every) <= threshold:
            near += 1
            assert found.distance[number] == pytest.approx(min(every))
            assert every[found.by_distance[number]] == pytest.approx(min(every))
        else:
            assert found.distance[number] >= min(every) - 1e-9
        of_each = [np.mean([gram in set(grams(t, 3)) for gram in grams(ids, 3)] or [0.0]) for t in train]
        assert found.overlap[number] == pytest.approx(max(of_each))
    assert near == found.edited(threshold).sum() >= 14


def test_nearest_is_as_near_whatever_is_looked_up_or_indexed_at_once(monkeypatch):
    own, train = (as_split(texts) for texts in texts_with_copies())
    whole = nearest(own, train, 100, 0.2)
    monkeypatch.setattr(ngrams, "POSTINGS", 50)
    parts = nearest(own, train, 100, 0.2)
    for name in ("distance", "by_distance", "overlap", "by_overlap"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name)), name
    monkeypatch.setattr(copies, "INDEXED", 50)
    parts = nearest(own, train, 100, 0.2)
    # In a smaller index more of the sentences that are not near are compared.
    assert (parts.distance <= whole.distance).all()
    near = whole.edited(0.2)
    assert np.array_equal(near, parts.edited(0.2))
    assert near.any()
    assert np.array_equal(whole.by_distance[near], parts.by_distance[near])
    assert np.array_equal(whole.overlap, parts.overlap)
    assert np.array_equal(whole.by_overlap, parts.by_overlap)


def test_a_piece_of_a_training_sentence_is_a_near_copy_however_many_edits_away():
    train = as_split([[2, *range(10, 40), 3], [2, 50, 51, 52, 3]])
    found = nearest(as_split([[2, *range(10, 25), 3], [2, 60, 61, 62, 3]]), train, 100, 0.2)
    assert found.distance[0] == 0.5
    assert found.contained(0.2).tolist() == found.copies(0.2).tolist() == [True, False]
    assert not found.edited(0.2).any()
    assert found.by_distance[1] == -1
    worst = worst_cases(found, ["piece", "other"], ["whole", "short"], 10)
    assert [(row["text"], row["nearest"]) for row in worst] == [("piece", "whole")]


def test_a_distance_that_nothing_can_be_promised_for_is_refused():
    with pytest.raises(UserError, match=r"up to a distance of 0\.5"):
        nearest(as_split([[2, 3]]), as_split([[2, 5, 3]]), 10, 0.6)


# Likeness.


def test_n_grams_diverge_as_scipy_says_and_are_covered_as_often_as_they_stand():
    own, train = texts_with_copies()
    for n in (1, 2, 3):
        a, b = ([gram for ids in texts for gram in grams(ids[1:-1], n)] for texts in (own, train))
        names = sorted({*a, *b})
        p, q = ([part.count(name) for name in names] for part in (a, b))
        codes = [Sentences.of(as_split(texts)).grams(n, 100)[0] for texts in (own, train)]
        assert divergence(*codes) == pytest.approx(jensenshannon(p, q, base=2) ** 2)
        assert covered(*codes) == pytest.approx(np.mean([gram in set(a) for gram in b]))
    assert divergence(codes[0], codes[0]) == 0.0
    assert divergence(codes[0], codes[0][:0]) == 1.0


def test_mauve_is_high_of_the_same_text_and_low_of_another_and_nothing_of_a_few():
    random_ = np.random.default_rng(0)
    a, b = (random_.normal(size=(400, 8)).astype(np.float32) for _ in range(2))
    assert mauve(a, b) > 0.9
    assert mauve(a, b + 3) < 0.1
    assert mauve(a, b) == mauve(a, b)
    assert mauve(a[:30], b[:30]) is None


@pytest.mark.parametrize("name", ["nvib", "lm"])
def test_a_sentence_s_features_are_its_own_whatever_stands_beside_it(folder: Path, name: str):
    known = loaded(folder, name)
    split = known.data.splits["validation"].select(range(7))
    together, apart = (sentence_features(known.model, split, 0, size, "") for size in (7, 1))
    assert together.shape == (7, 16)
    np.testing.assert_allclose(together, apart, atol=1e-5)
    assert np.linalg.norm(apart[0] - apart[1]) > 1e-3


# Membership.


def test_the_area_is_a_half_where_nothing_can_be_told_and_one_where_all_can():
    random_ = np.random.default_rng(0)
    a, b = random_.normal(size=800), random_.normal(size=600)
    same = area_estimate(a, b)
    assert same.value == pytest.approx(0.5, abs=0.05)
    assert same.low < 0.5 < same.high
    apart = area_estimate(a + 100, b)
    assert (apart.value, apart.low, apart.high) == (1.0, 1.0, 1.0)
    assert area_estimate(a - 100, b).value == 0.0
    tied = np.round(a, 1), np.round(b + 0.3, 1)
    truth = np.repeat([1, 0], [len(a), len(b)])
    assert area_under_curve(*tied) == pytest.approx(roc_auc_score(truth, np.concatenate(tied)))


def test_a_sentence_s_loss_is_what_training_minimised(folder: Path):
    known = loaded(folder)
    split = known.data.splits["test"].select(range(5))
    found = losses(known.model, split, known.data.tokenizer.pad_id, "")
    for number, ids in enumerate(split["input_ids"]):
        batch = collate([ids], known.data.tokenizer.pad_id)
        with torch.no_grad():
            encoding = known.model.encode(batch.source, batch.key_padding_mask)
            logits = known.model.output(known.model.decode(batch.target_input, encoding.latent))[0]
            own = torch.nn.functional.cross_entropy(logits, batch.source[0]).item()
            settings = known.model.settings
            penalty = settings.kl_gaussian_lambda * encoding.kl_gaussian
            penalty = penalty + settings.kl_dirichlet_lambda * encoding.kl_dirichlet
        assert found["reconstruction"][number] == pytest.approx(own, rel=1e-4)
        assert found["objective"][number] == pytest.approx(own + penalty.item(), rel=1e-4)
    assert (found["objective"] > found["reconstruction"]).all()


def test_a_held_out_sentence_that_was_trained_on_is_no_stranger():
    train = [[2, 5, 6, 3], [2, 7, 8, 3]]
    splits = {"train": train, "validation": [[2, 9, 3], train[0]], "test": [train[1]]}
    data = SimpleNamespace(
        splits={name: as_split(rows) for name, rows in splits.items()}, tokenizer=SimpleNamespace(label_ids=[])
    )
    kinds = members_and_others(data, "validation")
    assert {kind: split["input_ids"][:] for kind, split in kinds.items()} == {"members": train, "others": [[2, 9, 3]]}


# Usefulness.


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


def test_labels_bring_the_figures_of_usefulness(folder: Path):
    known = loaded(folder)
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


# The script.


@pytest.fixture(scope="module")
def measured(folder: Path) -> dict:
    """`quality.json` of a run with a judge."""
    run("quality.py", *at(folder, "nvib"), "--LANGUAGE_MODEL", "lm", "--DROP_COPIES", "True")
    return json.loads((experiment(folder) / "quality.json").read_text())


def test_planted_copies_are_listed_first_and_dropped_into_files_beside_the_original(folder: Path, measured: dict):
    exact, near = exact_and_near(loaded(folder).data)
    worst = measured["worst_cases"]["synthetic"]
    assert [row["text"] for row in worst[:2]] == [exact, near]
    assert worst[0]["distance"] == 0.0
    assert worst[0]["nearest"] == exact
    assert 0.0 < worst[1]["distance"] <= 0.2
    rows = lines(experiment(folder) / "samples.jsonl")
    kept = lines(experiment(folder) / "samples_without_copies.jsonl")
    assert len(rows) == 43
    assert exact not in [row["text"] for row in kept]
    assert near not in [row["text"] for row in kept]
    assert kept == [row for row in rows if row in kept]
    shares = measured["figures"]["copies"]
    assert len(kept) == round(43 * (1 - shares["near_copies"]["synthetic"]))
    assert shares["exact_copies"]["synthetic"] >= 1 / 43
    text = (experiment(folder) / "samples_without_copies.txt").read_text()
    assert text == "".join(row["text"] + "\n" for row in kept)
    assert (experiment(folder) / "synthetic.txt").read_text() == text
    assert "synthetic.txt is without the copies, too" in measured["dropped"]


def test_every_figure_stands_beside_that_of_real_text_in_json_summary_and_page(folder: Path, measured: dict):
    summary = json.loads((experiment(folder) / "summary.json").read_text())
    shown = (experiment(folder) / "quality.html").read_text()
    missing = {}
    for section, figures in measured["figures"].items():
        assert f"<h2>{section.capitalize()}" in shown
        for name, figure in figures.items():
            values = figure["synthetic"], figure["held_out_real"]
            if None in values:
                assert values == (None, None)
                assert f"quality/{name}" not in summary
                missing[name] = figure["missing"]
                continue
            for suffix, value in (("", values[0]), ("_of_real_text", values[1])):
                assert summary[f"quality/{name}{suffix}"] == (value["value"] if isinstance(value, dict) else value)
    assert set(missing) == {"mauve", "reverse_perplexity"}
    assert "reverseSampleEvaluation.py --EXPERIMENT_NAME nvib --LANGUAGE_MODEL lm" in missing["reverse_perplexity"]
    assert "needs at least 40 sentences" in missing["mauve"]
    assert summary["quality/forward_perplexity"] > 1
    assert summary["quality/membership_auc_calibrated"] != summary["quality/membership_auc"]


def test_the_page_needs_nothing_beside_it_and_shows_markup_as_text(folder: Path, measured: dict):
    known = loaded(folder)
    texts = known.data.tokenizer.decode_batch(known.data.splits["train"]["input_ids"][:3])
    material = Material(known, [{"text": text} for text in texts], "test", None, 0.2, None, 32)
    quality = measure(material)
    quality.worst["synthetic"][0] |= {"text": MARKUP, "nearest": f"{MARKUP} x"}
    quality.notes["usefulness"] = MARKUP
    shown = page(material, quality, MARKUP, MARKUP)
    tags, links = set(), []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.add(tag)
            links.extend(value for name, value in attributes if name in ("src", "href", "xlink:href"))

    Reader().feed(shown)
    assert "svg" in tags
    assert not tags & {"script", "b", "link", "img", "iframe"}
    assert all(link.startswith("#") for link in links)
    assert shown.count("alert(1)") == 6  # title twice, a sentence, its neighbour, a note, what was dropped
    assert not re.search(r"url\((?!#)", shown)
    assert "a copy check" in shown
    assert shown.lower().count("guarantee") == shown.count("No figure here is a privacy guarantee") == 1


def test_reverse_perplexity_is_taken_where_these_samples_and_this_judge_were_measured(folder: Path):
    known, judge = loaded(folder), loaded(folder, "lm")
    before = read_record(known.files.summary, "")
    rows = lines(experiment(folder) / "samples.jsonl")
    key = "validation/reverse_perplexity"
    texts = [row["text"] for row in rows]
    for measured_of, name, taken in ((texts, "lm", True), (texts[::-1], "lm", False), (texts, "other", False)):
        new = {key: 7.0, f"{key}_of_real_text": 5.0, f"{key}_samples": fingerprint(measured_of), f"{key}_judge": name}
        write_record(known.files.summary, before | new)
        figure = next(coverage(Material(known, rows, "validation", judge, 0.2, None, 32)))
        assert (figure.synthetic, figure.real) == ((7.0, 5.0) if taken else (None, None))
        assert bool(figure.missing) is not taken
    write_record(known.files.summary, before)


def test_text_as_it_is_drawn_has_no_copies_to_drop_but_those_that_held_out_text_has_too(folder: Path):
    known = loaded(folder)
    data = known.data
    found = [
        nearest(tokenized(texts, data), data.splits["train"], data.tokenizer.vocabulary_size, 0.2)
        for texts in (data.tokenizer.decode_batch(data.splits[part]["input_ids"]) for part in ("validation", "train"))
    ]
    assert found[0].exact.mean() < 0.1
    assert found[1].exact.all()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("lm", (), "generate them with sample.py --EXPERIMENT_NAME lm"),
        ("bad", (), "no experiment 'bad'"),
        ("nvib", ("--LANGUAGE_MODEL", "nobody"), "no experiment 'nobody'"),
        ("nvib", ("--NEAR_COPY_DISTANCE", "0.6"), "must be at least 0 and at most 0.5, got 0.6"),
        ("nvib", ("--DROP_COPIES", "yes"), "must be a number, got 'yes'; True and False are taken too"),
    ],
)
def test_what_cannot_be_measured_is_told_in_one_line(folder: Path, name: str, arguments: tuple, message: str):
    refused = call("quality.py", *at(folder, name), *arguments, expect=2)
    assert message in one_line_of_error(refused)
    assert not (experiment(folder, name) / "quality.html").exists() or name == "nvib"
