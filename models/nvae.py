"""`NVIB`: the nonparametric variational autoencoder (Henderson & Fehr, ICLR 2023)."""

import math

import torch
from torch import Tensor

import nvib
from models.annealing import anneal
from models.autoencoder import Encoding, TextAutoencoder
from models.gaussian import Gaussians, kl_by_dimension, with_free_bits
from models.settings import NVAESettings
from models.text_model import AS_TRAINED, Noise, UnsupportedError
from nvib import DiscreteMixture, GaussianMixture, Posterior, Prior

# e^2 pseudo-counts a token keep the noise of the sampled weights low while the decoder learns to attend;
# from e^1 it takes more than twice as many steps until it does.
INITIAL_LOG_ALPHA = 2.0

COLD = 1e-6  # temperature of a latent below which float32 cannot tell its draws from its mean


class NVAE(TextAutoencoder):
    """The encoder's output goes through an NVIB layer; every decoder layer denoises its mixture."""

    def __init__(self, settings: NVAESettings) -> None:
        super().__init__(
            settings,
            lambda: nvib.DenoisingMultiheadAttention(settings.dim_h, settings.num_heads, settings.dropout, bias=True),
        )
        self.prior = nvib.Prior(settings.prior_mu, settings.prior_var, settings.prior_alpha, settings.delta)
        self.bottleneck = nvib.NVIB(
            settings.dim_h, self.prior, settings.kappa, settings.alpha_threshold, settings.alpha_activation
        )
        start = INITIAL_LOG_ALPHA if settings.alpha_activation == "exp" else math.exp(INITIAL_LOG_ALPHA)
        torch.nn.init.constant_(self.bottleneck.alpha.bias, start)

    def latent_from(self, hidden: Tensor, key_padding_mask: Tensor) -> Encoding:
        """A mixture: a sample of the posterior in training, its mean measure in evaluation."""
        posterior, mixture = self.bottleneck(hidden, key_padding_mask)
        above_threshold = posterior.mean(self.settings.alpha_threshold) if self.training else mixture
        return Encoding(
            latent=mixture,
            vectors_kept=(~above_threshold.key_padding_mask).sum(dim=-1),
            vectors=posterior.lengths + 1,
            kl_gaussian=nvib.kl_gaussian(posterior, self.prior, self.settings.kappa),
            kl_dirichlet=nvib.kl_dirichlet(posterior, self.prior, self.settings.kappa),
            gaussians=Gaussians(posterior.mu[:, 1:], posterior.logvar[:, 1:], key_padding_mask),
            posterior=posterior,
        )

    def penalty(self, encoding: Encoding, progress: float) -> Tensor:
        """`lambda_G anneal_G mean KL_G + lambda_D anneal_D mean KL_D`, KL_G's dimensions free up to the free bits."""
        s = self.settings
        gaussian = s.kl_gaussian_lambda * anneal(s.kl_annealing_gaussian, progress, s.kl_warmup)
        dirichlet = s.kl_dirichlet_lambda * anneal(s.kl_annealing_dirichlet, progress, s.kl_warmup)
        return gaussian * self._kl_gaussian(encoding) + dirichlet * encoding.kl_dirichlet.mean()

    def _kl_gaussian(self, encoding: Encoding) -> Tensor:
        s, posterior = self.settings, encoding.posterior
        if not s.free_bits:
            return encoding.kl_gaussian.mean()
        # The prior's own component, which is left out here, does not diverge from it.
        shares = s.kappa * posterior.log_alpha.softmax(dim=-1)[:, 1:]
        return with_free_bits(kl_by_dimension(encoding.gaussians, s.prior_mu, s.prior_var, shares), s.free_bits)

    def sample_prior(
        self, lengths: Tensor, generator: torch.Generator | None = None, noise: Noise = AS_TRAINED
    ) -> DiscreteMixture | GaussianMixture:
        """Weights and vectors of the prior at these lengths; its mean, the base distribution, at temperature 0."""
        s = self.settings
        if noise.temperature < COLD:
            shape = (len(lengths), 1, s.dim_h)
            mu = torch.full(shape, s.prior_mu, dtype=torch.float32, device=lengths.device)
            log_pi = mu.new_zeros(shape[:2])
            return GaussianMixture(mu, torch.full_like(mu, math.log(s.prior_var)), log_pi, log_pi.bool())
        squared = noise.temperature**2
        prior = Prior(s.prior_mu, s.prior_var * squared, s.prior_alpha / squared, s.delta / squared)
        drawn = prior.sample(lengths, s.dim_h, self._kappa(noise), generator)
        return _with_rest(drawn, torch.full_like(drawn.z, math.log(s.prior_var)), noise.temperature)

    def length_with(self, vectors: int, noise: Noise = AS_TRAINED) -> int:
        """`n` of `kappa (n + 1)` vectors."""
        kappa = self._kappa(noise)
        if vectors % kappa or vectors < 2 * kappa:
            raise UnsupportedError(
                f"{self.settings.name} draws {kappa} for each of a text's n + 1 components: the number of vectors must "
                f"be a multiple of {kappa} and at least {2 * kappa}, got {vectors}"
            )
        return vectors // kappa - 1

    def sample_posterior(
        self, encoding: Encoding, generator: torch.Generator | None = None, noise: Noise = AS_TRAINED
    ) -> DiscreteMixture | GaussianMixture:
        """Weights and vectors of the posterior, all components' (none is dropped, as in training)."""
        if noise.temperature < COLD:
            return encoding.latent
        own, kappa, shift = encoding.posterior, self._kappa(noise), 2.0 * math.log(noise.temperature)
        tempered = Posterior(own.mu, own.logvar + shift, own.log_alpha - shift, own.key_padding_mask)
        logvar = own.logvar.repeat_interleave(kappa, dim=1)
        return _with_rest(tempered.sample(kappa, generator), logvar, noise.temperature)

    def _kappa(self, noise: Noise) -> int:
        return self.settings.kappa if noise.kappa is None else noise.kappa

    def interpolate(
        self, a: DiscreteMixture | GaussianMixture, b: DiscreteMixture | GaussianMixture, tau: float
    ) -> DiscreteMixture | GaussianMixture:
        """The mixture of both mixtures."""
        return nvib.interpolate(a, b, tau)


def _with_rest(drawn: DiscreteMixture, logvar: Tensor, temperature: float) -> DiscreteMixture | GaussianMixture:
    """Vectors that were drawn at a temperature, with what it leaves of their variance.

    Below 1 the draws hold `temperature²` of the variance, and the rest stays in the mixture, for the attention to
    average over. So the mean measure is the same at every temperature up to 1, and what is left at 0.

    Args:
        drawn: [B, K, …].
        logvar: [B, K, D], log variances at temperature 1.
        temperature: above 0.
    """
    if temperature >= 1.0:
        return drawn
    return GaussianMixture(drawn.z, logvar + math.log1p(-(temperature**2)), drawn.log_pi, drawn.key_padding_mask)
