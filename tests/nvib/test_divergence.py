"""The two divergences against torch.distributions, an integral and arbitrary precision."""

import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Dirichlet, Normal, kl_divergence

import nvib


def posterior(alpha: Tensor, dim: int = 3, padding: int = 0) -> nvib.Posterior:
    batch, count = alpha.shape
    mask = torch.zeros(batch, count, dtype=torch.bool)
    if padding:
        mask[:, -padding:] = True
    mu, logvar = torch.randn(batch, count, dim).double(), torch.randn(batch, count, dim).double()
    return nvib.Posterior(mu, logvar, alpha.double().log(), mask)


@pytest.mark.parametrize("kappa", [1, 4])
def test_kl_gaussian_is_the_weighted_mean_of_normal_divergences(kappa: int):
    prior = nvib.Prior(mu=0.3, var=2.0)
    dp = posterior(torch.rand(4, 5) * 3 + 0.1, padding=1)
    each = kl_divergence(Normal(dp.mu, (0.5 * dp.logvar).exp()), Normal(0.3, math.sqrt(2.0))).mean(-1)
    share = dp.alpha / dp.alpha0.unsqueeze(-1)
    torch.testing.assert_close(nvib.kl_gaussian(dp, prior, kappa), kappa * (share * each).nan_to_num().sum(-1))


@pytest.mark.parametrize("kappa", [1, 3])
def test_kl_dirichlet_is_the_divergence_of_symmetric_dirichlets(kappa: int):
    """L_D is the KL of two symmetric Dirichlets if the pseudo-counts spread evenly over the draws."""
    prior = nvib.Prior(alpha=1.0, delta=0.4)
    dp = posterior(torch.rand(4, 6) * 2 + 0.05)
    n, draws = 5, kappa * 6
    q = Dirichlet((dp.alpha0 / draws).unsqueeze(-1).expand(4, draws))
    p = Dirichlet(torch.full((4, draws), (1.0 + 0.4 * n) / draws).double())
    expected = kl_divergence(q, p) / (n + 1)
    torch.testing.assert_close(nvib.kl_dirichlet(dp, prior, kappa).double(), expected, rtol=1e-5, atol=1e-6)


