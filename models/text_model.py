"""What all models share: tokens in, cross-entropies of the next tokens out, one token after the other."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.gaussian import Gaussians
from models.layers import Embedding, LayerState
from models.loss import TokenLoss, token_loss
from models.packing import Packing
from models.settings import ModelSettings
from nvib import Posterior


class UnsupportedError(ValueError):
    """A model was asked for something that it cannot do; the message is one line that says so."""


@dataclass(frozen=True)
class Noise:
    """How a latent is drawn.

    Args:
        temperature: scale of the noise, not negative: 0 is the mean latent, 1 the distribution as it is, more is wider.
            Gaussians are drawn with `temperature` times their standard deviation. Weights are drawn from Gammas of
            `1 / temperature²` times their pseudo-counts, whose standard deviation is `temperature` times as large a
            share of their mean.
        kappa: draws per component; None for as many as in training.

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
class Encoding:
    """What an encoder made of B texts.

    Args:
        latent: what the decoder attends to.
        vectors_kept: [B], int, vectors that the latent keeps.
        vectors: [B], int, vectors that it could have kept.
        kl_gaussian: [B], nats per dimension, or None where the model has no such term.
        kl_dirichlet: [B], nats per component, or None.
        gaussians: of the text's own vectors (the prior's component left out), or None.
        posterior: the Dirichlet processes, or None.
    """

    latent: Any
    vectors_kept: Tensor
    vectors: Tensor
    kl_gaussian: Tensor | None = None
    kl_dirichlet: Tensor | None = None
    gaussians: Gaussians | None = None
    posterior: Posterior | None = None


