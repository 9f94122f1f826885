"""The bounds of the likelihood, where the likelihood itself is known."""

import pytest
import torch

from pipeline.data.batches import collate
from pipeline.evaluation.likelihood import likelihood_bounds


class LinearGaussian(torch.nn.Module):
    """z ~ N(0, 1), x | z ~ N(z, 1), q(z | x) wider than the posterior N(x / 2, 1 / 2): p(x) = N(0, 2)."""

    def log_importance_weights(self, source, key_padding_mask, target_input, generator):
        x = source[:, 0].float() / 10
        normal = torch.distributions.Normal
        q = normal(x / 2 + 0.3, 1.0)
        z = q.mean + q.stddev * torch.randn(x.shape, generator=generator)
        return normal(z, 1.0).log_prob(x) + normal(0.0, 1.0).log_prob(z) - q.log_prob(z)


def test_the_bounds_close_in_on_the_likelihood_from_below():
    batches = [collate([[2, number, 3] for number in (8, 9, 14, 25)] * 100, 0)]
    x = torch.tensor([8.0, 9.0, 14.0, 25.0]) / 10
    truth = torch.distributions.Normal(0.0, 2.0**0.5).log_prob(x).mean().item()
    q, posterior = torch.distributions.Normal(0.3, 1.0), torch.distributions.Normal(0.0, 0.5**0.5)
    elbo = truth - torch.distributions.kl_divergence(q, posterior).item()
    bounds = [likelihood_bounds(LinearGaussian(), batches, torch.device("cpu"), samples) for samples in (1, 5, 300)]
    assert bounds[2]["elbo"] == pytest.approx(elbo, abs=0.02)
    assert bounds[0]["elbo"] == bounds[0]["importance_weighted_bound"]
    values = [bound["importance_weighted_bound"] for bound in bounds]
    assert values[0] < values[1] < values[2] < truth + 0.01
    assert values[2] == pytest.approx(truth, abs=0.02)
