"""Hugging Face models made nonparametric and variational, through their attention interface.

Not imported by `import nvib`: it needs `transformers`, the optional extra of that name.

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
from nvib.empirical_prior import bound_arguments, estimate
from nvib.identity import IdentityNVIB

try:
    from transformers import AttentionInterface, PreTrainedModel
    from transformers.masking_utils import AttentionMaskInterface, eager_mask
except ImportError as missing:
    raise ImportError("nvib.hugging_face needs transformers: pip install 'nvib-suite[transformers]'") from missing

NAME = "nvib"  # of the attention implementation
# What the models call the two projections, where each is a module of its own.
PROJECTIONS = (("k_proj", "v_proj"), ("key", "value"), ("k", "v"))
HEADS = ("num_heads", "n_heads", "num_attention_heads")
CACHES = ("cache", "past_key_values")  # transformers renames the second to the first
CROSS_ATTENDED = ("key_value_states", "encoder_hidden_states")


class Bottleneck(nn.Module):
    """What a converted attention module holds as its `nvib`: the layer, and the vectors that it attends to.

    The attention interface is given keys and values, which are projections of the vectors that denoising attention
    needs. They are seen where they enter the attention module, and kept as long as the cache that holds their keys.

    Args:
        layer: the NVIB layer; a forward hook on it sees the posterior of every call.
        path: of the attention module, for errors.
    """

    def __init__(self, layer: IdentityNVIB, path: str) -> None:
        super().__init__()
        self.layer = layer
        self.path = path
        self.entered: tuple[Tensor, Any] | None = None  # the vectors of this call, and the cache that it extends
        self.requested = self.need_weights = False  # of the model, and of this call
        self.kept: WeakKeyDictionary[Any, Tensor] = WeakKeyDictionary()

    def enter(self, vectors: Tensor, cache: Any, need_weights: bool) -> None:
        """Take in the vectors [B, N, D] of a call; the cache is None where it does not extend one."""
        self.entered, self.need_weights = (vectors, cache), need_weights or self.requested

    def vectors(self, key: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """All vectors [B, S, D] whose projections are `key` [B, H, S, d_h], those of earlier calls included.

        Raises:
            ValueError: they are not all known, or the keys are something else.
        """
        if self.entered is None:
            raise ValueError(f"{self.path} must be called as a module, so that its input is seen")
        vectors, cache = self.entered
        self.entered = None
        earlier = self.kept.get(cache) if cache is not None else None
        before = key.shape[2] - vectors.shape[1]
        if earlier is not None and before > 0 and earlier.shape[0] == vectors.shape[0]:
            vectors = torch.cat([earlier[:, :before], vectors], dim=1)
        if vectors.shape[:2] != (key.shape[0], key.shape[2]):
            raise ValueError(
                f"{self.path} must attend to vectors that it has seen, got {key.shape[2]} keys and "
                f"{vectors.shape[1]} vectors: start from an empty, growing cache, or pass use_cache=False"
            )
        if not torch.compiler.is_compiling():
            expected = F.linear(vectors, weight, bias).unflatten(-1, (key.shape[1], -1)).transpose(1, 2)
            if (expected - key).abs().max() > torch.finfo(key.dtype).eps ** 0.5 * key.abs().max():
                raise ValueError(
                    f"{self.path} must have keys that are projections of the vectors attended to, got others: rotary "
                    "positions cannot be converted, and beam search needs use_cache=False"
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
    """Make the attention of a Hugging Face model denoising attention over NVIB, its outputs unchanged at first.

    Fehr & Henderson (2024). The model keeps its weights and its modules; each attention module gains a `nvib`, and
    the model's attention implementation becomes `nvib`. `nvib.regularise(model, …)` sets the controls later.
    Masks, padding, relative position biases, and generation with a growing cache (greedy or sampled) work as before;
    beam search needs `use_cache=False`. A model whose keys are no projection of the vectors attended to (rotary
    positions, normalised keys) or whose heads share keys is refused.

    Args:
        model: of the families that use `transformers.AttentionInterface`; changed in place, or not at all.
        empirical_prior: a prior for each path, as `estimate_prior` returns it, or one for all; standard normal if None.
        mu_tau: control of the means, in [0, 1]: 0 is the prior's, 1 the input's.
        stdev_tau: control of the standard deviations, in [0, 1]: 0 is the prior's, 1 is none.
        alpha_tau: control of the pseudo-counts, in [0, 1]: 0 is the prior alone, 1 is without it.
        kappa: vectors drawn per component in training.
        alpha_threshold: components with a smaller pseudo-count are dropped in evaluation.

    Returns:
        The model itself.

    Raises:
        ValueError: the model cannot be converted (the reason and the path are named), a path has no prior, or an
            argument is out of its range; in a later call, keys that are no projection of the vectors attended to.
    """
    attentions = _attentions(model)
    bottlenecks = {}
    for path, attention in attentions.items():
        if isinstance(getattr(attention, NAME, None), Bottleneck):
            raise ValueError(f"{path} must not be converted already: use nvib.regularise")
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
    AttentionInterface.register(NAME, denoising_attention)
    AttentionMaskInterface.register(NAME, eager_mask)
    model.set_attn_implementation(NAME)
    for attention, bottleneck in bottlenecks.items():
        attention.add_module(NAME, bottleneck)
        attention.register_forward_pre_hook(_enter, with_kwargs=True)
    model.register_forward_pre_hook(_request_weights, with_kwargs=True)
    return model


def estimate_prior(
    model: PreTrainedModel, loader: Iterable[Any], alpha: float = 1.0, delta: float = 1.0
) -> dict[str, Prior]:
    """The empirical prior of every attention module of a model: mean and variance of the vectors it attends to.

    Fehr & Henderson (2024). Per dimension, over the vectors that some query may see, the model in evaluation mode.

    Args:
        model: what is run, before it is converted.
        loader: batches: mappings of keyword arguments as a tokenizer returns them (`input_ids`, `attention_mask`, …).
        alpha: concentration of every prior at length 0, in pseudo-counts.
        delta: concentration added for every token, in pseudo-counts.

    Returns:
        A prior for the path of every attention module, for `convert`.

    Raises:
        ValueError: the model cannot be converted, or a module was never called with a real vector.
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
    """The attention function that `convert` registers; see `transformers.AttentionInterface`.

    Henderson & Fehr (2023), as `DenoisingMultiheadAttention`, with the key and value projections of `module`.

    Args:
        module: a converted attention module.
        query: [B, H, T, d_h], projected.
        key: [B, H, S, d_h], projected; what they are projections of is what is attended to.
        value: [B, H, S, d_h], not read: it follows from the same vectors.
        attention_mask: [B, 1, T, S], float, added to the logits, or bool, True where a query may see a vector.
        dropout: probability with which an attention weight is dropped.
        scaling: of the logits, `1 / sqrt(d_h)` if None.
        position_bias: [1 or B, H, T, S], added to the logits.
        **kwargs: what other attention functions need.

    Returns:
        The output [B, T, H, d_h], and the weights of the vectors [B, H, T, S] where the model was called with
        `output_attentions`, or None.

    Raises:
        ValueError: the module is not converted, or its keys are not known projections.
    """
    bottleneck = getattr(module, NAME, None)
    if not isinstance(bottleneck, Bottleneck):
        raise ValueError(f"{type(module).__name__} must be converted with nvib.hugging_face.convert first")
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
        bias = F.pad(bias, (1, 0)).repeat_interleave(draws, dim=-1)  # [B, 1 or H, T, K]; component 0 is seen by all
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
        weights = weights.unflatten(-1, (keys + 1, draws)).sum(dim=-1)[..., 1:].to(query.dtype)
    return output.unflatten(-1, (heads, head_dim)).to(query.dtype), weights