class TextModel(nn.Module, ABC):
    """Scores and generates text token by token, perhaps from a latent.

    Decoder input is `[CLS] x_1 … x_{n-1}`, the target `x_1 … x_{n-1} [SEP]`. Sentences are padded at their end.
    A model makes `decoder` and `output`, names its layers' classes and fills in `forward`, and what it can of `encode`,
    `penalty`, `sample_prior`, `length_with`, `sample_posterior`, `interpolate` (and with it `mix`) and
    `log_importance_weights`.

    Args:
        settings: sizes and whatever else the model has.
    """

    decoder: nn.ModuleList
    output: nn.Linear
    _no_split_modules: ClassVar[list[str]]  # the layers' classes, by the name that Accelerate looks for: FSDP's units
    recompute = False  # whether the layers' inner values are computed again for the gradient, and not kept

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.embedding = Embedding(settings.vocabulary_size, settings.dim_h, settings.dropout)

    @abstractmethod
    def forward(
        self, source: Tensor, key_padding_mask: Tensor, target_input: Tensor
    ) -> tuple[Encoding | None, TokenLoss]:
        """All that a training step needs.

        Args:
            source: [B, N], token ids, the encoder's input and the decoder's target.
            key_padding_mask: [B, N], bool, True at padding.
            target_input: [B, N], token ids, the decoder's input.

        Returns:
            The encoding, None from a model that has none, and the cross-entropy of the real target tokens.
        """

    def decode(self, target_input: Tensor, latent: Any, packing: Packing | None = None) -> Tensor:
        """The decoder's vectors, all positions at once (teacher forcing).

        Args:
            target_input: [B, T], token ids of the decoder's input.
            latent: of B texts.
            packing: which of the positions are real; None for all.

        Returns:
            [B, T, D], or with a packing [M, D] of the real positions.
        """
        dropped = None
        if self.training and self.settings.word_dropout:
            dropped = torch.rand(target_input.shape, device=target_input.device) < self.settings.word_dropout
        hidden = self.embedding(target_input, hidden_words=dropped, packing=packing)
        for layer in self.decoder:
            hidden = self.through(layer, hidden, latent, packing)
        return hidden

    def through(self, layer: nn.Module, *inputs: Any) -> Tensor:
        """A layer's output; where `recompute` is set, a gradient computes it once more and keeps only the inputs."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(layer, *inputs, use_reentrant=False)
        return layer(*inputs)

    def score(self, target_input: Tensor, latent: Any, source: Tensor, packing: Packing) -> TokenLoss:
        """Cross-entropy of the real tokens of [B, N] targets from the decoder's input [B, N] and B latents."""
        hidden = self.decode(target_input, latent, packing)
        return token_loss(hidden, self.output.weight, self.output.bias, packing.pack(source))

    def attention_weights(self, target_input: Tensor, latent: Any) -> Tensor:
        """How the decoder weighs a latent's vectors at every position of a text (teacher forcing).

        Args:
            target_input: [B, T], token ids of the decoder's input.
            latent: of B texts, K vectors each.

        Returns:
            [B, layers, H, T, K]: each layer's and head's weights over the vectors sum to one; 0 at padding.

        Raises:
            UnsupportedError: the decoder attends to no latent.
        """
        raise UnsupportedError(f"{self.settings.name} has no latent that its decoder attends to")

    def start(self, latent: Any) -> list[LayerState]:
        """The decoder's state before the first token of each text."""
        return [layer.start(latent) for layer in self.decoder]

    def step(self, tokens: Tensor, position: int, state: list[LayerState]) -> tuple[Tensor, list[LayerState]]:
        """One generated token further.

        Args:
            tokens: [B], the tokens at `position`.
            position: how many stand before them.
            state: what `start` or the last `step` returned.

        Returns:
            The logits [B, V] of the next token, and the new state.
        """
        hidden = self.embedding(tokens.unsqueeze(1), start=position)
        states = []
        for layer, before in zip(self.decoder, state, strict=True):
            hidden, after = layer.step(hidden, before)
            states.append(after)
        # The vocabulary as rows, as in the loss: twice as fast on a CPU for the few texts of a batch.
        logits = (self.output.weight @ hidden.squeeze(1).t()).add_(self.output.bias.unsqueeze(1))  # [V, B]
        return logits.t(), states

    def encode(self, source: Tensor, key_padding_mask: Tensor) -> Encoding:
        """[B, N] token ids to the latent: a sample in training, the mean in evaluation.

        Raises:
            UnsupportedError: the model has no latent.
        """
        raise UnsupportedError(f"{self.settings.name} has no latent: it cannot encode a text")

    def penalty(self, encoding: Encoding | None, progress: float) -> Tensor:
        """What the objective adds to the cross-entropy: [], nats.

        Args:
            encoding: of a batch.
            progress: share of training that is done, in [0, 1]; 1 is the regulariser at full strength.
        """
        return torch.zeros((), device=self.output.weight.device)

    def sample_prior(self, lengths: Tensor, generator: torch.Generator | None = None, noise: Noise = AS_TRAINED) -> Any:
        """Latents of new texts of about [B] tokens, drawn from the model's prior.

        Raises:
            UnsupportedError: the model has no prior, or no such noise.
        """
        raise UnsupportedError(f"{self.settings.name} has no prior to sample from; sample from a variational model")

    def length_with(self, vectors: int, noise: Noise = AS_TRAINED) -> int:
        """The tokens of the shortest text for which `sample_prior` draws so many vectors.

        Raises:
            UnsupportedError: no text has so many, or the model has no prior.
        """
        raise UnsupportedError(f"{self.settings.name} draws no vectors whose number could be asked for")

    def sample_posterior(
        self, encoding: Encoding, generator: torch.Generator | None = None, noise: Noise = AS_TRAINED
    ) -> Any:
        """Latents drawn around B encoded texts; in evaluation exactly their own at temperature 0.

        Raises:
            UnsupportedError: the model has no posterior, or no such noise.
        """
        if noise.temperature == 0.0:
            return encoding.latent
        raise UnsupportedError(
            f"{self.settings.name} has no posterior to sample from: a text has one latent, that of temperature 0"
        )

    def mix(self, latents: Sequence[Any], weights: Sequence[float]) -> Any:
        """The mixture of latents; of two with weights `1 - tau` and `tau` exactly what `interpolate` returns.

        Args:
            latents: at least one, of B texts each.
            weights: not negative and not all 0; their sum is made 1.

        Raises:
            UnsupportedError: the model's latents have no such thing.
        """
        pairs = [pair for pair in zip(latents, weights, strict=True) if pair[1] > 0]
        mixed, total = pairs[0]
        for latent, weight in pairs[1:]:
            total += weight
            mixed = self.interpolate(mixed, latent, weight / total)
        return mixed

    def interpolate(self, a: Any, b: Any, tau: float) -> Any:
        """The latent `tau` of the way from `a` to `b`; exactly `a` at 0 and `b` at 1.

        Raises:
            UnsupportedError: the model's latents have no such thing.
        """
        raise UnsupportedError(f"{self.settings.name} cannot interpolate between two latents")

    def log_importance_weights(
        self,
        source: Tensor,
        key_padding_mask: Tensor,
        target_input: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """`log p(x, z) - log q(z | x)` of B texts with one draw of z each: [B], nats.

        Their mean over draws estimates the evidence lower bound, the log of the mean of their exponentials the
        importance-weighted bound (Burda et al. 2016).

        Raises:
            UnsupportedError: the model's densities are not known.
        """
        raise UnsupportedError(f"{self.settings.name} has no known density of its latent to weigh draws with")
