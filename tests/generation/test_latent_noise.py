"""Noise of latents, mixtures of latents, and numbers of vectors, for models with random weights."""

import math
from typing import Any

import pytest
import torch

import nvib
from models.text_model import Noise, UnsupportedError
from tests.generation.untrained import AUTOENCODERS, START, VARIATIONAL, model, texts


@pytest.mark.parametrize("name", VARIATIONAL)
def test_a_latent_s_temperature_scales_its_standard_deviation(name: str):
    """At temperature 0 the draw is the latent that reconstruction decodes, bit for bit."""
    trained = model(name)
    torch.nn.init.constant_(trained.bottleneck.logvar.bias, -1.0)
    one = trained.encode(*texts(4))
    assert trained.sample_posterior(one, noise=Noise(0.0)) is one.latent or torch.equal(
        trained.sample_posterior(one, noise=Noise(0.0)).vectors, one.latent.vectors
    )
    source, mask = (value.expand(4000, -1) for value in texts(4))
    encoding = trained.encode(source, mask)
    for temperature in (0.3, 1.0, 2.0):
        drawn = trained.sample_posterior(encoding, torch.Generator().manual_seed(1), Noise(temperature))
        z = getattr(drawn, "vectors", getattr(drawn, "z", getattr(drawn, "mu", None)))[:, -1]
        own = encoding.gaussians
        torch.testing.assert_close(z.mean(0), own.mu[0, -1], atol=0.05 * temperature, rtol=0)
        torch.testing.assert_close(z.std(0), temperature * (0.5 * own.logvar[0, -1]).exp(), rtol=0.05, atol=0)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_temperature_of_the_prior_is_that_of_its_vectors_and_weights(temperature: float):
    lengths, noise = torch.full((8000,), 3), Noise(temperature)
    gaussian = model("VTV", prior_mu=0.5, prior_var=4.0).sample_prior(lengths, torch.Generator().manual_seed(1), noise)
    assert gaussian.vectors.mean().item() == pytest.approx(0.5, abs=0.05)
    assert gaussian.vectors.std().item() == pytest.approx(2.0 * temperature, rel=0.02)
    nvae = model("NVIB", prior_mu=0.5, prior_var=4.0, prior_alpha=2.0, delta=0.5)
    drawn = nvae.sample_prior(lengths, torch.Generator().manual_seed(1), noise)
    assert drawn.z.std().item() == pytest.approx(2.0 * temperature, rel=0.02)
    total = (2.0 + 0.5 * 3) / temperature**2
    expected = math.sqrt(0.25 * 0.75 / (total + 1))  # a Dirichlet's, of four equal shares
    assert drawn.log_pi.exp().std(dim=0).mean().item() == pytest.approx(expected, rel=0.03)


def test_a_latent_s_temperature_scales_the_noise_of_weights_and_leaves_their_mean():
    trained = model("NVIB")
    source, mask = (value.expand(8000, -1) for value in texts(4))
    encoding = trained.encode(source, mask)
    alpha = encoding.posterior.alpha[0]
    share, total = alpha / alpha.sum(), alpha.sum()
    for temperature in (0.3, 1.0, 3.0):
        drawn = trained.sample_posterior(encoding, torch.Generator().manual_seed(1), Noise(temperature))
        pi = drawn.log_pi.exp()
        torch.testing.assert_close(pi.mean(0), share, atol=0.02, rtol=0)
        expected = (share * (1 - share) / (total / temperature**2 + 1)).sqrt()  # a Dirichlet's
        torch.testing.assert_close(pi.std(0), expected, rtol=0.06, atol=0)


@pytest.mark.parametrize("reading", ["plug-in", "draws-2"])
def test_readings_without_variances_read_what_a_low_temperature_draws(reading: str):
    """Not the variance that is left: a decoder trained on draws may read the wrong component with it."""
    trained, integrating = model("NVIB", reading=reading), model("NVIB", reading="no-prior")
    encoding, lengths = trained.encode(*texts(7, 4)), torch.tensor([7, 4])
    for draw in (
        lambda one: one.sample_posterior(encoding, torch.Generator().manual_seed(1), Noise(0.6)),
        lambda one: one.sample_prior(lengths, torch.Generator().manual_seed(1), Noise(0.6)),
    ):
        drawn, other = draw(trained), draw(integrating)
        assert isinstance(drawn, nvib.DiscreteMixture) and isinstance(other, nvib.GaussianMixture)
        assert torch.equal(drawn.z, other.mu) and torch.equal(drawn.log_pi, other.log_pi)


