"""The regulariser: divergences of the Dirichlet process of a text from its prior."""

import math

import torch
from torch import Tensor

from nvib._check import check_kappa
from nvib._tensors import float32_or_float64
from nvib.dirichlet_process import Posterior, Prior, check_prior_width, masked_log_alpha

# Log of the pseudo-counts per draw above which kl_dirichlet uses Stirling's series. Above e^9, the omitted terms of the
# series vanish in float64, and lnΓ itself would lose more.
LOG_MANY = 9.0


def kl_gaussian(posterior: Posterior, prior: Prior, kappa: int = 1) -> Tensor:
    """Compute the divergence of the posterior's vectors from the base distribution of the prior, per text.

    Henderson & Fehr (2023), eq. for L_G, as a mean over the dimensions:
    `½ kappa sum_i (alpha_i / alpha_0) mean_h [(mu_ih - mu_p)^2 / var_p + r - 1 - ln r]`, `r = sigma_ih^2 / var_p`.

    Args:
        posterior: posterior of B texts.
        prior: prior with the base distribution `N(mu_p, var_p)`.
        kappa: draws per component in training.

    Returns:
        [B], in nats per dimension, float32 or float64 (under autocast too), never negative.

    Raises:
        ValueError: if `kappa` is below 1, or if `mu` or `var` of the prior has another width than the posterior.
    """
    check_kappa(kappa)
    check_prior_width(prior, posterior.mu.shape[-1])
    mu, logvar = float32_or_float64(posterior.mu), float32_or_float64(posterior.logvar)
    mu_p, var_p = (torch.as_tensor(v, device=mu.device, dtype=mu.dtype) for v in (prior.mu, prior.var))
    padding = posterior.key_padding_mask.unsqueeze(-1)
    log_ratio = (logvar - var_p.log()).masked_fill(padding, 0.0)
    deviation = (mu - mu_p).masked_fill(padding, 0.0)
    # expm1(log_ratio) - log_ratio is r - 1 - ln r without cancellation where the variances are nearly equal.
    per_component = (deviation.square() / var_p + (torch.expm1(log_ratio) - log_ratio)).mean(dim=-1)  # [B, N+1]
    share = masked_log_alpha(posterior).softmax(dim=-1)  # [B, N+1]
    return 0.5 * kappa * (share * per_component).sum(dim=-1)


def kl_dirichlet(posterior: Posterior, prior: Prior, kappa: int = 1) -> Tensor:
    """Compute the divergence of the posterior's pseudo-counts from the prior's, per text.

    Henderson & Fehr (2023), eq. for L_D, divided by the number of components n + 1: with `k0 = kappa (n + 1)`,
    `[lnΓ(q) - lnΓ(p) + (q - p) (ψ(q/k0) - ψ(q)) + k0 (lnΓ(p/k0) - lnΓ(q/k0))] / (n + 1)`, where q and p are `alpha_0`
    of the posterior and of the prior. This is the divergence of two symmetric Dirichlet distributions.

    The computation uses float64, because float32 loses the differences of lnΓ. For large pseudo-counts, where float64
    loses them too, it uses Stirling's series, in which the large terms cancel analytically.

    Args:
        posterior: pseudo-counts of B texts; component 0 is the prior component.
        prior: prior with the concentration `alpha + delta * n`.
        kappa: draws per component in training.

    Returns:
        [B], in nats per component, float32, never negative.

    Raises:
        ValueError: if `kappa` is below 1.
    """
    check_kappa(kappa)
    n = posterior.lengths  # [B]
    draws = (kappa * (n + 1)).double()
    p = prior.concentration(n)
    log_q = masked_log_alpha(posterior).double().logsumexp(dim=-1)  # [B]
    many = log_q - draws.log() > LOG_MANY
    # own = lnΓ(q) - k0 lnΓ(q/k0) + q slope, slope = ψ(q/k0) - ψ(q)
    q = log_q.masked_fill(many, 0.0).exp()
    slope = torch.digamma(q / draws) - torch.digamma(q)
    own = torch.lgamma(q) - draws * torch.lgamma(q / draws) + q * slope
    log_q = log_q.masked_fill(~many, 0.0)
    inverse = (-log_q).exp()  # 1 / q
    slope = torch.where(
        many, (1.0 - draws) * inverse / 2.0 + (1.0 - draws.square()) * inverse.square() / 12.0 - draws.log(), slope
    )
    own_of_many = 0.5 * ((draws - 1.0) * (log_q - 1.0 - math.log(2.0 * math.pi)) - draws * draws.log())
    own = torch.where(many, own_of_many + (1.0 - draws.square()) * inverse / 6.0, own)
    divergence = own - p * slope - torch.lgamma(p) + draws * torch.lgamma(p / draws)
    return (divergence / (n + 1)).clamp_min(0.0).float()
