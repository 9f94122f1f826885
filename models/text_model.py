"""Interface of all models: cross-entropies of the next tokens in training, one token after the other in generation."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from models.gaussian import Gaussians
from models.latent import Latent, each_draw, hidden
from models.layers import DecoderState
from models.loss import TokenLoss, averaged_loss, token_loss
from models.packing import Packing
from models.settings import ModelSettings
from nvib import Posterior


class UnsupportedError(ValueError):
    """The model lacks the requested operation; the message is one line that names the model and the reason."""


@dataclass(frozen=True)
class Noise:
    """Noise of the draws from a prior or a posterior.

    Args:
        temperature: scale of the noise, not negative: 0 gives the mean latent, 1 the distribution itself, more a wider
            one. Gaussians are drawn with `temperature` times their standard deviation. Weights are drawn from Gammas
            with `1 / temperature²` times their pseudo-counts, whose standard deviation relative to the mean is
            `temperature` times as large.
        kappa: draws per component, at least 1; None for the model's setting.

    Raises:
        ValueError: a value is out of its range.
    """

    temperature: float = 1.0
    kappa: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be finite and not negative, got {self.temperature}")
        if self.kappa is not None and self.kappa < 1:
            raise ValueError(f"kappa must be at least 1, got {self.kappa}")


AS_TRAINED = Noise()


@dataclass(frozen=True)
class Prices:
    """Factors of the regulariser's weights, which a controller changes during training.

    Args:
        gaussian: factor of lambda_G.
        dirichlet: factor of lambda_D.
    """

    gaussian: float = 1.0
    dirichlet: float = 1.0


UNCHANGED = Prices()


@dataclass(frozen=True)
class Encoding:
    """Encoder output of B texts: the latent and its statistics.

    Args:
        latent: latents of B texts, for the decoder.
        vectors_kept: [B], int, vectors that the latent keeps.
        vectors: [B], int, vectors before any is dropped.
        kl_gaussian: [B], KL_G in nats per dimension; None where the model has no such term.
        kl_dirichlet: [B], KL_D in nats per component; None where the model has no such term.
        rate: [B], mean over a text's own vectors of their divergence from the prior, in nats a vector; None where the
            model has no Gaussians.
        gaussians: Gaussians of the text's own vectors, without the prior component; None where the model has none.
        posterior: the posterior Dirichlet processes; None where the model has none.
    """

    latent: Latent
    vectors_kept: Tensor
    vectors: Tensor
    kl_gaussian: Tensor | None = None
    kl_dirichlet: Tensor | None = None
    gaussians: Gaussians | None = None
    posterior: Posterior | None = None
    rate: Tensor | None = None


Part = TypeVar("Part")


def required(part: Part | None, name: str) -> Part:
    """Return an optional part that all encodings of a model have.

    Raises:
        ValueError: the part is None, because another model made the encoding.
    """
    if part is None:
        raise ValueError(f"the encoding has no {name}: another model made it")
    return part


Settings = TypeVar("Settings", bound=ModelSettings, covariant=True)


class TextModel(nn.Module, ABC, Generic[Settings]):
    """A model that scores and generates texts token by token, from a latent or without one.

    The decoder's input is `[CLS] x_1 … x_{n-1}`, its target `x_1 … x_{n-1} [SEP]`. Sentences are padded at their end.
    A subclass implements the abstract methods. It overrides those of `encode`, `penalty`, `sample_prior`,
    `lengths_with`, `sample_posterior`, `interpolate` (which `mix` calls), `attention_weights` and
    `log_importance_weights` that it supports; the others raise `UnsupportedError`.

    Args:
        settings: sizes and the model's own settings.
    """

    _no_split_modules: ClassVar[list[str]]  # classes of the layers, FSDP's units; Accelerate looks for this name
    dropping = False  # True once training hides vectors of the latent from the decoder, where the settings say so
    recompute = False  # True to recompute the layers' activations in the backward pass instead of storing them
    positions: int | None = None  # positions that the networks have for a latent and its text; None for any number

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    @property
    def settings(self) -> Settings:
        """Settings that the model was built with."""
        return self._settings

    @abstractmethod
    def forward(
        self, source: Tensor, key_padding_mask: Tensor, target_input: Tensor
    ) -> tuple[Encoding | None, TokenLoss]:
        """Encode and score texts: all that a training step needs.

        Args:
            source: [B, N], token ids, the encoder's input and the decoder's target.
            key_padding_mask: [B, N], bool, True at padding.
            target_input: [B, N], token ids, the decoder's input.

        Returns:
            The encoding, None from a model without a latent, and the cross-entropy of the real target tokens.
        """

    @property
    @abstractmethod
    def head(self) -> tuple[Tensor, Tensor]:
        """Projection from the decoder's vectors to the logits: the weight [V, D] and the bias [V]."""

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    @abstractmethod
    def decode(self, target_input: Tensor, latent: Latent | None, packing: Packing | None = None) -> Tensor:
        """Compute the decoder's vectors at all positions at once (teacher forcing).

        Args:
            target_input: [B, T], token ids of the decoder's input.
            latent: latents of B texts; None for a model without one.
            packing: the real positions; None for all.

        Returns:
            [B, T, D], or with a packing [R, D] of the packed positions.
        """

    def score(self, target_input: Tensor, latent: Latent | None, source: Tensor, packing: Packing) -> TokenLoss:
        """Compute the cross-entropy of the real target tokens.

        Args:
            target_input: [B, N], token ids of the decoder's input.
            latent: latents of B texts; None for a model without one. Draws give the loss of the mean of the draws.
            source: [B, N], target token ids.
            packing: the real positions, M in number.
        """
        to_logits, target = self.head, source.flatten()[packing.rows]
        vectors = (self.decode(target_input, own, packing) for own in each_draw(latent))
        return averaged_loss([token_loss(hidden, *to_logits, target) for hidden in vectors])

    def positions_before(self, latent: Latent | None) -> int:
        """Return the number of positions that the decoder reads before a text: those of the longest of B latents."""
        return 0

    def positions_of(self, length: int) -> int:
        """Return the number of positions of a text of `length` tokens, the end token counted, and its latent."""
        return length

    @abstractmethod
    def start(self, latent: Latent | None) -> list[DecoderState]:
        """Return the decoder's state before the first token of B texts; the latent is None for a model without one."""

    @abstractmethod
    def step(self, tokens: Tensor, position: int, state: list[DecoderState]) -> tuple[Tensor, list[DecoderState]]:
        """Decode one position.

        Args:
            tokens: [B], the tokens at `position`.
            position: number of earlier tokens.
            state: from `start` or the previous `step`. It may be changed.

        Returns:
            The logits [B, V] of the next token, those of the mean over draws, and the new state.
        """

    def attention_weights(self, target_input: Tensor, latent: Latent | None) -> Tensor:
        """Compute the decoder's weights over the vectors of a latent at every position (teacher forcing).

        Args:
            target_input: [B, T], token ids of the decoder's input.
            latent: latents of B texts, K vectors each.

        Returns:
            [B, layers, H, T, K]: the weights of each layer and head sum to one over the vectors; 0 at padding.

        Raises:
            UnsupportedError: the decoder attends to no latent.
        """
        raise UnsupportedError(f"{self.settings.name} has no latent that its decoder attends to")

    def encode(self, source: Tensor, key_padding_mask: Tensor) -> Encoding:
        """Encode texts to latents: samples in training, the mean latents in evaluation.

        Args:
            source: [B, N], token ids.
            key_padding_mask: [B, N], bool, True at padding.

        Raises:
            UnsupportedError: the model has no latent.
        """
        raise UnsupportedError(f"{self.settings.name} has no latent: it cannot encode a text")

    def pass_through(self, squared_norm: float) -> None:
        """Let the bottleneck pass the encoder's vectors through, as a start from a vanilla Transformer's weights.

        A model without a bottleneck has nothing to change.

        Args:
            squared_norm: mean of the encoder's vectors' `||h||^2`.
        """

    def start_with(self, counts: Tensor) -> None:
        """Take over statistics of the training text, before the first step of a new experiment.

        A model that needs none has nothing to change.

        Args:
            counts: [V], occurrences of each token in the training text.
        """

    def start_at(self, source: Tensor, key_padding_mask: Tensor) -> None:
        """Take over statistics of the encoder's vectors, before the first step of a new experiment.

        A model that needs none has nothing to change.

        Args:
            source: [B, N], token ids of training texts.
            key_padding_mask: [B, N], bool, True at padding.
        """

    def penalty(self, encoding: Encoding | None, progress: float, prices: Prices = UNCHANGED) -> Tensor:
        """Compute the regulariser that the objective adds to the cross-entropy: [], nats.

        Args:
            encoding: encoding of a batch; None from a model without a latent.
            progress: completed share of training, in [0, 1]; at 1 the regulariser has its full weight.
            prices: factors of the weights.
        """
        return torch.zeros((), device=self.device)

    def sample_prior(
        self, lengths: Tensor, generator: torch.Generator | None = None, noise: Noise = AS_TRAINED
    ) -> Latent | None:
        """Draw latents of new texts from the model's prior.

        Args:
            lengths: [B], int, approximate lengths of the texts in tokens, the end token included.
            generator: source of randomness, on the device of the lengths; torch's default generator if None.
            noise: noise of the draws.

        Returns:
            Latents of B texts; None from a language model, whose texts need none.

        Raises:
            UnsupportedError: the model has no prior, or the noise does not apply to it.
        """
        raise UnsupportedError(f"{self.settings.name} has no prior to sample from; sample from a variational model")

    def lengths_with(self, vectors: int, noise: Noise = AS_TRAINED) -> range:
        """Find the lengths, in tokens, at which `sample_prior` draws exactly `vectors` vectors.

        Raises:
            UnsupportedError: no length gives this number of vectors, or the model has no prior.
        """
        raise UnsupportedError(f"{self.settings.name} draws no vectors whose number could be asked for")

    def sample_posterior(
        self, encoding: Encoding, generator: torch.Generator | None = None, noise: Noise = AS_TRAINED
    ) -> Latent:
        """Draw latents from the posterior of B encoded texts.

        Args:
            encoding: encoding of B texts.
            generator: source of randomness, on the device of the model; torch's default generator if None.
            noise: noise of the draws; in evaluation, temperature 0 gives the latent of the encoding.

        Raises:
            UnsupportedError: the model has no posterior, or the noise does not apply to it.
        """
        if noise.temperature == 0.0:
            return encoding.latent
        raise UnsupportedError(
            f"{self.settings.name} has no posterior to sample from: a text has one latent, that of temperature 0"
        )

    def keep_some(self, latent: Latent, share: float, generator: torch.Generator | None = None) -> Latent:
        """Hide a random part of the vectors of each latent from the decoder; at least one vector is left.

        Args:
            latent: latents of B texts.
            share: share of the vectors that are kept, in (0, 1].
            generator: source of randomness, on the device of the latent; torch's default generator if None.
        """
        mask = latent.key_padding_mask
        order = torch.rand(mask.shape, device=mask.device, generator=generator).masked_fill(mask, 2.0)
        counts = ((~mask).sum(dim=-1, keepdim=True) * share).round().clamp_min(1)
        ranks = order.argsort(dim=-1).argsort(dim=-1)
        return hidden(latent, mask | (ranks >= counts))

    def mix(self, latents: Sequence[Latent], weights: Sequence[float]) -> Latent:
        """Mix latents; two with weights `1 - tau` and `tau` give the result of `interpolate`.

        Args:
            latents: one or more, of B texts each.
            weights: one for each latent, not negative and not all 0; they are normalised to sum to 1.

        Raises:
            UnsupportedError: the model cannot interpolate.
        """
        pairs = [pair for pair in zip(latents, weights, strict=True) if pair[1] > 0]
        mixed, total = pairs[0]
        for latent, weight in pairs[1:]:
            total += weight
            mixed = self.interpolate(mixed, latent, weight / total)
        return mixed

    def interpolate(self, a: Latent, b: Latent, tau: float) -> Latent:
        """Compute the latent at share `tau` of the way from `a` to `b`.

        Args:
            a: latent of B texts.
            b: latent of B texts.
            tau: in [0, 1].

        Returns:
            Latents of B texts; exactly `a` at 0 and `b` at 1.

        Raises:
            UnsupportedError: the model cannot interpolate.
            TypeError: `a` or `b` is no latent of this model.
        """
        raise UnsupportedError(f"{self.settings.name} cannot interpolate between two latents")

    def log_importance_weights(
        self,
        source: Tensor,
        key_padding_mask: Tensor,
        target_input: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Compute `log p(x, z) - log q(z | x)` of B texts with one draw of z each: [B], nats.

        Their mean over draws estimates the evidence lower bound; the log of the mean of their exponentials estimates
        the importance-weighted bound (Burda et al. 2016).

        Args:
            source: [B, N], token ids, the encoder's input and the decoder's target.
            key_padding_mask: [B, N], bool, True at padding.
            target_input: [B, N], token ids, the decoder's input.
            generator: source of randomness, on the device of the model; torch's default generator if None.

        Raises:
            UnsupportedError: the model's densities are unknown.
        """
        raise UnsupportedError(f"{self.settings.name} has no known density of its latent to weigh draws with")
