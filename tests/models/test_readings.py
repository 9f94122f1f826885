"""The mean over posterior samples in probability: an independent computation, generation, and what it leaves alone."""

import math
import zlib
from array import array
from itertools import product

import pytest
import torch

from models import MODELS, build
from models.decoding import Decoding, generate
from models.latent import Draws
from models.packing import Packing
from models.readings import MEASURES, canonical, draws_of
from models.text_model import TextModel
from nvib import DiscreteMixture, Posterior
from tests.models.tiny_models import END, START, VOCABULARY, model, sentences


def noisy(**settings) -> TextModel:
    """A model in evaluation mode with wide Gaussians and unequal pseudo-counts, so that draws differ clearly."""
    torch.manual_seed(2)
    built = model("NVIB", **settings).eval()
    torch.nn.init.constant_(built.bottleneck.logvar.bias, 0.0)
    torch.nn.init.normal_(built.bottleneck.alpha.weight, std=1.0)
    torch.nn.init.normal_(built.output.weight, std=1.0)
    return built


def drawn_alone(trained: TextModel, source: torch.Tensor, mask: torch.Tensor, row: int, count: int) -> DiscreteMixture:
    """Draws of one text without its batch, from the generator that its tokens seed: `count` mixtures."""
    ids = source[row][~mask[row]]
    own = trained.encode(ids.unsqueeze(0), torch.zeros(1, len(ids), dtype=torch.bool)).posterior
    log_alpha = own.log_alpha.clone()
    below = log_alpha[:, 1:].exp() < trained.settings.alpha_threshold
    log_alpha[:, 1:][below] = -math.inf
    parts = own.mu, own.logvar, log_alpha, torch.zeros_like(log_alpha, dtype=torch.bool)
    generator = torch.Generator().manual_seed(zlib.crc32(array("q", ids.tolist()).tobytes()))
    return Posterior(*(part.repeat_interleave(count, dim=0) for part in parts)).sample(
        trained.settings.kappa, generator
    )


def probabilities(trained: TextModel, target_input: torch.Tensor, latent: DiscreteMixture) -> torch.Tensor:
    """Next-token distributions at every position, by a plain softmax over whole logits: [B, T, V]."""
    return trained.output(trained.decode(target_input, latent)).softmax(dim=-1)


@pytest.mark.parametrize("kappa", [1, 3])
def test_the_loss_is_that_of_the_mean_over_draws_in_probability(kappa: int):
    trained = noisy(reading="draws-4", kappa=kappa, alpha_threshold=1.0)
    source, mask, target_input = sentences(9, 5, 1)
    encoding, loss = trained(source, mask, target_input)
    assert (encoding.vectors - encoding.vectors_kept).sum() > 0  # some components are dropped
    expected = []
    for row in range(3):
        length = int((~mask[row]).sum())
        draws = drawn_alone(trained, source, mask, row, 4)
        each = [
            probabilities(trained, target_input[row : row + 1, :length], draws.select(torch.tensor([k])))[0]
            for k in range(4)
        ]
        mean = sum(each) / 4
        expected.append(-mean.log().gather(1, source[row, :length].unsqueeze(1)).squeeze(1))
    torch.testing.assert_close(loss.each, torch.cat(expected), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss.mean, torch.cat(expected).mean(), rtol=1e-4, atol=1e-4)
    # A mean of losses, which is the bound of Jensen's inequality, is larger.
    packing = Packing.of(mask)
    single = [trained.score(target_input, own, source, packing).mean for own in encoding.latent.latents]
    assert sum(single) / 4 > loss.mean + 0.01


def test_one_draw_is_a_sample_of_the_posterior():
    trained = noisy(reading="draws-1", alpha_threshold=0.0)
    source, mask, target_input = sentences(6)
    encoding, loss = trained(source, mask, target_input)
    seed = zlib.crc32(array("q", source[0].tolist()).tobytes())
    expected = trained.sample_posterior(encoding, torch.Generator().manual_seed(seed))
    [drawn] = encoding.latent.latents
    assert torch.equal(drawn.z, expected.z)
    assert torch.equal(drawn.log_pi, expected.log_pi)
    assert torch.equal(loss.each, trained.score(target_input, expected, source, Packing.of(mask)).each)


