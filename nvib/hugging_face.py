"""Conversion of Hugging Face models to nonparametric variational attention, through their attention interface.

`import nvib` does not import this module, because it requires `transformers`, an optional extra.

    import nvib.hugging_face
    priors = nvib.hugging_face.estimate_prior(model, loader)
    nvib.hugging_face.convert(model, priors)
    nvib.regularise(model, mu_tau=0.9, stdev_tau=0.9, alpha_tau=0.9)
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from nvib.attention import DenoisingMultiheadAttention
from nvib.conversion import prior_of
from nvib.dirichlet_process import Prior
from nvib.empirical_prior import bound_arguments, estimate, named_modules
from nvib.identity import IdentityNVIB
from nvib.mixture import DiscreteMixture, GaussianMixture

try:
    from transformers import AttentionInterface, PreTrainedModel
    from transformers.masking_utils import (
        AttentionMaskInterface,
        eager_mask,  # pyright: ignore[reportUnknownVariableType] partial annotations in transformers
    )
except ImportError as missing:
    raise ImportError("nvib.hugging_face requires transformers: pip install 'nvib-suite[transformers]'") from missing

NAME = "nvib"  # attention implementation, and submodule of each attention module
# Attribute names of the key and value projections, for models with separate projections.
PROJECTIONS = (("k_proj", "v_proj"), ("key", "value"), ("k", "v"))
HEADS = ("num_heads", "n_heads", "num_attention_heads")
CACHES = ("cache", "past_key_values")  # newer versions of transformers use the first name
CROSS_ATTENDED = ("key_value_states", "encoder_hidden_states")


class Bottleneck(nn.Module):
    """The `nvib` submodule of a converted attention module: the NVIB layer and the vectors attended to.

    The attention interface receives keys and values, which are projections of the vectors that denoising attention
    needs. A forward pre-hook records these vectors at the entry of the attention module. They are kept as long as the
    cache that holds their keys.

    Args:
        layer: NVIB layer; a forward hook on it receives the posterior of every call.
        path: path of the attention module, for error messages.
    """

    def __init__(self, layer: IdentityNVIB, path: str) -> None:
        super().__init__()
        self.layer = layer
        self.path = path
        self.entered: tuple[Tensor, Any] | None = None  # vectors of the current call, and its cache
        self.requested = self.need_weights = False  # by the model call, and by the attention call
        self.kept: WeakKeyDictionary[Any, Tensor] = WeakKeyDictionary()

    def enter(self, vectors: Tensor, cache: Any, need_weights: bool) -> None:
        """Record the attended vectors of a call.

        Args:
            vectors: [B, N, D].
            cache: cache that the call extends, or None.
            need_weights: if True, the call returns the attention weights.
        """
        self.entered, self.need_weights = (vectors, cache), need_weights or self.requested

    def vectors(self, key: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return all attended vectors [B, S, D], including those of earlier calls with the same cache.

        Args:
            key: [B, H, S, d_h], projections of the vectors.
            weight: [H d_h, D], weight of the key projection.
            bias: [H d_h], bias of the key projection, or None.

        Raises:
            ValueError: if some vectors were not recorded, or if `key` is not their projection.
        """
        if self.entered is None:
            raise ValueError(f"{self.path} must be called as a module, because a forward pre-hook records its input")
        vectors, cache = self.entered
        self.entered = None
        earlier = self.kept.get(cache) if cache is not None else None
        before = key.shape[2] - vectors.shape[1]
        if earlier is not None and before > 0 and earlier.shape[0] == vectors.shape[0]:
            vectors = torch.cat([earlier[:, :before], vectors], dim=1)
        if vectors.shape[:2] != (key.shape[0], key.shape[2]):
            raise ValueError(
                f"{self.path} must have one recorded vector per key, got {key.shape[2]} keys and "
                f"{vectors.shape[1]} vectors: start from an empty, growing cache, or pass use_cache=False"
            )
        if not torch.compiler.is_compiling():
            expected = torch.unflatten(F.linear(vectors, weight, bias), -1, (key.shape[1], -1)).transpose(1, 2)
            if (expected - key).abs().max() > torch.finfo(key.dtype).eps ** 0.5 * key.abs().max():
                raise ValueError(
                    f"{self.path} must have keys that are projections of the attended vectors, got other keys: rotary "
                    "positions are not supported, and beam search needs use_cache=False"
                )
        if cache is not None:
            self.kept[cache] = vectors.detach()
        return vectors


