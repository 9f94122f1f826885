"""Cross-attention of a Hugging Face encoder-decoder to mixtures in place of the encoder's vectors.

`nvib.hugging_face.convert` puts a bottleneck into every attention module. Here one mixture, from a bottleneck behind
the encoder, is what the cross-attention of every decoder layer reads. `nvib.hugging_face` has the equations.

Over a discrete mixture, denoising attention is the attention of the model over the vectors, with the bias
`log pi_k - ||z_k||^2 / 2 s0` of each key; the cache of the model holds keys and values. Over a Gaussian mixture it is
the exact integral, for any number and width of heads.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvib._tensors import float32_or_float64
from nvib.attention_layouts import projections
from nvib.empirical_prior import bound_arguments
from nvib.mixture import DiscreteMixture, GaussianMixture
from nvib.mixture_terms import discrete_terms, gaussian_terms
from nvib.recorded_vectors import attended_vectors

try:
    from transformers import AttentionInterface, PreTrainedModel
    from transformers.integrations.sdpa_attention import (
        sdpa_attention_forward,  # pyright: ignore[reportUnknownVariableType] partial annotations in transformers
    )
    from transformers.masking_utils import (
        AttentionMaskInterface,
        sdpa_mask,  # pyright: ignore[reportUnknownVariableType] partial annotations in transformers
    )
except ImportError as missing:
    raise ImportError(
        "nvib.latent_attention requires transformers: pip install 'nvib-suite[transformers]'"
    ) from missing

NAME = "nvib_latent"  # attention implementation
OWN = "nvib_reading"  # attribute of each converted attention module


@dataclass(frozen=True)
class Weights:
    """Projections of one attention module.

    Args:
        key: [H, d_h, D], weight of the keys of every query head; their bias changes no attention weight.
        value: [H, d_h, D], weight of the values.
        value_bias: [H, d_h].
    """

    key: Tensor
    value: Tensor
    value_bias: Tensor


@dataclass(frozen=True)
class Moments:
    """Terms of B Gaussian mixtures; see `nvib.mixture_terms.gaussian_terms`.

    Args:
        shift: [B, K, D], `s0 mu / s`.
        share: [B, K, D], `sigma^2 / s`.
        bias: [B, 1, 1, K], -inf at weights of zero.
        noise: s0.
        weights: projections of every converted module.
    """

    shift: Tensor
    share: Tensor
    bias: Tensor
    noise: float
    weights: tuple[Weights, ...]


@dataclass(frozen=True)
class LatentKeys:
    """What the cross-attention of all decoder layers reads of B mixtures.

    Args:
        vectors: [B, K, D], `encoder_hidden_states` of the decoder; one vector of zeros for Gaussian mixtures.
        bias: [B, 1, 1, K], `encoder_attention_mask` of the decoder; None for Gaussian mixtures.
        moments: terms of Gaussian mixtures, else None.
    """

    vectors: Tensor
    bias: Tensor | None
    moments: Moments | None = None

    def select(self, rows: Tensor) -> "LatentKeys":
        """Select the keys of some of the B texts."""
        moments = self.moments
        if moments is not None:
            parts = moments.shift[rows], moments.share[rows], moments.bias[rows]
            moments = Moments(*parts, moments.noise, moments.weights)
        return LatentKeys(self.vectors[rows], None if self.bias is None else self.bias[rows], moments)


class _Reading:
    """What a converted module reads in the current call, and the weights that it records."""

    def __init__(self) -> None:
        self.moments: Moments | None = None
        self.weights: Weights | None = None
        self.recorded: list[Tensor] | None = None


def convert(model: PreTrainedModel, decoder: nn.Module, call: Callable[[], Any]) -> list[nn.Module]:
    """Let the cross-attention of a decoder read mixtures; other attention, and cross-attention to vectors, is the same.

    Args:
        model: encoder-decoder of a family that uses `transformers.AttentionInterface`, converted in place.
        decoder: its decoder.
        call: runs the decoder once with `encoder_hidden_states`, so that its cross-attention can be found.

    Returns:
        The attention modules of the decoder's layers, for `prepare` and `reading`.

    Raises:
        ValueError: the decoder has no cross-attention, or it cannot be converted; the error gives the reason.
    """
    AttentionInterface.register(NAME, latent_attention)  # pyright: ignore[reportUnknownMemberType] bare Callable
    AttentionMaskInterface.register(NAME, sdpa_mask)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    model.set_attn_implementation(NAME)  # pyright: ignore[reportUnknownMemberType] bare dict
    found = _cross_attentions(decoder, call)
    if not found:
        raise ValueError(f"{type(decoder).__name__} has no cross-attention of a layout that can be converted")
    for module in found:
        projections(module)  # raises where the layout is unknown
        if getattr(module, "has_relative_attention_bias", False):
            raise ValueError(f"{type(module).__name__} attends across with a bias of positions, which mixtures lack")
        setattr(module, OWN, _Reading())
    return found


def prepare(mixture: DiscreteMixture | GaussianMixture, modules: Sequence[nn.Module], noise: float) -> LatentKeys:
    """Compute what does not depend on the queries, once for all layers and all tokens.

    Args:
        mixture: B mixtures of K components of the width of the encoder's vectors.
        modules: converted attention modules, from `convert`.
        noise: s0, variance of the noise of denoising attention; that of the layer that made the mixture.
    """
    if isinstance(mixture, DiscreteMixture):
        z, bias, absent = discrete_terms(mixture, noise)
        bias = bias.to(z.dtype).masked_fill(absent, -torch.inf)
        return LatentKeys(z, bias[:, None, None, :])
    shift, share, bias = gaussian_terms(mixture, noise)
    dtype = float32_or_float64(mixture.mu).dtype
    weights = tuple(_weights(module) for module in modules)
    moments = Moments(shift.to(dtype), share.to(dtype), bias.to(dtype)[:, None, None, :], noise, weights)
    return LatentKeys(mixture.mu.new_zeros(len(mixture), 1, shift.shape[-1]), None, moments)


@contextmanager
def reading(modules: Sequence[nn.Module], keys: LatentKeys, record: bool = False) -> Generator[list[Tensor]]:
    """Let converted modules read mixtures within a `with` block.

    Args:
        modules: attention modules, from `convert`.
        keys: from `prepare`, with these modules.
        record: if True, record the attention weights, which takes a slower path.

    Yields:
        A list, to which each module appends its weights [B, H, T, K] if they are recorded.
    """
    recorded: list[Tensor] = []
    owned: list[_Reading] = [getattr(module, OWN) for module in modules]
    for number, own in enumerate(owned):
        own.moments = keys.moments
        own.weights = None if keys.moments is None else keys.moments.weights[number]
        own.recorded = recorded if record else None
    try:
        yield recorded
    finally:
        for own in owned:
            own.moments = own.weights = own.recorded = None


def latent_attention(
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

    Args:
        module: attention module.
        query: [B, H, T, d_h], projected queries.
        key: [B, G, S, d_h], projected keys; ignored over Gaussian mixtures.
        value: [B, G, S, d_h], projected values; ignored over Gaussian mixtures.
        attention_mask: added to the logits, or bool; ignored over Gaussian mixtures.
        dropout: probability of dropping an attention weight.
        scaling: factor of the logits; None uses `1 / sqrt(d_h)`.
        position_bias: [1 or B, H, T, S], added to the logits; ignored over Gaussian mixtures, where it is zero.
        **kwargs: arguments of `transformers`' attention functions.

    Returns:
        The output [B, T, H, d_h], and None: `reading` records the weights.
    """
    own = getattr(module, OWN, None)
    if not isinstance(own, _Reading) or (own.moments is None and own.recorded is None):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, position_bias=position_bias, **kwargs
        )
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    if own.moments is None or own.weights is None:
        output, weights = _attend(query * factor, key, value, attention_mask, dropout)
    else:
        output, weights = _integrate(query * factor, own.moments, own.weights, dropout)
    if own.recorded is not None:
        own.recorded.append(weights)
    return output.transpose(1, 2).to(query.dtype), None