Projection = tuple[Tensor, Tensor | None]  # weight [H d_h, D], bias


def _attend(
    projections: tuple[Projection, Projection],
    attention: DenoisingMultiheadAttention,
    q: Tensor,
    mixture: Any,
    need_weights: bool,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """`attention` with the model's own projections; those of queries and of the output are the model's to do."""
    vectors = mixture.z if hasattr(mixture, "z") else mixture.mu
    dim, like = q.shape[-1], {"dtype": vectors.dtype, "device": vectors.device}
    untouched, nothing = torch.eye(dim, **like), torch.zeros(dim, **like)
    weights = [untouched, *(weight.to(**like) for weight, _ in projections)]
    biases = [nothing, *(nothing if b is None else b.to(**like) for _, b in projections)]
    parameters = {
        "in_proj_weight": torch.cat(weights),
        "in_proj_bias": torch.cat(biases),
        "out_proj.weight": untouched,
        "out_proj.bias": nothing,
    }
    bias = None if bias is None else bias.to(vectors.dtype)
    call = {"need_weights": need_weights, "attn_bias": bias}
    return functional_call(attention, parameters, (q.to(vectors.dtype), mixture), call, strict=True)


def _attentions(model: nn.Module) -> dict[str, nn.Module]:
    """Path -> module of every attention module; each can be converted."""
    found = {path: part for path, part in model.named_modules() if _layout(part) is not None}
    if not found:
        raise ValueError(f"model must hold attention of a known layout, got none in {type(model).__name__}")
    for path, part in model.named_modules():
        if "Rotary" in type(part).__name__:
            raise ValueError(f"{path} cannot be converted, got rotary positions: keys must be projections of vectors")
    for path, part in found.items():
        for weight, _ in _projections(part):
            if weight.shape[0] != weight.shape[1]:
                width = f"projections from width {weight.shape[1]} to {weight.shape[0]}"
                raise ValueError(f"{path} cannot be converted, got {width}: keys of all heads must have the model's")
    return found


def _layout(module: nn.Module) -> tuple[str, ...] | None:
    for names in (*PROJECTIONS, ("c_attn",)):
        if all(isinstance(getattr(getattr(module, name, None), "weight", None), Tensor) for name in names):
            return names
    return None


def _projections(module: nn.Module) -> tuple[Projection, Projection]:
    """Weight and bias of the keys, and of the values."""
    names = _layout(module)
    if names != ("c_attn",):
        key, value = (getattr(module, name) for name in names)
        return (key.weight, key.bias), (value.weight, value.bias)
    # One matrix [D, 3 D] for queries, keys and values, or [D, 2 D] for keys and values, applied from the right.
    weight, bias = module.c_attn.weight.T, module.c_attn.bias
    dim = weight.shape[1]
    return (weight[-2 * dim : -dim], bias[-2 * dim : -dim]), (weight[-dim:], bias[-dim:])


def _heads(module: nn.Module, path: str) -> int:
    for name in HEADS:
        if isinstance(getattr(module, name, None), int):
            return getattr(module, name)
    raise ValueError(f"{path} cannot be converted, got no number of heads among {', '.join(HEADS)}")


def _enter(module: nn.Module, args: tuple, kwargs: dict) -> None:
    """Forward pre-hook of a converted attention module."""
    arguments = bound_arguments(module, args, kwargs)
    vectors, crossed = _source(arguments)
    cache = None if crossed else next((arguments[name] for name in CACHES if name in arguments), None)
    module.get_submodule(NAME).enter(vectors, cache, bool(arguments.get("output_attentions")))


def _request_weights(model: nn.Module, args: tuple, kwargs: dict) -> None:
    """Forward pre-hook of a converted model; not every family tells its attention modules of `output_attentions`."""
    for part in model.modules():
        if isinstance(part, Bottleneck):
            part.requested = bool(kwargs.get("output_attentions"))


def _source(arguments: dict[str, Any]) -> tuple[Tensor, bool]:
    """The vectors that a call attends to, [B, N, D], and whether they are another stack's."""
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
    """Vectors that no query may see, [B, S], True there; and what is added to the logits, [B, 1, T, S], or None."""
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