def test_variance_that_a_low_temperature_does_not_draw_stays_in_the_mixture():
    """The variance of the draws and the variance left in the mixture sum to that of the posterior."""
    trained = model("NVIB", reading="integral")
    encoding = trained.encode(*(value.expand(4000, -1) for value in texts(4)))
    drawn = trained.sample_posterior(encoding, torch.Generator().manual_seed(1), Noise(0.6))
    assert isinstance(drawn, nvib.GaussianMixture)
    whole = drawn.mu.var(dim=0) + drawn.logvar[0].exp()
    torch.testing.assert_close(whole, encoding.posterior.logvar[0].exp(), rtol=0.1, atol=0)
    prior = trained.sample_prior(torch.full((4000,), 3), torch.Generator().manual_seed(1), Noise(0.6))
    torch.testing.assert_close(prior.mu.var(dim=0) + prior.logvar[0].exp(), torch.ones(4, 16), rtol=0.1, atol=0)
    for temperature, near_it in ((1e-5, 0.0), (1 - 1e-7, 1.0)):  # both ends are reached without a jump
        latents = [
            trained.sample_posterior(encoding, torch.Generator().manual_seed(1), Noise(t))
            for t in (temperature, near_it)
        ]
        vectors = [trained.decode(torch.full((4000, 1), START), latent) for latent in latents]
        torch.testing.assert_close(*vectors, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", VARIATIONAL)
@pytest.mark.parametrize("temperature", [0.0, 1e-7, 1e-3, 0.5, 100.0])
def test_every_temperature_gives_latents_that_decode(name: str, temperature: float):
    trained = model(name, **({"alpha_activation": "relu"} if name == "NVIB" else {}))
    noise, encoding = Noise(temperature), trained.encode(*texts(7, 4))
    for latent in (
        trained.sample_posterior(encoding, noise=noise),
        trained.sample_prior(torch.tensor([7, 4]), None, noise),
    ):
        assert trained.decode(torch.full((2, 1), START), latent).isfinite().all()


def test_kappa_draws_so_many_vectors_for_each_component():
    trained = model("NVIB")
    assert trained.sample_posterior(trained.encode(*texts(7, 4)), noise=Noise(kappa=3)).z.shape == (2, 24, 16)
    assert trained.sample_posterior(trained.encode(*texts(7)), noise=Noise(0.5, kappa=3)).z.shape == (1, 24, 16)
    assert trained.sample_prior(torch.tensor([7]), noise=Noise(kappa=2)).z.shape == (1, 16, 16)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_a_mixture_of_two_is_their_interpolation_and_of_more_goes_by_weights(name: str):
    trained = model(name)
    a, b, c = (trained.encode(*texts(*lengths)).latent for lengths in ((7, 4), (3, 9), (5, 5)))

    def vectors(latent: Any) -> torch.Tensor:
        return trained.decode(torch.full((2, 1), START), latent)

    for tau in (0.0, 0.1, 1 / 3, 0.5, 0.77, 1.0):
        assert torch.equal(vectors(trained.mix([a, b], [1 - tau, tau])), vectors(trained.interpolate(a, b, tau)))
    assert trained.mix([a, b, c], [0, 1, 0]) is b
    assert trained.mix([a], [0.2]) is a
    torch.testing.assert_close(
        vectors(trained.mix([a, b, c], [5, 3, 2])), vectors(trained.mix([c, b, a], [0.2, 0.3, 0.5]))
    )
    assert not torch.allclose(vectors(trained.mix([a, b, c], [5, 3, 2])), vectors(trained.mix([a, b, c], [5, 2, 3])))


def test_a_mixture_s_components_have_the_sentences_shares():
    trained = model("NVIB")
    latents = [trained.encode(*texts(length)).latent for length in (7, 3, 5)]
    pi = trained.mix(latents, [0.5, 0.3, 0.2]).log_pi.exp()[0]
    shares = [part.sum().item() for part in pi.split([latent.log_pi.shape[1] for latent in latents])]
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "vectors"),
    [("NVIB", {}, 5), ("NVIB", {"kappa": 3}, 12), ("VTV", {}, 5), ("VTP", {}, 1), ("VTS", {"stride_perc": 0.7}, 5)],
)
def test_a_latent_has_as_many_vectors_as_are_asked_for(name: str, settings: dict, vectors: int):
    trained = model(name, **settings)
    drawn = trained.sample_prior(torch.tensor([trained.lengths_with(vectors).start] * 3))
    assert (~drawn.key_padding_mask).sum(dim=-1).tolist() == [vectors] * 3


@pytest.mark.parametrize(
    ("name", "ask", "message"),
    [
        ("NVIB", lambda m: m.lengths_with(1), "must be a multiple of 1 and at least 2, got 1"),
        ("NVIB", lambda m: m.lengths_with(7, Noise(kappa=2)), "must be a multiple of 2 and at least 4, got 7"),
        ("VTP", lambda m: m.lengths_with(2), "VTP keeps 2 vectors of no text"),
        ("T", lambda m: m.lengths_with(2), "T draws no vectors"),
        ("LM", lambda m: m.lengths_with(2), "LM draws no vectors"),
        ("T", lambda m: m.sample_posterior(m.encode(*texts(3))), "T has no posterior to sample from"),
        ("VTV", lambda m: m.sample_posterior(m.encode(*texts(3)), noise=Noise(kappa=2)), "kappa means nothing to it"),
        ("VTV", lambda m: m.sample_prior(torch.tensor([3]), noise=Noise(kappa=2)), "kappa means nothing to it"),
        ("LM", lambda m: m.sample_prior(torch.tensor([3]), noise=Noise(0.5)), "LM has no latent"),
        ("LM", lambda m: m.mix([None, None], [0.5, 0.5]), "LM cannot interpolate"),
    ],
)
def test_an_unsupported_request_is_refused_with_the_model_s_name(name: str, ask: Any, message: str):
    with pytest.raises(UnsupportedError, match=message):
        ask(model(name))


@pytest.mark.parametrize("values", [(-0.1,), (math.inf,), (math.nan,), (1.0, 0)])
def test_noise_out_of_range_is_refused(values: tuple):
    with pytest.raises(ValueError, match="must be"):
        Noise(*values)
