"""Models around a pretrained encoder-decoder: the base's own outputs before training, steps, readings, weights."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from models.decoding import beam_search, generate
from models.pretrained_base import sizes
from models.text_model import UnsupportedError
from nvib import DiscreteMixture, GaussianMixture
from tests.models.tiny_bases import decoded, disturbed, stepped
from tests.models.tiny_seq2seq import END, FAMILIES, FIRST_TOKEN, LAYERS, NAMES, START, built, save_seq2seq, texts

pytestmark = pytest.mark.slow  # together half a minute on one core

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
READINGS = ("integral", "no-prior", "plug-in", "draws-3")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny base of each family."""
    return {family: save_seq2seq(tmp_path_factory.mktemp("bases") / family, family) for family in FAMILIES}


@pytest.fixture
def base(bases: dict[str, Path]) -> Path:
    """A tiny BART."""
    return bases["bart"]


def pretrained_logits(folder: Path, source: torch.Tensor, mask: torch.Tensor, target_input: torch.Tensor) -> Any:
    """Logits of the base itself, whose decoder begins with its own first token."""
    from transformers import AutoModelForSeq2SeqLM

    base: Any = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    first = torch.full_like(target_input[:, :1], FIRST_TOKEN[folder.name])
    target_input = torch.cat([first, target_input[:, 1:]], dim=1)
    return base(input_ids=source, attention_mask=(~mask).long(), decoder_input_ids=target_input).logits


def logits(model: Any, latent: Any, target_input: torch.Tensor) -> torch.Tensor:
    weight, bias = model.head
    return model.decode(target_input, latent) @ weight.t() + bias


@pytest.mark.parametrize("name", ("NVIB", "T", "VTV"))
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_logits_are_the_bases_own_before_training(bases: dict[str, Path], family: str, name: str):
    model = built(bases[family], name)
    source, mask, target_input = texts(bases[family], 9, 4, 1)
    expected = pretrained_logits(bases[family], source, mask, target_input)
    for _ in range(2):
        found = logits(model, model.encode(source, mask).latent, target_input)
        torch.testing.assert_close(found[..., : expected.shape[-1]], expected, **CLOSE)
        model.start_at(*texts(bases[family], 12, 7, 9)[:2])  # as training begins
    if name == "NVIB":
        assert model(source, mask, target_input)[1].mean.item() == pytest.approx(
            loss_of(expected, source, mask), rel=1e-4
        )


def loss_of(expected: torch.Tensor, source: torch.Tensor, mask: torch.Tensor) -> float:
    return torch.nn.functional.cross_entropy(expected[~mask], source[~mask]).item()


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_encoders_vectors_are_as_wide_as_the_prior(bases: dict[str, Path], family: str):
    model = built(bases[family])
    source, mask, _ = texts(bases[family], *([12] * 8), 5)
    model.start_at(source, mask)
    vectors = model.encode(source, mask).gaussians.mu[~mask]
    torch.testing.assert_close(vectors.mean(dim=0), torch.zeros(vectors.shape[1]), rtol=0, atol=1e-4)
    torch.testing.assert_close(vectors.std(dim=0, correction=0), torch.ones(vectors.shape[1]), rtol=0, atol=1e-3)
    # e^2 pseudo-counts on average, before the vectors' norms
    counts = model.encode(source, mask).posterior.log_alpha[:, 1:][~mask]
    assert counts.mean().item() == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("reading", READINGS)
@torch.no_grad()
def test_steps_give_the_logits_of_all_positions_at_once(bases: dict[str, Path], family: str, reading: str):
    model = disturbed(built(bases[family], reading=reading))
    source, mask, target_input = texts(bases[family], 9, 4, 1)
    latent = model.encode(source, mask).latent
    if reading == "draws-3":
        found, _ = model.step(target_input[:, 0], 0, model.start(latent))
        each = [logits(model, own, target_input)[:, 0].softmax(dim=-1) for own in latent.latents]
        expected = torch.stack(each).mean(dim=0).index_fill(1, model.unspoken, 0.0)
        torch.testing.assert_close(found.softmax(dim=-1), expected / expected.sum(dim=1, keepdim=True), **CLOSE)
        return
    assert isinstance(latent, DiscreteMixture if reading == "plug-in" else GaussianMixture)
    expected, found = decoded(model, latent, target_input), stepped(model, latent, target_input)
    assert (expected[0].softmax(dim=-1).std(dim=0) > 1e-3).any()  # the positions differ
    torch.testing.assert_close(found[~mask], expected[~mask], **CLOSE)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_text_does_not_depend_on_the_other_texts_of_its_batch(bases: dict[str, Path], name: str):
    for family in ("bart", "t5"):
        model = disturbed(built(bases[family], name))
        source, mask, target_input = texts(bases[family], 3, 11, 6)
        for made in (decoded, stepped):
            together = made(model, model.encode(source, mask).latent, target_input)
            for row, length in enumerate((3, 11, 6)):
                own = (slice(row, row + 1), slice(length))
                alone = made(model, model.encode(source[own], mask[own]).latent, target_input[own])
                torch.testing.assert_close(together[own], alone, **CLOSE)


