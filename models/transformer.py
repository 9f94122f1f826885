"""`T`: the vanilla Transformer autoencoder (Vaswani et al. 2017)."""

import torch.nn.functional as F
from torch import Tensor

from models.attention import Memory, MultiheadAttention
from models.autoencoder import Encoding, TextAutoencoder
from models.settings import TransformerSettings


class TransformerAutoencoder(TextAutoencoder):
    """The memory is the encoder's output: every vector kept, nothing regularised, no prior."""

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__(settings, lambda: MultiheadAttention(settings.dim_h, settings.num_heads, settings.dropout))

    def latent_from(self, hidden: Tensor, key_padding_mask: Tensor) -> Encoding:
        """The encoder's output as it is."""
        vectors = (~key_padding_mask).sum(dim=-1)
        return Encoding(Memory(hidden, key_padding_mask), vectors_kept=vectors, vectors=vectors)

    def interpolate(self, a: Memory, b: Memory, tau: float) -> Memory:
        """Vector by vector, position by position, the shorter text padded with zeros."""
        if tau in (0.0, 1.0):
            return b if tau else a
        width = max(a.vectors.shape[1], b.vectors.shape[1])
        vectors, masks = [], []
        for memory in (a, b):
            missing = width - memory.vectors.shape[1]
            zeroed = memory.vectors.masked_fill(memory.key_padding_mask.unsqueeze(-1), 0.0)
            vectors.append(F.pad(zeroed, (0, 0, 0, missing)))
            masks.append(F.pad(memory.key_padding_mask, (0, missing), value=True))
        return Memory((1.0 - tau) * vectors[0] + tau * vectors[1], masks[0] & masks[1])
