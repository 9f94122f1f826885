"""Multi-head attention of the vanilla Transformer, with keys that generation caches."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.latent import Memory
from models.packing import Packing


@dataclass(frozen=True)
class Keys:
    """Projected keys and values of B sentences.

    Args:
        key: [B, H, N, d_h].
        value: [B, H, N, d_h].
        visible: [B, 1, 1, N], bool, True at the positions that attention sees; None for all.
    """

    key: Tensor
    value: Tensor
    visible: Tensor | None = None

    def select(self, rows: Tensor) -> "Keys":
        """Select the keys of some of the B sentences."""
        return Keys(self.key[rows], self.value[rows], None if self.visible is None else self.visible[rows])

    def extend(self, other: "Keys") -> "Keys":
        """Append the keys of later positions."""
        return Keys(torch.cat([self.key, other.key], dim=2), torch.cat([self.value, other.value], dim=2))


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017), batch first, in one fused call.

    `softmax(Q K^T / sqrt(d_h)) V` for each head, between input and output projections. `prepare` projects the memory,
    `attend` answers queries: `nvib.DenoisingMultiheadAttention` has the same two methods, so that a decoder layer takes
    either attention.

    Args:
        embed_dim: D, width of the vectors.
        num_heads: H, which divides D.
        dropout: probability, in [0, 1), of dropping an attention weight in training.
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
        """Project a memory of N vectors, once for all queries."""
        weight, bias = self.in_proj_weight[self.embed_dim :], self.in_proj_bias[self.embed_dim :]
        key, value = F.linear(memory.vectors, weight, bias).chunk(2, dim=-1)
        return Keys(self._heads(key), self._heads(value), ~memory.key_padding_mask[:, None, None, :])

    def attend(self, query: Tensor, keys: Keys, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """Attend to prepared keys.

        Args:
            query: [B, T, D].
            keys: keys of B memories, from `prepare`.
            need_weights: also return the attention weights.

        Returns:
            The output [B, T, D], and the weights [B, H, T, N] if requested, else None.
        """
        q = F.linear(query, self.in_proj_weight[: self.embed_dim], self.in_proj_bias[: self.embed_dim])
        q = self._heads(q)
        weights = None
        if need_weights:
            logits = q @ keys.key.transpose(-1, -2) / math.sqrt(q.shape[-1])
            weights = (logits if keys.visible is None else logits.masked_fill(~keys.visible, -math.inf)).softmax(dim=-1)
        return self.out_proj(self._weigh(q, keys)), weights

    def attend_to_self(self, hidden: Tensor, packing: Packing | None = None, causal: bool = False) -> Tensor:
        """Compute the self-attention of sentences.

        Args:
            hidden: [B, N, D]; with a packing the packed tokens, [R, D].
            packing: positions of the real tokens; None if no position is padding.
            causal: True if a position sees only itself and earlier positions.

        Returns:
            The shape of `hidden`.
        """
        projected = F.linear(hidden, self.in_proj_weight, self.in_proj_bias)
        q, keys = self._split(projected if packing is None else packing.pad(projected))
        if packing is not None and not causal:  # all positions before a real token are real
            keys = Keys(keys.key, keys.value, ~packing.key_padding_mask[:, None, None, :])
        attended = self._weigh(q, keys, causal)
        return self.out_proj(attended if packing is None else packing.pack(attended))

    def attend_to_past(self, hidden: Tensor, past: Keys | None) -> tuple[Tensor, Keys]:
        """Attend from the next position to itself and to the past.

        Args:
            hidden: [B, 1, D], the next position.
            past: keys of the T earlier positions; None at the first.

        Returns:
            The output [B, 1, D], and the keys of T + 1 positions.
        """
        q, keys = self._split(F.linear(hidden, self.in_proj_weight, self.in_proj_bias))
        keys = keys if past is None else past.extend(keys)
        return self.out_proj(self._weigh(q, keys)), keys

    def _split(self, projected: Tensor) -> tuple[Tensor, Keys]:
        """Split [B, N, 3 D] into queries [B, H, N, d_h] and keys."""
        q, key, value = projected.chunk(3, dim=-1)
        return self._heads(q), Keys(self._heads(key), self._heads(value))

    def _weigh(self, q: Tensor, keys: Keys, causal: bool = False) -> Tensor:
        """Average the values by the attention weights: queries [B, H, T, d_h] to [B, T, D]."""
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
        """Split the width into heads: [B, N, D] to [B, H, N, d_h]."""
        return torch.unflatten(projected, -1, (self.num_heads, -1)).transpose(1, 2)
