"""Packing of padded sentences to the rows of their real tokens."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Packing:
    """Positions of the M real tokens of B padded sentences.

    Half of a batch of mixed lengths is padding. Embeddings, the projections of self-attention, feed-forward layers,
    norms and dropout therefore process the real tokens alone, as rows [M, …] in the order of sentences and positions.
    Attention and the latent need sentences, [B, N, …].

    Args:
        key_padding_mask: [B, N], bool, True at padding.
        rows: [M], int, indices of the real tokens among the B N positions.
    """

    key_padding_mask: Tensor
    rows: Tensor

    @classmethod
    def of(cls, key_padding_mask: Tensor) -> "Packing":
        """Make the packing of sentences with the mask [B, N], bool, True at padding."""
        return cls(key_padding_mask, (~key_padding_mask).flatten().nonzero().squeeze(1))

    @property
    def positions(self) -> Tensor:
        """[M], int, position of each real token in its sentence."""
        return self.rows % self.key_padding_mask.shape[1]

    def pack(self, padded: Tensor) -> Tensor:
        """Select the real tokens: [B, N, …] to [M, …]."""
        return _Pack.apply(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] not annotated
            padded.flatten(0, 1), self.rows
        )

    def pad(self, packed: Tensor) -> Tensor:
        """Return the real tokens to their positions: [M, …] to [B, N, …], zeros at padding."""
        flat = _Pad.apply(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] not annotated
            packed, self.rows, self.key_padding_mask.numel()
        )
        return torch.unflatten(cast(Tensor, flat), 0, self.key_padding_mask.shape)


# Each function is the gradient of the other. The gradient of indexing would add up rows that could repeat, which is
# slower.
class _Pack(torch.autograd.Function):
    """Select rows [M, …] of [B N, …]."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, rows: Tensor) -> Tensor:
        """Return the rows [M, …] of [B N, …]."""
        ctx.save_for_backward(rows)
        ctx.count = padded.shape[0]
        return padded.index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] torch passes one gradient per output
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None]:
        """Return the gradient [B N, …] of [M, …], zeros at the other rows."""
        (rows,) = ctx.saved_tensors
        return _spread(gradient, rows, ctx.count), None


class _Pad(torch.autograd.Function):
    """Write rows [M, …] into zeros [B N, …]."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, rows: Tensor, count: int) -> Tensor:
        """Return [B N, …] of rows [M, …], zeros at the other rows."""
        ctx.save_for_backward(rows)
        return _spread(packed, rows, count)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] torch passes one gradient per output
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None, None]:
        """Return the rows [M, …] of the gradient [B N, …]."""
        (rows,) = ctx.saved_tensors
        return gradient.index_select(0, rows), None, None


def _spread(packed: Tensor, rows: Tensor, count: int) -> Tensor:
    """Write rows [M, …] into zeros [count, …]."""
    return packed.new_zeros(count, *packed.shape[1:]).index_copy_(0, rows, packed)
