"""Conversion of a pretrained module's attention to nonparametric variational attention, with unchanged outputs."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvib._check import check_every_row_real, check_mask, check_shape
from nvib.attention import DenoisingMultiheadAttention
from nvib.dirichlet_process import Prior
from nvib.empirical_prior import estimate, named_modules
from nvib.identity import IdentityNVIB


class VariationalMultiheadAttention(nn.Module):
    """Nonparametric variational equivalent of a `torch.nn.MultiheadAttention`, with the same call signature.

    Fehr & Henderson (2024). The module applies an `IdentityNVIB` layer (`nvib`) to the vectors attended to, followed by
    denoising attention with the weights of the original (`attention`). With all three controls at 1, the output equals
    the output of the original; lower values, set by `nvib.regularise(...)`, move it towards the prior. The module is
    trainable: the parameters of the layer are free, and a forward hook on `nvib` receives the posterior of every call
    for `kl_gaussian` and `kl_dirichlet`.

    Args:
        original: module to copy the weights, device, dtype and mode from.
        prior: prior Dirichlet process; its `mu` and `var` are numbers or [D].
        mu_tau: control of the means, in [0, 1]: 0 gives the prior mean, 1 the input vector.
        stdev_tau: control of the standard deviations, in [0, 1]: 0 gives the prior's, 1 gives zero.
        alpha_tau: control of the pseudo-counts, in [0, 1]: 0 leaves only the prior component, 1 removes it.
        kappa: draws per component in training, at least 1.
        alpha_threshold: evaluation drops components with fewer pseudo-counts.

    Raises:
        ValueError: if `original` has an option without an equivalent (`kdim` or `vdim` other than `embed_dim`,
            `add_bias_kv`, `add_zero_attn`), or if an argument is out of range.
    """

    embed_dim: int
    num_heads: int
    batch_first: bool

    # torch.nn.TransformerEncoderLayer skips its attention module if it can fuse the whole layer into one call. It reads
    # this attribute first, and False turns the fused path off.
    _qkv_same_embed_dim = False

    def __init__(
        self,
        original: nn.MultiheadAttention,
        prior: Prior = Prior(),  # noqa: B008 (frozen, so sharing it is safe)
        mu_tau: float = 1.0,
        stdev_tau: float = 1.0,
        alpha_tau: float = 1.0,
        kappa: int = 1,
        alpha_threshold: float = 0.1,
    ) -> None:
        super().__init__()
        reason = _why_not(original)
        if reason:
            raise ValueError(f"original must be plain multi-head attention, got {reason}")
        self.embed_dim, self.num_heads, self.batch_first = original.embed_dim, original.num_heads, original.batch_first
        self.nvib = IdentityNVIB(
            self.embed_dim, self.num_heads, prior, mu_tau, stdev_tau, alpha_tau, kappa, alpha_threshold
        )
        self.attention = DenoisingMultiheadAttention(
            self.embed_dim, self.num_heads, original.dropout, bias="in_proj_bias" in original.state_dict()
        )
        self.to(original.in_proj_weight)
        self.attention.load_state_dict(original.state_dict())
        self.train(original.training)

    @property
    def in_proj_weight(self) -> Tensor:
        """Input projection of the original: [3 D, D]."""
        return self.attention.in_proj_weight

    @property
    def in_proj_bias(self) -> Tensor | None:
        """Bias of the input projection of the original: [3 D], or None."""
        return self.attention.in_proj_bias

    @property
    def out_proj(self) -> nn.Linear:
        """Output projection of the original."""
        return self.attention.out_proj

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend, with the interface of `torch.nn.MultiheadAttention`.

        Args:
            query: [T, B, D], [B, T, D] if `batch_first`, or [T, D].
            key: [S, B, D], [B, S, D] if `batch_first`, or [S, D]: the vectors attended to.
            value: equal to `key`, because denoising attention reads keys and values from one mixture.
            key_padding_mask: [B, S] or [S], bool, True at padding; or float, added to the logits.
            need_weights: if True, also return the attention weights, which takes a slower path.
            attn_mask: [T, S] or [B H, T, S], bool, True where a query must not attend to a vector; or float, added to
                the logits. Every query attends to the prior component.
            average_attn_weights: if True, average the weights over the heads.
            is_causal: hint that `attn_mask` is causal; only `attn_mask` has an effect.

        Returns:
            The output, with the shape of `query`, and the weights of the vectors, [B, T, S] or [B, H, T, S] (None if
            `need_weights` is False). The weights sum to 1 minus the weight of the prior component.

        Raises:
            ValueError: if a shape or the dtype of a mask is wrong, if `value` differs from `key`, if a tensor is
                nested, if `is_causal` is given without `attn_mask`, or if all vectors of a text are padding.
        """
        if query.is_nested or key.is_nested:
            raise ValueError("query and key must be padded, got a nested tensor: convert the encoder, not its layers")
        _check_same(key, value)
        if is_causal and attn_mask is None:
            raise ValueError("attn_mask must be given if is_causal is True, got None")
        batched = query.dim() == 3
        if not batched:
            query, key = query.unsqueeze(0), key.unsqueeze(0)
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key = query.transpose(0, 1), key.transpose(0, 1)
        check_shape("query", query, (None, None, self.embed_dim))
        check_shape("key", key, (query.shape[0], None, self.embed_dim))
        padding, logit_bias = self._masks(key_padding_mask, attn_mask, query, key)
        _, mixture = self.nvib(key, padding)
        draws = mixture.key_padding_mask.shape[1] // (key.shape[1] + 1)
        if logit_bias is not None:
            logit_bias = F.pad(logit_bias, (1, 0)).repeat_interleave(draws, dim=-1)  # [B, H, T, K]
        output, weights = self.attention(query, mixture, need_weights, attn_bias=logit_bias)
        if weights is not None:
            weights = torch.unflatten(weights, -1, (-1, draws)).sum(dim=-1)[..., 1:]  # [B, H, T, S]
            weights = weights.mean(dim=1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        if not batched:
            return output.squeeze(0), weights
        return output if self.batch_first else output.transpose(0, 1), weights

    def _masks(
        self, key_padding_mask: Tensor | None, attn_mask: Tensor | None, query: Tensor, key: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return the padding mask [B, S] and the bias of the logits, [B or 1, H or 1, T or 1, S] or None."""
        batch, queries, keys = key.shape[0], query.shape[1], key.shape[1]
        logit_bias = None
        if attn_mask is not None:
            whole = attn_mask.dim() == 2
            check_shape("attn_mask", attn_mask, (queries, keys) if whole else (batch * self.num_heads, queries, keys))
            logit_bias = _as_bias("attn_mask", attn_mask, query.dtype)
            logit_bias = logit_bias[None, None] if whole else torch.unflatten(logit_bias, 0, (batch, self.num_heads))
        if key_padding_mask is None:
            return key.new_zeros(batch, keys, dtype=torch.bool), logit_bias
        check_shape("key_padding_mask", key_padding_mask, (batch, keys))
        if key_padding_mask.is_floating_point():
            padding = key_padding_mask == -torch.inf
            shift = key_padding_mask.masked_fill(padding, 0.0).to(query.dtype)[:, None, None, :]
            logit_bias = shift if logit_bias is None else logit_bias + shift
        else:
            padding = key_padding_mask
        check_mask("key_padding_mask", padding, (batch, keys))
        check_every_row_real("key_padding_mask", padding)
        return padding, None if logit_bias is None else logit_bias.expand(-1, -1, queries, -1)


def convert(
    module: nn.Module,
    empirical_prior: Mapping[str, Prior] | Prior | None = None,
    mu_tau: float = 1.0,
    stdev_tau: float = 1.0,
    alpha_tau: float = 1.0,
    kappa: int = 1,
    alpha_threshold: float = 0.1,
) -> nn.Module:
    """Replace every `torch.nn.MultiheadAttention` of a module by its nonparametric variational equivalent.

    Fehr & Henderson (2024), post-training regularisation. With all controls at 1, the outputs of the module do not
    change; lower values move them towards the prior without training. `regularise` changes the controls later.

    Args:
        module: module to convert in place; it stays unchanged if an error is raised.
        empirical_prior: one prior per path, as `estimate_prior` returns, or one prior for all attention modules; None
            uses the standard normal prior.
        mu_tau: control of the means, in [0, 1]: 0 gives the prior mean, 1 the input vector.
        stdev_tau: control of the standard deviations, in [0, 1]: 0 gives the prior's, 1 gives zero.
        alpha_tau: control of the pseudo-counts, in [0, 1]: 0 leaves only the prior component, 1 removes it.
        kappa: draws per component in training, at least 1.
        alpha_threshold: evaluation drops components with fewer pseudo-counts.

    Returns:
        `module`, or its replacement if `module` is a `torch.nn.MultiheadAttention`.

    Raises:
        ValueError: if the module contains no attention, if an attention module cannot be converted (the error names its
            path), if a path has no prior, or if an argument is out of range.

    Example:
        >>> encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 2).eval()
        >>> before = encoder(torch.ones(1, 3, 8))
        >>> torch.allclose(convert(encoder)(torch.ones(1, 3, 8)), before, atol=1e-5)
        True
    """
    attentions = _attentions(module)
    for path, attention in attentions.items():
        reason = _why_not(attention)
        if reason:
            raise ValueError(f"{path or 'module'} cannot be converted, got {reason}")
    converted: dict[nn.Module, VariationalMultiheadAttention] = {
        attention: VariationalMultiheadAttention(
            attention, prior_of(empirical_prior, path), mu_tau, stdev_tau, alpha_tau, kappa, alpha_threshold
        )
        for path, attention in attentions.items()
    }
    if module in converted:
        return converted[module]
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if child in converted:
                setattr(parent, name, converted[child])
        if isinstance(parent, nn.TransformerEncoder):
            parent.use_nested_tensor = False  # the fused path skips the attention modules
    return module


def estimate_prior(
    module: nn.Module, loader: Iterable[Any], alpha: float = 1.0, delta: float = 1.0
) -> dict[str, Prior]:
    """Estimate the prior of every `torch.nn.MultiheadAttention`: mean and variance of the vectors that it attends to.

    Fehr & Henderson (2024). The mean and variance are per dimension, over all vectors that are not padding. The module
    runs in evaluation mode, without gradients.

    Args:
        module: module to run, before its conversion.
        loader: batches: a tensor, a tuple of positional arguments or a mapping of keyword arguments.
        alpha: concentration of every prior at length 0, in pseudo-counts.
        delta: concentration added per token, in pseudo-counts.

    Returns:
        A prior per path of an attention module, for `convert`.

    Raises:
        ValueError: if the module contains no attention, or if an attention module receives no real vector.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it skips the attention modules
    try:
        return estimate(module, _attentions(module), _attended, loader, alpha, delta)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def regularise(module: nn.Module, mu_tau: float = 1.0, stdev_tau: float = 1.0, alpha_tau: float = 1.0) -> None:
    """Set the controls of every `IdentityNVIB` layer of a module, which determine its distance from the prior.

    Fehr & Henderson (2024), post-training regularisation; `IdentityNVIB` documents the equations.

    Args:
        module: converted module, or any module with `IdentityNVIB` layers.
        mu_tau: control of the means, in [0, 1]: 0 gives the prior mean, 1 the input vector.
        stdev_tau: control of the standard deviations, in [0, 1]: 0 gives the prior's, 1 gives zero.
        alpha_tau: control of the pseudo-counts, in [0, 1]: 0 leaves only the prior component, 1 removes it.

    Raises:
        ValueError: if the module contains no such layer, or if a control is outside [0, 1].
    """
    layers = [part for part in module.modules() if isinstance(part, IdentityNVIB)]
    if not layers:
        raise ValueError("module must contain an IdentityNVIB layer, got none: convert it first")
    for layer in layers:
        layer.regularise(mu_tau, stdev_tau, alpha_tau)


def prior_of(empirical_prior: Mapping[str, Prior] | Prior | None, path: str) -> Prior:
    """Return the prior of the attention module at `path`; the standard normal prior if there are none.

    Raises:
        ValueError: if `empirical_prior` is a mapping without `path`.
    """
    if empirical_prior is None:
        return Prior()
    if isinstance(empirical_prior, Prior):
        return empirical_prior
    if path not in empirical_prior:
        raise ValueError(f"empirical_prior must contain a prior for {path!r}, got {sorted(empirical_prior)}")
    return empirical_prior[path]


def _attentions(module: nn.Module) -> dict[str, nn.MultiheadAttention]:
    found = {path: part for path, part in named_modules(module) if isinstance(part, nn.MultiheadAttention)}
    if not found:
        raise ValueError("module must contain a torch.nn.MultiheadAttention, got none")
    return found


def _why_not(attention: nn.MultiheadAttention) -> str | None:
    """Return the option of this attention module that has no equivalent, or None if it can be converted."""
    kdim, vdim, embed_dim = (vars(attention)[name] for name in ("kdim", "vdim", "embed_dim"))
    if kdim != embed_dim or vdim != embed_dim:
        return f"kdim {kdim} and vdim {vdim} where embed_dim is {embed_dim}"
    if attention.bias_k is not None:
        return "add_bias_kv=True"
    if attention.add_zero_attn:
        return "add_zero_attn=True"
    return None


def _attended(attention: nn.Module, arguments: dict[str, Any]) -> tuple[Tensor, Tensor]:
    key, padding = arguments["key"], arguments.get("key_padding_mask")
    if key.dim() == 3 and not attention.batch_first:
        key = key.transpose(0, 1)
    if padding is None:
        return key, key.new_zeros(key.shape[:-1], dtype=torch.bool)
    return key, padding == -torch.inf if padding.is_floating_point() else padding


def _check_same(key: Tensor, value: Tensor) -> None:
    if key is value:
        return
    if torch.compiler.is_compiling() or key.shape != value.shape or not torch.equal(key, value):
        raise ValueError("value must equal key, because denoising attention reads both from one mixture")


def _as_bias(name: str, mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.is_floating_point():
        return mask.to(dtype)
    if mask.dtype != torch.bool:
        raise ValueError(f"{name} must be boolean or float, got {mask.dtype}")
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -torch.inf)
