"""Control over the samples of a trained experiment: sources of latents, noise, lengths, decoding."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

import nvib
from models.decoding import GREEDY, Decoding, greedy, nucleus
from models.decoding import generate as generated
from models.sampling import SamplingSettings
from models.text_model import Noise
from pipeline.data.batches import in_order
from pipeline.experiments.load import Experiment, load_experiment
from pipeline.generation import generate, latents
from pipeline.generation.generate import decode, interpolations, sample
from pipeline.generation.latents import LengthRange, draw_lengths, encoded, from_prior, from_prior_with, mixture, near
from pipeline.generation.sampler import source_of
from pipeline.runtime.errors import UserError
from pipeline.runtime.seeds import mixed
from tests.helpers import call, one_line_of_error, prepare_tiny

KING, CAT, TOWN = "The old king saw the river .", "a young cat left the house.", "the queen found a town."


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Tiny data, and an NVAE and a vanilla Transformer after 20 training steps."""
    folder = tmp_path_factory.mktemp("control")
    prepare_tiny(folder / "data")
    for name, kind in (("nvib", "NVIB"), ("vanilla", "T")):
        small = ("--DATA", "tiny", "--DIM_H", 16, "--PRECISION", "fp32", "--MAX_STEPS", 20)
        call("train.py", *at(folder, name), "--MODEL", kind, *small)
    return folder


@pytest.fixture(scope="module")
def experiment(folder: Path) -> Experiment:
    return load_experiment(folder / "outputs", "nvib", "nvib", folder / "data")


def at(folder: Path, name: str) -> tuple[object, ...]:
    return ("--EXPERIMENT_NAME", name, "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")


def rows_of(folder: Path, name: str = "nvib") -> list[dict[str, Any]]:
    path = folder / "outputs" / "nvib" / name / "samples.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("method", ["greedy", "sample"])
def test_samples_without_control_are_those_of_plain_generation(folder: Path, experiment: Experiment, method: str):
    """The seed draws the lengths, and a seed for each batch draws its latents and tokens."""
    call("sample.py", *at(folder, "nvib"), "--NUMBER_SAMPLES", 7, "--GENERATION_BATCH_SIZE", 4, "--DECODING", method)
    distribution, tokenizer = experiment.data.length_distribution, experiment.data.tokenizer
    lengths = draw_lengths(distribution, 7, LengthRange("data"), 42)
    made = []
    for chunk in in_order(7, 4):
        generator = torch.Generator().manual_seed(mixed(42, chunk[0]))
        latent = nvib.Prior().sample(torch.tensor([lengths[number] for number in chunk]), 16, 1, generator)
        choose = greedy if method == "greedy" else nucleus(generator=generator)
        ends = (tokenizer.cls_id, tokenizer.sep_id)
        made += generated(experiment.model, latent, len(chunk), *ends, max(distribution), choose)
    assert [list(row.values()) for row in rows_of(folder)] == [
        [tokenizer.decode(ids), length, len(ids)] for ids, length in zip(made, lengths, strict=True)
    ]
    assert list(rows_of(folder)[0]) == ["text", "drawn_length", "tokens_generated"]


def test_near_a_sentence_at_temperature_0_is_its_reconstruction(folder: Path, experiment: Experiment):
    call("sample.py", *at(folder, "nvib"), "--NEAR", KING, "--LATENT_TEMPERATURE", 0)
    with torch.inference_mode():
        ((text, ids),) = decode(experiment, encoded(experiment, "the old king saw the river.").latent, 1)
    assert rows_of(folder) == [{"text": text, "near": KING, "tokens_generated": len(ids)}]
    summary = json.loads((folder / "outputs" / "nvib" / "nvib" / "summary.json").read_text())
    assert "samples/mean_drawn_length" not in summary
    call("sample.py", *at(folder, "nvib"), "--NEAR", KING, "--KAPPA", 3, "--NUMBER_SAMPLES", 5, "--DECODING", "beam")
    assert [row["near"] for row in rows_of(folder)] == [KING] * 5


