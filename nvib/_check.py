"""Errors that say which argument, what was expected and what was given."""

import torch
from torch import Tensor


def check_shape(name: str, value: Tensor, shape: tuple[int | None, ...]) -> None:
    """Raise a ValueError unless `value` has `shape`, where None stands for any size."""
    fits = value.dim() == len(shape) and all(want in (None, got) for want, got in zip(shape, value.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must have shape [{wanted}], got {list(value.shape)}")


def check_mask(name: str, value: Tensor, shape: tuple[int | None, ...], true: str = "at padding") -> None:
    """Raise a ValueError unless `value` is a boolean mask of `shape`; `true` says where it is True."""
    if value.dtype != torch.bool:
        raise ValueError(f"{name} must be boolean, True {true}, got {value.dtype}")
    check_shape(name, value, shape)


def check_every_row_real(name: str, mask: Tensor) -> None:
    """Raise a ValueError if a sentence is padding alone.

    Left out while compiling, where a tensor's content must not decide what is run.
    """
    if not torch.compiler.is_compiling() and bool(mask.all(dim=-1).any()):
        rows = mask.all(dim=-1).nonzero().flatten().tolist()
        raise ValueError(f"{name} must leave every sentence a real position, got none for sentence {rows[0]}")
