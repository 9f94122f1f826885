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

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from nvib import rotary_attention
from nvib.attention import DenoisingMultiheadAttention
from nvib.attention_layouts import attentions, projections
from nvib.conversion import prior_of
from nvib.dirichlet_process import Prior
from nvib.empirical_prior import estimate
from nvib.identity import IdentityNVIB
from nvib.mixture import DiscreteMixture, GaussianMixture
from nvib.recorded_vectors import NAME, Bottleneck, attended_vectors, enter, request_weights
from nvib.rotary_attention import KeyValueProjections

try:
    from transformers import AttentionInterface, PreTrainedModel
    from transformers.masking_utils import (
        AttentionMaskInterface,
        eager_mask,  # pyright: ignore[reportUnknownVariableType] partial annotations in transformers
    )
except ImportError as missing:
    raise ImportError("nvib.hugging_face requires transformers: pip install 'nvib-suite[transformers]'") from missing

# Arguments of attention functions that change the logits and have no equivalent.
UNSUPPORTED = ("softcap", "s_aux")


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
    Masks, padding, relative position biases, rotary positions, heads that share keys and generation with a growing
    cache (greedy or sampled) are supported; beam search requires `use_cache=False`. `nvib.rotary_attention` has the
    equations for rotary positions. Denoising attention is exact, except for normalised keys (Qwen3) at `stdev_tau`
    below 1 in evaluation, where the integral over a component has no closed form and the norm of a key is replaced by
    that of its expected square. Models with other key functions, capped logits or attention sinks are not supported.

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
            or if an argument is out of range. Later calls of the model raise it if a key is not a (rotated) projection
            of the attended vectors.
    """
    bottlenecks: dict[nn.Module, Bottleneck] = {}
    for path, attention in attentions(model).items():
        if isinstance(getattr(attention, NAME, None), Bottleneck):
            raise ValueError(f"{path} is already converted: change its controls with nvib.regularise")
        found = projections(attention)
        controls = mu_tau, stdev_tau, alpha_tau, kappa, alpha_threshold, found.head_dim
        layer = IdentityNVIB(found.key.shape[1], found.heads, prior_of(empirical_prior, path), *controls)
        bottlenecks[attention] = Bottleneck(layer.to(found.key), path).train(attention.training)
    AttentionInterface.register(NAME, denoising_attention)  # pyright: ignore[reportUnknownMemberType] bare Callable
    AttentionMaskInterface.register(NAME, eager_mask)  # pyright: ignore[reportUnknownMemberType] bare Callable
    model.set_attn_implementation(NAME)  # pyright: ignore[reportUnknownMemberType] bare dict
    for attention, bottleneck in bottlenecks.items():
        attention.add_module(NAME, bottleneck)
        attention.register_forward_pre_hook(enter, with_kwargs=True)
    model.register_forward_pre_hook(request_weights, with_kwargs=True)
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
    return estimate(model, attentions(model), _attended, loader, alpha, delta)


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

    Henderson & Fehr (2023), as in `DenoisingMultiheadAttention`, or as in `nvib.rotary_attention` for rotary positions,
    shared or normalised keys and heads of another width; with the key and value projections of `module`.

    Args:
        module: converted attention module.
        query: [B, H, T, d_h], projected queries.
        key: [B, G, S, d_h], keys of G key heads; must follow from the recorded vectors.
        value: [B, G, S, d_h], ignored: the values are recomputed from the recorded vectors.
        attention_mask: [B, 1, T, S], float, added to the logits; or bool, True where a query may attend to a vector.
        dropout: probability of dropping an attention weight.
        scaling: factor of the logits; None uses `1 / sqrt(d_h)`.
        position_bias: [1 or B, H, T, S], added to the logits.
        **kwargs: arguments of other attention functions, ignored.

    Returns:
        The output [B, T, H, d_h], and the weights of the vectors [B, H, T, S] (None unless the model was called with
        `output_attentions`).

    Raises:
        ValueError: if `module` is not converted, if `key` does not follow from the recorded vectors, or if the call
            asks for capped logits or attention sinks.
    """
    bottleneck = getattr(module, NAME, None)
    if not isinstance(bottleneck, Bottleneck):
        raise ValueError(f"{type(module).__name__} must be converted with nvib.hugging_face.convert")
    for name in UNSUPPORTED:
        if kwargs.get(name) is not None:
            raise ValueError(f"{bottleneck.path} must have plain logits, got {name}, which has no equivalent")
    found = projections(module)
    vectors, rotation = bottleneck.recall(key, found)
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
    query = query * (noise * (1.0 / noise if scaling is None else scaling))
    need_weights = bottleneck.need_weights
    if rotation is None and found.gain is None and found.heads == heads and found.key.shape[0] == found.key.shape[1]:
        attention = DenoisingMultiheadAttention(heads * head_dim, heads, dropout, bias=True).to("meta")
        q = query.transpose(1, 2).flatten(-2)  # [B, T, D]
        output, weights = _attend(found, attention.train(dropout > 0), q, mixture, need_weights, bias)
        output = torch.unflatten(output, -1, (heads, head_dim))
    else:
        output, weights = rotary_attention.attend(query, mixture, found, rotation, bias, dropout)
        output = output.transpose(1, 2)
    if weights is None or not need_weights:
        return output.to(query.dtype), None
    return output.to(query.dtype), torch.unflatten(weights, -1, (keys + 1, draws)).sum(dim=-1)[..., 1:].to(query.dtype)


def _attend(
    projections: KeyValueProjections,
    attention: DenoisingMultiheadAttention,
    q: Tensor,
    mixture: DiscreteMixture | GaussianMixture,
    need_weights: bool,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """Attend with the key and value projections of the model. The model itself projects the queries and the output."""
    vectors = mixture.z if isinstance(mixture, DiscreteMixture) else mixture.mu
    untouched, nothing = torch.eye(q.shape[-1]).to(vectors), vectors.new_zeros(q.shape[-1])
    projections = projections.to(vectors)
    biases = [nothing if part is None else part for part in (projections.key_bias, projections.value_bias)]
    parameters = {
        "in_proj_weight": torch.cat([untouched, projections.key, projections.value]),
        "in_proj_bias": torch.cat([nothing, *biases]),
        "out_proj.weight": untouched,
        "out_proj.bias": nothing,
    }
    bias = None if bias is None else bias.to(vectors.dtype)
    call = {"need_weights": need_weights, "attn_bias": bias}
    return functional_call(attention, parameters, (q.to(vectors.dtype), mixture), call, strict=True)


def _attended(module: nn.Module, arguments: dict[str, Any]) -> tuple[Tensor, Tensor]:
    vectors, crossed = attended_vectors(arguments)
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
