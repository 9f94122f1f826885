"""Multi-head attention of the vanilla Transformer, with keys that generation keeps."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.packing import Packing


@dataclass(frozen=True)
class Memory:
    """A set of vectors to attend to.

    Args:
        vectors: [B, N, D].
        key_padding_mask: [B, N], bool, True at padding.
    """

    vectors: Tensor
    key_padding_mask: Tensor


def interpolate(a: Memory, b: Memory, tau: float) -> Memory:
    """Vector by vector, position by position, the shorter set padded with zeros; exact at 0 and 1."""
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


@dataclass(frozen=True)
class Keys:
    """Projected keys and values: [B, H, N, d_h] both, and [B, 1, 1, N], True where attention may look, or None."""

    key: Tensor
    value: Tensor
    visible: Tensor | None = None

    def select(self, rows: Tensor) -> "Keys":
        """The keys of some of the B sentences."""
        return Keys(self.key[rows], self.value[rows], None if self.visible is None else self.visible[rows])

    def extend(self, other: "Keys") -> "Keys":
        """These keys followed by those of later positions."""
        return Keys(torch.cat([self.key, other.key], dim=2), torch.cat([self.value, other.value], dim=2))


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017), batch first, in one fused call.

    `prepare` projects what is attended to, `attend` answers queries: the interface that
    `nvib.DenoisingMultiheadAttention` has too, so that a decoder layer takes either.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim))
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def prepare(self, memory: Memory) -> Keys:
        """Project a memory, once for all queries."""
        weight, bias = self.in_proj_weight[self.embed_dim :], self.in_proj_bias[self.embed_dim :]
        key, value = F.linear(memory.vectors, weight, bias).chunk(2, dim=-1)
        return Keys(self._heads(key), self._heads(value), ~memory.key_padding_mask[:, None, None, :])

    def attend(self, query: Tensor, keys: Keys, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """Attend from [B, T, D] to prepared keys: [B, T, D], and the weights [B, H, T, N] on request, else None."""
        q = F.linear(query, self.in_proj_weight[: self.embed_dim], self.in_proj_bias[: self.embed_dim])
        q = self._heads(q)
        weights = None
        if need_weights:
            logits = q @ keys.key.transpose(-1, -2) / math.sqrt(q.shape[-1])
            weights = (logits if keys.visible is None else logits.masked_fill(~keys.visible, -math.inf)).softmax(dim=-1)
        return self.out_proj(self._weigh(q, keys)), weights

    def attend_to_self(self, hidden: Tensor, packing: Packing | None = None, causal: bool = False) -> Tensor:
        """Attend from sentences to themselves.

        Args:
            hidden: [B, N, D], or with a packing the real tokens alone, [M, D].
            packing: where the real tokens stand; None where none is padding.
            causal: whether a position sees itself and earlier ones alone.

        Returns:
            Of the shape of `hidden`.
        """
        projected = F.linear(hidden, self.in_proj_weight, self.in_proj_bias)
        q, keys = self._split(projected if packing is None else packing.pad(projected))
        if packing is not None and not causal:  # the past of a real token is real
            keys = Keys(keys.key, keys.value, ~packing.key_padding_mask[:, None, None, :])
        attended = self._weigh(q, keys, causal)
        return self.out_proj(attended if packing is None else packing.pack(attended))

    def attend_to_past(self, hidden: Tensor, past: Keys | None) -> tuple[Tensor, Keys]:
        """Attend from the next position [B, 1, D] to it and all before it; returns the longer past too."""
        q, keys = self._split(F.linear(hidden, self.in_proj_weight, self.in_proj_bias))
        keys = keys if past is None else past.extend(keys)
        return self.out_proj(self._weigh(q, keys)), keys

    def _split(self, projected: Tensor) -> tuple[Tensor, Keys]:
        q, key, value = projected.chunk(3, dim=-1)
        return self._heads(q), Keys(self._heads(key), self._heads(value))

    def _weigh(self, q: Tensor, keys: Keys, causal: bool = False) -> Tensor:
        output = F.scaled_dot_product_attention(
            q,
            keys.key,
            keys.value,
            attn_mask=keys.visible,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        return output.transpose(1, 2).flatten(-2)

    def _heads(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
