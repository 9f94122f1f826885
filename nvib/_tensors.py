"""Tensor operations that several modules share."""

import torch
from torch import Tensor


def float32_or_float64(value: Tensor) -> Tensor:
    """Return a float64 tensor unchanged, and any other tensor as float32."""
    return value if value.dtype == torch.float64 else value.float()


def vector_norm(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the Euclidean norms of vectors [..., D], computed in `dtype`: [...]."""
    return torch.linalg.vector_norm(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] no stubs
        value, dim=-1, dtype=dtype
    )


def soft_bound(value: Tensor, low: float, high: float, slack: float) -> Tensor:
    """Apply a smooth bound: the identity in [low, high], and a bend towards a limit `slack` beyond it.

    The bend is t / (1 + t). Its gradient decays slowly, so that training can move a distant value back.
    """
    if value.device.type == "cpu" and not torch.compiler.is_compiling() and value.numel():
        smallest, largest = value.detach().aminmax()
        if smallest >= low and largest <= high:  # the common case: one pass instead of eight, none backward
            return value
    inside = value.clamp(low, high)
    excess = (value - inside) / slack
    return inside + slack * excess / (1.0 + excess.abs())
