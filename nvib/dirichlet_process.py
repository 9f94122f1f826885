"""Bounded Dirichlet processes: the prior, the posterior of a text, and how they are sampled."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from nvib._check import check_every_row_real, check_kappa, check_mask, check_shape
from nvib.mixture import DiscreteMixture, GaussianMixture


@dataclass(frozen=True)
class Prior:
    """A Dirichlet process `DP(N(mu, diag var), alpha + delta * n)` for a text of n tokens.

    Henderson & Fehr (2023), the conditional prior: `delta = 0` does not grow with the text,
    `delta = 1` expects one unit of pseudo-count for every token.

    Args:
        mu: mean of the base distribution; a number, or [D].
        var: its variance, above 0; a number, or [D].
        alpha: concentration at length 0, above 0, in pseudo-counts.
        delta: concentration added for every token, not negative, in pseudo-counts.

    Raises:
        ValueError: a value is out of its range.
    """

    mu: float | Tensor = 0.0
    var: float | Tensor = 1.0
    alpha: float = 1.0
    delta: float = 1.0

    def __post_init__(self) -> None:
        least = self.var
        if isinstance(least, Tensor):  # whose content must not decide what is run while compiling
            least = 1.0 if torch.compiler.is_compiling() else least.min().item()
        if not least > 0:
            raise ValueError(f"var must be above 0, got {least}")
        if not self.alpha > 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}")
        if not self.delta >= 0:
            raise ValueError(f"delta must not be negative, got {self.delta}")

    def concentration(self, lengths: Tensor) -> Tensor:
        """`alpha_0 = alpha + delta * n`, the pseudo-counts of whole texts (Henderson & Fehr 2023, conditional prior).

        Args:
            lengths: [B], int, tokens n of each text.

        Returns:
            [B], float64, in pseudo-counts.
        """
        return self.alpha + self.delta * lengths.double()

    def sample(
        self, lengths: Tensor, dim: int, kappa: int = 1, generator: torch.Generator | None = None
    ) -> DiscreteMixture:
        """Draw a set of vectors for each length: `pi ~ Dir(alpha_0/kappa_0, …)`, `z ~ N(mu, var)`.

        Henderson & Fehr (2023), generation: the weights are drawn, not replaced by their mean.

        Args:
            lengths: [B], int, tokens of each text.
            dim: D, width of the vectors.
            kappa: draws per component, at least 1; `kappa_0 = kappa (n + 1)` vectors are drawn.
            generator: source of randomness, of the device of `lengths`; torch's own if None.

        Returns:
            [B, max kappa_0, …] weights and vectors in float32.

        Raises:
            ValueError: `lengths` are not integers, a length or `kappa` is below 1, or `mu` or `var` has another width.
        """
        check_shape("lengths", lengths, (None,))
        if lengths.is_floating_point():
            raise ValueError(f"lengths must be integers, got {lengths.dtype}")
        check_kappa(kappa)
        self._check_width(dim)
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

    def _check_width(self, dim: int) -> None:
        for name, value in (("mu", self.mu), ("var", self.var)):
            if isinstance(value, Tensor) and value.dim():
                check_shape(f"prior.{name}", value, (dim,))


@dataclass(frozen=True)
class Posterior:
    """The Dirichlet processes of B texts: pseudo-counts and a Gaussian for every component.

    `DP(sum_i (alpha_i / alpha_0) N(mu_i, diag sigma_i^2), alpha_0)`, `alpha_0 = sum_i alpha_i` (Henderson & Fehr
    2023). Component 0 is the prior's; the others are a text's tokens.

    Args:
        mu: [B, N+1, D], means.
        logvar: [B, N+1, D], log variances.
        log_alpha: [B, N+1], log pseudo-counts; -inf is a pseudo-count of zero.
        key_padding_mask: [B, N+1], bool, True at padding; what stands there changes nothing.

    Raises:
        ValueError: a shape or the mask's type does not fit, or a text is padding alone (not looked for while
            compiling).
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
        """n, the real tokens of each text, without component 0: [B], int."""
        return (~self.key_padding_mask).sum(dim=-1) - 1

    @property
    def alpha(self) -> Tensor:
        """Pseudo-counts, 0 at padding: [B, N+1], float32 or better."""
        return self._masked_log_alpha().exp()

    @property
    def alpha0(self) -> Tensor:
        """Pseudo-counts of a whole text, component 0 included: [B], float32 or better."""
        return self.alpha.sum(dim=-1)

    def sample(self, kappa: int = 1, generator: torch.Generator | None = None) -> DiscreteMixture:
        """Draw a set of vectors for each text, differentiable in every parameter (training).

        `g_ik ~ Gamma(alpha_i / kappa, 1)`, `pi = g / sum g`, `z_ik ~ N(mu_i, sigma_i^2)`; the
        `kappa` draws of a component stand side by side. In float32 or better under autocast too.

        Args:
            kappa: draws per component, at least 1.
            generator: source of randomness, of the posterior's device; torch's own if None.

        Returns:
            [B, kappa (N+1), …]; -inf is the log weight of padding and of pseudo-counts of zero.

        Raises:
            ValueError: `kappa` is below 1.

        Henderson & Fehr (2023), the bounded Dirichlet process; normalising all Gamma draws at once has the law of
        splitting each component's share by a Dirichlet of its own. It is differentiable once.
        """
        check_kappa(kappa)
        mask = self.key_padding_mask.repeat_interleave(kappa, dim=1)  # [B, K]
        log_share = self._masked_log_alpha() - math.log(kappa)
        log_pi = _sample_log_dirichlet(log_share.repeat_interleave(kappa, dim=1), generator)
        mu, logvar = (_float32_or_better(value) for value in (self.mu, self.logvar))
        if kappa > 1:
            mu, logvar = (value.repeat_interleave(kappa, dim=1) for value in (mu, logvar))
        half_noise = torch.empty_like(mu).normal_(std=0.5, generator=generator)
        return DiscreteMixture(_Reparameterise.apply(mu, logvar, mask.unsqueeze(-1), half_noise), log_pi, mask)

    def mean(self, alpha_threshold: float = 0.1) -> GaussianMixture:
        """The mean measure, `sum_i (alpha_i / alpha_0) N(mu_i, sigma_i^2)` (evaluation; Henderson & Fehr 2023).

        Args:
            alpha_threshold: in pseudo-counts; components with fewer are dropped, and the weights of
                the others made to sum to one; 0 keeps all. Component 0 is never dropped.

        Returns:
            [B, N+1, …]; what was dropped is masked.

        Raises:
            ValueError: `alpha_threshold` is negative.
        """
        if not alpha_threshold >= 0:
            raise ValueError(f"alpha_threshold must not be negative, got {alpha_threshold}")
        log_alpha = self._masked_log_alpha()
        dropped = log_alpha.exp() < alpha_threshold
        dropped = torch.cat([torch.zeros_like(dropped[:, :1]), dropped[:, 1:]], dim=1)
        mask = self.key_padding_mask | dropped
        log_pi = log_alpha.masked_fill(mask, -math.inf).log_softmax(dim=-1)
        padding = mask.unsqueeze(-1)
        return GaussianMixture(
            _float32_or_better(self.mu).masked_fill(padding, 0.0),
            _float32_or_better(self.logvar).masked_fill(padding, 0.0),
            log_pi,
            mask,
        )

    def _masked_log_alpha(self) -> Tensor:
        return _float32_or_better(self.log_alpha).masked_fill(self.key_padding_mask, -math.inf)


