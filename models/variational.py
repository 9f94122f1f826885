"""What the variational Transformers share: a Gaussian for each vector that they keep (Kingma & Welling 2014)."""

from abc import abstractmethod

import torch
from torch import Tensor

from models.annealing import anneal
from models.autoencoder import Encoding, TextAutoencoder
from models.gaussian import GaussianBottleneck, Gaussians, kl_by_dimension, with_free_bits
from models.packing import Packing
from models.settings import VariationalSettings
from models.text_model import AS_TRAINED, Noise, UnsupportedError
from models.vanilla_attention import Memory, MultiheadAttention, interpolate

LONGEST = 1_000_000  # tokens of a text, at most, that `length_with` looks at


class VariationalTransformer(TextAutoencoder):
    """The memory is a draw from Gaussians in training and their means in evaluation.

    A model says which vectors it keeps: `keep` of a text, `count_kept` of a length.
    """

    def __init__(self, settings: VariationalSettings) -> None:
        super().__init__(settings, lambda: MultiheadAttention(settings.dim_h, settings.num_heads, settings.dropout))
        self.bottleneck = GaussianBottleneck(settings.dim_h)

    @abstractmethod
    def keep(self, hidden: Tensor, key_padding_mask: Tensor) -> tuple[Tensor, Tensor]:
        """From the encoder's output [B, N, D] and its mask to the vectors kept [B, K, D] and theirs [B, K]."""

    @abstractmethod
    def count_kept(self, lengths: Tensor) -> Tensor:
        """How many vectors texts of [B] tokens keep: [B]."""

    def latent_from(self, hidden: Tensor, key_padding_mask: Tensor) -> Encoding:
        """Gaussians of the vectors kept."""
        gaussians = self.bottleneck(*self.keep(hidden, key_padding_mask))
        vectors = gaussians.sample() if self.training else gaussians.mu
        return Encoding(
            latent=Memory(vectors, gaussians.key_padding_mask),
            vectors_kept=(~gaussians.key_padding_mask).sum(dim=-1),
            vectors=(~key_padding_mask).sum(dim=-1),
            kl_gaussian=self._kl_by_dimension(gaussians).mean(dim=-1),
            gaussians=gaussians,
        )

    def penalty(self, encoding: Encoding, progress: float) -> Tensor:
        """`lambda_G anneal_G mean KL_G`, each of its dimensions free up to the free bits."""
        s = self.settings
        weight = s.kl_gaussian_lambda * anneal(s.kl_annealing_gaussian, progress, s.kl_warmup)
        if not s.free_bits:
            return weight * encoding.kl_gaussian.mean()
        return weight * with_free_bits(self._kl_by_dimension(encoding.gaussians), s.free_bits)

    def sample_prior(
        self, lengths: Tensor, generator: torch.Generator | None = None, noise: Noise = AS_TRAINED
    ) -> Memory:
        """As many draws of the prior as texts of these lengths keep."""
        return Memory(*self._draw(self.count_kept(lengths), generator, self._temperature(noise)))

    def length_with(self, vectors: int, noise: Noise = AS_TRAINED) -> int:
        """By counting what texts of every length keep."""
        fitting = (self.count_kept(torch.arange(1, LONGEST + 1)) == vectors).nonzero()
        if not len(fitting):
            raise UnsupportedError(f"{self.settings.name} keeps {vectors} vectors of no text, whatever its length")
        return int(fitting[0]) + 1

    def sample_posterior(
        self, encoding: Encoding, generator: torch.Generator | None = None, noise: Noise = AS_TRAINED
    ) -> Memory:
        """A draw of every vector's Gaussian."""
        vectors = encoding.gaussians.sample(generator, self._temperature(noise))
        return Memory(vectors, encoding.gaussians.key_padding_mask)

    def interpolate(self, a: Memory, b: Memory, tau: float) -> Memory:
        """By position."""
        return interpolate(a, b, tau)

    def log_importance_weights(
        self,
        source: Tensor,
        key_padding_mask: Tensor,
        target_input: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """`ln p(x | z) + ln p(z) − ln q(z | x)` with one draw of z, given the text's number of vectors."""
        packing = Packing.of(key_padding_mask)
        posterior = self.bottleneck(*self.keep(self.encode_tokens(source, packing), key_padding_mask))
        z = posterior.sample(generator)
        loss = self.score(target_input, Memory(z, posterior.key_padding_mask), source, packing)
        each = packing.pad(loss.each.to(z.dtype))  # [B, N]
        return -each.sum(dim=-1) + self._prior_like(posterior).log_density(z) - posterior.log_density(z)

    def _kl_by_dimension(self, gaussians: Gaussians) -> Tensor:
        return kl_by_dimension(gaussians, self.settings.prior_mu, self.settings.prior_var)

    def _prior_like(self, posterior: Gaussians) -> Gaussians:
        mu = torch.full_like(posterior.mu, self.settings.prior_mu)
        return Gaussians(mu, torch.full_like(mu, self.settings.prior_var).log(), posterior.key_padding_mask)

    def _temperature(self, noise: Noise) -> float:
        if noise.kappa is not None:
            raise UnsupportedError(f"{self.settings.name} draws each vector once: kappa means nothing to it")
        return noise.temperature

    def _draw(self, counts: Tensor, generator: torch.Generator | None, temperature: float) -> tuple[Tensor, Tensor]:
        """Vectors of the prior [B, K, D], and the mask [B, K] of those beyond each text's count."""
        s, width = self.settings, int(counts.max())
        noise = torch.randn(len(counts), width, s.dim_h, device=counts.device, generator=generator)
        mask = torch.arange(width, device=counts.device) >= counts.unsqueeze(1)
        return s.prior_mu + temperature * s.prior_var**0.5 * noise, mask
