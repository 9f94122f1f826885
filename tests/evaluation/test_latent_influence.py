"""Influence of the latent on samples: the same draws decoded a second time."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.decoding import GREEDY, Decoding
from models.sampling import SamplingSettings
from pipeline.evaluation import latent_influence
from pipeline.evaluation.latent_influence import in_words, influence, two_decodings
from pipeline.experiments.load import Experiment, load_experiment
from pipeline.generation import generate
from pipeline.generation.generate import sample
from pipeline.generation.latents import Source, from_prior
from pipeline.generation.row_samples import RowDraws
from pipeline.generation.sampler import sample_with
from tests.data.own_files import places
from tests.helpers import call, train_tiny

DRAWN = SamplingSettings(number_samples=30, decoding="sample")


def load(folder: Path, name: str) -> Experiment:
    return load_experiment(folder / "outputs", "nvib", name, folder / "data")


@pytest.fixture(scope="module")
def experiment(trained: Path) -> Experiment:
    return load(trained, "nvib")


def test_a_second_decoding_has_the_same_latents_and_other_tokens(experiment: Experiment):
    """Where no token is drawn, the same latents have the same texts; only the first draws are decoded again."""
    source = from_prior(experiment, [5 + n % 7 for n in range(25)])

    def texts(decoding: Decoding, again: int | None) -> list[str]:
        return [row["text"] for row in sample(experiment, source, 25, 3, decoding, batch_size=7, again=again)]

    first = texts(GREEDY, None)
    assert len(set(first)) > 5
    assert texts(GREEDY, 10) == first[:10]
    drawn = Decoding("sample")
    once, second = texts(drawn, None)[:10], texts(drawn, 10)
    assert len(second) == 10
    assert second == texts(drawn, 10)
    assert sum(a == b for a, b in zip(once, second, strict=True)) < 5


def test_one_draw_against_itself_and_against_the_next():
    rows = [f"{word} river found the {word} king" for word in ("old", "young", "poor", "rich")]
    assert influence(rows, rows)["same_draw_bleu"] == pytest.approx(100.0)
    shifted = influence(rows, [*rows[1:], rows[0]])
    assert shifted["different_draws_bleu"] == pytest.approx(100.0)
    assert shifted["same_draw_bleu"] < 60


def test_a_decoder_ignores_its_draws_if_one_draw_says_at_most_twice_as_much_as_another():
    ignored = in_words({"same_draw_bleu": 1.4, "different_draws_bleu": 0.7})
    assert ignored == (
        "two decodings of one draw: BLEU 1.40; of different draws: 0.70: the decoder ignores its draws, as a language "
        "model does"
    )
    heeded = in_words({"same_draw_bleu": 1.5, "different_draws_bleu": 0.7})
    assert heeded == "two decodings of one draw: BLEU 1.50; of different draws: 0.70"


@pytest.mark.parametrize(("same", "different", "ignores"), [(100, 69.78, False), (41.07, 40.8, True), (50, 40, False)])
def test_rows_that_share_the_words_of_a_template_may_have_draws_that_decide(same: float, different: float, ignores):
    said = in_words({"same_draw_bleu": same, "different_draws_bleu": different})
    assert ("ignores its draws" in said) == ignores


@pytest.mark.parametrize(
    "settings",
    [
        {"decoding": "greedy"},
        {"decoding": "beam"},
        {"number_samples": 1},
        {"latent_temperature": 0.0},
        {"near": "the old king left ."},
        {"mix": ("the old king left .", "a cat saw the river .")},
    ],
)
def test_there_is_no_second_decoding_where_nothing_is_drawn_twice(experiment: Experiment, settings: dict):
    assert two_decodings(experiment, SamplingSettings(**{"decoding": "sample", **settings}), 8, []) is None


def test_at_most_a_hundred_draws_are_decoded_again(experiment: Experiment, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(latent_influence, "DRAWS", 12)
    first = sample_with(experiment, DRAWN, 8)
    decoded = two_decodings(experiment, DRAWN, 8, first)
    assert decoded is not None
    assert decoded[0] == [row["text"] for row in first[:12]]
    assert decoded[1] == [row["text"] for row in sample_with(experiment, DRAWN, 8, again=12)]
    few = two_decodings(experiment, SamplingSettings(number_samples=5, decoding="sample"), 8, first[:5])
    assert few is not None and [len(texts) for texts in few] == [5, 5]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """An NVAE of rows that has hardly been trained; each row has an identifier."""
    folder = tmp_path_factory.mktemp("rows")
    kinds = [f"of kind {number}" for number in range(12)]
    rows = "".join(f"customer-{number:05d},{number % 37},{kinds[number * 7 % 12]}\n" for number in range(300))
    (folder / "own.csv").write_text(f"id,size,kind\n{rows}")
    call("prepareDatasets.py", "--DATA", folder / "own.csv", "--ROW_TEMPLATE", "--DATA_DIR", folder / "data")
    size = ("--DIM_H", 16, "--NUM_HEADS", 4, "--BATCH_SIZE", 16, "--MAX_STEPS", 4, "--DATA", "own")
    call("train.py", "--EXPERIMENT_NAME", "rows", "--MODEL", "NVIB", *size, *places(folder))
    return load_experiment(folder / "outputs", "nvib", "rows", folder / "data")


@pytest.mark.slow
def test_values_that_the_model_does_not_draw_count_for_nothing(table: Experiment):
    settings = SamplingSettings(number_samples=100, decoding="sample")
    rows = sample_with(table, settings, 32)
    decoded = two_decodings(table, settings, 32, rows)
    assert decoded is not None
    assert "id is ," not in rows[0]["text"]
    assert all("id is ," in text for texts in decoded for text in texts)
    assert all("kind is of" in text for texts in decoded for text in texts)
    figures = influence(*decoded)
    assert abs(figures["same_draw_bleu"] - figures["different_draws_bleu"]) < 5.0


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"balance": "kind"}, {"where": "size > 30"}])
def test_rows_that_choose_among_draws_have_no_second_decoding_of_one(table: Experiment, more: dict):
    settings = SamplingSettings(number_samples=20, decoding="sample", **more)
    assert two_decodings(table, settings, 32, sample_with(table, settings, 32)) is None


@pytest.mark.slow
def test_a_row_has_the_origin_of_the_latent_that_was_chosen(table: Experiment, monkeypatch: pytest.MonkeyPatch):
    chosen: list[int] = []
    decoded = generate.decode

    def spied(*arguments: Any) -> list[tuple[str, list[int]]]:
        made = decoded(*arguments)
        chosen.extend(arguments[-1].origins)
        return made

    monkeypatch.setattr(generate, "decode", spied)
    source = Source(from_prior(table, [9] * 20).draw, lambda number: {"origin": number})
    draws = RowDraws.of(table, SamplingSettings(number_samples=20, decoding="sample", where="size > 30"))
    rows = sample(table, source, 20, 3, Decoding("sample"), 20, rows=draws)
    assert [row["origin"] for row in rows] == chosen
    assert chosen != list(range(20))


@pytest.mark.slow
def test_rows_that_are_drawn_again_are_compared_as_they_were_drawn(table: Experiment, tmp_path: Path):
    settings = SamplingSettings(number_samples=60, decoding="sample")
    free = two_decodings(table, settings, 32, sample_with(table, settings, 32))
    (tmp_path / "rules.json").write_text('[{"unique": ["size", "kind"]}]')
    ruled = SamplingSettings(number_samples=60, decoding="sample", constraints=str(tmp_path / "rules.json"))
    assert two_decodings(table, ruled, 32, sample_with(table, ruled, 32)) == free


def test_sample_py_says_how_much_the_latent_decides_and_nothing_of_a_language_model(trained: Path, tmp_path: Path):
    (tmp_path / "data").symlink_to(trained / "data")
    train_tiny(tmp_path, "vtv", "VTV", steps=5)
    train_tiny(tmp_path, "lm", "LM", steps=5)
    figures = {}
    for name in ("vtv", "lm"):
        places = ("--EXPERIMENT_NAME", name, "--OUTPUT_DIR", tmp_path / "outputs", "--DATA_DIR", tmp_path / "data")
        said = call("sample.py", *places, "--NUMBER_SAMPLES", 20, "--DECODING", "sample").stdout
        figures[name] = json.loads((tmp_path / "outputs" / "nvib" / name / "summary.json").read_text())
        assert ("two decodings of one draw: BLEU" in said) == (name == "vtv")
        assert "samples real text  unigrams" in said
        assert {"samples/distinct_2_of_unigrams", "samples/self_bleu_of_real_text"} <= figures[name].keys()
    assert {"samples/same_draw_bleu", "samples/different_draws_bleu"} <= figures["vtv"].keys()
    assert not {"samples/same_draw_bleu", "samples/different_draws_bleu"} & figures["lm"].keys()
    call("sample.py", "--EXPERIMENT_NAME", "vtv", *places[2:], "--NUMBER_SAMPLES", 20)
    record = json.loads((tmp_path / "outputs" / "nvib" / "vtv" / "summary.json").read_text())
    assert not {"samples/same_draw_bleu", "samples/different_draws_bleu"} & record.keys(), "greedy decoding draws none"
