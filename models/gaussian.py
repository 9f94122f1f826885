"""Sets of Gaussian vectors: the bottleneck that makes them, and their divergence from a prior."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

# Initial log variance, well below that of the prior and equal for all inputs. A decoder that starts on noisy vectors
# learns to ignore them and does not recover.
INITIAL_LOGVAR = -6.0
PASSED_LOGVAR = -8.0  # of vectors that pass through: less than a decoder notices, and a controller can still raise it


@dataclass(frozen=True)
class Gaussians:
    """A Gaussian for each of up to K vectors of B texts, independent in every dimension.

    Args:
        mu: [B, K, D], means.
        logvar: [B, K, D], log variances.
        key_padding_mask: [B, K], bool, True at padding.
    """

    mu: Tensor
    logvar: Tensor
    key_padding_mask: Tensor

    def detached(self) -> "Gaussians":
        """Return the Gaussians without a gradient, for figures that no loss contains."""
        return Gaussians(self.mu.detach(), self.logvar.detach(), self.key_padding_mask)

    def sample(self, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        """Draw every vector once, with `temperature` times its standard deviation.

        Args:
            generator: source of randomness, on the device of the means; torch's default generator if None.
            temperature: factor of the standard deviations, not negative.

        Returns:
            [B, K, D], differentiable with respect to means and log variances.
        """
        noise = torch.randn(self.mu.shape, device=self.mu.device, dtype=self.mu.dtype, generator=generator)
        return self.mu + temperature * (0.5 * self.logvar).exp() * noise

    def log_density(self, z: Tensor) -> Tensor:
        """Compute the log density of vectors [B, K, D], summed over real vectors and dimensions: [B], nats."""
        each = -0.5 * (math.log(2 * math.pi) + self.logvar + (z - self.mu).square() * (-self.logvar).exp())
        return each.sum(dim=-1).masked_fill(self.key_padding_mask, 0.0).sum(dim=-1)


def kl_by_dimension(gaussians: Gaussians, mu: float, var: float, weights: Tensor | None = None) -> Tensor:
    """Compute the divergence from `N(mu, var)` in each dimension, summed over the real vectors of a text.

    `½ Σ_i w_i [(μ_ih − μ_p)²/σ_p² + σ_ih²/σ_p² − 1 − ln(σ_ih²/σ_p²)]`; its mean over dimensions is the KL_G of a text.

    Args:
        gaussians: Gaussians of B texts, K vectors each.
        mu: mean of the prior.
        var: variance of the prior, above 0.
        weights: [B, K], a weight for each vector; None for 1 each.

    Returns:
        [B, D], nats.
    """
    each = _divergence(gaussians, mu, var)
    if weights is not None:
        each = each * weights.unsqueeze(-1)
    return each.masked_fill(gaussians.key_padding_mask.unsqueeze(-1), 0.0).sum(dim=1)


def kl_by_vector(gaussians: Gaussians, mu: float, var: float) -> Tensor:
    """Compute the divergence of each real vector from `N(mu, var)`, summed over dimensions.

    Args:
        gaussians: Gaussians of B texts, K vectors each.
        mu: mean of the prior.
        var: variance of the prior, above 0.

    Returns:
        [B, K], nats, 0 at padding.
    """
    return _divergence(gaussians, mu, var).sum(dim=-1).masked_fill(gaussians.key_padding_mask, 0.0)


def _divergence(gaussians: Gaussians, mu: float, var: float) -> Tensor:
    """Compute the divergence of every vector from `N(mu, var)` in every dimension: [B, K, D], nats."""
    log_ratio = gaussians.logvar - math.log(var)
    # expm1(r) - r keeps the difference of r and ln r exact where the variances nearly agree.
    return 0.5 * ((gaussians.mu - mu).square() / var + (torch.expm1(log_ratio) - log_ratio))


def rate(gaussians: Gaussians, mu: float, var: float) -> Tensor:
    """Compute the rate of each text: the mean over its own vectors of their divergence from the prior.

    No vector has more weight than another: a decoder can read a vector of a tiny share as well.

    Args:
        gaussians: Gaussians of B texts, K vectors each.
        mu: mean of the prior.
        var: variance of the prior, above 0.

    Returns:
        [B], nats a vector.
    """
    return kl_by_vector(gaussians, mu, var).sum(dim=-1) / (~gaussians.key_padding_mask).sum(dim=-1)


def with_free_bits(by_dimension: Tensor, free_bits: float) -> Tensor:
    """Compute KL_G with `free_bits` nats free in every dimension (Kingma et al. 2016): [].

    Args:
        by_dimension: [B, D], divergence of each text in each dimension, nats.
        free_bits: a dimension has no gradient while its mean over the batch is lower, in nats. In distributed training
            this mean is over the batches of all ranks, so that the gradients equal those of one process with all texts.
    """
    mean = by_dimension.mean(dim=0)
    return torch.where(_mean_over_processes(by_dimension) < free_bits, free_bits, mean).mean()


@torch.no_grad()
def _mean_over_processes(by_dimension: Tensor) -> Tensor:
    """Compute the mean over the texts of all ranks: [D]; in evaluation, where batches differ by rank, of this rank."""
    together = by_dimension.requires_grad and distributed.is_available() and distributed.is_initialized()
    if not together:
        return by_dimension.mean(dim=0)
    total = torch.cat([by_dimension.sum(dim=0), by_dimension.new_tensor([len(by_dimension)])])
    distributed.all_reduce(total)  # pyright: ignore[reportUnknownMemberType] not annotated
    return total[:-1] / total[-1]


class GaussianBottleneck(nn.Module):
    """Map each vector to a Gaussian, in float32 even under autocast (Kingma & Welling 2014).

    `mu_i = A_mu h_i + b_mu`, `log sigma_i^2 = A_sigma h_i + b_sigma`.

    Args:
        dim: D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mu = nn.Linear(dim, dim)
        self.logvar = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.mu.weight)
        nn.init.zeros_(self.mu.bias)
        nn.init.zeros_(self.logvar.weight)
        nn.init.constant_(self.logvar.bias, INITIAL_LOGVAR)

    def pass_through(self) -> None:
        """Let the means be the vectors themselves, with little noise."""
        let_through(self.mu, self.logvar)

    def forward(self, hidden: Tensor, key_padding_mask: Tensor) -> Gaussians:
        """Compute the Gaussian of every vector.

        Args:
            hidden: [B, K, D].
            key_padding_mask: [B, K], bool, True at padding; values of `hidden` at padding are ignored.
        """
        # Values at padding are multiplied by zero later, so they must be finite.
        hidden = hidden.masked_fill(key_padding_mask.unsqueeze(-1), 0.0)
        # Beyond these bounds exp() overflows float32; training stays far within them.
        logvar = self.logvar(hidden).float().clamp(-30.0, 20.0)
        return Gaussians(self.mu(hidden).float(), logvar, key_padding_mask)


