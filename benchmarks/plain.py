"""The textbook way, to compare with: padded logits, whole prefixes decoded again, every position projected."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.text_model import TextModel
from pipeline.batching import Batch


def plain_loss(model: TextModel, batch: Batch) -> Tensor:
    """The objective of a batch from logits of every position, padding too: []."""
    encoding = model.encode(batch.source, batch.key_padding_mask)
    logits = model.output(model.decode(batch.target_input, encoding.latent))  # [B, N, V]
    target = batch.source.masked_fill(batch.key_padding_mask, -100)
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100) + model.penalty(encoding, 1.0)


@torch.inference_mode()
def plain_generate(model: TextModel, latent: Any, batch: int, start_id: int, max_tokens: int) -> Tensor:
    """Greedy tokens [B, max_tokens], the whole prefix decoded and projected again for each."""
    tokens = torch.full((batch, 1), start_id)
    for _ in range(max_tokens):
        logits = model.output(model.decode(tokens, latent))  # [B, T, V]
        tokens = torch.cat([tokens, logits[:, -1:].argmax(dim=-1)], dim=1)
    return tokens[:, 1:]
