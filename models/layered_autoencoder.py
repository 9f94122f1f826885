"""Networks of the autoencoders from scratch: encoder layers, and decoder layers with attention to the latent."""

from collections.abc import Callable, Iterable
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from models.autoencoder import TextAutoencoder
from models.latent import Draws, Latent
from models.layered_decoder import LayeredDecoder
from models.layers import AttentionKeys, CrossAttention, DecoderLayer, EncoderLayer, OwnKeys, OwnLatent
from models.packing import Packing
from models.text_model import Settings


class LayeredAutoencoder(LayeredDecoder[Settings], TextAutoencoder[Settings]):
    """A Transformer encoder, and a Transformer decoder whose layers attend to the latent.

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
        self.make_output()

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
