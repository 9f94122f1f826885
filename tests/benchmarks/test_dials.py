"""The dials of near-samples: the draws are those of sample.py, and the controls are at the ends of each measure."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import dials
from models.decoding import GREEDY, Decoding
from models.sampling import SamplingSettings
from pipeline.evaluation.bleu import corpus_bleu
from pipeline.experiments.load import Experiment, load_experiment
from pipeline.generation.generate import reconstruct
from pipeline.generation.sampler import sample_with
from pipeline.runtime.errors import UserError
from tests.data.own_files import MANY, places, write_table
from tests.helpers import call
from tests.models.tiny_bases import save_base

pytestmark = pytest.mark.slow


class LengthEncoder:
    """A sentence encoder whose vectors are angles by the length of a text."""

    def encode(self, texts: list[str], batch_size: int, description: str) -> np.ndarray:
        angles = np.array([len(text) / 50 for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An NVAE around a tiny model, after two steps."""
    folder = tmp_path_factory.mktemp("dials")
    base = save_base(folder / "base")
    write_table(folder / "own.csv", review=MANY)
    flags = ("--DATA", folder / "own.csv", "--TEXT_COLUMN", "review", "--TOKENIZER", base)
    call("prepareDatasets.py", *flags, "--DATA_DIR", folder / "data")
    flags = ("--MODEL", "NVIB", "--PRETRAINED", base, "--DATA", "own", "--MAX_STEPS", 2, "--PRECISION", "fp32")
    flags += ("--DROPPED_VECTORS", "prior", "--VECTOR_DROPOUT", 1, "--BATCH_SIZE", 8)
    call("train.py", "--EXPERIMENT_NAME", "mine", *places(folder), *flags)
    return folder


@pytest.fixture(scope="module")
def experiment(folder: Path) -> Experiment:
    return load_experiment(folder / "outputs", "nvib", "mine", folder / "data")


def measured(folder: Path, monkeypatch: pytest.MonkeyPatch, *flags: object) -> dict[str, Any]:
    """Run the benchmark with the tiny model as the judge, and check that the experiment is unchanged."""
    own = folder / "outputs"
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    common = ("--EXPERIMENT_NAME", "mine", *places(folder), "--LANGUAGE_MODEL", folder / "base")
    results = folder / "dials.json"
    arguments = ["dials", *map(str, (*common, "--RESULTS", results, "--COUNT", 5, *flags))]
    monkeypatch.setattr(sys, "argv", arguments)
    dials.main()
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before
    return json.loads(results.read_text())


@pytest.mark.parametrize(("name", "value"), [("keep", 0.5), ("latent_temperature", 1.7), ("latent_temperature", 0.4)])
@pytest.mark.parametrize("method", ["sample", "greedy"])
def test_a_near_sample_is_that_of_the_same_flags_of_sample_py(
    experiment: Experiment, name: str, value: float, method: str
):
    top_p = 0.9 if method == "sample" else 1.0
    drawn = dials.near_samples(experiment, "validation", [3], (name, value), Decoding(method, top_p=top_p), 7, 4)
    text = experiment.data.splits["validation"][3]["text"]
    flags: Any = {name: value, "near": text, "number_samples": 1, "decoding": method, "top_p": top_p, "seed": 7}
    assert drawn == [row["text"] for row in sample_with(experiment, SamplingSettings(**flags), 4)]


def test_without_noise_near_samples_are_reconstructions(experiment: Experiment):
    made = dials.near_samples(experiment, "test", [2, 0, 1], ("latent_temperature", 0.0), GREEDY, 1, 2)
    rows = reconstruct(experiment, "test", 8)
    assert made == [rows[number]["reconstruction"] for number in (2, 0, 1)]


def test_each_setting_has_a_row_beside_the_sentences_and_other_ones(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dials, "load_encoder", LengthEncoder)
    dial = ("--KEEP", 0.5, "--LATENT_TEMPERATURE", 0.5, 2, "--DECODING", "greedy", "sample")
    found = measured(folder, monkeypatch, *dial)
    settings = [("keep", 0.5), ("latent_temperature", 0.5), ("latent_temperature", 2.0)]
    assert [(row["decoding"], row["dial"], row["value"]) for row in found["rows"]] == [
        (method, *setting) for method in ("greedy", "sample") for setting in settings
    ]
    same, others = found["controls"]["sentences"], found["controls"]["others"]
    assert same["bleu"] == pytest.approx(100)
    assert (same["copies"], others["copies"]) == (1.0, 0.0)
    assert same["similarity"] == pytest.approx(1)
    assert others["similarity"] < 1
    assert others["bits_per_character"] == pytest.approx(same["bits_per_character"])  # the same texts in another order
    assert others["token_perplexity"] == pytest.approx(same["token_perplexity"])
    again = measured(folder, monkeypatch, *dial)
    assert again["rows"] == found["rows"]


def test_figures_are_those_of_texts_and_their_own_sources():
    class Judge:
        def score(self, texts: list[str], size: int, description: str) -> Any:
            from pipeline.evaluation.base_judge import Score

            return Score(nats=8 * np.log(2), tokens=4, words=2, characters=8, texts=2, empty=1)

    texts, sources = ["a b c d", "x y", ""], ["a b c d", "x y z", "q"]
    encoder: Any = LengthEncoder()
    judge: Any = Judge()
    found = dials.figures(texts, sources, encoder, judge, 2)
    assert found["bleu"] == corpus_bleu(texts, sources)[0]
    assert found["copies"] == pytest.approx(1 / 3)
    cosines = np.cos([0.0, 2 / 50, 1 / 50])
    assert found["similarity"] == pytest.approx(cosines.mean())
    assert found["similarity_error"] == pytest.approx(cosines.std(ddof=1) / 3**0.5, rel=1e-3)
    assert found["bits_per_character"] == pytest.approx(1)
    assert found["token_perplexity"] == pytest.approx(4)
    assert found["unscored"] == 1


def test_without_the_sentence_encoder_one_line_says_how_to_install_it(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dials, "load_encoder", lambda: None)
    with pytest.raises(UserError, match="cannot be measured: it needs the sentence encoder MiniLM"):
        measured(folder, monkeypatch)


def test_more_sentences_than_the_split_has_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dials, "load_encoder", LengthEncoder)
    with pytest.raises(UserError, match=r"the validation split has \d+ sentences; take a lower --COUNT"):
        measured(folder, monkeypatch, "--COUNT", 1000)