@torch.no_grad()
def let_through(mu: nn.Linear, logvar: nn.Linear) -> None:
    """Set the layers of a posterior so that its means are their input, with little noise.

    Args:
        mu: gives the means, [D, D].
        logvar: gives the log variances, [D, D].
    """
    nn.init.eye_(mu.weight)
    nn.init.zeros_(mu.bias)
    nn.init.zeros_(logvar.weight)
    nn.init.constant_(logvar.bias, PASSED_LOGVAR)


@torch.no_grad()
def widen(model: nn.Module, share: float, prior_var: float) -> None:
    """Bring the log variances of all posteriors of a model nearer to that of the prior, in every dimension.

    Args:
        model: every layer named `logvar` in it gives log variances.
        share: part of the way to the prior; below 0 the posteriors become narrower than they were.
        prior_var: variance of the prior.
    """
    for layer in logvar_layers(model):
        layer.weight.mul_(1.0 - share)
        layer.bias.mul_(1.0 - share).add_(share * math.log(prior_var))


def logvar_layers(model: nn.Module) -> list[nn.Linear]:
    """Return every layer named `logvar` of a model: they give the log variances."""
    layers = (getattr(module, "logvar", None) for module in model.modules())
    return [layer for layer in layers if isinstance(layer, nn.Linear)]
