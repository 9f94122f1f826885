"""Layouts of the attention modules of transformers: where their projections, heads and normalised keys are."""

import inspect

import torch
from torch import Tensor, nn

from nvib.empirical_prior import named_modules
from nvib.rotary_attention import KeyValueProjections

# Attribute names of the key and value projections, for models with separate projections.
PROJECTIONS = (("k_proj", "v_proj"), ("key", "value"), ("k", "v"))
HEADS = ("num_heads", "n_heads", "num_attention_heads")
NORM = "k_norm"  # root mean square norm of the keys of a head


def attentions(model: nn.Module) -> dict[str, nn.Module]:
    """Return every attention module of a model by path.

    Raises:
        ValueError: if there is none, or if one cannot be converted; the error names its path and the reason.
    """
    found = {path: part for path, part in named_modules(model) if _layout(part) is not None}
    if not found:
        raise ValueError(f"model must contain attention with a supported layout, got none in {type(model).__name__}")
    rotary = any("Rotary" in type(part).__name__ for part in model.modules())
    for path, part in found.items():
        reason = _why_not(part, rotary)
        if reason:
            raise ValueError(f"{path} cannot be converted, got {reason}")
    return found


def projections(module: nn.Module) -> KeyValueProjections:
    """Return the key and value projections of an attention module.

    Raises:
        ValueError: if its layout is not supported.
    """
    names = _layout(module)
    if names is None:
        raise ValueError(f"{type(module).__name__} must be attention with a supported layout")
    parts = [getattr(module, name) for name in names]
    if len(parts) == 2:
        (key, key_bias), (value, value_bias) = ((part.weight, part.bias) for part in parts)
    else:
        # One matrix for all projections, applied from the right: [D, 3 D] for queries, keys and values, or [D, 2 D] for
        # keys and values.
        weight, bias = parts[0].weight.T, parts[0].bias
        dim = weight.shape[1]
        key, key_bias, value, value_bias = weight[-2 * dim : -dim], bias[-2 * dim : -dim], weight[-dim:], bias[-dim:]
    gain, epsilon = _gain(module, key) if hasattr(module, NORM) else (None, 0.0)
    width = _head_dim(module, key)
    return KeyValueProjections(key, key_bias, value, value_bias, key.shape[0] // (width or 1), gain, epsilon)


def _layout(module: nn.Module) -> tuple[str, ...] | None:
    for names in (*PROJECTIONS, ("c_attn",)):
        if all(isinstance(getattr(getattr(module, name, None), "weight", None), Tensor) for name in names):
            return names
    return None


def _head_dim(module: nn.Module, key: Tensor) -> int | None:
    """Return the width of a head, or None if the module has neither this width nor a number of heads."""
    width = getattr(module, "head_dim", None)
    heads = next((getattr(module, name) for name in HEADS if isinstance(getattr(module, name, None), int)), None)
    return width if isinstance(width, int) else None if heads is None else key.shape[0] // heads


def _gain(module: nn.Module, like: Tensor) -> tuple[Tensor, float]:
    """Return the gain [d_h] and the epsilon of the norm of the keys.

    Some families multiply by the weight and others by the weight plus one, so the gain is the norm of a vector of ones.
    """
    norm = getattr(module, NORM)
    epsilon = next((float(getattr(norm, name)) for name in ("variance_epsilon", "eps") if hasattr(norm, name)), 0.0)
    return norm(like.new_ones(norm.weight.shape)) * (1.0 + epsilon) ** 0.5, epsilon


def _why_not(module: nn.Module, rotary: bool) -> str | None:
    """Return the property of this attention module that has no equivalent, or None if it can be converted."""
    if rotary and "position_embeddings" not in inspect.signature(module.forward).parameters:
        return "rotary positions that are no argument of the attention module"
    norm = getattr(module, NORM, None)
    if norm is not None and not _is_root_mean_square(module, norm):
        return f"keys normalised by {type(norm).__name__}: only a root mean square norm of each head has an equivalent"
    found = projections(module)
    if _head_dim(module, found.key) is None:
        return f"no number of heads in {', '.join(HEADS)} and no head_dim"
    if found.key.shape != found.value.shape:
        return f"keys of width {found.key.shape[0]} and values of width {found.value.shape[0]}: both must be equal"
    return None


@torch.no_grad()
def _is_root_mean_square(module: nn.Module, norm: nn.Module) -> bool:
    weight = getattr(norm, "weight", None)
    key = getattr(module, (_layout(module) or ("",))[0]).weight
    if not isinstance(weight, Tensor) or list(weight.shape) != [_head_dim(module, key)]:
        return False
    gain, epsilon = _gain(module, key)
    probe = torch.linspace(-1.0, 2.0, len(gain)).to(gain)
    expected = probe * torch.rsqrt(probe.square().mean() + epsilon) * gain
    return bool(((norm(probe) - expected).abs().max() <= torch.finfo(gain.dtype).eps ** 0.5 * gain.abs().max()).item())
