"""Posterior collapse: a latent without information, and a decoder that ignores it, are reported."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from models import MODELS, build
from pipeline.data.batches import Batch, collate
from pipeline.training import evaluator
from pipeline.training.collapse import collapse_figures, collapse_warning, threshold_warning
from tests.helpers import prepare_tiny, train_tiny

DEVICE = torch.device("cpu")
LENGTHS = ((4, 7, 5), (6, 3))


def model(name: str) -> torch.nn.Module:
    built = build(MODELS[name](vocabulary_size=40, dim_h=16))
    torch.nn.init.normal_(built.embedding.weight, std=0.5)
    return built.eval()


def batches() -> list[Batch]:
    draw = torch.Generator().manual_seed(0)
    return [
        collate([[2, *torch.randint(5, 40, (n,), generator=draw).tolist(), 3] for n in part], 0) for part in LENGTHS
    ]


@pytest.mark.parametrize("name", ["VTV", "VTP", "VTS", "NVIB"])
def test_active_units_are_the_dimensions_whose_means_vary(name: str):
    own, means = model(name), []
    with torch.no_grad():
        own.bottleneck.mu.weight[:9] *= 1e-3
        own.bottleneck.mu.bias += 2.0
        for batch in batches():
            gaussians = own.encode(batch.source, batch.key_padding_mask).gaussians
            means += [row[~mask] for row, mask in zip(gaussians.mu, gaussians.key_padding_mask, strict=True)]
    expected = int((torch.cat(means).var(dim=0, correction=0) > 0.01).sum())
    assert collapse_figures(own, batches(), DEVICE)["active_units"] == expected
    assert 0 < expected <= 7


def test_the_gap_is_the_perplexity_that_the_latent_of_another_sentence_costs():
    own = model("T")
    sums, tokens = [0.0, 0.0], 0
    for batch in batches():
        rows = [(batch.source[i], ~batch.key_padding_mask[i], batch.target_input[i]) for i in range(len(batch.source))]
        for number, (source, real, target_input) in enumerate(rows):
            for which, (other, other_real, _) in enumerate((rows[number], rows[number - 1])):
                latent = own.encode(other[other_real][None], torch.zeros(1, int(other_real.sum()), dtype=torch.bool))
                logits = own.output(own.decode(target_input[real][None], latent.latent))[0]
                sums[which] += F.cross_entropy(logits, source[real], reduction="sum").item()
            tokens += int(real.sum())
    own_expected, other_expected = (math.exp(value / tokens) for value in sums)
    figures = collapse_figures(own, batches(), DEVICE)
    assert figures["perplexity_own_latent"] == pytest.approx(own_expected, rel=1e-5)
    assert figures["perplexity_other_latent"] == pytest.approx(other_expected, rel=1e-5)
    assert figures["perplexity_gap"] == pytest.approx(other_expected - own_expected, rel=1e-3)


def test_draws_of_the_prior_score_the_sentences_as_a_generator_does():
    own, nll, tokens = model("VTV"), 0.0, 0
    for number, batch in enumerate(batches()):
        lengths = (~batch.key_padding_mask).sum(dim=1)
        latent = own.sample_prior(lengths, torch.Generator().manual_seed(number))
        logits, real = own.output(own.decode(batch.target_input, latent)), ~batch.key_padding_mask
        nll += F.cross_entropy(logits[real], batch.source[real], reduction="sum").item()
        tokens += int(real.sum())
    found = collapse_figures(own, batches(), DEVICE)["perplexity_prior_latent"]
    assert found == pytest.approx(math.exp(nll / tokens), rel=1e-5)
    assert "perplexity_prior_latent" not in collapse_figures(model("T"), batches(), DEVICE)


@pytest.mark.parametrize("name", ["VTV", "NVIB"])
def test_a_decoder_that_ignores_its_latent_is_reported(name: str):
    deaf = model(name)
    with torch.no_grad():
        deaf.decoder[0].cross_attention.out_proj.weight.zero_()
        deaf.bottleneck.mu.weight.zero_()
    figures = collapse_figures(deaf, batches(), DEVICE)
    assert figures["perplexity_gap"] == pytest.approx(0.0, abs=1e-6)
    assert figures["active_units"] == 0
    warning = collapse_warning(figures)
    assert "barely uses the latent" in warning
    assert "no dimension" in warning


def test_neither_a_used_latent_nor_a_model_without_one_is_reported():
    assert collapse_warning({"perplexity_own_latent": 2.0, "perplexity_other_latent": 9.0, "active_units": 3}) is None
    figures = collapse_figures(model("LM"), batches(), DEVICE)
    assert figures == {}
    assert collapse_warning(figures) is None


@pytest.mark.parametrize("reading", ["plug-in", "integral", "draws-2"])
def test_vectors_below_the_threshold_are_read_again_to_see_whether_they_are_missed(reading: str):
    settings = MODELS["NVIB"](vocabulary_size=40, dim_h=16, reading=reading, alpha_threshold=7.0)
    own = build(settings).eval()
    torch.nn.init.normal_(own.embedding.weight, std=0.5)
    torch.nn.init.normal_(own.bottleneck.alpha.weight, std=0.5)
    whole = build(dataclasses.replace(settings, alpha_threshold=0.0)).eval()
    whole.load_state_dict(own.state_dict())
    batch = batches()[0]
    encoding = own.encode(batch.source, batch.key_padding_mask)
    assert (encoding.vectors_kept < encoding.vectors).any()
    figures, expected = (collapse_figures(one, batches(), DEVICE) for one in (own, whole))
    assert figures["perplexity_all_vectors"] == pytest.approx(expected["perplexity_own_latent"], rel=1e-5)
    assert figures["perplexity_own_latent"] != pytest.approx(expected["perplexity_own_latent"], rel=1e-5)
    assert expected["perplexity_all_vectors"] == pytest.approx(expected["perplexity_own_latent"], rel=1e-6)
    assert "perplexity_all_vectors" not in collapse_figures(model("VTS"), batches(), DEVICE)


def test_dropped_vectors_that_are_missed_are_reported():
    missed = {"perplexity_own_latent": 4.3, "perplexity_all_vectors": 1.02}
    assert "perplexity 4.30 without them, 1.02 with them" in threshold_warning(missed)
    assert threshold_warning({"perplexity_own_latent": 1.05, "perplexity_all_vectors": 1.02}) is None
    assert threshold_warning({"perplexity_own_latent": 4.3}) is None
    assert threshold_warning({}) is None


@pytest.mark.parametrize(
    ("with_all", "cause"), [(4.2, "may have collapsed"), (1.02, "they count as dropped and are not")]
)
def test_training_reports_one_cause(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch, with_all, cause):
    """Without the vectors that the decoder reads, another sentence's latent is as good: no sign of a collapse."""
    figures = {"perplexity_own_latent": 4.3, "perplexity_other_latent": 4.3, "perplexity_all_vectors": with_all}
    monkeypatch.setattr(evaluator, "collapse_figures", lambda *_: figures)
    prepare_tiny(tmp_path / "data")
    train_tiny(tmp_path, "nvib", "NVIB", steps=2)
    written = capsys.readouterr().err
    assert written.count("warning: ") == 1
    assert cause in written
