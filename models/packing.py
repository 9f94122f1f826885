"""Packing of padded sentences to the rows of their real tokens."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


@dataclass(frozen=True)
class Packing:
    """Positions of the M real tokens of B padded sentences.

    Half of a batch of mixed lengths is padding. Embeddings, the projections of self-attention, feed-forward layers,
    norms and dropout therefore process the real tokens alone, as rows [R, …] in the order of sentences and positions.
    Attention and the latent need sentences, [B, N, …].

    R is M, except in bfloat16 on a CPU: there R is the next of a few round numbers, and zeros follow the real tokens.
    oneDNN makes another kernel for each number of rows, and in bfloat16 that takes longer than the product itself.

    Args:
        key_padding_mask: [B, N], bool, True at padding.
        rows: [M], int, indices of the real tokens among the B N positions.
        count: R, number of packed rows.
    """

    key_padding_mask: Tensor
    rows: Tensor
    count: int

    @classmethod
    def of(cls, key_padding_mask: Tensor) -> "Packing":
        """Make the packing of sentences with the mask [B, N], bool, True at padding."""
        rows = (~key_padding_mask).flatten().nonzero().squeeze(1)
        lowered = rows.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        return cls(key_padding_mask, rows, round_number(len(rows)) if lowered else len(rows))

    @property
    def positions(self) -> Tensor:
        """[R], int, position of each real token in its sentence."""
        return functional.pad(self.rows % self.key_padding_mask.shape[1], (0, self.count - len(self.rows)))

    def pack(self, padded: Tensor) -> Tensor:
        """Select the real tokens: [B, N, …] to [R, …]."""
        return _Pack.apply(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] not annotated
            padded.flatten(0, 1), self.rows, self.count
        )

    def pad(self, packed: Tensor) -> Tensor:
        """Return the real tokens to their positions: [R, …] or [M, …] to [B, N, …], zeros at padding."""
        flat = _Pad.apply(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] not annotated
            packed, self.rows, self.key_padding_mask.numel()
        )
        return torch.unflatten(cast(Tensor, flat), 0, self.key_padding_mask.shape)


def round_number(count: int) -> int:
    """Return the next multiple of an eighth of the largest power of two up to `count`, or of 16 if that is more.

    There are eight of them between a power of two and the next, so from 128 on it is at most an eighth above `count`.
    """
    step = max(16, 2 ** max(count.bit_length() - 4, 0))
    return -(-count // step) * step


# Each function is the gradient of the other. The gradient of indexing would add up rows that could repeat, which is
# slower.
class _Pack(torch.autograd.Function):
    """Select rows [M, …] of [B N, …], and append zeros up to [R, …]."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, rows: Tensor, count: int) -> Tensor:
        """Return the rows of [B N, …] as [R, …]."""
        ctx.save_for_backward(rows)
        ctx.count = padded.shape[0]
        return _selected(padded, rows, count)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] torch passes one gradient per output
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None, None]:
        """Return the gradient [B N, …] of [R, …], zeros at the other rows."""
        (rows,) = ctx.saved_tensors
        return _spread(gradient, rows, ctx.count), None, None


class _Pad(torch.autograd.Function):
    """Write the first M of rows [R, …] into zeros [B N, …]."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, rows: Tensor, count: int) -> Tensor:
        """Return [B N, …] of rows [R, …], zeros at the other rows."""
        ctx.save_for_backward(rows)
        ctx.count = packed.shape[0]
        return _spread(packed, rows, count)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] torch passes one gradient per output
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None, None]:
        """Return the rows of the gradient [B N, …] as [R, …]."""
        (rows,) = ctx.saved_tensors
        return _selected(gradient, rows, ctx.count), None, None


def _selected(padded: Tensor, rows: Tensor, count: int) -> Tensor:
    """Select rows [M, …] of [B N, …], and append zeros up to [count, …]."""
    if count == len(rows):
        return padded.index_select(0, rows)
    selected = padded.new_empty(count, *padded.shape[1:])
    torch.index_select(padded, 0, rows, out=selected[: len(rows)])
    selected[len(rows) :] = 0
    return selected


def _spread(packed: Tensor, rows: Tensor, count: int) -> Tensor:
    """Write the first M of rows [R, …] into zeros [count, …]."""
    return packed.new_zeros(count, *packed.shape[1:]).index_copy_(0, rows, packed[: len(rows)])
