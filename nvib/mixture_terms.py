"""Terms of the logits of denoising attention that do not depend on the query."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nvib._tensors import float32_or_float64, vector_norm
from nvib.mixture import DiscreteMixture, GaussianMixture


def discrete_terms(mixture: DiscreteMixture, noise: float) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the vectors of a discrete mixture and the bias of their logits, `log pi_k - ||z_k||^2 / 2 s0`.

    Args:
        mixture: B mixtures of K vectors.
        noise: s0, variance of the noise of denoising attention.

    Returns:
        The vectors [B, K, D], 0 at padding; the bias [B, K], shifted to a maximum of 0, in the precision of `log pi`;
        and a mask [B, K], True at weights of zero.
    """
    padding = mixture.key_padding_mask
    z = torch.where(padding.unsqueeze(-1), 0.0, float32_or_float64(mixture.z))
    log_pi = float32_or_float64(mixture.log_pi).masked_fill(padding, -math.inf)
    # log pi may cancel ||z||^2 / 2 s0, so both use the precision of log pi. The square of the norm needs one pass
    # less than the sum of squares, forward and backward.
    norm = vector_norm(z, torch.promote_types(z.dtype, log_pi.dtype))
    norm = norm.clamp_max(1e18)  # keeps the square finite; the weight is still zero
    return z, _center(log_pi - norm.square() / (2.0 * noise)), log_pi == -math.inf


def gaussian_terms(mixture: GaussianMixture, noise: float) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the terms of the logits over a Gaussian mixture, with `s = s0 + sigma^2` per dimension.

    Args:
        mixture: B mixtures of K components.
        noise: s0, variance of the noise of denoising attention.

    Returns:
        `s0 mu / s` and `sigma^2 / s`, each [B, K, D], and the bias `log pi - ½ sum (ln(s / s0) + mu^2 / s)`, [B, K],
        shifted to a maximum of 0. All have the precision of `log pi`, at least float32.
    """
    padding = mixture.key_padding_mask.unsqueeze(-1)
    log_pi = float32_or_float64(mixture.log_pi).masked_fill(mixture.key_padding_mask, -math.inf)
    # As in discrete_terms: log pi may cancel the norms, so all terms use its precision.
    precise = torch.promote_types(torch.promote_types(mixture.mu.dtype, torch.float32), log_pi.dtype)
    mu, logvar = (torch.where(padding, 0.0, value.to(precise)) for value in (mixture.mu, mixture.logvar))
    log_ratio = logvar - math.log(noise)  # log(sigma^2 / s0)
    share = log_ratio.sigmoid()  # sigma^2 / s
    shift = mu * (1.0 - share)  # s0 mu / s
    # ln(s / s0) + mu^2 / s; for ratios above e^40, log(1 + ratio) equals log(ratio) in floating point.
    twice = torch.addcmul(F.softplus(log_ratio, threshold=40.0), shift, mu, value=1.0 / noise)
    return shift, share, _center(log_pi - 0.5 * twice.sum(dim=-1))


def _center(bias: Tensor) -> Tensor:
    """Shift the bias [B, K] to a maximum of 0.

    A constant shared by all keys does not change the weights, but it costs precision.
    """
    return bias - bias.detach().amax(dim=-1, keepdim=True)
