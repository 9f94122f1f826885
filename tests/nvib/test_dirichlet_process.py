"""Samples of priors and posteriors against their distributions."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

import nvib
from nvib.dirichlet_process import _sample_log_dirichlet


def posterior(log_alpha: Tensor, dim: int = 2) -> nvib.Posterior:
    batch, count = log_alpha.shape
    mu, logvar = torch.randn(batch, count, dim), torch.randn(batch, count, dim)
    return nvib.Posterior(mu, logvar, log_alpha, torch.zeros(batch, count, dtype=torch.bool))


@pytest.mark.parametrize("alpha", [[0.05, 0.3, 1.0], [2.0, 5.0, 0.5], [40.0, 3.0, 100.0]])
def test_weights_have_the_moments_and_beta_marginals_of_a_dirichlet(alpha: list[float]):
    draws, a = 20_000, torch.tensor(alpha).double()
    pi = posterior(a.log().repeat(draws, 1)).sample().log_pi.exp()
    mean = a / a.sum()
    variance = mean * (1 - mean) / (a.sum() + 1)
    torch.testing.assert_close(pi.mean(0), mean, atol=5 * (variance.max() / draws).sqrt().item(), rtol=0)
    torch.testing.assert_close(pi.var(0), variance, atol=0.0, rtol=0.1)
    for i, a_i in enumerate(alpha):
        assert stats.kstest(pi[:, i].numpy(), stats.beta(a_i, sum(alpha) - a_i).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("alpha", "other"), [(1e-4, 1e-4), (1e-4, 1.0), (1e-2, 3e-2)])
def test_log_weights_have_beta_marginals_where_the_weights_underflow(alpha: float, other: float):
    """Kolmogorov-Smirnov on the log weights: most of the weights are below the smallest float64."""
    a = torch.tensor([alpha, other]).double()
    log_pi = posterior(a.log().repeat(20_000, 1)).sample().log_pi[:, 0].numpy()

    def cdf(log_x: np.ndarray) -> np.ndarray:
        # x^alpha / (alpha B) below the smallest float64
        tail = np.exp(alpha * log_x - math.log(alpha) - special.betaln(alpha, other))
        return np.where(log_x < -700, tail, stats.beta(alpha, other).cdf(np.exp(log_x)))

    # Where the other weight underflows, this one is 1 to float64: the distribution has an atom at log 1 = 0.
    below = log_pi < -1e-15
    assert stats.kstest(log_pi[below], lambda x: cdf(x) / cdf(np.array(-1e-15))).pvalue > 1e-3
    assert abs(below.mean() - cdf(np.array(-1e-15))) < 5 * 0.5 / math.sqrt(20_000)


def test_float32_and_float64_draws_have_the_same_distribution():
    a = torch.tensor([0.02, 0.5, 3.0])
    low, high = (posterior(a.to(t).log().repeat(20_000, 1)).sample().log_pi for t in (torch.float32, torch.float64))
    for i in range(3):
        assert stats.ks_2samp(low[:, i].double().numpy(), high[:, i].numpy()).pvalue > 1e-3


def test_kappa_draws_have_the_distribution_of_a_dirichlet_in_two_stages():
    """One Dirichlet over components and draws equals a Dirichlet of shares, each split by a Dirichlet of its own."""
    kappa, draws, alpha = 3, 20_000, torch.tensor([0.5, 2.0, 4.0]).double()
    pi = posterior(alpha.log().repeat(draws, 1)).sample(kappa).log_pi.exp().view(draws, 3, kappa)
    shares = torch.distributions.Dirichlet(alpha).sample((draws,))
    within = torch.distributions.Dirichlet((alpha / kappa).unsqueeze(-1).expand(3, kappa)).sample((draws,))
    two_stage = shares.unsqueeze(-1) * within
    for i in range(3):
        assert stats.ks_2samp(pi.sum(-1)[:, i].numpy(), shares[:, i].numpy()).pvalue > 1e-3
        assert stats.ks_2samp(pi[:, i, 0].numpy(), two_stage[:, i, 0].numpy()).pvalue > 1e-3
        largest = pi[:, i].max(-1).values, two_stage[:, i].max(-1).values
        assert stats.ks_2samp(*(value.numpy() for value in largest)).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [1e-4, 1e-2, 1.0, 1e4])
def test_log_weights_are_finite_and_normalised_and_so_are_their_gradients(alpha: float):
    log_alpha = torch.full((2000, 4), math.log(alpha), requires_grad=True)
    log_pi = posterior(log_alpha).sample().log_pi
    assert log_pi.isfinite().all()
    assert (log_pi <= 0).all()
    torch.testing.assert_close(log_pi.logsumexp(-1), torch.zeros(2000), rtol=0.0, atol=1e-6)
    (gradient,) = torch.autograd.grad(log_pi.logsumexp(-1).sum() + log_pi.exp().square().sum(), log_alpha)
    assert gradient.isfinite().all()


def test_gradients_of_an_expectation_agree_with_its_closed_form():
    """E[sum pi^2] = sum a (a + 1) / (A (A + 1)), differentiated by finite differences."""

    def closed_form(log_alpha: Tensor) -> Tensor:
        a, total = log_alpha.exp(), log_alpha.exp().sum()
        return (a * (a + 1)).sum() / (total * (total + 1))

    log_alpha = torch.tensor([0.3, 1.0, 3.0]).double().log()
    draws = 200_000
    leaf = log_alpha.repeat(draws, 1).requires_grad_()
    samples = posterior(leaf).sample().log_pi.exp().square().sum(-1)
    (each,) = torch.autograd.grad(samples.sum(), leaf)
    step = 1e-5
    for i in range(3):
        shift = step * torch.eye(3).double()[i]
        expected = (closed_form(log_alpha + shift) - closed_form(log_alpha - shift)) / (2 * step)
        error = each[:, i].std() / math.sqrt(draws)
        assert abs(each[:, i].mean() - expected) < 5 * error + 1e-6


@pytest.mark.parametrize("kappa", [1, 3])
def test_gradients_through_the_vectors_agree_with_closed_forms(kappa: int):
    """E[z^2] = mu^2 + sigma^2 for any kappa, differentiated by finite differences."""
    mu, logvar = torch.tensor([0.3, -1.0]).double(), torch.tensor([-2.0, 0.7]).double()
    draws, step = 50_000, 1e-6
    leaves = [value.repeat(draws, 1, 1).requires_grad_() for value in (mu, logvar)]
    mask = torch.zeros(draws, 1, dtype=torch.bool)
    z = nvib.Posterior(*leaves, torch.zeros(draws, 1).double(), mask).sample(kappa).z
    each_mu, each_logvar = torch.autograd.grad((z.square().mean(1)).sum(), leaves)
    for got, function in (
        (each_mu, lambda shift: (mu + shift).square() + logvar.exp()),
        (each_logvar, lambda shift: mu.square() + (logvar + shift).exp()),
    ):
        expected = (function(step) - function(-step)) / (2 * step)
        error = got[:, 0].std(0) / math.sqrt(draws)
        assert ((got[:, 0].mean(0) - expected).abs() < 5 * error + 1e-6).all()


@pytest.mark.parametrize("rubbish", [float("nan"), float("inf"), 1e30])
def test_values_at_padding_reach_neither_samples_nor_gradients(rubbish: float):
    mask = torch.tensor([[False, False, True]])
    leaves = [torch.randn(1, 3, 2), torch.randn(1, 3, 2), torch.randn(1, 3)]
    for leaf in leaves:
        leaf[:, 2] = rubbish
        leaf.requires_grad_()
    drawn = nvib.Posterior(*leaves, mask).sample(2)
    assert drawn.key_padding_mask.tolist() == [[False] * 4 + [True] * 2]
    assert (drawn.log_pi[:, 4:] == -math.inf).all()
    real = ~drawn.key_padding_mask
    for gradient in torch.autograd.grad(drawn.z[real].sum() + drawn.log_pi[real].exp().square().sum(), leaves):
        assert gradient.isfinite().all()
        assert (gradient[:, 2] == 0).all()


def test_vectors_are_normal_with_the_mean_and_variance_of_the_posterior():
    dp = nvib.Posterior(
        torch.tensor([[[1.0, -2.0]]]),
        torch.tensor([[[0.5, -1.0]]]),
        torch.zeros(1, 1),
        torch.zeros(1, 1, dtype=torch.bool),
    )
    z = dp.sample(kappa=20_000).z[0].double()
    for h in range(2):
        normal = stats.norm(dp.mu[0, 0, h].item(), (0.5 * dp.logvar[0, 0, h]).exp().item())
        assert stats.kstest(z[:, h].numpy(), normal.cdf).pvalue > 1e-3


def test_a_seeded_generator_reproduces_a_sample():
    dp = posterior(torch.randn(2, 4))
    first, second = (dp.sample(2, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first.z, second.z)
    assert torch.equal(first.log_pi, second.log_pi)
    lengths = torch.tensor([3, 9])
    first, second = (nvib.Prior().sample(lengths, 4, 1, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first.z, second.z)
    assert torch.equal(first.log_pi, second.log_pi)


def test_a_prior_sample_has_dirichlet_weights_and_a_vector_for_each_token():
    lengths, kappa = torch.tensor([4] * 20_000), 2
    prior = nvib.Prior(mu=0.5, var=4.0, alpha=1.0, delta=0.3)
    drawn = prior.sample(lengths, 3, kappa)
    assert drawn.z.shape == (20_000, kappa * 5, 3)
    concentration = (1.0 + 0.3 * 4) / 10
    pi = drawn.log_pi.exp()[:, 0].double()
    assert stats.kstest(pi.numpy(), stats.beta(concentration, 9 * concentration).cdf).pvalue > 1e-3
    assert stats.kstest(drawn.z[:, 0, 0].numpy(), stats.norm(0.5, 2.0).cdf).pvalue > 1e-3


def test_a_prior_sample_masks_the_padding_of_shorter_texts():
    drawn = nvib.Prior().sample(torch.tensor([2, 5]), 3)
    assert drawn.key_padding_mask.tolist() == [[False] * 3 + [True] * 3, [False] * 6]
    assert (drawn.log_pi[0, 3:] == -math.inf).all()
    torch.testing.assert_close(drawn.log_pi.exp().sum(-1), torch.ones(2))


def test_the_mean_drops_small_components_but_never_component_zero():
    alpha = torch.tensor([[0.01, 0.05, 1.0, 3.0]])
    dp = posterior(alpha.log())
    mixture = dp.mean(alpha_threshold=0.1)
    assert mixture.key_padding_mask.tolist() == [[False, True, False, False]]
    torch.testing.assert_close(mixture.log_pi.exp(), torch.tensor([[0.01, 0.0, 1.0, 3.0]]) / 4.01)
    torch.testing.assert_close(dp.mean(0.0).log_pi.exp(), alpha / alpha.sum())


def test_padding_and_zero_pseudo_counts_have_no_weight():
    log_alpha = torch.tensor([[0.0, -math.inf, 1.0, float("nan")]])
    mask = torch.tensor([[False, False, False, True]])
    dp = nvib.Posterior(torch.randn(1, 4, 2), torch.randn(1, 4, 2), log_alpha, mask)
    pi = dp.sample().log_pi.exp()
    assert pi[0, 1] == 0
    assert pi[0, 3] == 0
    assert dp.alpha.tolist()[0][1::2] == [0.0, 0.0]
    assert dp.lengths.tolist() == [2]
    torch.testing.assert_close(dp.alpha0, torch.tensor([1.0 + math.e]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_pseudo_count_too_small_for_its_type_has_no_weight_and_no_gradient(dtype: torch.dtype):
    log_alpha = torch.tensor([[0.0, -100.0, -1000.0, 1.0]], dtype=dtype).requires_grad_()
    log_pi = posterior(log_alpha).sample().log_pi
    assert (log_pi.exp()[:, 1:3] == 0).all()
    assert log_pi.isfinite().all()
    (gradient,) = torch.autograd.grad(log_pi.exp().square().sum(), log_alpha)
    assert gradient.isfinite().all()
    assert (gradient[:, 1:3] == 0).all()


def test_a_thousand_dirichlet_log_weights_in_float32_are_finite_and_normalised():
    log_pi = _sample_log_dirichlet(torch.full((1000, 1000), -9.0), None)
    assert log_pi.isfinite().all()
    torch.testing.assert_close(log_pi.logsumexp(-1), torch.zeros(1000), rtol=0.0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"var": 0.0}, "var must be above 0, got 0.0"),
        ({"var": torch.tensor([1.0, -2.0])}, "var must be above 0, got -2.0"),
        ({"var": torch.tensor([1.0, float("nan")])}, "var must be above 0, got nan"),
        ({"alpha": -1.0}, "alpha must be above 0, got -1.0"),
        ({"delta": -0.1}, "delta must not be negative, got -0.1"),
    ],
)
def test_a_prior_out_of_range_is_refused(arguments: dict[str, float | Tensor], message: str):
    with pytest.raises(ValueError, match=message):
        nvib.Prior(**arguments)


def test_wrong_draws_and_lengths_are_refused():
    with pytest.raises(ValueError, match="kappa must be an integer of at least 1, got 0"):
        posterior(torch.zeros(1, 2)).sample(kappa=0)
    with pytest.raises(ValueError, match="lengths must be at least 1, got 0"):
        nvib.Prior().sample(torch.tensor([3, 0]), 4)
    with pytest.raises(ValueError, match=r"lengths must be integers, got torch.float32"):
        nvib.Prior().sample(torch.tensor([3.5]), 4)
    with pytest.raises(ValueError, match="alpha_threshold must not be negative, got -1"):
        posterior(torch.zeros(1, 2)).mean(-1)


def test_kappa_may_be_an_integer_of_numpy():
    kappa = np.int64(2)
    assert posterior(torch.zeros(1, 3)).sample(kappa).z.shape == (1, 6, 2)
    assert nvib.Prior().sample(torch.tensor([3]), 4, kappa).z.shape == (1, 8, 4)
    assert nvib.NVIB(4, kappa=kappa)(torch.randn(1, 3, 4), torch.zeros(1, 3, dtype=torch.bool))[1].z.shape == (1, 8, 4)


@pytest.mark.parametrize("name", ["mu", "var"])
def test_a_prior_of_another_width_is_refused(name: str):
    prior = nvib.Prior(**{name: torch.ones(5)})
    for use in (
        lambda: nvib.NVIB(2, prior),
        lambda: prior.sample(torch.tensor([3]), 2),
        lambda: nvib.kl_gaussian(posterior(torch.zeros(1, 3)), prior),
    ):
        with pytest.raises(ValueError, match=rf"prior\.{name} must have shape \[2\], got \[5\]"):
            use()


def test_a_posterior_of_padding_alone_is_refused():
    mask = torch.tensor([[False, False], [True, True]])
    with pytest.raises(
        ValueError, match="key_padding_mask must leave at least one real position in every text, got none in text 1"
    ):
        nvib.Posterior(torch.zeros(2, 2, 3), torch.zeros(2, 2, 3), torch.zeros(2, 2), mask)
