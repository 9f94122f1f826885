"""Attention over samples of a posterior against Gaussian attention over the posterior itself."""

import math

import pytest
import torch

import nvib
from tests.nvib.attention_cases import DIM, QUERIES, attention, gaussian


def test_equal_draws_from_the_mean_measure_converge_to_evaluation_attention():
    module, mixture = attention(2), gaussian(spread=0.5)
    query = torch.randn(1, QUERIES, DIM).double()
    expected, _ = module(query, mixture)

    def error(draws: int) -> float:
        component = torch.multinomial(mixture.log_pi.exp().repeat(8, 1), draws, replacement=True)  # 8 repetitions
        mu, std = mixture.mu[0, component], (0.5 * mixture.logvar[0, component]).exp()
        z = mu + std * torch.randn_like(mu)
        points = nvib.DiscreteMixture(z, torch.zeros(8, draws).double(), torch.zeros(8, draws, dtype=torch.bool))
        return (module(query.repeat(8, 1, 1), points)[0] - expected).square().mean().sqrt().item()

    few, many = error(400), error(40_000)
    assert 4 < few / many < 25  # 1/√draws: a factor of ten
    assert many < 0.02


@pytest.mark.slow
def test_sampled_vectors_converge_to_gaussian_attention_with_the_sampled_shares():
    """The error falls as 1/√draws. Each share is one sample's, divided evenly among the component's draws."""
    few, many = (_distance(kappa, pseudo_count=3.0, evenly=True) for kappa in (100, 10_000))
    assert math.log(many / few, 100) == pytest.approx(-0.5, abs=0.08)
    assert many < 0.02


@pytest.mark.slow
def test_sampled_weights_and_vectors_converge_to_gaussian_attention_with_the_sampled_shares():
    """The error falls as 1/√draws if the pseudo-counts grow with the number of draws.

    With fixed pseudo-counts a component's draws approach a Dirichlet process with a few heavy atoms: see the next test.
    """
    few, many = (_distance(kappa, pseudo_count=float(kappa)) for kappa in (100, 10_000))
    assert math.log(many / few, 100) == pytest.approx(-0.5, abs=0.08)
    assert many < 0.02


def test_fixed_pseudo_counts_keep_a_sample_discrete_for_any_number_of_draws():
    few, many = (_distance(kappa, pseudo_count=3.0) for kappa in (100, 10_000))
    assert many > 0.5 * few > 0.02


def _distance(kappa: int, pseudo_count: float, evenly: bool = False) -> float:
    """Root mean square difference of attention over a posterior sample and over Gaussians with the sample's shares.

    Args:
        kappa: draws of each component.
        pseudo_count: factor of all pseudo-counts.
        evenly: divide each component's share evenly among its draws, instead of by the sample's weights.

    Returns:
        The root mean square over 64 samples.
    """
    torch.manual_seed(0)
    n, module, samples = 3, attention(2), 64
    fields = torch.randn(1, n, DIM).double(), 0.5 * torch.randn(1, n, DIM).double(), 0.3 * torch.randn(1, n).double()
    query = torch.randn(1, 10, DIM).double().expand(samples, -1, -1)
    mu, logvar, log_alpha = (value.repeat(samples, *[1] * (value.dim() - 1)) for value in fields)
    mask = torch.zeros(samples, n, dtype=torch.bool)
    with torch.no_grad():
        drawn = nvib.Posterior(mu, logvar, log_alpha + math.log(pseudo_count), mask).sample(kappa)
        shares = drawn.log_pi.view(samples, n, kappa).logsumexp(-1)
        if evenly:
            even = (shares - math.log(kappa)).repeat_interleave(kappa, dim=1)
            drawn = nvib.DiscreteMixture(drawn.z, even, drawn.key_padding_mask)
        expected, _ = module(query, nvib.GaussianMixture(mu, logvar, shares, mask))
        return (module(query, drawn)[0] - expected).square().mean().sqrt().item()