def test_kl_dirichlet_agrees_with_a_numerical_integral():
    """With two components the Dirichlet is a Beta, and its divergence is one integral."""
    prior, dp = nvib.Prior(alpha=1.0, delta=1.5), posterior(torch.tensor([[0.4, 3.0]]))
    a, b = 3.4 / 2, (1.0 + 1.5) / 2
    x = (torch.arange(2_000_000).double() + 0.5) / 2_000_000
    log_q, log_p = (torch.distributions.Beta(c, c).log_prob(x) for c in (torch.tensor(a).double(), torch.tensor(b)))
    expected = (log_q.exp() * (log_q - log_p)).mean() / 2
    torch.testing.assert_close(nvib.kl_dirichlet(dp, prior).double(), expected.unsqueeze(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kappa", [1, 5])
@pytest.mark.parametrize(("alpha", "delta"), [(1.0, 1.0), (0.2, 0.03), (1.0, 400.0)])
def test_both_divergences_are_zero_at_the_prior_and_positive_near_it(kappa: int, alpha: float, delta: float):
    prior = nvib.Prior(mu=0.5, var=3.0, alpha=alpha, delta=delta)
    mask = torch.zeros(2, 4, dtype=torch.bool)
    log_alpha = torch.tensor([alpha, delta, delta, delta]).log().expand(2, 4)
    mu, logvar = torch.full((2, 4, 3), 0.5), torch.full((2, 4, 3), math.log(3.0))
    same = nvib.Posterior(mu, logvar, log_alpha, mask)
    other = nvib.Posterior(mu + 0.1, logvar + 0.1, log_alpha + 0.5, mask)
    for kl in (nvib.kl_gaussian, nvib.kl_dirichlet):
        torch.testing.assert_close(kl(same, prior, kappa), torch.zeros(2), atol=1e-6, rtol=0)
        assert (kl(other, prior, kappa) > 1e-4).all()


def test_kl_gaussian_takes_a_prior_for_each_dimension():
    mu, var = torch.randn(3).double(), torch.rand(3).double() + 0.5
    dp = posterior(torch.rand(4, 5) + 0.1)
    each = kl_divergence(Normal(dp.mu, (0.5 * dp.logvar).exp()), Normal(mu, var.sqrt())).mean(-1)
    expected = (dp.alpha / dp.alpha0.unsqueeze(-1) * each).sum(-1)
    torch.testing.assert_close(nvib.kl_gaussian(dp, nvib.Prior(mu=mu, var=var)), expected)


@settings(deadline=None, max_examples=200)
@given(
    batch=st.integers(1, 3),
    tokens=st.integers(1, 40),
    padding=st.integers(0, 3),
    dim=st.integers(1, 5),
    log10_alphas=st.tuples(st.floats(-6, 6), st.floats(-6, 6)),
    delta=st.floats(0, 5),
    kappa=st.integers(1, 5),
    double=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_neither_divergence_is_negative(batch, tokens, padding, dim, log10_alphas, delta, kappa, double, seed):
    generator = torch.Generator().manual_seed(seed)
    count = 1 + tokens + padding
    low, high = log10_alphas
    log_alpha = math.log(10) * (low + (high - low) * torch.rand(batch, count, generator=generator))
    mu, logvar = (scale * torch.randn(batch, count, dim, generator=generator) for scale in (1, 5))
    mask = (torch.arange(count) > tokens).expand(batch, count)
    fields = (value.double() if double else value for value in (mu, logvar, log_alpha))
    dp = nvib.Posterior(*fields, mask)
    for kl in (nvib.kl_gaussian, nvib.kl_dirichlet):
        value = kl(dp, nvib.Prior(delta=delta), kappa)
        assert value.shape == (batch,)
        assert value.isfinite().all()
        assert (value >= 0).all()


@settings(deadline=None, max_examples=60)
@given(
    tokens=st.integers(1, 40),
    log_alpha0=st.one_of(st.floats(-13, 14), st.floats(9, 12), st.floats(14, 800)),
    delta=st.floats(0, 5),
    kappa=st.integers(1, 5),
)
def test_kl_dirichlet_and_its_gradient_are_exact_for_any_pseudo_counts(tokens, log_alpha0, delta, kappa):
    """lnΓ is huge where the divergence is not: the reference computes with as many digits as needed."""
    count = tokens + 1
    log_alpha = torch.full((1, count), log_alpha0 - math.log(count)).double().requires_grad_()
    vectors, mask = torch.zeros(1, count, 1), torch.zeros(1, count, dtype=torch.bool)
    value = nvib.kl_dirichlet(nvib.Posterior(vectors, vectors, log_alpha, mask), nvib.Prior(delta=delta), kappa)
    with mpmath.workdps(50 + max(0, int(log_alpha0))):
        q = mpmath.exp(log_alpha[0, 0].item()) * count
        p, draws = mpmath.mpf(1.0 + delta * tokens), kappa * count
        exact = (
            mpmath.loggamma(q)
            - mpmath.loggamma(p)
            + (q - p) * (mpmath.psi(0, q / draws) - mpmath.psi(0, q))
            + draws * (mpmath.loggamma(p / draws) - mpmath.loggamma(q / draws))
        ) / count
        slope = q * (q - p) * (mpmath.psi(1, q / draws) / draws - mpmath.psi(1, q)) / count  # by log alpha_0
    assert value.item() == pytest.approx(float(exact), rel=1e-6, abs=1e-6)
    assert torch.autograd.grad(value, log_alpha)[0].sum().item() == pytest.approx(float(slope), rel=1e-5, abs=1e-6)


def test_kl_dirichlet_keeps_small_differences_in_float32():
    """float32 would lose the difference of the two lnΓ, 1e-6 of either."""
    alpha = torch.full((1, 1001), 1.001)
    dp = nvib.Posterior(
        torch.zeros(1, 1001, 1), torch.zeros(1, 1001, 1), alpha.log(), torch.zeros(1, 1001, dtype=torch.bool)
    )
    q, p, draws = alpha.double().sum(), torch.tensor(1001.0).double(), 1001
    slope = torch.autograd.functional.hessian(
        lambda x: torch.lgamma(x) - draws * torch.lgamma(x / draws), p
    )  # the divergence is half of minus this times the squared difference, to second order
    expected = (-0.5 * slope * (q - p) ** 2 / 1001).float()
    torch.testing.assert_close(nvib.kl_dirichlet(dp, nvib.Prior()), expected.view(1), rtol=0.01, atol=0)


def test_padding_changes_neither_divergence():
    prior, dp = nvib.Prior(delta=0.5), posterior(torch.rand(2, 4) + 0.1)
    rubbish = torch.full((2, 1, 3), float("nan")).double()
    padded = nvib.Posterior(
        torch.cat([dp.mu, rubbish], 1),
        torch.cat([dp.logvar, rubbish], 1),
        torch.cat([dp.log_alpha, rubbish[..., 0]], 1),
        torch.cat([dp.key_padding_mask, torch.ones(2, 1, dtype=torch.bool)], 1),
    )
    for kl in (nvib.kl_gaussian, nvib.kl_dirichlet):
        torch.testing.assert_close(kl(padded, prior), kl(dp, prior))


@pytest.mark.parametrize("kl", [nvib.kl_gaussian, nvib.kl_dirichlet])
def test_a_kappa_below_one_is_refused(kl):
    with pytest.raises(ValueError, match="kappa must be an integer of at least 1, got 0"):
        kl(posterior(torch.ones(1, 2)), nvib.Prior(), 0)