def convert(
    model: PreTrainedModel,
    empirical_prior: Mapping[str, Prior] | Prior | None = None,
    mu_tau: float = 1.0,
    stdev_tau: float = 1.0,
    alpha_tau: float = 1.0,
    kappa: int = 1,
    alpha_threshold: float = 0.1,
) -> PreTrainedModel:
    """Convert the attention of a Hugging Face model to denoising attention over NVIB, with unchanged outputs.

    Fehr & Henderson (2024). The model keeps its weights and modules. Each attention module gets a submodule `nvib`, and
    the attention implementation of the model becomes `nvib`. `nvib.regularise(model, …)` changes the controls later.
    Masks, padding, relative position biases and generation with a growing cache (greedy or sampled) are supported; beam
    search requires `use_cache=False`. Models whose keys are not projections of the attended vectors (rotary positions,
    normalised keys) or whose heads share keys are not supported.

    Args:
        model: model of a family that uses `transformers.AttentionInterface`, converted in place; it stays unchanged if
            an error is raised.
        empirical_prior: one prior per path, as `estimate_prior` returns, or one prior for all attention modules; None
            uses the standard normal prior.
        mu_tau: control of the means, in [0, 1]: 0 gives the prior mean, 1 the input vector.
        stdev_tau: control of the standard deviations, in [0, 1]: 0 gives the prior's, 1 gives zero.
        alpha_tau: control of the pseudo-counts, in [0, 1]: 0 leaves only the prior component, 1 removes it.
        kappa: draws per component in training, at least 1.
        alpha_threshold: evaluation drops components with fewer pseudo-counts.

    Returns:
        `model`.

    Raises:
        ValueError: if the model cannot be converted (the error names the path and the reason), if a path has no prior,
            or if an argument is out of range. Later calls of the model raise it if a key is not a projection of the
            attended vectors.
    """
    attentions = _attentions(model)
    bottlenecks: dict[nn.Module, Bottleneck] = {}
    for path, attention in attentions.items():
        if isinstance(getattr(attention, NAME, None), Bottleneck):
            raise ValueError(f"{path} is already converted: change its controls with nvib.regularise")
        weight, _ = _projections(attention)[0]
        layer = IdentityNVIB(
            weight.shape[1],
            _heads(attention, path),
            prior_of(empirical_prior, path),
            mu_tau,
            stdev_tau,
            alpha_tau,
            kappa,
            alpha_threshold,
        )
        bottlenecks[attention] = Bottleneck(layer.to(weight), path).train(attention.training)
    AttentionInterface.register(NAME, denoising_attention)  # pyright: ignore[reportUnknownMemberType] bare Callable
    AttentionMaskInterface.register(NAME, eager_mask)  # pyright: ignore[reportUnknownMemberType] bare Callable
    model.set_attn_implementation(NAME)  # pyright: ignore[reportUnknownMemberType] bare dict
    for attention, bottleneck in bottlenecks.items():
        attention.add_module(NAME, bottleneck)
        attention.register_forward_pre_hook(_enter, with_kwargs=True)
    model.register_forward_pre_hook(_request_weights, with_kwargs=True)
    return model


def estimate_prior(
    model: PreTrainedModel, loader: Iterable[Any], alpha: float = 1.0, delta: float = 1.0
) -> dict[str, Prior]:
    """Estimate the prior of every attention module of a model: mean and variance of the vectors that it attends to.

    Fehr & Henderson (2024). The mean and variance are per dimension, over all vectors that some query may attend to.
    The model runs in evaluation mode, without gradients.

    Args:
        model: model to run, before its conversion.
        loader: batches: mappings of keyword arguments as a tokenizer returns them (`input_ids`, `attention_mask`, …).
        alpha: concentration of every prior at length 0, in pseudo-counts.
        delta: concentration added per token, in pseudo-counts.

    Returns:
        A prior per path of an attention module, for `convert`.

    Raises:
        ValueError: if the model cannot be converted, or if an attention module receives no real vector.
    """
    return estimate(model, _attentions(model), _attended, loader, alpha, delta)