@pytest.mark.parametrize("reading", ["plug-in", "integral"])
@torch.no_grad()
def test_selected_rows_continue_their_own_texts(base: Path, reading: str):
    model = disturbed(built(base, reading=reading))
    source, mask, target_input = texts(base, 7, 7, 5, 7)
    latent = model.encode(source, mask).latent
    expected, state = decoded(model, latent, target_input), model.start(latent)
    for position in range(3):
        _, state = model.step(target_input[:, position], position, state)
    rows = torch.tensor([3, 0, 1])
    found, state = model.step(target_input[rows, 3], 3, [part.select(rows) for part in state])
    torch.testing.assert_close(found, expected[rows, 3], **CLOSE)
    found, _ = model.step(target_input[rows[1:], 4], 4, [part.select(torch.tensor([1, 2])) for part in state])
    torch.testing.assert_close(found, expected[rows[1:], 4], **CLOSE)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_texts_have_no_special_token_with_any_decoding(bases: dict[str, Path], name: str):
    for family in ("bart", "t5"):
        model = built(bases[family], name)
        source, mask, _ = texts(bases[family], 6, 3)
        latent = model.encode(source, mask).latent
        greedy = generate(model, latent, 2, START, END, 12, min_tokens=3)
        assert greedy == beam_search(model, latent, 2, START, END, 12, beams=1, min_tokens=3)
        beams = beam_search(model, latent, 2, START, END, 8, beams=3)
        assert not {token for text in greedy + beams for token in text} & {0, 1, 3}
        assert all(3 <= len(text) <= 12 for text in greedy)


@pytest.mark.parametrize("reading", READINGS)
@torch.no_grad()
def test_weights_over_the_latent_sum_to_one_in_every_layer(base: Path, reading: str):
    model = disturbed(built(base, reading=reading))
    source, mask, target_input = texts(base, 6, 4)
    encoding = model.encode(source, mask)
    weights = model.attention_weights(target_input, encoding.latent)
    assert weights.shape == (2, LAYERS, 4, 6, 7)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, LAYERS, 4, 6))
    assert (weights[1, ..., 5:] == 0).all()
    assert (weights[..., 0] > 0).any() == (reading in ("integral", "draws-3"))  # the prior's component


@pytest.mark.parametrize("train", ["lora", "all", "bottleneck"])
@pytest.mark.parametrize("family", FAMILIES)
def test_stored_weights_are_the_trained_ones_and_restore_the_model(bases: dict[str, Path], family: str, train: str):
    folder = bases[family]
    model = built(folder, labels=2, train=train)
    source, mask, target_input = texts(folder, 6, 4)
    source[:, 0] = target_input[:, 1] = sizes(folder).rows + torch.tensor([0, 1])  # labels
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimizer = torch.optim.Adam(trained.values(), lr=3e-3)
    losses = []
    for _ in range(4):
        encoding, loss = model.train()(source, mask, target_input)
        (loss.mean + model.penalty(encoding, 1.0)).backward()
        if train != "all":
            assert {name for name, value in model.named_parameters() if value.grad is not None} <= trained.keys()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.mean.item())
    assert losses[-1] < losses[0]
    stored = {name: value.clone() for name, value in model.state_dict().items()}
    assert stored.keys() == trained.keys() | {"centre", "spread", "bottleneck.log_prior_share"}
    assert any(name.startswith("backbone") for name in stored) == (train != "bottleneck")
    other = built(folder, labels=2, train=train)
    other.load_state_dict(stored)
    with torch.no_grad():
        made = [decoded(m.eval(), m.encode(source, mask).latent, target_input) for m in (model, other)]
    assert torch.equal(*made)
    stored.popitem()
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(stored)


@torch.no_grad()
def test_adapters_of_the_values_act_in_the_integral_too(base: Path):
    """With variances of nearly zero, the integral over the mixture equals attention to its means."""
    model = disturbed(built(base, reading="no-prior"), 0.2)
    model.bottleneck.logvar.weight.zero_()
    model.bottleneck.logvar.bias.fill_(-50.0)
    source, mask, target_input = texts(base, 6, 4)
    latent = model.encode(source, mask).latent
    means = DiscreteMixture(latent.mu, latent.log_pi, latent.key_padding_mask)
    torch.testing.assert_close(decoded(model, latent, target_input), decoded(model, means, target_input), **CLOSE)