def test_a_mixture_of_two_sentences_is_their_interpolation(folder: Path, experiment: Experiment):
    row = interpolations(experiment, 1, 1)[0]
    for tau in (0.0, 0.25, 0.5, 0.75, 1.0):
        made = ("--MIX", row["source"], row["target"], "--WEIGHTS", 1 - tau, tau)
        call("sample.py", *at(folder, "nvib"), *made)
        (own,) = rows_of(folder)
        assert own["text"] == row["outputs"][f"{tau:g}"]
        assert own["mixed"] == [row["source"], row["target"]]
        assert own["weights"] == [1 - tau, tau]
    call("sample.py", *at(folder, "nvib"), "--MIX", KING, CAT, TOWN, "--WEIGHTS", 2, 1, 1, "--LATENT_TEMPERATURE", 1)
    assert len(rows_of(folder)) == 200
    assert rows_of(folder)[0]["weights"] == [0.5, 0.25, 0.25]


@pytest.mark.parametrize("control", [(), ("--NEAR", KING), ("--VECTORS", 9), ("--DECODING", "beam")])
def test_sentences_keep_to_the_requested_lengths(folder: Path, control: tuple):
    for low, high in ((11, 12), (30, 30), (1, 1)):
        lengths = ("--MIN_LENGTH", low, "--MAX_LENGTH", high, "--NUMBER_SAMPLES", 6)
        drawn = () if control and control[0] in ("--NEAR", "--VECTORS") else ("--SAMPLING_DISTRIBUTION", "uniform")
        call("sample.py", *at(folder, "nvib"), *control, *drawn, *lengths)
        rows = rows_of(folder)
        assert all(low <= row["tokens_generated"] + 1 <= high for row in rows)  # the end token counts
    call("sample.py", *at(folder, "nvib"), "--NEAR", KING, "--MIN_LENGTH", 70, "--NUMBER_SAMPLES", 2)
    assert all(row["tokens_generated"] + 1 >= 70 for row in rows_of(folder))  # longer than any training sentence


def test_a_label_is_no_token_of_a_requested_length(monkeypatch: pytest.MonkeyPatch):
    """The lengths of the data count the label, and those of the latents too."""
    data = SimpleNamespace(
        length_distribution={5: 2, 6: 1, 7: 1}, statistics={"labels": {"x": 4}}, tokenizer=SimpleNamespace(labels={})
    )
    model = SimpleNamespace(sample_prior=lambda *_: None, positions_before=lambda _: 0)
    experiment = cast(Any, SimpleNamespace(data=data, model=model, device=torch.device("cpu")))
    assert from_prior(experiment, [7]).made_from(0) == {"drawn_length": 6}
    monkeypatch.setattr(latents, "from_prior", lambda _, lengths, *noise: lengths)
    for given, expected in (({"min_length": 5, "max_length": 6}, {6, 7}), ({}, {5, 6, 7})):
        for distribution in ("data", "uniform"):
            settings = SamplingSettings(number_samples=50, sampling_distribution=distribution, **given)
            assert set(cast(Any, source_of(experiment, settings))) == expected, given
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(generate, "check_room", lambda *_: None)
    monkeypatch.setattr(generate, "decode", lambda *given: limits.append((given[4], given[5])) or [])
    source = latents.Source(lambda *_: None, lambda _: {})
    for low, high in ((5, None), (9, None), (9, 9)):
        with pytest.raises(ValueError, match="zip"):  # nothing is decoded
            sample(experiment, source, 1, 1, GREEDY, 1, low, high)
    assert limits == [(7, 5), (9, 9), (9, 9)], "tokens at most and at least, the label counted, without the end"


