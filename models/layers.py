"""The Transformer's parts: embedding with positions, encoder, decoder."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dropout import Dropout
from models.packing import Packing
from models.vanilla_attention import Keys, MultiheadAttention


class Embedding(nn.Module):
    """Token vectors times √D plus sinusoidal positions (Vaswani et al. 2017), then dropout."""

    def __init__(self, vocabulary_size: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary_size, dim).uniform_(-1e-4, 1e-4))
        self.dropout = Dropout(dropout)
        frequency = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
        self.register_buffer("frequency", frequency, persistent=False)

    def forward(
        self, tokens: Tensor, start: int = 0, hidden_words: Tensor | None = None, packing: Packing | None = None
    ) -> Tensor:
        """[B, N] token ids, the first at position `start`, to [B, N, D]; with a packing the real ones', [M, D].

        Where `hidden_words` [B, N] is True, the position stays and the word is hidden.
        """
        dim = self.weight.shape[1]
        angles = torch.arange(start, start + tokens.shape[1], device=tokens.device).unsqueeze(1) * self.frequency
        positions = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[:, :dim]  # [N, D]
        if packing is not None:
            tokens, positions = packing.pack(tokens), positions[packing.positions]
            hidden_words = None if hidden_words is None else packing.pack(hidden_words)
        words = F.embedding(tokens, self.weight) * math.sqrt(dim)
        if hidden_words is not None:
            words = words.masked_fill(hidden_words.unsqueeze(-1), 0.0)
        return self.dropout(words + positions)


class FeedForward(nn.Module):
    """Two linear layers, the inner one four times as wide, with a ReLU and dropout between."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, 4 * dim)
        self.outer = nn.Linear(4 * dim, dim)
        self.dropout = Dropout(dropout)
        for linear in (self.inner, self.outer):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """[…, D] to […, D]."""
        return self.outer(self.dropout(self.inner(hidden).relu()))


def output_projection(dim: int, vocabulary_size: int) -> nn.Linear:
    """From the decoder's vectors to logits of the vocabulary."""
    output = nn.Linear(dim, vocabulary_size)
    nn.init.xavier_uniform_(output.weight)
    nn.init.zeros_(output.bias)
    return output


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each followed by the sum with its input and a norm (post-norm)."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = MultiheadAttention(dim, num_heads, dropout)
        self.feed_forward = FeedForward(dim, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor, packing: Packing | None = None) -> Tensor:
        """[M, D] of the real tokens, or [B, N, D] where none is padding, to the same shape."""
        return self._after_self_attention(hidden, self.self_attention.attend_to_self(hidden, packing))

    def _after_self_attention(self, hidden: Tensor, attended: Tensor) -> Tensor:
        hidden = self.norms[0](hidden + self.dropout(attended))
        return self.norms[1](hidden + self.dropout(self.feed_forward(hidden)))


@dataclass(frozen=True)
class LayerState:
    """What one decoder layer keeps between two generated tokens: keys of the memory, if any, and of the past."""

    memory: Any | None = None
    past: Keys | None = None

    def select(self, rows: Tensor) -> "LayerState":
        """The state of some of the B sentences."""
        return LayerState(*(None if keys is None else keys.select(rows) for keys in (self.memory, self.past)))

    def select_past(self, rows: Tensor) -> "LayerState":
        """The state after each of the B sentences has gone on from the past of another with the same memory."""
        return LayerState(self.memory, None if self.past is None else self.past.select(rows))


class CausalLayer(EncoderLayer):
    """An encoder layer each of whose positions sees those before it alone: a decoder's without a memory."""

    def forward(self, hidden: Tensor, memory: None = None, packing: Packing | None = None) -> Tensor:
        """[B, T, D] of all positions at once, or with a packing [M, D] of the real ones."""
        return self._after_self_attention(hidden, self.self_attention.attend_to_self(hidden, packing, causal=True))

    def step(self, hidden: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """[B, 1, D] of the next position."""
        attended, past = self.self_attention.attend_to_past(hidden, state.past)
        return self._after_self_attention(hidden, attended), LayerState(past=past)

    def start(self, memory: None = None) -> LayerState:
        """The state before the first token."""
        return LayerState()


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the memory and feed-forward, post-norm.

    Args:
        dim: D.
        num_heads: heads of the self-attention.
        dropout: probability.
        cross_attention: the attention to the memory: anything with `prepare` and `attend`.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float, cross_attention: nn.Module) -> None:
        super().__init__()
        self.self_attention = MultiheadAttention(dim, num_heads, dropout)
        self.cross_attention = cross_attention
        self.feed_forward = FeedForward(dim, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor, memory: Any, packing: Packing | None = None) -> Tensor:
        """[B, T, D] of all positions at once, each seeing those before it; with a packing [M, D] of the real ones."""
        attended = self.self_attention.attend_to_self(hidden, packing, causal=True)
        return self._after_self_attention(hidden, attended, self.cross_attention.prepare(memory), packing)[0]

    def with_weights(self, hidden: Tensor, memory: Any) -> tuple[Tensor, Tensor]:
        """What `forward` returns, and how every position weighs the memory's K vectors: [B, H, T, K]."""
        attended = self.self_attention.attend_to_self(hidden, causal=True)
        return self._after_self_attention(hidden, attended, self.cross_attention.prepare(memory), need_weights=True)

    def step(self, hidden: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """[B, 1, D] of the next position."""
        attended, past = self.self_attention.attend_to_past(hidden, state.past)
        return self._after_self_attention(hidden, attended, state.memory)[0], LayerState(state.memory, past)

    def start(self, memory: Any) -> LayerState:
        """The state before the first token."""
        return LayerState(self.cross_attention.prepare(memory))

    def _after_self_attention(
        self, hidden: Tensor, attended: Tensor, keys: Any, packing: Packing | None = None, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        hidden = self.norms[0](hidden + self.dropout(attended))
        query = hidden if packing is None else packing.pad(hidden)
        attended, weights = self.cross_attention.attend(query, keys, need_weights)
        attended = attended if packing is None else packing.pack(attended)
        hidden = self.norms[1](hidden + self.dropout(attended))
        return self.norms[2](hidden + self.dropout(self.feed_forward(hidden))), weights
