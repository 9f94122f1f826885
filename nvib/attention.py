"""Denoising attention: multi-head attention over a mixture distribution."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvib._check import check_every_row_real, check_mask, check_shape
from nvib.mixture import DiscreteMixture, GaussianMixture
from nvib.mixture_terms import discrete_terms, gaussian_terms

# On a CPU, attention over a Gaussian mixture runs in chunks of the batch, each small enough for the caches:
# the queries of a chunk hold at most this many numbers. A chunk holds at least one text.
CACHED_NUMBERS = 2**18


@dataclass(frozen=True)
class DiscreteKeys:
    """Projected keys and values of a discrete mixture; they do not depend on the query.

    `DenoisingMultiheadAttention.prepare` computes them once. The bias of a key, `log pi_k - ||z_k||^2 / 2 s0`, is
    stored in e extra dimensions of the key, and every query is 1 in these dimensions. Fused kernels differentiate
    products, but not a bias.

    Args:
        key: [B, H, K, d_h + e], projected vectors, followed by the bias times `s0`.
        value: [B, H, K, d_h + e], projected vectors, followed by zeros.
        bias: [B, 1, 1, K], 0, or -inf at padding and at weights of zero; has no gradient.
    """

    key: Tensor
    value: Tensor
    bias: Tensor

    def select(self, rows: Tensor) -> "DiscreteKeys":
        """Select the keys of some of the B texts."""
        return DiscreteKeys(self.key[rows], self.value[rows], self.bias[rows])


@dataclass(frozen=True)
class GaussianKeys:
    """Keys of a Gaussian mixture, shared by all heads; they do not depend on the query.

    The keys are also the values: a logit is `([u, u^2] · key) / s0`, an output is `[1, 2 u] * sum a key`.

    Args:
        key: [B, K, 2 D], `[s0 mu / s, sigma^2 / 2 s]` with `s = s0 + sigma^2`; float32 or float64.
        bias: [B, 1, 1, K], added to every logit; -inf at padding.
    """

    key: Tensor
    bias: Tensor

    def select(self, rows: Tensor | slice) -> "GaussianKeys":
        """Select the keys of some of the B texts."""
        return GaussianKeys(self.key[rows], self.bias[rows])


class DenoisingMultiheadAttention(nn.Module):
    """Multi-head attention over a mixture distribution.

    Henderson & Fehr (2023). Denoising attention treats a query as a vector of the mixture F observed through Gaussian
    noise. With `u = W_K^T q` and noise variance `s0 = sqrt(d_h)`, each head computes the posterior mean
    `∫ F(v) N(u; v, s0 I) v dv / ∫ F(v) N(u; v, s0 I) dv` and applies its value projection.

    Over a discrete mixture, the weights are `softmax(q · W_K z_k / s0 + log pi_k - ||z_k||^2 / 2 s0)`, computed in one
    fused call.

    Over a Gaussian mixture, with `s = s0 + sigma_i^2` per dimension, the weights `a` are the softmax of
    `log pi_i - ½ sum log s - ½ sum (u - mu_i)^2 / s`, and the posterior mean is
    `u * sum_i a_i sigma_i^2 / s + sum_i a_i s0 mu_i / s`. This is the exact integral. The published formula omits
    `-½ sum u^2 / s`, which cancels only if all variances are equal. Expanding the square turns the integral into one
    fused call with keys of width 2 D in every head, because each head uses the variances of all D dimensions.

    Under autocast, the projections use the autocast dtype. `||z||^2` and all computations on a Gaussian mixture use
    float32 or float64.

    Parameters have the names that `torch.nn.MultiheadAttention` uses: `in_proj_weight` [3 D, D], `in_proj_bias`,
    `out_proj`.

    Args:
        embed_dim: D, width of the queries, the vectors and the output.
        num_heads: H, number of heads; divides D.
        dropout: probability of dropping an attention weight in training, in [0, 1).
        bias: if True, the projections have biases. A key bias does not change the attention weights.

    Raises:
        ValueError: if `num_heads` does not divide `embed_dim`, or `dropout` is outside [0, 1).

    Example:
        >>> attention = DenoisingMultiheadAttention(8, 2)
        >>> memory = DiscreteMixture(torch.randn(1, 3, 8), torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.bool))
        >>> output, weights = attention(torch.randn(1, 4, 8), memory, need_weights=True)
        >>> output.shape, weights.shape
        (torch.Size([1, 4, 8]), torch.Size([1, 2, 4, 3]))
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = False) -> None:
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"embed_dim must be a multiple of num_heads, got {embed_dim} and {num_heads}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.noise = math.sqrt(self.head_dim)  # s0
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * embed_dim)) if bias else None
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the matrices from the Xavier uniform distribution and the biases to zero."""
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        if self.in_proj_bias is not None:
            nn.init.zeros_(self.in_proj_bias)
            nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        mixture: DiscreteMixture | GaussianMixture,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
        attn_bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend to a mixture (Henderson & Fehr 2023).

        Args:
            query: [B, T, D].
            mixture: B mixtures of K components of width D.
            need_weights: if True, also return the attention weights, which takes a slower path.
            attn_mask: [T, K] or [B, T, K], bool, True where a query must not attend to a component.
            attn_bias: [B, H, T, K], added to the logits (for example relative position biases); B, H and T may be 1.

        Returns:
            The output [B, T, D], and the weights [B, H, T, K] before dropout (None if `need_weights` is False).

        Raises:
            ValueError: if `mixture` has another type; if a shape or the dtype of a mask is wrong; if all components of
                a mixture are padding or have weight zero; or if `attn_mask` hides every component from a query. The
                last two checks are skipped while compiling.
        """
        return self.attend(query, self.prepare(mixture), need_weights, attn_mask, attn_bias)

    def prepare(self, mixture: DiscreteMixture | GaussianMixture) -> DiscreteKeys | GaussianKeys:
        """Project a mixture for `attend`.

        Generation calls `prepare` once for all tokens of a text.

        Args:
            mixture: B mixtures of K components of width D.

        Returns:
            The keys, on the device of the mixture; under autocast, discrete keys have the autocast dtype.

        Raises:
            ValueError: if `mixture` has another type, if its width is not D, or if all components of a mixture are
                padding or have weight zero.
        """
        _check_mixture(mixture)
        absent = mixture.key_padding_mask | (mixture.log_pi == -math.inf)
        check_every_row_real("key_padding_mask and log_pi", absent)
        return self._discrete_keys(mixture) if isinstance(mixture, DiscreteMixture) else self._gaussian_keys(mixture)

    def attend(
        self,
        query: Tensor,
        keys: DiscreteKeys | GaussianKeys,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
        attn_bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend to the keys that `prepare` returned. `forward` is `prepare` followed by `attend`.

        Args:
            query: [B, T, D].
            keys: keys of B mixtures, from `prepare`.
            need_weights, attn_mask, attn_bias: see `forward`.

        Returns:
            The output [B, T, D], and the weights [B, H, T, K] before dropout (None if `need_weights` is False).

        Raises:
            ValueError: if a shape or the dtype of a mask is wrong, or if `attn_mask` hides every component from a
                query.
        """
        check_shape("query", query, (keys.key.shape[0], None, self.embed_dim))
        bias = keys.bias if attn_bias is None else _shift(keys.bias, attn_bias, self.num_heads, query.shape[1])
        bias = bias if attn_mask is None else _hide(bias, attn_mask, query.shape[1])
        if isinstance(keys, DiscreteKeys):
            return self._attend_discrete(query, keys, bias, need_weights)
        return self._attend_gaussian(query, keys, bias, need_weights)

    def _discrete_keys(self, mixture: DiscreteMixture) -> DiscreteKeys:
        check_shape("mixture.z", mixture.z, (None, None, self.embed_dim))
        z, bias, absent = discrete_terms(mixture, self.noise)
        dtype = self._dtype(z)
        columns = _columns(self.noise * bias.masked_fill(absent, 0.0), dtype, self.head_dim)  # [B, K, e]
        weight, offset = self._key_value_projection(columns.shape[-1])
        projected = F.linear(torch.cat([z, columns.to(z.dtype)], dim=-1).to(dtype), weight, offset)
        key, value = (self._split_heads(half) for half in projected.chunk(2, dim=-1))
        hidden = torch.zeros_like(absent, dtype=z.dtype).masked_fill(absent, -math.inf)
        return DiscreteKeys(key, value, hidden[:, None, None, :])

    def _gaussian_keys(self, mixture: GaussianMixture) -> GaussianKeys:
        check_shape("mixture.mu", mixture.mu, (None, None, self.embed_dim))
        shift, share, bias = gaussian_terms(mixture, self.noise)
        dtype = torch.promote_types(mixture.mu.dtype, torch.float32)
        # The keys leave out -½ sum u^2 / s0, which all components share. The remaining u^2 term vanishes with sigma,
        # so it rounds nothing off.
        key = torch.cat([shift, 0.5 * share], dim=-1)
        return GaussianKeys(key.to(dtype), bias.to(dtype)[:, None, None, :])

    def _attend_discrete(
        self, query: Tensor, keys: DiscreteKeys, bias: Tensor, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        extra = keys.key.shape[-1] - self.head_dim
        # Zero rows in the weight append the extra dimensions without a copy of every query.
        q = self._split_heads(F.linear(query, *self._query_projection(extra)))
        output, weights = self._weigh(q, keys.key, keys.value, bias, need_weights)
        return self.out_proj(output[..., : self.head_dim].transpose(1, 2).flatten(-2)), weights

    def _attend_gaussian(
        self, query: Tensor, keys: GaussianKeys, bias: Tensor, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        q = F.linear(query, *self._projection(0))
        q = torch.unflatten(q, -1, (self.num_heads, self.head_dim))  # [B, T, H, d_h]
        step = self._texts_per_chunk(q)
        if step is None:
            output, weights = self._denoise(q, keys, bias, need_weights)
        else:
            rows = [slice(start, start + step) for start in range(0, q.shape[0], step)]
            parts = [self._denoise(q[row], keys.select(row), bias[row], need_weights) for row in rows]
            output, weights = (None if part[0] is None else torch.cat(part) for part in zip(*parts, strict=True))
        return self.out_proj(output), weights

    def _denoise(self, q: Tensor, keys: GaussianKeys, bias: Tensor, need_weights: bool) -> tuple[Tensor, Tensor | None]:
        """Compute the output [B, T, D] of all heads for queries [B, T, H, d_h], in the dtype of the queries.

        All heads share the keys, so their queries are stacked into one head. The attention itself runs in the dtype of
        the keys, float32 or float64.
        """
        batch, queries, heads, width = q.shape
        key_weight, _ = self._projection(1)
        value_weight, value_bias = self._projection(2)
        key_weight, value_weight = (
            torch.unflatten(w.to(q.dtype), 0, (heads, width)) for w in (key_weight, value_weight)
        )
        u = torch.bmm(q.flatten(0, 1).transpose(0, 1), key_weight)  # [H, BT, D]
        u = torch.unflatten(u, 1, (batch, queries)).transpose(0, 1).to(keys.key.dtype)  # [B, H, T, D]
        powers = torch.cat([u, u.square()], dim=-1).flatten(1, 2).unsqueeze(1)  # [B, 1, HT, 2 D]
        if bias.shape[1:3] != (1, 1):
            bias = bias.expand(-1, heads, queries, -1).flatten(1, 2).unsqueeze(1)
        key = keys.key.unsqueeze(1)
        mixed, weights = self._weigh(powers, key, key, bias, need_weights)
        shift, half_share = torch.unflatten(mixed, 2, (heads, queries)).squeeze(1).chunk(2, dim=-1)
        denoised = torch.addcmul(shift, u, half_share, value=2.0)
        denoised = denoised.to(q.dtype).transpose(0, 1).flatten(1, 2)  # [H, BT, D]
        output = torch.bmm(denoised, value_weight.transpose(1, 2))
        output = torch.unflatten(output, 1, (batch, queries)).permute(1, 2, 0, 3).flatten(-2)  # [B, T, D]
        if value_bias is not None:
            output = output + value_bias
        return output, None if weights is None else torch.unflatten(weights, 2, (heads, queries)).squeeze(1)

    def _weigh(
        self, q: Tensor, key: Tensor, value: Tensor, bias: Tensor, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Compute scaled dot-product attention with a bias per key.

        Returns:
            The output [B, H, T, e], and the weights before dropout (None if `need_weights` is False).
        """
        dropout = self.dropout if self.training else 0.0
        bias = bias.to(q.dtype)
        with torch.autocast(q.device.type, enabled=False):  # the caller chooses the precision
            if not need_weights:
                return F.scaled_dot_product_attention(q, key, value, bias, dropout, scale=1.0 / self.noise), None
            weights = (q @ key.transpose(-1, -2) / self.noise + bias).softmax(dim=-1)
            return F.dropout(weights, dropout) @ value, weights

    def _split_heads(self, projected: Tensor) -> Tensor:
        """Split projected vectors [B, N, H e] into heads: [B, H, N, e]."""
        return torch.unflatten(projected, -1, (self.num_heads, -1)).transpose(1, 2)

    def _texts_per_chunk(self, q: Tensor) -> int | None:
        """Return the number of texts per chunk of a Gaussian mixture; None processes the batch whole."""
        if torch.compiler.is_compiling() or q.device.type != "cpu":
            return None
        step = max(1, CACHED_NUMBERS // max(1, 2 * q[0].numel() * self.num_heads)) if q.shape[0] else 0
        return step if step < q.shape[0] else None

    def _dtype(self, value: Tensor) -> torch.dtype:
        """Return the dtype of the projections: the autocast dtype under autocast, else the dtype of the weights."""
        kind = value.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.in_proj_weight.dtype

    def _query_projection(self, extra: int) -> tuple[Tensor, Tensor]:
        """Return weight [H (d_h + e), D] and bias; they append e = `extra` dimensions of ones to each query."""
        weight, bias = self._projection(0)
        bias = weight.new_zeros(self.embed_dim) if bias is None else bias
        weight, bias = (torch.unflatten(value, 0, (self.num_heads, self.head_dim)) for value in (weight, bias))
        return F.pad(weight, (0, 0, 0, extra)).flatten(0, 1), F.pad(bias, (0, extra), value=1.0).flatten()

    def _key_value_projection(self, extra: int) -> tuple[Tensor, Tensor | None]:
        """Return weight [2 H (d_h + e), D + e] and bias; they copy the last e = `extra` dimensions into each key."""
        weight, bias = self._projection(1, 3)
        passed = weight.new_zeros(2, 1, self.head_dim + extra, self.embed_dim + extra)
        passed[0, 0, self.head_dim :, self.embed_dim :] = torch.eye(extra, dtype=weight.dtype, device=weight.device)
        halves = (2, self.num_heads, self.head_dim)
        weight = F.pad(torch.unflatten(weight, 0, halves), (0, extra, 0, extra)) + passed
        if bias is not None:
            bias = F.pad(torch.unflatten(bias, 0, halves), (0, extra)).flatten()
        return weight.flatten(0, 2), bias

    def _projection(self, first: int, last: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Return rows of the input projection: 0 for the query, 1 for the key, 2 for the value."""
        rows = slice(first * self.embed_dim, (last or first + 1) * self.embed_dim)
        return self.in_proj_weight[rows], None if self.in_proj_bias is None else self.in_proj_bias[rows]


def _check_mixture(mixture: object) -> None:
    """Check that `mixture` is a DiscreteMixture or a GaussianMixture."""
    if not isinstance(mixture, DiscreteMixture | GaussianMixture):
        raise ValueError(f"mixture must be a DiscreteMixture or a GaussianMixture, got {type(mixture).__name__}")


def _columns(bias: Tensor, dtype: torch.dtype, head_dim: int) -> Tensor:
    """Split a bias [B, K] into extra key dimensions [B, K, e] of type `dtype` that sum to the bias.

    Half precision uses two dimensions: the rounded bias and its rounding error. Off the CPU, fused kernels need a head
    width that is a multiple of eight, so zeros are appended.
    """
    # An infinite bias times the zeros of the projection would be NaN. The bound is finite in both dtypes.
    bias = bias.clamp_min(max(torch.finfo(kind).min for kind in (dtype, bias.dtype)) / 4)
    columns = [bias]
    if dtype not in (torch.float32, torch.float64):
        rounded = bias.detach().to(dtype).to(bias.dtype)
        columns = [rounded, bias - rounded]
    extra = len(columns) if bias.device.type == "cpu" else len(columns) + -(head_dim + len(columns)) % 8
    return F.pad(torch.stack(columns, dim=-1), (0, extra - len(columns)))


def _hide(bias: Tensor, attn_mask: Tensor, queries: int) -> Tensor:
    """Expand the bias to every query, [B, 1, T, K], with -inf where `attn_mask` hides a component from a query."""
    batch, components = bias.shape[0], bias.shape[-1]
    shape = (queries, components) if attn_mask.dim() == 2 else (batch, queries, components)
    check_mask("attn_mask", attn_mask, shape, "where a query must not attend to a component")
    bias = bias.masked_fill(attn_mask if attn_mask.dim() == 2 else attn_mask.unsqueeze(1), -math.inf)
    if not torch.compiler.is_compiling() and bool((blind := (bias == -math.inf).all(dim=-1)).any()):
        text, query = (int(blind.nonzero()[0, axis]) for axis in (0, 2))
        raise ValueError(f"attn_mask must leave every query a component, got none for query {query} of text {text}")
    return bias


def _shift(bias: Tensor, attn_bias: Tensor, heads: int, queries: int) -> Tensor:
    """Add `attn_bias` to the bias: [B, H, T, K]."""
    full = (bias.shape[0], heads, queries, bias.shape[-1])
    fits = attn_bias.dim() == 4 and all(got in (1, size) for got, size in zip(attn_bias.shape, full, strict=True))
    if not fits or attn_bias.shape[-1] != full[-1]:
        raise ValueError(
            f"attn_bias must have shape {list(full)} (each size but the last may be 1), got {list(attn_bias.shape)}"
        )
    return bias + attn_bias
