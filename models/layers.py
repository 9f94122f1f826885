"""Parts of the Transformer: embedding with positions, encoder layers, decoder layers."""

import math
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dropout import Dropout
from models.packing import Packing
from models.vanilla_attention import Keys, MultiheadAttention


def sinusoids(positions: Tensor, dim: int) -> Tensor:
    """Compute sinusoidal vectors of positions (Vaswani et al. 2017).

    Args:
        positions: [M], int.
        dim: D.

    Returns:
        [M, D], float32.
    """
    frequency = torch.exp(torch.arange(0, dim, 2, device=positions.device) * (-math.log(10000.0) / dim))
    angles = positions.unsqueeze(1) * frequency
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[:, :dim]


class Embedding(nn.Module):
    """Token vectors times √D plus sinusoidal positions (Vaswani et al. 2017), then dropout.

    Args:
        vocabulary_size: V, number of tokens.
        dim: D, width of the vectors.
        dropout: probability, in [0, 1).
    """

    def __init__(self, vocabulary_size: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary_size, dim).uniform_(-1e-4, 1e-4))
        self.dropout = Dropout(dropout)

    def forward(
        self, tokens: Tensor, start: int = 0, hidden_words: Tensor | None = None, packing: Packing | None = None
    ) -> Tensor:
        """Embed token ids.

        Args:
            tokens: [B, N], token ids.
            start: position of the first token.
            hidden_words: [B, N], bool; where True, the token vector is zero and the position is kept. None hides none.
            packing: positions of the real tokens; None for all.

        Returns:
            [B, N, D], or with a packing [R, D] of the packed tokens.
        """
        dim = self.weight.shape[1]
        positions = sinusoids(torch.arange(start, start + tokens.shape[1], device=tokens.device), dim)  # [N, D]
        if packing is not None:
            tokens, positions = packing.pack(tokens), positions[packing.positions]
            hidden_words = None if hidden_words is None else packing.pack(hidden_words)
        words = F.embedding(tokens, self.weight) * math.sqrt(dim)
        if hidden_words is not None:
            words = words.masked_fill(hidden_words.unsqueeze(-1), 0.0)
        return self.dropout(words + positions)


class FeedForward(nn.Module):
    """Two linear layers with a ReLU and dropout between them; the inner width is 4 D.

    Args:
        dim: D.
        dropout: probability, in [0, 1).
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, 4 * dim)
        self.outer = nn.Linear(4 * dim, dim)
        self.dropout = Dropout(dropout)
        for linear in (self.inner, self.outer):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map each vector: […, D] to […, D]."""
        return self.outer(self.dropout(self.inner(hidden).relu()))


def output_projection(dim: int, vocabulary_size: int) -> nn.Linear:
    """Make the projection from the decoder's vectors [D] to the logits of the vocabulary [V]."""
    output = nn.Linear(dim, vocabulary_size)
    nn.init.xavier_uniform_(output.weight)
    nn.init.zeros_(output.bias)
    return output


