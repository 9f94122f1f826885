"""Sets of Gaussian vectors: a bottleneck that makes them of a Transformer's, and their divergence from a prior."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

# Where training starts: variances well below the prior's, whatever the input. A decoder that meets noise first
# learns to ignore the vectors, for good.
INITIAL_LOGVAR = -6.0


@dataclass(frozen=True)
class Gaussians:
    """A Gaussian for each of up to K vectors of B texts, independent in every dimension.

    Args:
        mu: [B, K, D], the means.
        logvar: [B, K, D], the log variances.
        key_padding_mask: [B, K], bool, True at padding.
    """

    mu: Tensor
    logvar: Tensor
    key_padding_mask: Tensor

    def sample(self, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        """One draw of every vector, at `temperature` times its standard deviation.

        Returns:
            [B, K, D], differentiable in means and log variances.
        """
        noise = torch.randn(self.mu.shape, device=self.mu.device, dtype=self.mu.dtype, generator=generator)
        return self.mu + temperature * (0.5 * self.logvar).exp() * noise

    def log_density(self, z: Tensor) -> Tensor:
        """Log density of vectors [B, K, D], summed over the real ones and their dimensions: [B], nats."""
        each = -0.5 * (math.log(2 * math.pi) + self.logvar + (z - self.mu).square() * (-self.logvar).exp())
        return each.sum(dim=-1).masked_fill(self.key_padding_mask, 0.0).sum(dim=-1)


def kl_by_dimension(gaussians: Gaussians, mu: float, var: float, weights: Tensor | None = None) -> Tensor:
    """Divergence from `N(mu, var)` in each dimension, summed over a text's real vectors.

    `½ Σ_i w_i [(μ_ih − μ_p)²/σ_p² + σ_ih²/σ_p² − 1 − ln(σ_ih²/σ_p²)]`; its mean over dimensions is a text's KL_G.

    Args:
        gaussians: of B texts.
        mu: the prior's mean.
        var: the prior's variance, above 0.
        weights: [B, K], of the vectors; 1 each if None.

    Returns:
        [B, D], nats.
    """
    log_ratio = gaussians.logvar - math.log(var)
    # expm1(r) - r keeps the difference of r and ln r exact where the variances nearly agree.
    each = 0.5 * ((gaussians.mu - mu).square() / var + (torch.expm1(log_ratio) - log_ratio))  # [B, K, D]
    if weights is not None:
        each = each * weights.unsqueeze(-1)
    return each.masked_fill(gaussians.key_padding_mask.unsqueeze(-1), 0.0).sum(dim=1)


def with_free_bits(by_dimension: Tensor, free_bits: float) -> Tensor:
    """KL_G whose every dimension is free up to `free_bits` nats (Kingma et al. 2016): [].

    Args:
        by_dimension: [B, D], each text's divergence in each dimension.
        free_bits: a dimension whose mean over the batch is lower gives no gradient. Of processes that train together
            it is the mean over all their batches, so that they have the gradients of one with all of it.
    """
    mean = by_dimension.mean(dim=0)
    return torch.where(_mean_over_processes(by_dimension) < free_bits, free_bits, mean).mean()


@torch.no_grad()
def _mean_over_processes(by_dimension: Tensor) -> Tensor:
    """The mean over the texts of all processes: [D]; in evaluation, where each has batches of its own, of this one."""
    together = by_dimension.requires_grad and distributed.is_available() and distributed.is_initialized()
    if not together:
        return by_dimension.mean(dim=0)
    total = torch.cat([by_dimension.sum(dim=0), by_dimension.new_tensor([len(by_dimension)])])
    distributed.all_reduce(total)
    return total[:-1] / total[-1]


class GaussianBottleneck(nn.Module):
    """`mu_i = A_mu h_i + b_mu`, `log sigma_i^2 = A_sigma h_i + b_sigma`, in float32 even under autocast.

    Args:
        dim: D.

    Shapes:
        hidden [B, K, D], key_padding_mask [B, K] (bool, True at padding) -> `Gaussians`.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mu = nn.Linear(dim, dim)
        self.logvar = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.mu.weight)
        nn.init.zeros_(self.mu.bias)
        nn.init.zeros_(self.logvar.weight)
        nn.init.constant_(self.logvar.bias, INITIAL_LOGVAR)

    def forward(self, hidden: Tensor, key_padding_mask: Tensor) -> Gaussians:
        """The Gaussian of every vector."""
        # What stands at padding must be finite: it is multiplied by zero.
        hidden = hidden.masked_fill(key_padding_mask.unsqueeze(-1), 0.0)
        # Beyond these bounds exp() leaves float32; training stays far within them.
        logvar = self.logvar(hidden).float().clamp(-30.0, 20.0)
        return Gaussians(self.mu(hidden).float(), logvar, key_padding_mask)