def test_words_of_the_decoders_input_are_hidden_and_layers_recomputed_in_training(base: Path):
    source, mask, target_input = texts(base, 6, 4)
    losses, gradients = [], []
    for recompute in (False, True):
        model = built(base, word_dropout=0.5).train()
        model.recompute = recompute
        torch.manual_seed(3)
        loss = model(source, mask, target_input)[1].mean
        loss.backward()
        losses.append(loss.item())
        gradients.append(model.bottleneck.mu.weight.grad)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
    model = built(base).train()
    torch.manual_seed(3)
    assert model(source, mask, target_input)[1].mean.item() != pytest.approx(losses[0], rel=1e-3)


def test_a_model_of_an_unknown_type_is_refused_in_one_line(base: Path, tmp_path: Path):
    config = json.loads((base / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "from-tomorrow"}))
    with pytest.raises(UnsupportedError, match="does not know its model type from-tomorrow; install a newer version"):
        sizes(tmp_path)


def test_families_without_cross_attention_that_can_be_converted_are_refused(tmp_path: Path):
    transformers: Any = pytest.importorskip("transformers")
    save_seq2seq(tmp_path)
    stacks = {f"num_{stack}_{what}": 2 for stack in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    config = transformers.ProphetNetConfig(
        vocab_size=406, hidden_size=32, encoder_ffn_dim=48, decoder_ffn_dim=48, **stacks
    )
    transformers.ProphetNetForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedError, match="ProphetNetForConditionalGeneration does not support") as refused:
        built(tmp_path, dim_h=32, num_heads=2, num_layers=2)
    assert "\n" not in str(refused.value)


def test_outputs_that_differ_from_the_bases_own_are_refused(base: Path, monkeypatch: pytest.MonkeyPatch):
    """A family with another computation, such as capped logits, is found by comparison with the base itself."""
    from transformers import BartForConditionalGeneration

    forward = BartForConditionalGeneration.forward

    def capped(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        output.logits = output.logits.tanh()
        return output

    monkeypatch.setattr(BartForConditionalGeneration, "forward", capped)
    with pytest.raises(UnsupportedError, match="bart computes its outputs in another way"):
        built(base)


@torch.no_grad()
def test_means_and_variances_are_read_at_the_width_of_the_encoders_vectors(base: Path):
    standard = built(base)
    standard.start_at(*texts(base, 12, 7, 9)[:2])
    plain = built(base)
    plain.centre.zero_()
    plain.spread.fill_(1.0)
    target_input = texts(base, 6, 4)[2]
    mu, logvar = torch.randn(2, 5, 32), torch.randn(2, 5, 32)
    log_pi, mask = torch.randn(2, 5).log_softmax(dim=-1), torch.zeros(2, 5, dtype=torch.bool)
    wide = mu * standard.spread + standard.centre, logvar + 2.0 * standard.spread.log()
    found = logits(standard, GaussianMixture(mu, logvar, log_pi, mask), target_input)
    expected = logits(plain, GaussianMixture(*wide, log_pi, mask), target_input)
    torch.testing.assert_close(found, expected, **CLOSE)
    assert (found - logits(plain, GaussianMixture(mu, logvar, log_pi, mask), target_input)).abs().max() > 1e-2
    found = logits(standard, DiscreteMixture(mu, log_pi, mask), target_input)
    torch.testing.assert_close(found, logits(plain, DiscreteMixture(wide[0], log_pi, mask), target_input), **CLOSE)


@torch.no_grad()
def test_the_prior_is_read_as_the_encoders_vectors_are(base: Path):
    model = built(base)
    source, mask, target_input = texts(base, *([12] * 8))
    model.start_at(source, mask)
    drawn = model.sample_prior(torch.full((8,), 12), torch.Generator().manual_seed(1))
    read = model._keys(drawn).vectors[~drawn.key_padding_mask]
    own = model._encoded(source, mask).flatten(0, 1)
    assert read.square().sum(dim=-1).mean().item() == pytest.approx(own.square().sum(dim=-1).mean().item(), rel=0.1)
    mixed = model.interpolate(drawn, model.sample_prior(torch.full((8,), 5)), 0.5)
    assert logits(model, mixed, target_input).isfinite().all()
    assert math.isfinite(model(source, mask, target_input)[1].mean.item())