torch.export.register_dataclass(Posterior, serialized_type_name="nvib.Posterior")  # so that it can be returned


class _Reparameterise(torch.autograd.Function):
    """`mu + exp(logvar / 2) * noise` from half the noise; at padding `mu`, whatever its `logvar`.

    As separate operations this passes over the vectors twice as often, and keeps three tensors instead of one.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, mu: Tensor, logvar: Tensor, padding: Tensor, half_noise: Tensor) -> Tensor:
        """[B, K, D] vectors; keeps half of what was added to `mu`, the gradient by `logvar`."""
        half = (0.5 * logvar).exp_().mul_(half_noise).masked_fill_(padding, 0.0)
        ctx.save_for_backward(half)
        return torch.add(mu, half, alpha=2.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """By `mu` and `logvar`."""
        (half,) = ctx.saved_tensors
        return gradient, gradient * half, None, None


def _sample_log_dirichlet(log_alpha: Tensor, generator: torch.Generator | None) -> Tensor:
    """Log weights of a Dirichlet draw over the last dimension; -inf where `log_alpha` is.

    A Gamma of a small shape underflows, so it is drawn as `log Gamma(a) = log Gamma(a + 1) + log(U) / a`.
    `log U` is drawn as minus an exponential, which is never log 0; it is multiplied with
    `exp(-log a)`, because the gradient of a division by `a = exp(log a)` overflows for small `a`.
    """
    absent = log_alpha == -math.inf
    # Where exp(-log a) would overflow, the weight is none and its gradient would be 0 times infinity.
    log_a = log_alpha.masked_fill(absent, 0.0).clamp(min=-80.0)
    # The standard Gamma carries the implicit reparameterisation gradient and, unlike
    # torch.distributions.Gamma.rsample, takes a generator.
    # Past e^40 the draw is its mean to the last digit, so only what stays in range is drawn.
    drawn = log_a.clamp(max=40.0)
    log_gamma = torch._standard_gamma(drawn.exp() + 1.0, generator=generator).log() + (log_a - drawn)
    minus_log_u = torch.empty_like(log_a).exponential_(generator=generator)
    log_g = log_gamma - minus_log_u * (-log_a).exp()
    return log_g.masked_fill(absent, -math.inf).log_softmax(dim=-1)


def _float32_or_better(value: Tensor) -> Tensor:
    return value if value.dtype == torch.float64 else value.float()