class _SelfAttentionLayer(nn.Module):
    """Self-attention and feed-forward, each followed by a residual sum and a norm (post-norm).

    Args:
        dim: D.
        num_heads: heads of the self-attention.
        dropout: probability, in [0, 1).
    """

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = MultiheadAttention(dim, num_heads, dropout)
        self.feed_forward = FeedForward(dim, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.dropout = Dropout(dropout)

    def _after_self_attention(self, hidden: Tensor, attended: Tensor) -> Tensor:
        hidden = self.norms[0](hidden + self.dropout(attended))
        return self.norms[1](hidden + self.dropout(self.feed_forward(hidden)))


class EncoderLayer(_SelfAttentionLayer):
    """Self-attention to all positions, then feed-forward (post-norm)."""

    def forward(self, hidden: Tensor, packing: Packing | None = None) -> Tensor:
        """Apply the layer.

        Args:
            hidden: [B, N, D] without padding; with a packing the packed tokens, [R, D].
            packing: positions of the real tokens; None for all.

        Returns:
            The shape of `hidden`.
        """
        return self._after_self_attention(hidden, self.self_attention.attend_to_self(hidden, packing))


class AttentionKeys(Protocol):
    """Projected keys and values of B latents."""

    def select(self, rows: Tensor) -> Self:
        """Select the keys of some of the B latents."""
        ...


OwnLatent = TypeVar("OwnLatent", contravariant=True)
OwnKeys = TypeVar("OwnKeys", bound=AttentionKeys)


class CrossAttention(Protocol[OwnLatent, OwnKeys]):
    """Attention of a decoder layer to latents of one type.

    `MultiheadAttention` and `nvib.DenoisingMultiheadAttention` are cross-attentions.
    """

    def prepare(self, latent: OwnLatent, /) -> OwnKeys:
        """Project latents of B texts, once for all queries."""
        ...

    def attend(self, query: Tensor, keys: OwnKeys, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """Attend from [B, T, D]: the output [B, T, D], and the weights [B, H, T, K] if requested, else None."""
        ...


class DecoderState(Protocol):
    """A part of a decoder's state between two generated tokens."""

    def select(self, rows: Tensor) -> "DecoderState":
        """Select the state of some of the B texts."""
        ...

    def select_past(self, rows: Tensor) -> "DecoderState":
        """Replace the past of each text by the past of text `rows[b]`, which has the same latent."""
        ...


@dataclass(frozen=True)
class LayerState:
    """State of one decoder layer between two generated tokens.

    Args:
        latent_keys: keys of B latents; None in a layer that attends to none.
        past: keys of the earlier positions; None before the first token.
    """

    latent_keys: AttentionKeys | None = None
    past: Keys | None = None

    def select(self, rows: Tensor) -> "LayerState":
        """Select the state of some of the B texts."""
        keys = None if self.latent_keys is None else self.latent_keys.select(rows)
        return LayerState(keys, None if self.past is None else self.past.select(rows))

    def select_past(self, rows: Tensor) -> "LayerState":
        """Replace the past of each text by the past of text `rows[b]`, which has the same latent."""
        return LayerState(self.latent_keys, None if self.past is None else self.past.select(rows))


class CausalLayer(_SelfAttentionLayer):
    """Decoder layer without a latent: causal self-attention, then feed-forward (post-norm)."""

    def forward(self, hidden: Tensor, latent: None = None, packing: Packing | None = None) -> Tensor:
        """Apply the layer to all positions; each position sees itself and earlier positions.

        Args:
            hidden: [B, T, D]; with a packing the packed positions, [R, D].
            latent: None, the argument of `DecoderLayer` that this layer lacks.
            packing: the real positions; None for all.

        Returns:
            The shape of `hidden`.
        """
        return self._after_self_attention(hidden, self.self_attention.attend_to_self(hidden, packing, causal=True))

    def step(self, hidden: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Apply the layer to the next position: [B, 1, D] to [B, 1, D], and the new state."""
        attended, past = self.self_attention.attend_to_past(hidden, state.past)
        return self._after_self_attention(hidden, attended), LayerState(past=past)

    def start(self, latent: None = None) -> LayerState:
        """Return the state before the first token."""
        return LayerState()


class DecoderLayer(nn.Module, Generic[OwnLatent, OwnKeys]):
    """Causal self-attention, attention to a latent and feed-forward (post-norm).

    Args:
        dim: D.
        num_heads: heads of the self-attention.
        dropout: probability, in [0, 1).
        cross_attention: attention to the latent, a module.
    """

    def __init__(
        self, dim: int, num_heads: int, dropout: float, cross_attention: CrossAttention[OwnLatent, OwnKeys]
    ) -> None:
        super().__init__()
        self.self_attention = MultiheadAttention(dim, num_heads, dropout)
        self.cross_attention = cross_attention
        self.feed_forward = FeedForward(dim, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor, latent: OwnLatent, packing: Packing | None = None) -> Tensor:
        """Apply the layer to all positions; each position sees itself and earlier positions.

        Args:
            hidden: [B, T, D]; with a packing the packed positions, [R, D].
            latent: latents of B texts.
            packing: the real positions; None for all.

        Returns:
            The shape of `hidden`.
        """
        attended = self.self_attention.attend_to_self(hidden, packing, causal=True)
        return self._after_self_attention(hidden, attended, self.cross_attention.prepare(latent), packing)[0]

    def with_weights(self, hidden: Tensor, latent: OwnLatent) -> tuple[Tensor, Tensor]:
        """Return the output of `forward` [B, T, D] and the weights over the K vectors of the latent [B, H, T, K]."""
        attended = self.self_attention.attend_to_self(hidden, causal=True)
        keys = self.cross_attention.prepare(latent)
        output, weights = self._after_self_attention(hidden, attended, keys, need_weights=True)
        assert weights is not None  # for the type checker: they are requested
        return output, weights

    def step(self, hidden: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Apply the layer to the next position: [B, 1, D] to [B, 1, D], and the new state."""
        attended, past = self.self_attention.attend_to_past(hidden, state.past)
        keys = cast(OwnKeys, state.latent_keys)  # from `start` of this layer
        return self._after_self_attention(hidden, attended, keys)[0], LayerState(keys, past)

    def start(self, latent: OwnLatent) -> LayerState:
        """Return the state before the first token of B texts."""
        return LayerState(self.cross_attention.prepare(latent))

    def _after_self_attention(
        self,
        hidden: Tensor,
        attended: Tensor,
        keys: OwnKeys,
        packing: Packing | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        hidden = self.norms[0](hidden + self.dropout(attended))
        query = hidden if packing is None else packing.pad(hidden)
        attended, weights = self.cross_attention.attend(query, keys, need_weights)
        attended = attended if packing is None else packing.pack(attended)
        hidden = self.norms[1](hidden + self.dropout(attended))
        return self.norms[2](hidden + self.dropout(self.feed_forward(hidden))), weights