def denoising_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention function that `convert` registers with `transformers.AttentionInterface`.

    Henderson & Fehr (2023), as in `DenoisingMultiheadAttention`, with the key and value projections of `module`.

    Args:
        module: converted attention module.
        query: [B, H, T, d_h], projected queries.
        key: [B, H, S, d_h], projected keys; must be projections of the recorded vectors.
        value: [B, H, S, d_h], ignored: the values are recomputed from the recorded vectors.
        attention_mask: [B, 1, T, S], float, added to the logits; or bool, True where a query may attend to a vector.
        dropout: probability of dropping an attention weight.
        scaling: factor of the logits; None uses `1 / sqrt(d_h)`.
        position_bias: [1 or B, H, T, S], added to the logits.
        **kwargs: arguments of other attention functions, ignored.

    Returns:
        The output [B, T, H, d_h], and the weights of the vectors [B, H, T, S] (None unless the model was called with
        `output_attentions`).

    Raises:
        ValueError: if `module` is not converted, or if `key` is not a projection of recorded vectors.
    """
    bottleneck = getattr(module, NAME, None)
    if not isinstance(bottleneck, Bottleneck):
        raise ValueError(f"{type(module).__name__} must be converted with nvib.hugging_face.convert")
    projections = _projections(module)
    vectors = bottleneck.vectors(key, *projections[0])
    heads, head_dim, keys = query.shape[1], query.shape[-1], key.shape[2]
    hidden, bias = _masks(attention_mask, vectors)
    _, mixture = bottleneck.layer(vectors, hidden)
    draws = mixture.key_padding_mask.shape[1] // (keys + 1)
    if position_bias is not None:
        bias = position_bias if bias is None else bias + position_bias
    if bias is not None:
        bias = bias.expand(-1, -1, query.shape[2], -1).to(mixture.log_pi.device)
        bias = F.pad(bias, (1, 0)).repeat_interleave(draws, dim=-1)  # [B, 1 or H, T, K]; component 0 is visible
    noise = math.sqrt(head_dim)  # s0
    q = query.transpose(1, 2).flatten(-2) * (noise * (1.0 / noise if scaling is None else scaling))  # [B, T, D]
    output, weights = _attend(
        projections,
        DenoisingMultiheadAttention(heads * head_dim, heads, dropout, bias=True).to("meta").train(dropout > 0),
        q,
        mixture,
        bottleneck.need_weights,
        bias,
    )
    if weights is not None:
        weights = torch.unflatten(weights, -1, (keys + 1, draws)).sum(dim=-1)[..., 1:].to(query.dtype)
    return torch.unflatten(output, -1, (heads, head_dim)).to(query.dtype), weights


Projection = tuple[Tensor, Tensor | None]  # weight [H d_h, D], bias


def _attend(
    projections: tuple[Projection, Projection],
    attention: DenoisingMultiheadAttention,
    q: Tensor,
    mixture: DiscreteMixture | GaussianMixture,
    need_weights: bool,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """Attend with the key and value projections of the model. The model itself projects the queries and the output."""
    vectors = mixture.z if isinstance(mixture, DiscreteMixture) else mixture.mu
    dim, dtype, device = q.shape[-1], vectors.dtype, vectors.device
    untouched, nothing = torch.eye(dim, dtype=dtype, device=device), torch.zeros(dim, dtype=dtype, device=device)
    weights = [untouched, *(weight.to(device, dtype) for weight, _ in projections)]
    biases = [nothing, *(nothing if b is None else b.to(device, dtype) for _, b in projections)]
    parameters = {
        "in_proj_weight": torch.cat(weights),
        "in_proj_bias": torch.cat(biases),
        "out_proj.weight": untouched,
        "out_proj.bias": nothing,
    }
    bias = None if bias is None else bias.to(dtype)
    call = {"need_weights": need_weights, "attn_bias": bias}
    return functional_call(attention, parameters, (q.to(dtype), mixture), call, strict=True)


def _attentions(model: nn.Module) -> dict[str, nn.Module]:
    """Return every attention module by path, after a check that each can be converted."""
    found = {path: part for path, part in named_modules(model) if _layout(part) is not None}
    if not found:
        raise ValueError(f"model must contain attention with a supported layout, got none in {type(model).__name__}")
    for path, part in named_modules(model):
        if "Rotary" in type(part).__name__:
            raise ValueError(f"{path} cannot be converted, got rotary positions: keys must be projections of vectors")
    for path, part in found.items():
        for weight, _ in _projections(part):
            if weight.shape[0] != weight.shape[1]:
                width = f"projections from width {weight.shape[1]} to {weight.shape[0]}"
                raise ValueError(f"{path} cannot be converted, got {width}: the keys must have the width of the model")
    return found


def _layout(module: nn.Module) -> tuple[str, ...] | None:
    for names in (*PROJECTIONS, ("c_attn",)):
        if all(isinstance(getattr(getattr(module, name, None), "weight", None), Tensor) for name in names):
            return names
    return None


def _projections(module: nn.Module) -> tuple[Projection, Projection]:
    """Return weight and bias of the key projection and of the value projection."""
    names = _layout(module)
    if names is None:
        raise ValueError(f"{type(module).__name__} must be attention with a supported layout")
    parts = [getattr(module, name) for name in names]
    if len(parts) == 2:
        key, value = parts
        return (key.weight, key.bias), (value.weight, value.bias)
    # One matrix for all projections, applied from the right: [D, 3 D] for queries, keys and values, or [D, 2 D] for
    # keys and values.
    weight, bias = parts[0].weight.T, parts[0].bias
    dim = weight.shape[1]
    return (weight[-2 * dim : -dim], bias[-2 * dim : -dim]), (weight[-dim:], bias[-dim:])


def _heads(module: nn.Module, path: str) -> int:
    for name in HEADS:
        if isinstance(getattr(module, name, None), int):
            return getattr(module, name)
    raise ValueError(f"{path} cannot be converted, got no number of heads in {', '.join(HEADS)}")


def _enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Record the attended vectors of a call; forward pre-hook of a converted attention module."""
    arguments = bound_arguments(module, args, kwargs)
    vectors, crossed = _source(arguments)
    cache = None if crossed else next((arguments[name] for name in CACHES if name in arguments), None)
    bottleneck: Bottleneck = getattr(module, NAME)
    bottleneck.enter(vectors, cache, bool(arguments.get("output_attentions")))


