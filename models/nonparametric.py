"""The nonparametric latent of a text: a Dirichlet process posterior (Henderson & Fehr, ICLR 2023)."""

import math
from dataclasses import replace

import torch
from torch import Tensor

import nvib
from models.annealing import anneal
from models.autoencoder import TextAutoencoder
from models.gaussian import Gaussians, kl_by_dimension, let_through, rate, with_free_bits
from models.latent import Draws, Latent, Placed
from models.latent import hidden as hide
from models.posterior_draws import draw_each
from models.readings import INTEGRATING, draws_of
from models.settings import NVAESettings
from models.text_model import AS_TRAINED, UNCHANGED, Encoding, Noise, Prices, UnsupportedError, required
from nvib import DiscreteMixture, GaussianMixture, Posterior, Prior

# Initial log pseudo-count of a token. e^2 keeps the noise of the sampled weights low while the decoder learns to
# attend; with e^1 this takes more than twice as many steps.
INITIAL_LOG_ALPHA = 2.0

COLD = 1e-6  # latent temperature below which float32 cannot distinguish draws from the mean


class Nonparametric(TextAutoencoder[NVAESettings]):
    """Autoencoder with an NVIB layer between encoder and decoder.

    A subclass makes the networks, and then calls `add_bottleneck`.

    Args:
        settings: sizes, prior, bottleneck and objective.
    """

    prior: Prior
    bottleneck: nvib.NVIB

    def add_bottleneck(self) -> None:
        """Make the prior and the NVIB layer of the settings."""
        settings = self.settings
        self.prior = nvib.Prior(settings.prior_mu, settings.prior_var, settings.prior_alpha, settings.delta)
        if settings.bottleneck == "identity":
            self.bottleneck = nvib.IdentityNVIB(
                settings.dim_h,
                settings.num_heads,
                self.prior,
                kappa=settings.kappa,
                alpha_threshold=settings.alpha_threshold,
            )
            # From scratch as for a start from a Transformer: the squared norm is that behind a new layer norm.
            self.pass_through(float(settings.dim_h))
            return
        self.bottleneck = nvib.NVIB(
            settings.dim_h, self.prior, settings.kappa, settings.alpha_threshold, settings.alpha_activation
        )
        start = INITIAL_LOG_ALPHA if settings.alpha_activation == "exp" else math.exp(INITIAL_LOG_ALPHA)
        torch.nn.init.constant_(self.bottleneck.alpha.bias, start)

    @torch.no_grad()
    def pass_through(self, squared_norm: float) -> None:
        """Let the bottleneck pass the encoder's vectors through, with little noise and moderate pseudo-counts.

        The means are the vectors. With the identity bottleneck, log pseudo-counts differ as `||h||^2 / 2 s0`, which
        denoising attention subtracts again: without component 0, it is the attention of a vanilla Transformer (Fehr &
        Henderson 2024). With the plain one they are equal, and the outputs differ as far as the norms do. See
        `TextModel.pass_through`.
        """
        layer = self.bottleneck
        start = INITIAL_LOG_ALPHA
        if isinstance(layer, nvib.IdentityNVIB):
            layer.regularise()
            layer.log_prior_share.zero_()
            start -= squared_norm / (2.0 * layer.noise)
        elif self.settings.alpha_activation == "relu":
            start = math.exp(INITIAL_LOG_ALPHA)
        let_through(layer.mu, layer.logvar)
        torch.nn.init.zeros_(layer.alpha.weight)
        torch.nn.init.constant_(layer.alpha.bias, start)

    def latent_from(self, hidden: Tensor, key_padding_mask: Tensor) -> Encoding:
        """Compute the mixture: a sample from the posterior in training, its mean measure in evaluation."""
        posterior: Posterior
        mixture: DiscreteMixture | GaussianMixture
        posterior, mixture = self.bottleneck(hidden, key_padding_mask)
        above_threshold = posterior.mean(self.settings.alpha_threshold) if self.training else mixture
        if self.training:
            mixture = self._some_means(self._perturbed(self._noisier(mixture, posterior), posterior.lengths), posterior)
        gaussians = Gaussians(posterior.mu[:, 1:], posterior.logvar[:, 1:], key_padding_mask)
        charged = gaussians if self.settings.kl_weighting == "component" else gaussians.detached()
        return Encoding(
            latent=mixture,
            vectors_kept=(~above_threshold.key_padding_mask).sum(dim=-1),
            vectors=posterior.lengths + 1,
            kl_gaussian=nvib.kl_gaussian(posterior, self.prior, self.settings.kappa),
            kl_dirichlet=nvib.kl_dirichlet(posterior, self.prior, self.settings.kappa),
            gaussians=gaussians,
            posterior=posterior,
            rate=rate(charged, self.settings.prior_mu, self.settings.prior_var),
        )

    def read(self, encoding: Encoding, source: Tensor) -> Encoding:
        """Replace the mean measure by the reading of the settings, in evaluation; see `TextAutoencoder.read`.

        Components that the mean measure drops are in no reading.
        """
        mixture, reading = encoding.latent, self.settings.reading
        if reading == "integral" or not isinstance(mixture, GaussianMixture):
            return encoding
        if count := draws_of(reading):
            posterior, dropped = required(encoding.posterior, "posterior"), mixture.key_padding_mask
            return replace(encoding, latent=draw_each(posterior, dropped, source, count, self.settings.kappa))
        return replace(encoding, latent=self._without_prior(mixture))

    def read_all(self, encoding: Encoding, source: Tensor) -> Latent:
        """Return what the decoder reads if the threshold drops no component, as in training.

        Args:
            encoding: of this model, in evaluation mode.
            source: [B, N], int, token ids; see `TextAutoencoder.read`.
        """
        return self.read(replace(encoding, latent=required(encoding.posterior, "posterior").mean(0.0)), source).latent

    def _without_prior(self, mixture: GaussianMixture) -> DiscreteMixture | GaussianMixture:
        """Return a mixture without component 0, where the text has others; its means alone in the plug-in reading."""
        mask = mixture.key_padding_mask.clone()
        mask[:, 0] = (~mask[:, 1:]).any(dim=1)  # component 0 remains where nothing else is left
        log_pi = mixture.log_pi.masked_fill(mask, -math.inf).log_softmax(dim=-1)
        if self.settings.reading == "plug-in":
            return DiscreteMixture(mixture.mu, log_pi, mask)
        return GaussianMixture(mixture.mu, mixture.logvar, log_pi, mask)

    def _noisier(
        self, mixture: DiscreteMixture | GaussianMixture, posterior: Posterior
    ) -> DiscreteMixture | GaussianMixture:
        """Add noise to the draws of each text's own components, up to that of a higher temperature."""
        s = self.settings
        if not (self.dropping and s.posterior_temperature > 1.0) or not isinstance(mixture, DiscreteMixture):
            return mixture
        texts, device = len(mixture), mixture.log_pi.device
        temperature = 1.0 + (s.posterior_temperature - 1.0) * torch.rand(texts, 1, 1, device=device)
        temperature = torch.where(torch.rand(texts, 1, 1, device=device) < s.full_texts, 1.0, temperature)
        own = torch.ones_like(posterior.log_alpha).unsqueeze(-1)  # [B, N + 1, 1]
        own[:, 0] = 0.0  # the prior's component stays
        added = own * (temperature.square() - 1.0).sqrt() * (0.5 * posterior.logvar).exp()
        noise = added.repeat_interleave(s.kappa, dim=1) * torch.randn_like(mixture.z)
        return replace(mixture, z=mixture.z + noise.to(mixture.z.dtype))

    def _perturbed(
        self, mixture: DiscreteMixture | GaussianMixture, lengths: Tensor
    ) -> DiscreteMixture | GaussianMixture:
        """Hide a random share of each text's own vectors from the decoder, or replace it by draws of the prior."""
        s = self.settings
        if not (self.dropping and (s.vector_dropout or s.prior_texts)) or not isinstance(mixture, DiscreteMixture):
            return mixture
        texts, components = len(mixture), mixture.log_pi.shape[1] // s.kappa
        device = mixture.log_pi.device
        kept = 1.0 - s.vector_dropout * torch.rand(texts, 1, device=device)
        kept = torch.where(torch.rand(texts, 1, device=device) < s.full_texts, 1.0, kept)
        taken = torch.rand(texts, components, device=device) >= kept
        taken[:, 0] = False
        taken = taken.repeat_interleave(s.kappa, dim=1)
        if s.dropped_vectors == "hidden":
            mixture = hide(mixture, mixture.key_padding_mask | taken)
            if not s.prior_texts:  # without another draw, a run of an earlier version resumes with the same bits
                return mixture
            taken = torch.zeros_like(taken)
        whole = torch.rand(texts, 1, device=device) < s.prior_texts
        drawn = self.prior.sample(lengths, s.dim_h, s.kappa)
        return _replaced(mixture, drawn, taken, whole)

    def _some_means(
        self, mixture: DiscreteMixture | GaussianMixture, posterior: Posterior
    ) -> DiscreteMixture | GaussianMixture:
        """Let the decoder read the means of some texts, without the prior's component, as the plug-in reading does."""
        s = self.settings
        if not s.mean_texts or not isinstance(mixture, DiscreteMixture):
            return mixture
        mean = posterior.mean(0.0)
        mask = mean.key_padding_mask.clone()
        mask[:, 0] = True
        parts = (mean.mu, mean.log_pi - math.log(s.kappa), mask)
        means = DiscreteMixture(*(part.repeat_interleave(s.kappa, dim=1) for part in parts))
        chosen = torch.rand(len(mixture), 1, device=mask.device) < s.mean_texts
        return _replaced(mixture, means, torch.zeros_like(means.key_padding_mask), chosen)

    def penalty(self, encoding: Encoding | None, progress: float, prices: Prices = UNCHANGED) -> Tensor:
        """Compute `lambda_G anneal_G mean KL_G + lambda_D anneal_D mean KL_D`, KL_G with the free bits.

        See `TextModel.penalty`.
        """
        encoding, s = required(encoding, "latent"), self.settings
        gaussian = prices.gaussian * s.kl_gaussian_lambda * anneal(s.kl_annealing_gaussian, progress, s.kl_warmup)
        dirichlet = prices.dirichlet * s.kl_dirichlet_lambda * anneal(s.kl_annealing_dirichlet, progress, s.kl_warmup)
        kl_dirichlet = required(encoding.kl_dirichlet, "kl_dirichlet")
        return gaussian * self._kl_gaussian(encoding) + dirichlet * kl_dirichlet.mean()

    def _kl_gaussian(self, encoding: Encoding) -> Tensor:
        """Compute the mean KL_G of the batch, with the free bits of each dimension: [], nats.

        `kl_weighting` decides on the weight of a component: its share, as in the paper, or equal weights.
        """
        s = self.settings
        component = s.kl_weighting == "component"
        if not s.free_bits:
            if component:
                return required(encoding.rate, "rate").mean() / s.dim_h
            return required(encoding.kl_gaussian, "kl_gaussian").mean()
        posterior, gaussians = required(encoding.posterior, "posterior"), required(encoding.gaussians, "gaussians")
        # Left out is the prior component, whose divergence is zero.
        shares = s.kappa * posterior.log_alpha.softmax(dim=-1)[:, 1:]
        if component:
            real = ~gaussians.key_padding_mask
            shares = real.float() / real.sum(dim=-1, keepdim=True)
        return with_free_bits(kl_by_dimension(gaussians, s.prior_mu, s.prior_var, shares), s.free_bits)

    def sample_prior(
        self, lengths: Tensor, generator: torch.Generator | None = None, noise: Noise = AS_TRAINED
    ) -> Latent:
        """Draw weights and vectors from the prior at these lengths; its base distribution at temperature 0.

        See `TextModel.sample_prior`.
        """
        s = self.settings
        if noise.temperature < COLD:
            shape = (len(lengths), 1, s.dim_h)
            mu = torch.full(shape, s.prior_mu, dtype=torch.float32, device=lengths.device)
            log_pi = mu.new_zeros(shape[:2])
            return GaussianMixture(mu, torch.full_like(mu, math.log(s.prior_var)), log_pi, log_pi.bool())
        squared = noise.temperature**2
        prior = Prior(s.prior_mu, s.prior_var * squared, s.prior_alpha / squared, s.delta / squared)
        drawn = prior.sample(lengths, s.dim_h, self._kappa(noise), generator)
        return self._with_rest(drawn, torch.full_like(drawn.z, math.log(s.prior_var)), noise.temperature)

    def lengths_with(self, vectors: int, noise: Noise = AS_TRAINED) -> range:
        """Return the one n at which `kappa (n + 1)` is the number of vectors; see `TextModel.lengths_with`."""
        kappa = self._kappa(noise)
        if vectors % kappa or vectors < 2 * kappa:
            raise UnsupportedError(
                f"{self.settings.name} draws {kappa} for each of a text's n + 1 components: the number of vectors must "
                f"be a multiple of {kappa} and at least {2 * kappa}, got {vectors}"
            )
        return range(vectors // kappa - 1, vectors // kappa)

    def sample_posterior(
        self, encoding: Encoding, generator: torch.Generator | None = None, noise: Noise = AS_TRAINED
    ) -> Latent:
        """Draw weights and vectors from the posterior, of all components, as in training (none is dropped).

        See `TextModel.sample_posterior`.
        """
        if noise.temperature < COLD:
            return encoding.latent
        own, kappa = required(encoding.posterior, "posterior"), self._kappa(noise)
        shift = 2.0 * math.log(noise.temperature)
        tempered = Posterior(own.mu, own.logvar + shift, own.log_alpha - shift, own.key_padding_mask)
        logvar = own.logvar.repeat_interleave(kappa, dim=1)
        return self._with_rest(tempered.sample(kappa, generator), logvar, noise.temperature)

    def keep_some(self, latent: Latent, share: float, generator: torch.Generator | None = None) -> Latent:
        """Hide a random part of a text's own vectors, never all of the mixture; see `TextModel.keep_some`.

        Where the latent has the component of the prior, it stays, as in training with dropout of vectors. A model whose
        training replaced vectors by draws of the prior reads such draws in place of the vectors that are not kept.
        """
        if isinstance(latent, Placed):
            return replace(latent, mixture=self.keep_some(latent.mixture, share, generator))
        mask = latent.key_padding_mask
        own = hide(latent, torch.cat([torch.ones_like(mask[:, :1]), mask[:, 1:]], dim=1))
        kept = super().keep_some(own, share, generator).key_padding_mask
        left_out = torch.cat([mask[:, :1], kept[:, 1:]], dim=1)
        if self.settings.dropped_vectors != "prior" or not isinstance(latent, (DiscreteMixture, GaussianMixture)):
            return hide(latent, left_out)
        name, vectors = ("z", latent.z) if isinstance(latent, DiscreteMixture) else ("mu", latent.mu)
        noise = torch.randn(vectors.shape, device=mask.device, generator=generator)
        drawn = self.settings.prior_mu + self.settings.prior_var**0.5 * noise
        changed = torch.where((left_out & ~mask).unsqueeze(-1), drawn.to(vectors.dtype), vectors)
        return replace(latent, **{name: changed})

    def interpolate(self, a: Latent, b: Latent, tau: float) -> Latent:
        """Compute the mixture `(1 - tau) a + tau b` of two mixtures of one type, or of as many draws of them each.

        See `TextModel.interpolate`.
        """
        if isinstance(a, Draws) and isinstance(b, Draws):
            pairs = zip(a.latents, b.latents, strict=True)
            return Draws(tuple(self.interpolate(*pair, tau) for pair in pairs))
        if isinstance(a, DiscreteMixture) and isinstance(b, DiscreteMixture):
            return nvib.interpolate(a, b, tau)
        if isinstance(a, GaussianMixture) and isinstance(b, GaussianMixture):
            return nvib.interpolate(a, b, tau)
        raise TypeError(f"a and b must be mixtures of one type, got {type(a).__name__} and {type(b).__name__}")

    def _with_rest(
        self, drawn: DiscreteMixture, logvar: Tensor, temperature: float
    ) -> DiscreteMixture | GaussianMixture:
        """Return what the decoder reads of vectors drawn at a temperature: the vectors, or what is left with them.

        The draws have `temperature²` of the variance. In the readings that integrate, the rest stays in the mixture,
        whose mean measure is then the same at every temperature up to 1; at 0 it is the whole mixture. The others leave
        the rest out: a decoder that was trained on draws may read the widest component instead of the one it looks for.

        Args:
            drawn: [B, K, …], drawn at the temperature.
            logvar: [B, K, D], log variances at temperature 1.
            temperature: above 0.
        """
        if temperature >= 1.0 or self.settings.reading not in INTEGRATING:
            return drawn
        return GaussianMixture(drawn.z, logvar + math.log1p(-(temperature**2)), drawn.log_pi, drawn.key_padding_mask)

    def _kappa(self, noise: Noise) -> int:
        return self.settings.kappa if noise.kappa is None else noise.kappa


def _replaced(mixture: DiscreteMixture, drawn: DiscreteMixture, taken: Tensor, whole: Tensor) -> DiscreteMixture:
    """Return a mixture some of whose vectors are those of another one.

    Args:
        mixture: of B texts, K vectors each.
        drawn: of the same texts, with as many vectors.
        taken: [B, K], bool, True at vectors that are replaced, with their weights.
        whole: [B, 1], bool, True at texts whose whole mixture is replaced.

    Returns:
        A mixture whose weights sum to 1.
    """
    taken = (taken | whole) & ~drawn.key_padding_mask
    mask = torch.where(whole, drawn.key_padding_mask, mixture.key_padding_mask & ~taken)
    z = torch.where(taken.unsqueeze(-1), drawn.z.to(mixture.z.dtype), mixture.z)
    log_pi = torch.where(taken, drawn.log_pi.to(mixture.log_pi.dtype), mixture.log_pi)
    return DiscreteMixture(z, log_pi.masked_fill(mask, -math.inf).log_softmax(dim=-1), mask)
