"""`NVIB`: the nonparametric variational autoencoder (Henderson & Fehr, ICLR 2023)."""

import math

import torch
from torch import Tensor

import nvib
from models.annealing import anneal
from models.autoencoder import Encoding, TextAutoencoder
from models.gaussian import Gaussians, kl_by_dimension, with_free_bits
from models.settings import NVAESettings
from nvib import DiscreteMixture, GaussianMixture

# e^2 pseudo-counts a token keep the noise of the sampled weights low while the decoder learns to attend;
# from e^1 it takes more than twice as many steps until it does.
INITIAL_LOG_ALPHA = 2.0


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

    def sample_prior(self, lengths: Tensor, generator: torch.Generator | None = None) -> DiscreteMixture:
        """Weights and vectors of the prior at these lengths."""
        return self.prior.sample(lengths, self.settings.dim_h, self.settings.kappa, generator)

    def interpolate(
        self, a: DiscreteMixture | GaussianMixture, b: DiscreteMixture | GaussianMixture, tau: float
    ) -> DiscreteMixture | GaussianMixture:
        """The mixture of both mixtures."""
        return nvib.interpolate(a, b, tau)
