"""The NVIB layer, which maps the vectors of a Transformer to a Dirichlet process and a mixture to attend to."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvib._check import check_every_row_real, check_kappa, check_mask, check_shape
from nvib._tensors import float32_or_float64, soft_bound
from nvib.dirichlet_process import Posterior, Prior, check_prior_width
from nvib.mixture import DiscreteMixture, GaussianMixture

# Initial log variance, well below that of the prior, and initial log pseudo-count, equal for all inputs. A decoder that
# starts on noisy vectors learns to ignore them and does not recover.
INITIAL_LOGVAR = -6.0
INITIAL_LOG_ALPHA = 1.0


class NVIB(nn.Module):
    """A nonparametric variational information bottleneck over a set of vectors.

    Henderson & Fehr (2023): `mu_i = A_mu h_i + b_mu`, `log sigma_i^2 = A_sigma h_i + b_sigma` and
    `log alpha_i = a h_i + b` (or `alpha_i = relu(a h_i + b)`); component 0 is the prior component. Log variances and
    log pseudo-counts are bounded smoothly, far outside the range of normal training.

    Args:
        dim: D, width of the vectors.
        prior: prior Dirichlet process; its base distribution is component 0.
        kappa: draws per component in training, at least 1.
        alpha_threshold: evaluation drops components with fewer pseudo-counts.
        alpha_activation: `exp` or `relu` (as in the ICLR paper; gives pseudo-counts of exactly zero).

    Shapes:
        - hidden: [B, N, D].
        - key_padding_mask: [B, N], bool, True at padding.
        - posterior: N+1 components.
        - mixture: `DiscreteMixture`, a sample, in training; `GaussianMixture`, the mean measure, in evaluation.

    Raises:
        ValueError: if `alpha_activation`, `kappa` or `alpha_threshold` is out of range, or if `mu` or `var` of the
            prior has a width other than `dim`.

    Example:
        >>> layer = NVIB(dim=8).eval()
        >>> posterior, mixture = layer(torch.randn(2, 5, 8), torch.zeros(2, 5, dtype=torch.bool))
        >>> mixture.mu.shape
        torch.Size([2, 6, 8])
    """

    prior_mu: Tensor
    prior_logvar: Tensor

    def __init__(
        self,
        dim: int,
        prior: Prior = Prior(),  # noqa: B008 (frozen, so sharing it is safe)
        kappa: int = 1,
        alpha_threshold: float = 0.1,
        alpha_activation: str = "exp",
    ) -> None:
        super().__init__()
        if alpha_activation not in ("exp", "relu"):
            raise ValueError(f"alpha_activation must be 'exp' or 'relu', got {alpha_activation!r}")
        check_kappa(kappa)
        if not alpha_threshold >= 0:
            raise ValueError(f"alpha_threshold must not be negative, got {alpha_threshold}")
        check_prior_width(prior, dim)
        self.dim = dim
        self.prior = prior
        self.kappa = kappa
        self.alpha_threshold = alpha_threshold
        self.alpha_activation = alpha_activation
        self.mu = nn.Linear(dim, dim)
        self.logvar = nn.Linear(dim, dim)
        self.alpha = nn.Linear(dim, 1)
        self.register_buffer("prior_mu", torch.as_tensor(prior.mu).float().expand(dim).clone(), persistent=False)
        self.register_buffer(
            "prior_logvar", torch.as_tensor(prior.var).float().log().expand(dim).clone(), persistent=False
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the means at random; variances and pseudo-counts start equal for all inputs."""
        nn.init.xavier_uniform_(self.mu.weight)
        nn.init.zeros_(self.mu.bias)
        nn.init.zeros_(self.logvar.weight)
        nn.init.constant_(self.logvar.bias, INITIAL_LOGVAR)
        nn.init.zeros_(self.alpha.weight)
        nn.init.constant_(self.alpha.bias, INITIAL_LOG_ALPHA if self.alpha_activation == "exp" else 1.0)

    def forward(self, hidden: Tensor, key_padding_mask: Tensor) -> tuple[Posterior, DiscreteMixture | GaussianMixture]:
        """Compute the posterior of each text and the mixture to attend to (Henderson & Fehr 2023).

        Args:
            hidden: [B, N, D].
            key_padding_mask: [B, N], bool, True at padding; values of `hidden` at padding are ignored.

        Returns:
            The posterior of N+1 components; and a sample from it in training, its mean measure in evaluation.

        Raises:
            ValueError: if a shape or the dtype of the mask is wrong, or if a text has no real token.
        """
        posterior = self.posterior(hidden, key_padding_mask)
        if self.training:
            return posterior, posterior.sample(self.kappa)
        return posterior, posterior.mean(self.alpha_threshold)

    def posterior(self, hidden: Tensor, key_padding_mask: Tensor) -> Posterior:
        """Compute the posterior of each text, by the equations of the class (Henderson & Fehr 2023).

        Args:
            hidden: [B, N, D].
            key_padding_mask: [B, N], bool, True at padding; values of `hidden` at padding are ignored.

        Returns:
            The posterior of N+1 components; component 0 is the prior component.

        Raises:
            ValueError: if a shape or the dtype of the mask is wrong, or if a text has no real token.
        """
        check_shape("hidden", hidden, (None, None, self.dim))
        check_mask("key_padding_mask", key_padding_mask, tuple(hidden.shape[:2]))
        check_every_row_real("key_padding_mask", key_padding_mask)
        tokens = torch.where(key_padding_mask.unsqueeze(-1), 0.0, hidden)
        hidden = torch.cat([tokens.new_zeros(tokens.shape[0], 1, self.dim), tokens], dim=1)  # [B, N+1, D]
        mu = _components(self.mu, hidden, self.prior_mu)
        logvar = _components(self.logvar, hidden, self.prior_logvar)
        bounded = soft_bound(logvar, low=-20.0, high=10.0, slack=10.0)
        if bounded is not logvar:  # the prior component is not bounded
            logvar = torch.cat([logvar[:, :1], bounded[:, 1:]], dim=1)
        # In half precision, a bias and a product that nearly cancel would miss a threshold by a tenth of it.
        with torch.autocast(hidden.device.type, enabled=False):
            weight, bias = float32_or_float64(self.alpha.weight), float32_or_float64(self.alpha.bias)
            score = F.linear(hidden.to(weight.dtype), weight, bias)
        log_alpha = self._log_alpha(score[:, 1:].squeeze(-1))
        prior_log_alpha = torch.full_like(log_alpha[:, :1], self.prior.alpha).log()
        return Posterior(
            mu,
            logvar,
            torch.cat([prior_log_alpha, log_alpha.masked_fill(key_padding_mask, -torch.inf)], dim=1),
            torch.cat([torch.zeros_like(key_padding_mask[:, :1]), key_padding_mask], dim=1),
        )

    def _log_alpha(self, score: Tensor) -> Tensor:
        if self.alpha_activation == "exp":
            return soft_bound(score, low=-6.0, high=60.0, slack=5.0)
        return torch.where(score > 0, score.clamp_min(torch.finfo(score.dtype).tiny).log(), -torch.inf)


def _components(linear: nn.Linear, hidden: Tensor, prior: Tensor) -> Tensor:
    """Apply `linear` to the tokens and put the prior [D] at position 0, where `hidden` is 0: [B, N+1, D], float32 or
    float64.

    Adding the prior in place of the bias avoids a copy of all components, forward and backward.
    """
    output = float32_or_float64(F.linear(hidden, linear.weight))
    offset = torch.cat([prior.unsqueeze(0).to(output), linear.bias.to(output).expand(hidden.shape[1] - 1, -1)])
    return output.add_(offset)