def test_the_draws_of_a_text_depend_on_the_text_alone_and_leave_the_global_generator_alone():
    trained = noisy(reading="draws-3")
    source, mask, _ = sentences(9, 4, 4)
    source[2] = source[1]
    state = torch.get_rng_state()
    latent = trained.encode(source, mask).latent
    assert torch.equal(torch.get_rng_state(), state)
    alone = trained.encode(source[1:2, :4], mask[1:2, :4]).latent
    for own, of_batch in zip(alone.latents, latent.latents, strict=True):
        torch.testing.assert_close(of_batch.z[1:2, :5], own.z, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(of_batch.z[2], of_batch.z[1])
    first, second, _ = latent.latents
    assert (first.z[0] - second.z[0]).abs().max() > 0.1
    other_words = source.clone()
    other_words[1, 0] = 5 + (source[1, 0] - 4) % (VOCABULARY - 5)
    # The noise differs, not only the means: component 0, the prior's, is drawn anew.
    assert (trained.encode(other_words, mask).latent.latents[0].z[1, 0] - first.z[1, 0]).abs().max() > 0.1


def test_generation_takes_the_largest_mean_probability():
    trained = noisy(reading="draws-4")
    source, mask, _ = sentences(8, 5)
    latent = trained.encode(source, mask).latent
    texts = generate(trained, latent, 2, START, END, 6)
    singles = [generate(trained, own, 2, START, END, 6) for own in latent.latents]
    assert any(single != texts for single in singles)
    for row, text in enumerate(texts):
        ids = [*text, END] if len(text) < 6 else text
        before = torch.tensor([[START, *ids[:-1]]])
        one = latent.select(torch.tensor([row]))
        mean = torch.stack([probabilities(trained, before, own)[0] for own in one.latents]).mean(dim=0)
        assert mean.argmax(dim=-1).tolist() == ids


def test_a_beam_as_wide_as_the_vocabulary_finds_the_text_of_the_largest_mean_probability():
    torch.manual_seed(0)
    settings = MODELS["NVIB"](vocabulary_size=6, dim_h=8, reading="draws-3")
    trained = build(settings).eval()
    torch.nn.init.normal_(trained.embedding.weight, std=0.5)
    torch.nn.init.normal_(trained.output.weight, std=0.5)
    torch.nn.init.constant_(trained.bottleneck.logvar.bias, 0.0)
    source = torch.tensor([[4, 5, END]])
    latent = trained.encode(source, torch.zeros_like(source, dtype=torch.bool)).latent
    [found] = Decoding("beam", beams=6, length_penalty=0.0)(trained, latent, 1, START, END, 2)

    def log_p(ids: tuple[int, ...]) -> float:
        target = torch.tensor([ids])
        before = torch.cat([torch.tensor([[START]]), target[:, :-1]], dim=1)
        packing = Packing.of(torch.zeros_like(target, dtype=torch.bool))
        return -trained.score(before, latent, target, packing).each.sum().item()

    words = [token for token in range(6) if token != END]
    possible = [(END,), *((word, END) for word in words), *product(words, words)]
    best = max(possible, key=log_p)
    assert found == [token for token in best if token != END]


def test_the_integral_is_the_limit_of_ever_more_vectors_a_component():
    """With pseudo-counts that grow with kappa, one draw holds what the integral computes."""
    losses = {}
    for reading, kappa in (("integral", 1), ("draws-1", 1), ("draws-1", 1000)):
        trained = noisy(reading=reading, kappa=kappa)
        torch.nn.init.zeros_(trained.bottleneck.alpha.weight)
        torch.nn.init.constant_(trained.bottleneck.alpha.bias, 14.0)
        torch.nn.init.constant_(trained.bottleneck.logvar.bias, -1.0)
        torch.manual_seed(5)
        losses[reading, kappa] = trained(*sentences(5, 3))[1].each
    distance = {key: (each - losses["integral", 1]).abs().mean().item() for key, each in losses.items()}
    assert distance["draws-1", 1000] < 0.1
    assert distance["draws-1", 1] > 5 * distance["draws-1", 1000]


@pytest.mark.slow
def test_the_mean_converges_with_the_number_of_draws():
    source, mask, target_input = sentences(6, 3)
    trained = noisy(reading="draws-400")
    many = trained.encode(source, mask).latent.latents
    packing = Packing.of(mask)
    parts = {size: [Draws(many[n : n + size]) for n in (0, 200)] for size in (2, 200)}
    found = {
        size: [(-trained.score(target_input, part, source, packing).each).exp() for part in two]
        for size, two in parts.items()
    }
    apart = {size: (first - second).abs().mean() for size, (first, second) in found.items()}
    assert apart[200] < 0.25 * apart[2]


def test_draws_hold_the_vectors_above_the_threshold():
    trained = noisy(reading="draws-2", alpha_threshold=2.0, kappa=2)
    source, mask, _ = sentences(9, 5)
    encoding = trained.encode(source, mask)
    visible = ~encoding.latent.key_padding_mask
    assert visible.sum(dim=-1).tolist() == (2 * encoding.vectors_kept).tolist()
    assert visible[:, :2].all()
    for own in encoding.latent.latents:
        assert torch.equal(own.log_pi > -math.inf, visible)
    assert trained.train().encode(source, mask).latent.z.shape == own.z.shape  # a sample, not draws


def test_draws_are_selected_mixed_and_hidden_one_by_one():
    trained = noisy(reading="draws-2", alpha_threshold=0.0)
    source, mask, target_input = sentences(9, 5, 3)
    latent = trained.encode(source, mask).latent
    assert len(latent) == 3
    rows = latent.select(torch.tensor([False, True, True]))
    assert len(rows) == 2
    assert all(torch.equal(own.z, whole.z[1:]) for own, whole in zip(rows.latents, latent.latents, strict=True))
    other = latent.select(torch.tensor([1, 2, 0]))
    between = trained.interpolate(latent, other, 0.3)
    for own, a, b in zip(between.latents, latent.latents, other.latents, strict=True):
        assert torch.equal(own.z, torch.cat([a.z, b.z], dim=1))
        torch.testing.assert_close(own.log_pi.exp().sum(dim=-1), torch.ones(3))
    assert trained.interpolate(latent, other, 0.0).latents == latent.latents
    kept = trained.keep_some(latent, 0.5, torch.Generator().manual_seed(0))
    assert (~kept.key_padding_mask[:, 1:]).sum(dim=-1).tolist() == [4, 2, 2]
    assert all(torch.equal(own.log_pi == -math.inf, kept.key_padding_mask) for own in kept.latents)
    with pytest.raises(TypeError, match="must be mixtures of one type, got Draws and DiscreteMixture"):
        trained.interpolate(latent, latent.latents[0], 0.5)
    weights = trained.attention_weights(target_input, latent)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
    each = [trained.attention_weights(target_input, own) for own in latent.latents]
    torch.testing.assert_close(weights, (each[0] + each[1]) / 2)


def test_a_reading_has_one_name():
    assert [canonical(name) for name in MEASURES] == list(MEASURES)
    assert [canonical(name) for name in ("draws", "draws 3", "draws-3", "draws-1000")] == [
        "draws-8",
        "draws-3",
        "draws-3",
        "draws-1000",
    ]
    bad = ("", "draw", "draws-0", "draws-1001", "draws--1", "draws-08", "draws 3 4", "draws-3 ", "Integral", 8, None)
    assert not any(canonical(name) for name in bad)
    assert [draws_of(name) for name in (*MEASURES, "draws-8")] == [0, 0, 0, 8]
    assert MODELS["NVIB"](vocabulary_size=9, reading="draws 4").reading == "draws-4"
    with pytest.raises(ValueError, match="reading must be integral, no-prior, plug-in or draws-K with K from 1 to"):
        MODELS["NVIB"](vocabulary_size=9, reading="draws-0")