def _request_weights(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Pass `output_attentions` to every bottleneck; forward pre-hook of a converted model.

    Some model families do not pass this argument to their attention modules.
    """
    for part in model.modules():
        if isinstance(part, Bottleneck):
            part.requested = bool(kwargs.get("output_attentions"))


def _source(arguments: dict[str, Any]) -> tuple[Tensor, bool]:
    """Return the vectors [B, N, D] that a call attends to, and True if they come from cross-attention."""
    for name in CROSS_ATTENDED:
        if arguments.get(name) is not None:
            return arguments[name], True
    return arguments["hidden_states"], False


def _attended(module: nn.Module, arguments: dict[str, Any]) -> tuple[Tensor, Tensor]:
    vectors, crossed = _source(arguments)
    mask = arguments.get("attention_mask", arguments.get("mask"))
    if crossed and arguments.get("encoder_attention_mask") is not None:
        mask = arguments["encoder_attention_mask"]
    return vectors, _masks(mask, vectors)[0]


def _masks(attention_mask: Tensor | None, vectors: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the mask [B, S] of vectors hidden from all queries, and the bias of the logits, [B, 1, T, S] or None."""
    shape = vectors.shape[:2]
    if attention_mask is None:
        return torch.zeros(shape, dtype=torch.bool, device=vectors.device), None
    if attention_mask.dim() != 4 or attention_mask.shape[-1] != shape[1]:
        raise ValueError(
            f"attention_mask must have shape [{shape[0]}, 1, T, {shape[1]}], got {list(attention_mask.shape)}"
        )
    if attention_mask.dtype == torch.bool:
        least = torch.finfo(vectors.dtype).min
        attention_mask = torch.zeros_like(attention_mask, dtype=vectors.dtype).masked_fill(~attention_mask, least)
    hidden = attention_mask <= 0.5 * torch.finfo(attention_mask.dtype).min
    return hidden.all(dim=2).all(dim=1).expand(shape), attention_mask