def test_rows_contain_the_requested_number_of_vectors(folder: Path):
    call("sample.py", *at(folder, "nvib"), "--VECTORS", 9, "--NUMBER_SAMPLES", 2)
    assert [list(row) for row in rows_of(folder)] == [["text", "vectors", "tokens_generated"]] * 2
    assert rows_of(folder)[0]["vectors"] == 9


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("vanilla", ("--NEAR", KING), "T has no posterior to sample from"),
        ("vanilla", ("--VECTORS", 3), "T draws no vectors"),
        ("vanilla", ("--KAPPA", 3), "T has no prior to sample from"),
        ("nvib", ("--VECTORS", 1), "at least 2, got 1"),
        ("nvib", ("--VECTORS", 5, "--KAPPA", 2), "must be a multiple of 2 and at least 4, got 5"),
        ("nvib", ("--NEAR", "!?"), "nothing is left of the sentence '!?'"),
        ("nvib", ("--MIX", KING, "**"), "nothing is left of the sentence '**'"),
    ],
)
def test_an_unsupported_request_is_one_line_and_changes_no_file(folder: Path, name: str, flags: tuple, message: str):
    files = {path: path.read_bytes() for path in (folder / "outputs" / "nvib" / name).rglob("*") if path.is_file()}
    assert message in one_line_of_error(call("sample.py", *at(folder, name), *flags, expect=2))
    assert files == {path: path.read_bytes() for path in files}


def test_a_vanilla_transformer_mixes(folder: Path):
    call("sample.py", *at(folder, "vanilla"), "--MIX", KING, CAT, "--DECODING", "beam", "--BEAMS", 2)
    (row,) = rows_of(folder, "vanilla")
    assert row["mixed"] == [KING, CAT]
    assert row["weights"] == [0.5, 0.5]


def test_mixtures_are_of_mean_latents_by_default(experiment: Experiment):
    latents = [mixture(experiment, [KING, CAT]).draw([0], torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    assert torch.equal(latents[0].log_pi, latents[1].log_pi)
    assert torch.equal(latents[0].z, latents[1].z)


def test_sources_check_their_weights(experiment: Experiment):
    with pytest.raises(UserError, match="there are 2 sentences to mix and 1 weights"):
        mixture(experiment, [KING, CAT], [1.0])
    for weights in ([1.0, -1.0], [0.0, 0.0]):
        with pytest.raises(UserError, match="weights must not be negative, and not all 0"):
            mixture(experiment, [KING, CAT], weights)


def test_the_same_seed_gives_the_same_samples_of_every_source(experiment: Experiment):
    for source in (
        from_prior(experiment, [5, 9, 7], Noise(0.5)),
        from_prior_with(experiment, 6, 3),
        near(experiment, KING),
        mixture(experiment, [KING, CAT], None, Noise(1.0)),
    ):
        first, again = (source.draw([0, 1, 2], torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(first.log_pi, again.log_pi)
        assert len(sample(experiment, source, 3, 1, Decoding("sample"), 2)) == 3


def test_a_share_of_a_sentence_s_vectors_is_a_dial_from_the_sentence_to_free_text(folder: Path):
    flags = ("--NEAR", KING, "--LATENT_TEMPERATURE", 0, "--NUMBER_SAMPLES", 12)
    call("sample.py", *at(folder, "nvib"), *flags, "--KEEP", 0.3)
    some = rows_of(folder)
    assert {row["keep"] for row in some} == {0.3}
    assert {row["near"] for row in some} == {KING}
    call("sample.py", *at(folder, "nvib"), *flags, "--KEEP", 0.3)
    assert rows_of(folder) == some  # the seed chooses the vectors
    call("sample.py", *at(folder, "nvib"), *flags, "--KEEP", 0.3, "--SEED", 7)
    assert [row["text"] for row in rows_of(folder)] != [row["text"] for row in some]
    call("sample.py", *at(folder, "nvib"), *flags, "--KEEP", 1.0)
    whole = {row["text"] for row in rows_of(folder)}
    assert len(whole) == 1
    assert len({row["text"] for row in some}) > 1
    call("sample.py", *at(folder, "vanilla"), "--MIX", KING, CAT, "--KEEP", 0.5, "--NUMBER_SAMPLES", 3)
    assert [row["keep"] for row in rows_of(folder, "vanilla")] == [0.5] * 3
