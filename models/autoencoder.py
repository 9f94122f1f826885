"""Transformer autoencoders: text to latent, latent to text."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from models.layers import DecoderLayer, EncoderLayer, output_projection
from models.loss import TokenLoss
from models.packing import Packing
from models.settings import ModelSettings
from models.text_model import Encoding, TextModel, UnsupportedError

__all__ = ["Encoding", "TextAutoencoder", "UnsupportedError"]


class TextAutoencoder(TextModel):
    """A Transformer encoder, a latent, and a Transformer decoder that attends to it.

    Encoder input is `x_1 … x_{n-1} [SEP]`, decoder input `[CLS] x_1 … x_{n-1}`, the target the encoder input.
    A model fills in `latent_from`.

    Args:
        settings: sizes and whatever else the model has.
        cross_attention: makes the decoder layers' attention to the latent.
    """

    _no_split_modules: ClassVar = ["EncoderLayer", "DecoderLayer"]

    def __init__(self, settings: ModelSettings, cross_attention: Callable[[], nn.Module]) -> None:
        super().__init__(settings)
        dim, heads, dropout = settings.dim_h, settings.num_heads, settings.dropout
        self.encoder = nn.ModuleList(EncoderLayer(dim, heads, dropout) for _ in range(settings.num_layers))
        self.decoder = nn.ModuleList(
            DecoderLayer(dim, heads, dropout, cross_attention()) for _ in range(settings.num_layers)
        )
        self.output = output_projection(dim, settings.vocabulary_size)

    def forward(self, source: Tensor, key_padding_mask: Tensor, target_input: Tensor) -> tuple[Encoding, TokenLoss]:
        """Encode, decode and score."""
        packing = Packing.of(key_padding_mask)
        encoding = self.latent_from(self.encode_tokens(source, packing), key_padding_mask)
        return encoding, self.score(target_input, encoding.latent, source, packing)

    def encode(self, source: Tensor, key_padding_mask: Tensor) -> Encoding:
        """[B, N] token ids to the latent: a sample in training, the mean in evaluation."""
        return self.latent_from(self.encode_tokens(source, Packing.of(key_padding_mask)), key_padding_mask)

    def attention_weights(self, target_input: Tensor, latent: Any) -> Tensor:
        """Every layer's and head's weights over the latent's vectors: [B, layers, H, T, K]."""
        hidden, weights = self.embedding(target_input), []
        for layer in self.decoder:
            hidden, of_layer = layer.with_weights(hidden, latent)
            weights.append(of_layer)
        return torch.stack(weights, dim=1)

    def encode_tokens(self, source: Tensor, packing: Packing) -> Tensor:
        """[B, N] token ids to the encoder's output [B, N, D], zeros at padding."""
        hidden = self.embedding(source, packing=packing)
        for layer in self.encoder:
            hidden = self.through(layer, hidden, packing)
        return packing.pad(hidden)

    @abstractmethod
    def latent_from(self, hidden: Tensor, key_padding_mask: Tensor) -> Encoding:
        """What stands between encoder and decoder, from the encoder's output [B, N, D]."""
