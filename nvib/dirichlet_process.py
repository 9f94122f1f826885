"""Bounded Dirichlet processes: the prior, the posterior of a text, and sampling from both."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nvib._check import check_every_row_real, check_kappa, check_mask, check_shape
from nvib._tensors import float32_or_float64
from nvib.mixture import DiscreteMixture, GaussianMixture


@dataclass(frozen=True)
class Prior:
    """A Dirichlet process prior `DP(N(mu, diag var), alpha + delta * n)` for a text of n tokens.

    Henderson & Fehr (2023), the conditional prior. With `delta = 0` the concentration does not depend on the length;
    with `delta = 1` the prior expects one pseudo-count per token.

    Args:
        mu: mean of the base distribution; a number, or [D].
        var: variance of the base distribution, above 0; a number, or [D].
        alpha: concentration at length 0, above 0, in pseudo-counts.
        delta: concentration added per token, not negative, in pseudo-counts.

    Raises:
        ValueError: if an argument is out of range.
    """

    mu: float | Tensor = 0.0
    var: float | Tensor = 1.0
    alpha: float = 1.0
    delta: float = 1.0

    def __post_init__(self) -> None:
        least = self.var
        if isinstance(least, Tensor):  # control flow must not depend on tensor values while compiling
            least = 1.0 if torch.compiler.is_compiling() else least.min().item()
        if not least > 0:
            raise ValueError(f"var must be above 0, got {least}")
        if not self.alpha > 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}")
        if not self.delta >= 0:
            raise ValueError(f"delta must not be negative, got {self.delta}")

    def concentration(self, lengths: Tensor) -> Tensor:
        """Compute `alpha_0 = alpha + delta * n`, the total concentration (Henderson & Fehr 2023, conditional prior).

        Args:
            lengths: [B], int, number of tokens n in each text.

        Returns:
            [B], float64, in pseudo-counts.
        """
        return self.alpha + self.delta * lengths.double()

    def sample(
        self, lengths: Tensor, dim: int, kappa: int = 1, generator: torch.Generator | None = None
    ) -> DiscreteMixture:
        """Sample one mixture per length: `pi ~ Dir(alpha_0/kappa_0, …)`, `z ~ N(mu, var)`.

        Henderson & Fehr (2023), generation. The weights are sampled, not replaced by their mean.

        Args:
            lengths: [B], int, number of tokens n in each text.
            dim: D, width of the vectors.
            kappa: draws per component, at least 1; a text has `kappa_0 = kappa (n + 1)` vectors.
            generator: random number generator on the device of `lengths`; None uses the default generator.

        Returns:
            A mixture of max kappa_0 components, in float32; shorter texts are padded.

        Raises:
            ValueError: if `lengths` are not integers, if a length or `kappa` is below 1, or if `mu` or `var` has a
                width other than `dim`.
        """
        check_shape("lengths", lengths, (None,))
        if lengths.is_floating_point():
            raise ValueError(f"lengths must be integers, got {lengths.dtype}")
        check_kappa(kappa)
        check_prior_width(self, dim)
        if not torch.compiler.is_compiling() and lengths.numel() and int(lengths.min()) < 1:
            raise ValueError(f"lengths must be at least 1, got {int(lengths.min())}")
        draws = kappa * (lengths + 1)  # [B]
        width = int(draws.max()) if draws.numel() else 0
        mask = torch.arange(width, device=lengths.device) >= draws.unsqueeze(1)  # [B, K]
        log_share = (self.concentration(lengths) / draws).log().float()  # [B]
        log_pi = _sample_log_dirichlet(log_share.unsqueeze(1).expand_as(mask).masked_fill(mask, -math.inf), generator)
        noise = torch.empty(*mask.shape, dim, device=lengths.device).normal_(generator=generator)
        mu, var = (torch.as_tensor(value, device=noise.device, dtype=noise.dtype) for value in (self.mu, self.var))
        z = mu + var.sqrt() * noise  # [B, K, D]
        return DiscreteMixture(z.masked_fill(mask.unsqueeze(-1), 0.0), log_pi, mask)


@dataclass(frozen=True)
class Posterior:
    """The posterior Dirichlet processes of B texts: a pseudo-count and a Gaussian for every component.

    `DP(sum_i (alpha_i / alpha_0) N(mu_i, diag sigma_i^2), alpha_0)`, `alpha_0 = sum_i alpha_i` (Henderson & Fehr
    2023). Component 0 is the prior component; components 1 to N are the tokens of the text.

    Args:
        mu: [B, N+1, D], means.
        logvar: [B, N+1, D], log variances.
        log_alpha: [B, N+1], log pseudo-counts; -inf is a pseudo-count of zero.
        key_padding_mask: [B, N+1], bool, True at padding; values at padding are ignored.

    Raises:
        ValueError: if a shape or the dtype of the mask is wrong, or if all positions of a text are padding. The last
            check is skipped while compiling.
    """

    mu: Tensor
    logvar: Tensor
    log_alpha: Tensor
    key_padding_mask: Tensor

    def __post_init__(self) -> None:
        check_shape("mu", self.mu, (None, None, None))
        check_shape("logvar", self.logvar, tuple(self.mu.shape))
        check_shape("log_alpha", self.log_alpha, tuple(self.mu.shape[:2]))
        check_mask("key_padding_mask", self.key_padding_mask, tuple(self.mu.shape[:2]))
        check_every_row_real("key_padding_mask", self.key_padding_mask)

    @property
    def lengths(self) -> Tensor:
        """Number of real tokens n in each text, without component 0: [B], int."""
        return (~self.key_padding_mask).sum(dim=-1) - 1

    @property
    def alpha(self) -> Tensor:
        """Pseudo-counts of the components, 0 at padding: [B, N+1], float32 or float64."""
        return masked_log_alpha(self).exp()

    @property
    def alpha0(self) -> Tensor:
        """Total pseudo-count of each text, component 0 included: [B], float32 or float64."""
        return self.alpha.sum(dim=-1)

    def sample(self, kappa: int = 1, generator: torch.Generator | None = None) -> DiscreteMixture:
        """Sample one discrete mixture per text, differentiable in every parameter (training).

        Henderson & Fehr (2023), the bounded Dirichlet process: `g_ik ~ Gamma(alpha_i / kappa, 1)`, `pi = g / sum g`,
        `z_ik ~ N(mu_i, sigma_i^2)`. Normalising all Gamma draws at once has the same law as splitting the weight of
        each component by a Dirichlet of its own. The `kappa` draws of a component are adjacent. The result is float32
        or float64, under autocast too. It is differentiable once.

        Args:
            kappa: draws per component, at least 1.
            generator: random number generator on the device of the posterior; None uses the default generator.

        Returns:
            A mixture of kappa (N+1) components; padding and pseudo-counts of zero have a log weight of -inf.

        Raises:
            ValueError: if `kappa` is not an integer of at least 1.
        """
        check_kappa(kappa)
        mask = self.key_padding_mask.repeat_interleave(kappa, dim=1)  # [B, K]
        log_share = masked_log_alpha(self) - math.log(kappa)
        log_pi = _sample_log_dirichlet(log_share.repeat_interleave(kappa, dim=1), generator)
        mu, logvar = (float32_or_float64(value) for value in (self.mu, self.logvar))
        if kappa > 1:
            mu, logvar = (value.repeat_interleave(kappa, dim=1) for value in (mu, logvar))
        half_noise = torch.empty_like(mu).normal_(std=0.5, generator=generator)
        return DiscreteMixture(_reparameterise(mu, logvar, mask.unsqueeze(-1), half_noise), log_pi, mask)

    def mean(self, alpha_threshold: float = 0.1) -> GaussianMixture:
        """Compute the mean measure, `sum_i (alpha_i / alpha_0) N(mu_i, sigma_i^2)` (evaluation; Henderson & Fehr 2023).

        Args:
            alpha_threshold: components with fewer pseudo-counts are dropped, and the remaining weights are
                renormalised; 0 keeps all components. Component 0 is never dropped.

        Returns:
            A mixture of N+1 components; dropped components are masked.

        Raises:
            ValueError: if `alpha_threshold` is negative.
        """
        if not alpha_threshold >= 0:
            raise ValueError(f"alpha_threshold must not be negative, got {alpha_threshold}")
        log_alpha = masked_log_alpha(self)
        dropped = log_alpha.exp() < alpha_threshold
        dropped = torch.cat([torch.zeros_like(dropped[:, :1]), dropped[:, 1:]], dim=1)
        mask = self.key_padding_mask | dropped
        log_pi = log_alpha.masked_fill(mask, -math.inf).log_softmax(dim=-1)
        padding = mask.unsqueeze(-1)
        return GaussianMixture(
            float32_or_float64(self.mu).masked_fill(padding, 0.0),
            float32_or_float64(self.logvar).masked_fill(padding, 0.0),
            log_pi,
            mask,
        )


torch.export.register_dataclass(Posterior, serialized_type_name="nvib.Posterior")  # as in nvib.mixture


def check_prior_width(prior: Prior, dim: int) -> None:
    """Check that `mu` and `var` of a prior are numbers or have width `dim`.

    Raises:
        ValueError: if `mu` or `var` has another shape.
    """
    for name, value in (("mu", prior.mu), ("var", prior.var)):
        if isinstance(value, Tensor) and value.dim():
            check_shape(f"prior.{name}", value, (dim,))


def masked_log_alpha(posterior: Posterior) -> Tensor:
    """Return log pseudo-counts, -inf at padding: [B, N+1], float32 or float64."""
    return float32_or_float64(posterior.log_alpha).masked_fill(posterior.key_padding_mask, -math.inf)


class _Reparameterise(torch.autograd.Function):
    """Compute `mu + exp(logvar / 2) * noise` from half the noise; the result is `mu` at padding.

    One fused operation makes half as many passes over the vectors as separate operations, and saves one tensor for
    backward instead of three.
    """

    @staticmethod
    def forward(ctx: Any, mu: Tensor, logvar: Tensor, padding: Tensor, half_noise: Tensor) -> Tensor:
        """Return vectors [B, K, D], and save half of the term added to `mu`: the gradient with respect to `logvar`."""
        half = (0.5 * logvar).exp_().mul_(half_noise).masked_fill_(padding, 0.0)
        ctx.save_for_backward(half)
        return torch.add(mu, half, alpha=2.0)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] torch passes one gradient per output
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, Tensor, None, None]:
        """Return the gradients with respect to `mu` and `logvar`."""
        (half,) = ctx.saved_tensors
        return gradient, gradient * half, None, None


def _reparameterise(mu: Tensor, logvar: Tensor, padding: Tensor, half_noise: Tensor) -> Tensor:
    """Apply `_Reparameterise` and return vectors [B, K, D]."""
    return _Reparameterise.apply(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] not annotated
        mu, logvar, padding, half_noise
    )


def _sample_log_dirichlet(log_alpha: Tensor, generator: torch.Generator | None) -> Tensor:
    """Sample log weights of a Dirichlet distribution over the last dimension; -inf where `log_alpha` is -inf.

    A Gamma draw underflows for a small shape, so the sampler uses `log Gamma(a) = log Gamma(a + 1) + log(U) / a`. It
    draws `log U` as minus an exponential, which is never log 0, and multiplies it by `exp(-log a)`: the gradient of a
    division by `a = exp(log a)` overflows for small `a`.
    """
    absent = log_alpha == -math.inf
    # Below -80, exp(-log a) overflows. The weight is zero there, and its gradient would be 0 times infinity.
    log_a = log_alpha.masked_fill(absent, 0.0).clamp(min=-80.0)
    # torch._standard_gamma has the implicit reparameterisation gradient and, unlike
    # torch.distributions.Gamma.rsample, takes a generator.
    # For shapes above e^40 a draw equals its mean in floating point, so the shape is clamped to that range.
    drawn = log_a.clamp(max=40.0)
    gamma = torch._standard_gamma(  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage] takes a generator
        drawn.exp() + 1.0, generator=generator
    )
    log_gamma = gamma.log() + (log_a - drawn)
    minus_log_u = torch.empty_like(log_a).exponential_(generator=generator)
    log_g = log_gamma - minus_log_u * (-log_a).exp()
    return log_g.masked_fill(absent, -math.inf).log_softmax(dim=-1)