def _attend(
    query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, dropout: float
) -> tuple[Tensor, Tensor]:
    """Attend to vectors, with the weights: output [B, H, T, d_h] and weights [B, H, T, K]."""
    key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], dim=1) for part in (key, value))
    logits = query @ key.transpose(-1, -2)
    weights = (logits if attention_mask is None else logits + attention_mask).softmax(dim=-1)
    return F.dropout(weights, dropout, training=dropout > 0) @ value, weights


def _integrate(query: Tensor, moments: Moments, weights: Weights, dropout: float) -> tuple[Tensor, Tensor]:
    """Attend to Gaussian mixtures by the exact integral: output [B, H, T, d_h] and weights [B, H, T, K]."""
    with torch.autocast(query.device.type, enabled=False):
        shift, share = moments.shift.unsqueeze(1), moments.share.unsqueeze(1)  # [B, 1, K, D]
        u = moments.noise * query.to(shift.dtype) @ weights.key.to(shift.dtype)  # [B, H, T, D]
        logits = u @ shift.transpose(-1, -2) + 0.5 * u.square() @ share.transpose(-1, -2)
        found = (logits / moments.noise + moments.bias).softmax(dim=-1)
        dropped = F.dropout(found, dropout, training=dropout > 0)
        mean = dropped @ shift + u * (dropped @ share)
        # Dropped weights do not sum to 1, and the bias of the values has their sum, as in the attention of the model.
        bias = weights.value_bias.to(shift.dtype).unsqueeze(1) * dropped.sum(dim=-1, keepdim=True)
        return mean @ weights.value.to(shift.dtype).transpose(-1, -2) + bias, found


def _weights(module: nn.Module) -> Weights:
    """Return the projections of an attention module, of every query head."""
    found = projections(module)
    key, value = _effective(module, found.key), _effective(module, found.value)
    heads = found.heads
    query_heads = heads * int(getattr(module, "num_key_value_groups", 1))
    bias = found.value.new_zeros(found.value.shape[0]) if found.value_bias is None else found.value_bias
    parts = (torch.unflatten(part, 0, (heads, -1)) for part in (key, value, bias))
    return Weights(*(part.repeat_interleave(query_heads // heads, dim=0) for part in parts))


def _effective(module: nn.Module, weight: Tensor) -> Tensor:
    """Return the weight [d, D] of the projection of a module that has this weight, with the adapters around it."""
    for part in module.children():
        if getattr(part, "weight", None) is weight and not isinstance(part, nn.Linear):
            # An adapter changes the result of the projection, and has no weight of the sum.
            inputs = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
            return (part(inputs) - part(inputs.new_zeros(1, weight.shape[1]))).t()
    return weight


def _cross_attentions(decoder: nn.Module, call: Callable[[], Any]) -> list[nn.Module]:
    """Return the attention modules that are called with the encoder's vectors, in the order of their calls."""
    found: list[nn.Module] = []

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        arguments = bound_arguments(module, args, kwargs)
        if "hidden_states" in arguments and attended_vectors(arguments)[1] and module not in found:
            found.append(module)

    candidates = [module for module in decoder.modules() if _has_layout(module)]
    hooks = [module.register_forward_pre_hook(enter, with_kwargs=True) for module in candidates]
    try:
        call()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _has_layout(module: nn.Module) -> bool:
    try:
        projections(module)
    except ValueError:
        return False
    return True
