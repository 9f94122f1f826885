"""Denoising attention: multi-head attention over a mixture distribution."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvib._check import check_every_row_real, check_mask, check_shape
from nvib.mixture import DiscreteMixture, GaussianMixture


@dataclass(frozen=True)
class DiscreteKeys:
    """What attention needs of a discrete mixture, whatever the query: `prepare` computes it once.

    Args:
        key: [B, H, K, d_h], projected vectors.
        value: [B, H, K, d_h], projected vectors.
        bias: [B, 1, 1, K], added to every logit; -inf at padding.
    """

    key: Tensor
    value: Tensor
    bias: Tensor

    def select(self, rows: Tensor) -> "DiscreteKeys":
        """The keys of some of the B sentences."""
        return DiscreteKeys(self.key[rows], self.value[rows], self.bias[rows])


@dataclass(frozen=True)
class GaussianKeys:
    """What attention needs of a Gaussian mixture, whatever the query; all heads share it.

    Args:
        key: [B, 1, K, 2 D], `[mu / s, -1 / 2 s]`.
        value: [B, 1, K, 2 D], `[s0 mu / s, sigma^2 / s]`.
        bias: [B, 1, 1, K], added to every logit; -inf at padding.
    """

    key: Tensor
    value: Tensor
    bias: Tensor

    def select(self, rows: Tensor) -> "GaussianKeys":
        """The keys of some of the B sentences."""
        return GaussianKeys(self.key[rows], self.value[rows], self.bias[rows])


class DenoisingMultiheadAttention(nn.Module):
    """Multi-head attention that reads a query as a vector of the mixture seen through Gaussian noise.

    Henderson & Fehr (2023): with `u = W_K^T q` and noise of variance `s0 = sqrt(d_h)`, each head returns
    the posterior mean `∫ F(v) N(u; v, s0 I) v dv / ∫ F(v) N(u; v, s0 I) dv`, then its value projection.

    Over a discrete mixture: `softmax(q · W_K z_k / s0 + log pi_k - ||z_k||^2 / 2 s0)`, one fused call.
    Over a Gaussian mixture, with `s = s0 + sigma_i^2` per dimension: a softmax of
    `log pi_i - ½ sum log s - ½ sum (u - mu_i)^2 / s`, and `u * sum_i a_i sigma_i^2 / s + sum_i a_i s0 mu_i / s`.
    This is the exact integral; the published formula leaves out `-½ sum u^2 / s`, which cancels only where
    all variances agree. Expanding the square makes it one fused call as well, twice as wide.

    Args:
        embed_dim: D, width of queries, vectors and output.
        num_heads: H, which divides D.
        dropout: probability with which an attention weight is dropped in training.
        bias: whether the projections have biases. A bias of the keys changes no weight.

    Parameters are named as `torch.nn.MultiheadAttention`'s: `in_proj_weight` [3 D, D], `in_proj_bias`, `out_proj`.

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
        """Xavier-uniform matrices, biases of zero."""
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
    ) -> tuple[Tensor, Tensor | None]:
        """Attend to a mixture.

        Args:
            query: [B, T, D].
            mixture: B mixtures of K vectors of width D.
            need_weights: whether to return the weights too, by a slower path.
            attn_mask: [T, K] or [B, T, K], bool, True where a query may not see a component.

        Returns:
            The output [B, T, D], and the weights [B, H, T, K] before dropout, or None.

        Raises:
            ValueError: a shape or a mask's type does not fit, a mixture is padding alone, or a query sees nothing.
        """
        return self.attend(query, self.prepare(mixture), need_weights, attn_mask)

    def prepare(self, mixture: DiscreteMixture | GaussianMixture) -> DiscreteKeys | GaussianKeys:
        """Compute once what `attend` needs of a mixture: generation calls it once for all its tokens."""
        check_every_row_real("key_padding_mask", mixture.key_padding_mask)
        if isinstance(mixture, DiscreteMixture):
            return self._discrete_keys(mixture)
        if isinstance(mixture, GaussianMixture):
            return self._gaussian_keys(mixture)
        raise ValueError(f"mixture must be a DiscreteMixture or a GaussianMixture, got {type(mixture).__name__}")

    def attend(
        self,
        query: Tensor,
        keys: DiscreteKeys | GaussianKeys,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend with what `prepare` returned; see `forward`."""
        check_shape("query", query, (keys.key.shape[0], None, self.embed_dim))
        bias = keys.bias if attn_mask is None else _hide(keys.bias, attn_mask, query.shape[1])
        q = F.linear(query, *self._projection(0))
        q = q.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)  # [B, H, T, d_h]
        if isinstance(keys, DiscreteKeys):
            output, weights = self._weigh(q, keys.key, keys.value, bias, 1.0 / self.noise, need_weights)
        else:
            output, weights = self._attend_gaussian(q, keys, bias, need_weights)
        return self.out_proj(output.transpose(1, 2).flatten(-2)), weights

    def _discrete_keys(self, mixture: DiscreteMixture) -> DiscreteKeys:
        check_shape("mixture.z", mixture.z, (None, None, self.embed_dim))
        z = mixture.z.masked_fill(mixture.key_padding_mask.unsqueeze(-1), 0.0)
        weight, bias = self._projection(1, 3)
        key, value = (
            projected.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
            for projected in F.linear(z, weight, bias).chunk(2, dim=-1)
        )
        log_pi = mixture.log_pi.masked_fill(mixture.key_padding_mask, -math.inf)
        logit_bias = log_pi - z.square().sum(dim=-1) / (2.0 * self.noise)  # [B, K]
        return DiscreteKeys(key, value, logit_bias[:, None, None, :])

    def _gaussian_keys(self, mixture: GaussianMixture) -> GaussianKeys:
        check_shape("mixture.mu", mixture.mu, (None, None, self.embed_dim))
        padding = mixture.key_padding_mask.unsqueeze(-1)
        mu, logvar = (value.masked_fill(padding, 0.0) for value in (mixture.mu, mixture.logvar))
        var = logvar.exp()
        s = self.noise + var
        log_pi = mixture.log_pi.masked_fill(mixture.key_padding_mask, -math.inf)
        logit_bias = log_pi - 0.5 * (s.log() + mu.square() / s).sum(dim=-1)  # [B, K]
        key = torch.cat([mu / s, -0.5 / s], dim=-1)
        value = torch.cat([self.noise * mu / s, var / s], dim=-1)
        return GaussianKeys(key.unsqueeze(1), value.unsqueeze(1), logit_bias[:, None, None, :])

    def _attend_gaussian(
        self, q: Tensor, keys: GaussianKeys, bias: Tensor, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        key_weight, _ = self._projection(1)
        value_weight, value_bias = self._projection(2)
        u = q @ key_weight.unflatten(0, (self.num_heads, self.head_dim))  # [B, H, T, D]
        mixed, weights = self._weigh(torch.cat([u, u.square()], dim=-1), keys.key, keys.value, bias, 1.0, need_weights)
        shift, share = mixed.chunk(2, dim=-1)
        denoised = u * share + shift  # [B, H, T, D]
        output = denoised @ value_weight.unflatten(0, (self.num_heads, self.head_dim)).transpose(-1, -2)
        if value_bias is not None:
            output = output + value_bias.unflatten(0, (self.num_heads, 1, self.head_dim))
        return output, weights

    def _weigh(
        self, q: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Scaled dot-product attention with a bias per key: [B, H, T, e], and the weights on request."""
        dropout = self.dropout if self.training else 0.0
        heads = q.shape[1]
        key, value = (t.expand(-1, heads, -1, -1) for t in (key, value))
        bias = bias.to(q.dtype)
        if not need_weights:
            return F.scaled_dot_product_attention(q, key, value, attn_mask=bias, dropout_p=dropout, scale=scale), None
        weights = (q @ key.transpose(-1, -2) * scale + bias).softmax(dim=-1)
        return F.dropout(weights, dropout) @ value, weights

    def _projection(self, first: int, last: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Rows of the input projection: 0 the query's, 1 the key's, 2 the value's."""
        rows = slice(first * self.embed_dim, (last or first + 1) * self.embed_dim)
        return self.in_proj_weight[rows], None if self.in_proj_bias is None else self.in_proj_bias[rows]


def _hide(bias: Tensor, attn_mask: Tensor, queries: int) -> Tensor:
    """The bias of every query and key [B, 1, T, K], -inf where `attn_mask` hides the key from the query."""
    batch, components = bias.shape[0], bias.shape[-1]
    shape = (queries, components) if attn_mask.dim() == 2 else (batch, queries, components)
    check_mask("attn_mask", attn_mask, shape, "where a query may not see a component")
    bias = bias.masked_fill(attn_mask if attn_mask.dim() == 2 else attn_mask.unsqueeze(1), -math.inf)
    if not torch.compiler.is_compiling() and bool((blind := (bias == -math.inf).all(dim=-1)).any()):
        sentence, _, query = blind.nonzero()[0].tolist()
        raise ValueError(f"attn_mask must leave every query a component, got none for query {query} of row {sentence}")
    return bias
