"""Transformer autoencoders: text to latent, latent to text."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from models.latent import Draws, Latent
from models.layers import (
    AttentionKeys,
    CrossAttention,
    DecoderLayer,
    EncoderLayer,
    OwnKeys,
    OwnLatent,
    output_projection,
)
from models.loss import TokenLoss
from models.packing import Packing
from models.text_model import Encoding, Settings, TextModel


class TextAutoencoder(TextModel[Settings]):
    """A Transformer encoder, a latent, and a Transformer decoder that attends to the latent.

    The encoder's input is `x_1 … x_{n-1} [SEP]`, the decoder's input `[CLS] x_1 … x_{n-1}`, and the target the
    encoder's input. A subclass implements `latent_from`.

    Args:
        settings: sizes and the model's own settings.
        cross_attention: makes the attention of one decoder layer to the latent, a module.
    """

    _no_split_modules: ClassVar = ["EncoderLayer", "DecoderLayer"]

    def __init__(self, settings: Settings, cross_attention: Callable[[], CrossAttention[OwnLatent, OwnKeys]]) -> None:
        super().__init__(settings)
        dim, heads, dropout = settings.dim_h, settings.num_heads, settings.dropout
        self.encoder = nn.ModuleList(EncoderLayer(dim, heads, dropout) for _ in range(settings.num_layers))
        self.decoder = nn.ModuleList(
            DecoderLayer(dim, heads, dropout, cross_attention()) for _ in range(settings.num_layers)
        )
        self.output = output_projection(dim, settings.vocabulary_size)

    def forward(self, source: Tensor, key_padding_mask: Tensor, target_input: Tensor) -> tuple[Encoding, TokenLoss]:
        """Encode, decode and score; see `TextModel.forward`."""
        packing = Packing.of(key_padding_mask)
        encoding = self.read(self.latent_from(self.encode_tokens(source, packing), key_padding_mask), source)
        return encoding, self.score(target_input, encoding.latent, source, packing)

    def encode(self, source: Tensor, key_padding_mask: Tensor) -> Encoding:
        """Encode token ids [B, N]; see `TextModel.encode`."""
        hidden = self.encode_tokens(source, Packing.of(key_padding_mask))
        return self.read(self.latent_from(hidden, key_padding_mask), source)

    def attention_weights(self, target_input: Tensor, latent: Latent | None) -> Tensor:
        """Compute the weights of every layer and head over the vectors: [B, layers, H, T, K]; of draws, their mean."""
        if isinstance(latent, Draws):
            return torch.stack([self.attention_weights(target_input, own) for own in latent.latents]).mean(dim=0)
        hidden: Tensor = self.embedding(target_input)
        weights: list[Tensor] = []
        # torch types the items of a ModuleList as modules.
        for layer in cast(Iterable[DecoderLayer[Latent | None, AttentionKeys]], self.decoder):
            hidden, weights_of_layer = layer.with_weights(hidden, latent)
            weights.append(weights_of_layer)
        return torch.stack(weights, dim=1)

    def encode_tokens(self, source: Tensor, packing: Packing) -> Tensor:
        """Apply the encoder: token ids [B, N] to vectors [B, N, D], zeros at padding."""
        hidden: Tensor = self.embedding(source, packing=packing)
        for layer in self.encoder:
            hidden = self.through(layer, hidden, packing)
        return packing.pad(hidden)

    def read(self, encoding: Encoding, source: Tensor) -> Encoding:
        """Return the encoding with the latent that the decoder reads; a model without readings returns it unchanged.

        Args:
            encoding: from `latent_from`.
            source: [B, N], token ids of the texts.
        """
        return encoding

    @abstractmethod
    def latent_from(self, hidden: Tensor, key_padding_mask: Tensor) -> Encoding:
        """Compute the latent from the encoder's output.

        Args:
            hidden: [B, N, D], zeros at padding.
            key_padding_mask: [B, N], bool, True at padding.
        """
