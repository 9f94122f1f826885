"""The one interface of all models: text to latent, latent to text."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.layers import DecoderLayer, Embedding, EncoderLayer, LayerState
from models.loss import TokenLoss, token_loss
from models.settings import ModelSettings
from nvib import Posterior


class UnsupportedError(ValueError):
    """A model was asked for something that it cannot do; the message is one line that says so."""


@dataclass(frozen=True)
class Encoding:
    """What an encoder made of B texts.

    Args:
        latent: what the decoder attends to.
        vectors_kept: [B], int, vectors that the latent keeps.
        vectors: [B], int, vectors that it could have kept.
        kl_gaussian: [B], nats per dimension, or None where the model has no such term.
        kl_dirichlet: [B], nats per component, or None.
        posterior: the Dirichlet processes, or None.
    """

    latent: Any
    vectors_kept: Tensor
    vectors: Tensor
    kl_gaussian: Tensor | None = None
    kl_dirichlet: Tensor | None = None
    posterior: Posterior | None = None


class TextAutoencoder(nn.Module):
    """A Transformer encoder, a latent, and a Transformer decoder that attends to it.

    Encoder input is `x_1 … x_{n-1} [SEP]`, decoder input `[CLS] x_1 … x_{n-1}`, the target the encoder input.
    Sentences are padded at their end. A model fills in `latent_from`, and what it can of `penalty`,
    `sample_prior` and `interpolate`.

    Args:
        settings: sizes and whatever else the model has.
        cross_attention: makes the decoder layers' attention to the latent.
    """

    def __init__(self, settings: ModelSettings, cross_attention: Callable[[], nn.Module]) -> None:
        super().__init__()
        dim, heads, dropout = settings.dim_h, settings.num_heads, settings.dropout
        self.settings = settings
        self.embedding = Embedding(settings.vocabulary_size, dim, dropout)
        self.encoder = nn.ModuleList(EncoderLayer(dim, heads, dropout) for _ in range(settings.num_layers))
        self.decoder = nn.ModuleList(
            DecoderLayer(dim, heads, dropout, cross_attention()) for _ in range(settings.num_layers)
        )
        self.output = nn.Linear(dim, settings.vocabulary_size)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, source: Tensor, key_padding_mask: Tensor, target_input: Tensor) -> tuple[Encoding, TokenLoss]:
        """Encode, decode and score: all that a training step needs.

        Args:
            source: [B, N], token ids, the encoder's input and the decoder's target.
            key_padding_mask: [B, N], bool, True at padding.
            target_input: [B, N], token ids, the decoder's input.

        Returns:
            The encoding, and the cross-entropy of the real target tokens.
        """
        encoding = self.encode(source, key_padding_mask)
        hidden = self.decode(target_input, encoding.latent)
        real = ~key_padding_mask
        # Only real tokens reach the vocabulary: its projection is most of the cost.
        return encoding, token_loss(hidden[real], self.output.weight, self.output.bias, source[real])

    def encode(self, source: Tensor, key_padding_mask: Tensor) -> Encoding:
        """[B, N] token ids to the latent: a sample in training, the mean in evaluation."""
        hidden = self.embedding(source)
        for layer in self.encoder:
            hidden = layer(hidden, key_padding_mask)
        return self.latent_from(hidden, key_padding_mask)

    def decode(self, target_input: Tensor, latent: Any) -> Tensor:
        """[B, T] token ids of the decoder's input to its vectors [B, T, D] (teacher forcing)."""
        hidden = self.embedding(target_input)
        for layer in self.decoder:
            hidden = layer(hidden, latent)
        return hidden

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
        return self.output(hidden.squeeze(1)), states

    def latent_from(self, hidden: Tensor, key_padding_mask: Tensor) -> Encoding:
        """What stands between encoder and decoder, from the encoder's output [B, N, D]."""
        raise UnsupportedError(f"{self.settings.name} has no latent")

    def penalty(self, encoding: Encoding, progress: float) -> Tensor:
        """What the objective adds to the cross-entropy: [], nats.

        Args:
            encoding: of a batch.
            progress: share of training that is done, in [0, 1]; 1 is the regulariser at full strength.
        """
        return torch.zeros((), device=self.output.weight.device)

    def sample_prior(self, lengths: Tensor, generator: torch.Generator | None = None) -> Any:
        """Latents of new texts of about [B] tokens, drawn from the model's prior.

        Raises:
            UnsupportedError: the model has no prior.
        """
        raise UnsupportedError(f"{self.settings.name} has no prior to sample from; sample from a variational model")

    def interpolate(self, a: Any, b: Any, tau: float) -> Any:
        """The latent `tau` of the way from `a` to `b`; exactly `a` at 0 and `b` at 1.

        Raises:
            UnsupportedError: the model's latents have no such thing.
        """
        raise UnsupportedError(f"{self.settings.name} cannot interpolate between two latents")
