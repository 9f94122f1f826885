"""Textbook implementations to compare with: padded batches, unfused attention, full logits, no kept keys."""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.latent import Latent
from models.layered_autoencoder import LayeredAutoencoder
from models.layers import DecoderLayer, EncoderLayer
from models.settings import ModelSettings
from models.vanilla_attention import MultiheadAttention
from pipeline.data.batches import Batch


def plain_loss(model: LayeredAutoencoder[ModelSettings], batch: Batch) -> Tensor:
    """Compute the objective of a batch at every position, padding included: []."""
    hidden = model.embedding(batch.source)
    hidden_from_keys = batch.key_padding_mask[:, None, None, :]
    for layer in cast(list[EncoderLayer], model.encoder):
        hidden = layer.norms[0](hidden + layer.dropout(_attention(layer.self_attention, hidden, hidden_from_keys)))
        hidden = layer.norms[1](hidden + layer.dropout(layer.feed_forward(hidden)))
    encoding = model.latent_from(hidden, batch.key_padding_mask)
    logits = plain_logits(model, batch.target_input, encoding.latent)
    target = batch.source.masked_fill(batch.key_padding_mask, -100)
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100) + model.penalty(encoding, 1.0)


def plain_logits(model: LayeredAutoencoder[ModelSettings], target_input: Tensor, latent: Latent) -> Tensor:
    """Compute the logits [B, T, V] at every position of the decoder's input [B, T]."""
    hidden = model.embedding(target_input)
    length = target_input.shape[1]
    future = torch.ones(length, length, dtype=torch.bool, device=hidden.device).triu(1)
    for layer in cast(list[DecoderLayer[Latent, Any]], model.decoder):
        hidden = layer.norms[0](hidden + layer.dropout(_attention(layer.self_attention, hidden, future)))
        attended, _ = layer.cross_attention.attend(hidden, layer.cross_attention.prepare(latent))
        hidden = layer.norms[1](hidden + layer.dropout(attended))
        hidden = layer.norms[2](hidden + layer.dropout(layer.feed_forward(hidden)))
    return model.output(hidden)


@torch.inference_mode()
def plain_generate(
    model: LayeredAutoencoder[ModelSettings], latent: Latent, batch: int, start_id: int, max_tokens: int
) -> Tensor:
    """Decode greedily [B, max_tokens], with the whole prefix computed anew for each token."""
    tokens = torch.full((batch, 1), start_id)
    for _ in range(max_tokens):
        logits = plain_logits(model, tokens, latent)  # [B, T, V]
        tokens = torch.cat([tokens, logits[:, -1:].argmax(dim=-1)], dim=1)
    return tokens[:, 1:]


def _attention(attention: MultiheadAttention, hidden: Tensor, masked: Tensor) -> Tensor:
    """Compute self-attention by its definition (Vaswani et al. 2017). `masked` is True at keys to leave out."""
    projected = F.linear(hidden, attention.in_proj_weight, attention.in_proj_bias)
    q, key, value = (
        part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in projected.chunk(3, dim=-1)
    )
    weights = (q @ key.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(masked, -math.inf).softmax(dim=-1)
    weights = nn.functional.dropout(weights, attention.dropout, attention.training)
    return attention.out_proj((weights @ value).transpose(1, 2).flatten(-2))
