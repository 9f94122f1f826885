"""Argument checks. Each error names the argument, the expected value and the given value."""

from numbers import Integral

import torch
from torch import Tensor


def check_shape(name: str, value: object, shape: tuple[int | None, ...]) -> None:
    """Check that `value` is a tensor of the given shape.

    Args:
        name: argument name for the error message.
        value: object to check.
        shape: expected size of each dimension; None accepts any size.

    Raises:
        ValueError: if `value` is not a tensor, or its shape differs from `shape`.
    """
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(value).__name__}")
    fits = value.dim() == len(shape) and all(want in (None, got) for want, got in zip(shape, value.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must have shape [{wanted}], got {list(value.shape)}")


def check_mask(name: str, value: object, shape: tuple[int | None, ...], true: str = "at padding") -> None:
    """Check that `value` is a boolean tensor of the given shape.

    Args:
        name: argument name for the error message.
        value: object to check.
        shape: expected size of each dimension; None accepts any size.
        true: meaning of True in the mask, for the error message.

    Raises:
        ValueError: if `value` is not a boolean tensor, or its shape differs from `shape`.
    """
    given = value.dtype if isinstance(value, Tensor) else type(value).__name__
    if given != torch.bool:
        raise ValueError(f"{name} must be boolean, True {true}, got {given}")
    check_shape(name, value, shape)


def check_every_row_real(name: str, mask: Tensor) -> None:
    """Check that a padding mask leaves at least one real position in every text.

    The check is skipped while compiling, because control flow must not depend on tensor values there.

    Args:
        name: argument name for the error message.
        mask: [B, N], bool, True at padding.

    Raises:
        ValueError: if a row of `mask` is all True.
    """
    if not torch.compiler.is_compiling() and bool(mask.all(dim=-1).any()):
        text = int(mask.all(dim=-1).nonzero()[0])
        raise ValueError(f"{name} must leave at least one real position in every text, got none in text {text}")


def check_kappa(kappa: object) -> None:
    """Check that `kappa`, the number of draws per component, is an integer of at least 1.

    NumPy integers are accepted.

    Raises:
        ValueError: if `kappa` is not an integer, or is below 1.
    """
    if isinstance(kappa, bool) or not isinstance(kappa, Integral) or kappa < 1:
        raise ValueError(f"kappa must be an integer of at least 1, got {kappa!r}")
