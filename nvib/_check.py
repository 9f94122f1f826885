"""Errors that say which argument, what was expected and what was given."""

from numbers import Integral
from typing import Any

import torch
from torch import Tensor


def check_shape(name: str, value: Any, shape: tuple[int | None, ...]) -> None:
    """Raise a ValueError unless `value` is a tensor of `shape`, where None stands for any size."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(value).__name__}")
    fits = value.dim() == len(shape) and all(want in (None, got) for want, got in zip(shape, value.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must have shape [{wanted}], got {list(value.shape)}")


def check_mask(name: str, value: Any, shape: tuple[int | None, ...], true: str = "at padding") -> None:
    """Raise a ValueError unless `value` is a boolean mask of `shape`; `true` says where it is True."""
    given = value.dtype if isinstance(value, Tensor) else type(value).__name__
    if given != torch.bool:
        raise ValueError(f"{name} must be boolean, True {true}, got {given}")
    check_shape(name, value, shape)


def check_every_row_real(name: str, mask: Tensor) -> None:
    """Raise a ValueError if a sentence is padding alone.

    Left out while compiling, where a tensor's content must not decide what is run.
    """
    if not torch.compiler.is_compiling() and bool(mask.all(dim=-1).any()):
        rows = mask.all(dim=-1).nonzero().flatten().tolist()
        raise ValueError(f"{name} must leave every sentence a real position, got none for sentence {rows[0]}")


def check_kappa(kappa: Any) -> None:
    """Raise a ValueError unless `kappa`, the draws per component, is an integer of at least 1, be it numpy's."""
    if not isinstance(kappa, Integral) or isinstance(kappa, bool) or kappa < 1:
        raise ValueError(f"kappa must be an integer of at least 1, got {kappa!r}")
