"""The regulariser: how far a text's Dirichlet process is from its prior."""

import torch
from torch import Tensor

from nvib.dirichlet_process import Posterior, Prior, _check_kappa, _float32_or_better


def kl_gaussian(posterior: Posterior, prior: Prior, kappa: int = 1) -> Tensor:
    """Divergence of the posterior's vectors from the prior's base distribution, a text at a time.

    Henderson & Fehr (2023), eq. for L_G, as a mean over the dimensions:
    `½ kappa sum_i (alpha_i / alpha_0) mean_h [(mu_ih - mu_p)^2 / var_p + r - 1 - ln r]`, `r = sigma_ih^2 / var_p`.

    Args:
        posterior: B texts.
        prior: its base distribution.
        kappa: draws per component that training takes.

    Returns:
        [B], in nats per dimension, float32 or better under autocast too, never negative.

    Raises:
        ValueError: `kappa` is below 1.
    """
    _check_kappa(kappa)
    mu, logvar = _float32_or_better(posterior.mu), _float32_or_better(posterior.logvar)
    mu_p, var_p = (torch.as_tensor(v, device=mu.device, dtype=mu.dtype) for v in (prior.mu, prior.var))
    padding = posterior.key_padding_mask.unsqueeze(-1)
    log_ratio = (logvar - var_p.log()).masked_fill(padding, 0.0)
    deviation = (mu - mu_p).masked_fill(padding, 0.0)
    # expm1(r) - r keeps the difference of r and ln r exact where the variances nearly agree.
    per_component = (deviation.square() / var_p + (torch.expm1(log_ratio) - log_ratio)).mean(dim=-1)  # [B, N+1]
    share = posterior._masked_log_alpha().softmax(dim=-1)  # [B, N+1]
    return 0.5 * kappa * (share * per_component).sum(dim=-1)


def kl_dirichlet(posterior: Posterior, prior: Prior, kappa: int = 1) -> Tensor:
    """Divergence of the posterior's pseudo-counts from the prior's, a text at a time.

    Henderson & Fehr (2023), eq. for L_D, divided by the number of components n + 1: with `k0 = kappa (n + 1)`,
    `[lnΓ(q) - lnΓ(p) + (q - p) (ψ(q/k0) - ψ(q)) + k0 (lnΓ(p/k0) - lnΓ(q/k0))] / (n + 1)`, where q and p are the
    posterior's and the prior's `alpha_0`. It is the divergence of two symmetric Dirichlet distributions.
    The differences of lnΓ are lost in float32, so it is computed in float64.

    Args:
        posterior: pseudo-counts of B texts, component 0 the prior's.
        prior: its concentration grows with the length: alpha + delta * n.
        kappa: draws per component that training takes.

    Returns:
        [B], in nats per component, float32, never negative.

    Raises:
        ValueError: `kappa` is below 1.
    """
    _check_kappa(kappa)
    n = posterior.lengths  # [B]
    draws = (kappa * (n + 1)).double()
    q = posterior._masked_log_alpha().double().exp().sum(dim=-1)  # [B]
    p = prior.concentration(n)
    divergence = (
        torch.lgamma(q)
        - torch.lgamma(p)
        + (q - p) * (torch.digamma(q / draws) - torch.digamma(q))
        + draws * (torch.lgamma(p / draws) - torch.lgamma(q / draws))
    )
    return (divergence / (n + 1)).clamp_min(0.0).float()
