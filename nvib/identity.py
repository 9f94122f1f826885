"""An NVIB layer that starts as the identity, for the conversion of pretrained Transformers."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvib._check import check_every_row_real, check_mask, check_shape
from nvib._tensors import float32_or_float64, soft_bound
from nvib.dirichlet_process import Posterior, Prior
from nvib.layer import NVIB

# Offset of a token's log pseudo-count from its squared norm. With e^40 pseudo-counts, a sampled weight differs from its
# mean by e^-20, below the resolution of float32; a weight of e^-40 is negligible.
LOG_ALPHA_RANGE = 40.0
# Log variance that represents zero variance: adding noise of standard deviation 1e-13 does not change a float32.
NO_LOGVAR = -60.0


class IdentityNVIB(NVIB):
    """An NVIB layer with three controls between the prior (0) and the identity (1).

    Fehr & Henderson (2024): denoising attention over point masses `h_i` with weights `log pi_i = ||h_i||^2 / 2 s0` is
    ordinary attention over the vectors `h_i`. With all controls at 1, this layer followed by
    `DenoisingMultiheadAttention` is attention over its input, up to floating-point precision, in training and in
    evaluation. Lower values regularise without training, and the layer can be trained from there. Its initial
    parameters give

        mu_i            = (1 - mu_tau) mu_p + mu_tau h_i
        sigma_i         = (1 - stdev_tau) sigma_p                                   (never below e^-30)
        log alpha_i     = alpha_tau (||h_i||^2 / 2 s0 + 40) - (1 - alpha_tau) 40
        log alpha_prior = log alpha_p + log(1 - alpha_tau)                          (component 0)

    At `alpha_tau = 1`, component 0 has weight zero. At 0, the tokens have pseudo-counts of e^-40. In between, the odds
    change log-linearly. The layer computes `log alpha_i = sum_h w_h h_ih^2 / 2 s0 + a h_i + b` with the projections of
    `NVIB` and with `alpha_square`, which holds the weights w.

    Pseudo-counts are float64: float32 would round the squared norms of hidden states of scale 1000 by more than 1, and
    attention needs their difference from `log pi`. Log variances and log pseudo-counts are bounded as in `NVIB`,
    outside the range that the identity needs.

    Args:
        dim: D, width of the vectors.
        num_heads: H, number of heads of the attention that follows, with noise variance `s0 = sqrt(d_h)`.
        prior: prior Dirichlet process; its base distribution is component 0.
        mu_tau: control of the means, in [0, 1]: 0 gives the prior mean, 1 the input vector.
        stdev_tau: control of the standard deviations, in [0, 1]: 0 gives the prior's, 1 gives zero.
        alpha_tau: control of the pseudo-counts, in [0, 1]: 0 leaves only the prior component, 1 removes it.
        kappa: draws per component in training, at least 1.
        alpha_threshold: evaluation drops components with fewer pseudo-counts.
        head_dim: d_h, width of a head; None uses D / H.

    Shapes:
        As for `NVIB`.

    Raises:
        ValueError: if an argument is out of range, or if `num_heads` does not divide `dim` and `head_dim` is None.

    Example:
        >>> layer, attention = IdentityNVIB(dim=8, num_heads=2).eval(), DenoisingMultiheadAttention(8, 2)
        >>> _, mixture = layer(torch.randn(2, 5, 8), torch.zeros(2, 5, dtype=torch.bool))
        >>> output, weights = attention(torch.randn(2, 3, 8), mixture, need_weights=True)
        >>> weights[..., 0].max()  # the weight of the prior component
        tensor(0., grad_fn=<MaxBackward1>)
    """

    log_prior_share: Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int,
        prior: Prior = Prior(),  # noqa: B008 (frozen, so sharing it is safe)
        mu_tau: float = 1.0,
        stdev_tau: float = 1.0,
        alpha_tau: float = 1.0,
        kappa: int = 1,
        alpha_threshold: float = 0.1,
        head_dim: int | None = None,
    ) -> None:
        super().__init__(dim, prior, kappa, alpha_threshold)
        if num_heads < 1 or (head_dim is None and dim % num_heads):
            raise ValueError(f"num_heads must divide dim, got {num_heads} and {dim}")
        if head_dim is not None and head_dim < 1:
            raise ValueError(f"head_dim must be at least 1, got {head_dim}")
        self.noise = math.sqrt(head_dim or dim // num_heads)  # s0
        self.alpha_square = nn.Linear(dim, 1, bias=False)  # in units of 1 / 2 s0, so the identity has weights of 1
        self.register_buffer("log_prior_share", torch.zeros(()))  # log(1 - alpha_tau)
        self.regularise(mu_tau, stdev_tau, alpha_tau)

    @torch.no_grad()
    def regularise(self, mu_tau: float = 1.0, stdev_tau: float = 1.0, alpha_tau: float = 1.0) -> None:
        """Reset all parameters to the equations of the class (Fehr & Henderson 2024).

        Args:
            mu_tau: control of the means, in [0, 1]: 0 gives the prior mean, 1 the input vector.
            stdev_tau: control of the standard deviations, in [0, 1]: 0 gives the prior's, 1 gives zero.
            alpha_tau: control of the pseudo-counts, in [0, 1]: 0 leaves only the prior component, 1 removes it.

        Raises:
            ValueError: if a control is outside [0, 1]; the parameters then stay unchanged.
        """
        for name, tau in (("mu_tau", mu_tau), ("stdev_tau", stdev_tau), ("alpha_tau", alpha_tau)):
            if not 0.0 <= tau <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {tau}")
        nn.init.eye_(self.mu.weight).mul_(mu_tau)
        self.mu.bias.copy_((1.0 - mu_tau) * self.prior_mu)
        nn.init.zeros_(self.logvar.weight)
        shrink = 2.0 * math.log1p(-stdev_tau) if stdev_tau < 1.0 else -math.inf
        self.logvar.bias.copy_((self.prior_logvar + shrink).clamp(min=NO_LOGVAR))
        nn.init.constant_(self.alpha_square.weight, alpha_tau)
        nn.init.zeros_(self.alpha.weight)
        nn.init.constant_(self.alpha.bias, (2.0 * alpha_tau - 1.0) * LOG_ALPHA_RANGE)
        self.log_prior_share.fill_(math.log1p(-alpha_tau) if alpha_tau < 1.0 else -math.inf)

    def posterior(self, hidden: Tensor, key_padding_mask: Tensor) -> Posterior:
        """Compute the posterior of each text, by the equations of the class (Fehr & Henderson 2024).

        Args:
            hidden: [B, N, D].
            key_padding_mask: [B, N], bool, True at padding; values of `hidden` at padding are ignored.

        Returns:
            The posterior of N+1 components; component 0 is the prior component. The log pseudo-counts are float64.

        Raises:
            ValueError: if a shape or the dtype of the mask is wrong, or if a text has no real token.
        """
        check_shape("hidden", hidden, (None, None, self.dim))
        check_mask("key_padding_mask", key_padding_mask, tuple(hidden.shape[:2]))
        check_every_row_real("key_padding_mask", key_padding_mask)
        hidden = hidden.to(self.mu.weight.dtype).masked_fill(key_padding_mask.unsqueeze(-1), 0.0)
        # Half precision would round the means but not the norms, which must cancel each other.
        with torch.autocast(hidden.device.type, enabled=False):
            mu = float32_or_float64(self.mu(hidden))
            logvar = soft_bound(float32_or_float64(self.logvar(hidden)), low=NO_LOGVAR, high=10.0, slack=10.0)
            log_alpha = self._log_alpha_in_double(hidden)
        batch = mu.shape[0]
        log_alpha = log_alpha.masked_fill(key_padding_mask, -math.inf)
        prior_log_alpha = (math.log(self.prior.alpha) + self.log_prior_share.double()).expand(batch, 1)
        return Posterior(
            torch.cat([self.prior_mu.to(mu.dtype).expand(batch, 1, -1), mu], dim=1),
            torch.cat([self.prior_logvar.to(mu.dtype).expand(batch, 1, -1), logvar], dim=1),
            torch.cat([prior_log_alpha, log_alpha], dim=1),
            torch.cat([torch.zeros_like(key_padding_mask[:, :1]), key_padding_mask], dim=1),
        )

    def _log_alpha_in_double(self, hidden: Tensor) -> Tensor:
        """Compute log pseudo-counts [B, N] in float64, without an upper bound, because norms are unbounded."""
        square = F.linear(hidden.double().square(), self.alpha_square.weight.double() / (2.0 * self.noise))
        score = (square + self.alpha(hidden).double()).squeeze(-1)
        return soft_bound(score, low=-LOG_ALPHA_RANGE, high=math.inf, slack=10.0)
