"""Real tokens without their padding: what all but attention and the latent work on."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


@dataclass(frozen=True)
class Packing:
    """Which positions of B padded sentences hold their M real tokens.

    A batch of mixed lengths is half padding. Embeddings, self-attention's projections, feed-forward layers, norms and
    dropout are done with the real tokens alone, as [M, …] rows in the order of sentences and positions; what attends,
    and the latent, needs sentences, [B, N, …].

    Args:
        key_padding_mask: [B, N], bool, True at padding.
        rows: [M], int, where the real tokens stand among the B N positions.
    """

    key_padding_mask: Tensor
    rows: Tensor

    @classmethod
    def of(cls, key_padding_mask: Tensor) -> "Packing":
        """Of sentences with this mask [B, N]."""
        return cls(key_padding_mask, (~key_padding_mask).flatten().nonzero().squeeze(1))

    @property
    def positions(self) -> Tensor:
        """[M], int, the position of each real token in its sentence."""
        return self.rows % self.key_padding_mask.shape[1]

    def pack(self, padded: Tensor) -> Tensor:
        """[B, N, …] to its real tokens [M, …]."""
        return _Pack.apply(padded.flatten(0, 1), self.rows)

    def pad(self, packed: Tensor) -> Tensor:
        """[M, …] to [B, N, …], zeros at padding."""
        return _Pad.apply(packed, self.rows, self.key_padding_mask.numel()).unflatten(0, self.key_padding_mask.shape)


# Each other's gradient. As indexing, they would have one that adds up rows that might come twice, which is slow.
class _Pack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, padded: Tensor, rows: Tensor) -> Tensor:
        """[B N, …] to its rows [M, …]."""
        ctx.save_for_backward(rows)
        ctx.count = padded.shape[0]
        return padded.index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        """[M, …] to [B N, …], zeros elsewhere."""
        (rows,) = ctx.saved_tensors
        return _spread(gradient, rows, ctx.count), None


class _Pad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, packed: Tensor, rows: Tensor, count: int) -> Tensor:
        """[M, …] to [B N, …], zeros elsewhere."""
        ctx.save_for_backward(rows)
        return _spread(packed, rows, count)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        """[B N, …] to its rows [M, …]."""
        (rows,) = ctx.saved_tensors
        return gradient.index_select(0, rows), None, None


def _spread(packed: Tensor, rows: Tensor, count: int) -> Tensor:
    return packed.new_zeros(count, *packed.shape[1:]).index_copy_(0, rows, packed)
