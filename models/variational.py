"""Variational Transformers: a Gaussian for each vector that the latent keeps (Kingma & Welling 2014)."""

import functools
from abc import abstractmethod
from typing import TypeVar

import torch
from torch import Tensor

from models.annealing import anneal
from models.autoencoder import TextAutoencoder
from models.gaussian import GaussianBottleneck, Gaussians, kl_by_dimension, rate, with_free_bits
from models.latent import Latent, Memory, interpolate_by_position
from models.layered_autoencoder import LayeredAutoencoder
from models.packing import Packing
from models.settings import VariationalSettings
from models.text_model import AS_TRAINED, UNCHANGED, Encoding, Noise, Prices, UnsupportedError, required
from models.vanilla_attention import MultiheadAttention

LONGEST = 1_000_000  # tokens of the longest text that `lengths_with` considers

OwnSettings = TypeVar("OwnSettings", bound=VariationalSettings, covariant=True)


class Variational(TextAutoencoder[OwnSettings]):
    """Autoencoder whose memory is a draw from Gaussians in training, and their means in evaluation.

    A subclass makes the networks and the bottleneck, and defines the vectors that the latent keeps: `keep` for a text,
    `count_kept` for a length.

    Args:
        settings: sizes, prior and objective.
    """

    bottleneck: GaussianBottleneck

    @abstractmethod
    def keep(self, hidden: Tensor, key_padding_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the vectors that the latent keeps.

        Args:
            hidden: [B, N, D], the encoder's output.
            key_padding_mask: [B, N], bool, True at padding.

        Returns:
            The vectors [B, K, D] and their padding mask [B, K].
        """

    @abstractmethod
    def count_kept(self, lengths: Tensor) -> Tensor:
        """Compute the number of vectors that the latents of texts with [B] tokens keep: [B], int."""

    def latent_from(self, hidden: Tensor, key_padding_mask: Tensor) -> Encoding:
        """Compute the Gaussians of the vectors kept; draw from them in training, take their means in evaluation."""
        gaussians: Gaussians = self.bottleneck(*self.keep(hidden, key_padding_mask))
        vectors = gaussians.sample() if self.training else gaussians.mu
        return Encoding(
            latent=Memory(vectors, gaussians.key_padding_mask),
            vectors_kept=(~gaussians.key_padding_mask).sum(dim=-1),
            vectors=(~key_padding_mask).sum(dim=-1),
            kl_gaussian=self._kl_by_dimension(gaussians).mean(dim=-1),
            gaussians=gaussians,
            rate=rate(gaussians.detached(), self.settings.prior_mu, self.settings.prior_var),
        )

    @torch.no_grad()
    def pass_through(self, squared_norm: float) -> None:
        """Let the means be the encoder's vectors, with little noise; see `TextModel.pass_through`."""
        self.bottleneck.pass_through()

    def penalty(self, encoding: Encoding | None, progress: float, prices: Prices = UNCHANGED) -> Tensor:
        """Compute `lambda_G anneal_G mean KL_G` with the free bits of each dimension; see `TextModel.penalty`."""
        encoding, s = required(encoding, "latent"), self.settings
        weight = prices.gaussian * s.kl_gaussian_lambda * anneal(s.kl_annealing_gaussian, progress, s.kl_warmup)
        if not s.free_bits:
            return weight * required(encoding.kl_gaussian, "kl_gaussian").mean()
        return weight * with_free_bits(self._kl_by_dimension(required(encoding.gaussians, "gaussians")), s.free_bits)

    def sample_prior(
        self, lengths: Tensor, generator: torch.Generator | None = None, noise: Noise = AS_TRAINED
    ) -> Memory:
        """Draw as many vectors from the prior as texts of these lengths keep; see `TextModel.sample_prior`."""
        return Memory(*self._draw(self.count_kept(lengths), generator, self._temperature(noise)))

    def lengths_with(self, vectors: int, noise: Noise = AS_TRAINED) -> range:
        """Find the lengths at which `vectors` are kept, by counting at every length up to `LONGEST`."""
        fitting = (self.count_kept(torch.arange(1, LONGEST + 1)) == vectors).nonzero()
        if not len(fitting):
            raise UnsupportedError(f"{self.settings.name} keeps {vectors} vectors of no text, whatever its length")
        return range(int(fitting[0]) + 1, int(fitting[-1]) + 2)  # a longer text never keeps fewer

    def sample_posterior(
        self, encoding: Encoding, generator: torch.Generator | None = None, noise: Noise = AS_TRAINED
    ) -> Memory:
        """Draw every vector from its Gaussian; see `TextModel.sample_posterior`."""
        gaussians = required(encoding.gaussians, "gaussians")
        return Memory(gaussians.sample(generator, self._temperature(noise)), gaussians.key_padding_mask)

    def interpolate(self, a: Latent, b: Latent, tau: float) -> Memory:
        """Interpolate by position; see `TextModel.interpolate`."""
        return interpolate_by_position(a, b, tau)

    def log_importance_weights(
        self,
        source: Tensor,
        key_padding_mask: Tensor,
        target_input: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Compute `ln p(x | z) + ln p(z) − ln q(z | x)` with one draw of z, given the number of vectors of the text.

        See `TextModel.log_importance_weights`.
        """
        packing = Packing.of(key_padding_mask)
        posterior: Gaussians = self.bottleneck(*self.keep(self.encode_tokens(source, packing), key_padding_mask))
        z = posterior.sample(generator)
        loss = self.score(target_input, Memory(z, posterior.key_padding_mask), source, packing)
        each = packing.pad(loss.each.to(z.dtype))  # [B, N]
        return -each.sum(dim=-1) + self._prior_like(posterior).log_density(z) - posterior.log_density(z)

    def _kl_by_dimension(self, gaussians: Gaussians) -> Tensor:
        """Compute the divergence from the prior in each dimension: [B, D], nats."""
        return kl_by_dimension(gaussians, self.settings.prior_mu, self.settings.prior_var)

    def _prior_like(self, posterior: Gaussians) -> Gaussians:
        """Return the prior with the shapes and the mask of the posterior."""
        mu = torch.full_like(posterior.mu, self.settings.prior_mu)
        return Gaussians(mu, torch.full_like(mu, self.settings.prior_var).log(), posterior.key_padding_mask)

    def _temperature(self, noise: Noise) -> float:
        if noise.kappa is not None:
            raise UnsupportedError(f"{self.settings.name} draws each vector once: kappa means nothing to it")
        return noise.temperature

    def _draw(self, counts: Tensor, generator: torch.Generator | None, temperature: float) -> tuple[Tensor, Tensor]:
        """Draw vectors from the prior: [B, K, D], and the mask [B, K], True beyond the count of each text."""
        s, width = self.settings, int(counts.max())
        noise = torch.randn(len(counts), width, s.dim_h, device=counts.device, generator=generator)
        mask = torch.arange(width, device=counts.device) >= counts.unsqueeze(1)
        return s.prior_mu + temperature * s.prior_var**0.5 * noise, mask


class VariationalTransformer(Variational[OwnSettings], LayeredAutoencoder[OwnSettings]):
    """Variational autoencoder with the networks of a Transformer from scratch.

    Args:
        settings: sizes, prior and objective.
    """

    def __init__(self, settings: OwnSettings) -> None:
        attention = functools.partial(MultiheadAttention, settings.dim_h, settings.num_heads, settings.dropout)
        LayeredAutoencoder.__init__(self, settings, attention)  # pyright: ignore[reportUnknownMemberType]
        self.bottleneck = GaussianBottleneck(settings.dim_h)
