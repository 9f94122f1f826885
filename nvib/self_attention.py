"""NVIB in self-attention: a Transformer encoder whose layers attend to the bottleneck of their own input."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvib._check import check_kappa, check_shape
from nvib._tensors import soft_bound
from nvib.attention import DenoisingMultiheadAttention
from nvib.dirichlet_process import Posterior, Prior
from nvib.layer import NVIB


class NVIBEncoderLayer(nn.Module):
    """A post-norm Transformer encoder layer whose self-attention is denoising attention over the NVIB of its input.

    Behjati, Fehr & Henderson (2023). The queries are the input itself; the attended vectors come from its Dirichlet
    process. Layer l adds the log pseudo-counts of layer l - 1 to its own,
    `log alpha_i^l = log alpha_i^(l-1) + (a h_i + b)`, so a vector dropped by one layer remains dropped unless a later
    layer raises its pseudo-count. The sum is bounded in the same way as the pseudo-counts of each layer.

        x = norm1(h + dropout(DAttn(h; F(h))));  output = norm2(x + dropout(W_2 dropout(relu(W_1 x))))

    Args:
        dim: D, width of the vectors.
        num_heads: H, number of heads; divides D.
        dim_feedforward: width of the feed-forward layer; None uses 4 D.
        dropout: dropout probability, also of the attention weights.
        prior: prior Dirichlet process; its base distribution is component 0.
        kappa: draws per component in training, at least 1.
        alpha_threshold: evaluation drops components with fewer pseudo-counts.
        alpha_activation: `exp` or `relu`; see `NVIB`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> layer = NVIBEncoderLayer(dim=8, num_heads=2)
        >>> hidden, posterior = layer(torch.randn(2, 5, 8), torch.zeros(2, 5, dtype=torch.bool))
        >>> hidden.shape, posterior.mu.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 6, 8]))
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        dim_feedforward: int | None = None,
        dropout: float = 0.1,
        prior: Prior = Prior(),  # noqa: B008 (frozen, so sharing it is safe)
        kappa: int = 1,
        alpha_threshold: float = 0.1,
        alpha_activation: str = "exp",
    ) -> None:
        super().__init__()
        self.nvib = NVIB(dim, prior, kappa, alpha_threshold, alpha_activation)
        self.self_attn = DenoisingMultiheadAttention(dim, num_heads, dropout, bias=True)
        self.linear1 = nn.Linear(dim, dim_feedforward or 4 * dim)
        self.linear2 = nn.Linear(dim_feedforward or 4 * dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, hidden: Tensor, key_padding_mask: Tensor, log_alpha: Tensor | None = None, causal: bool = False
    ) -> tuple[Tensor, Posterior]:
        """Apply the layer (Behjati, Fehr & Henderson 2023).

        Args:
            hidden: [B, N, D].
            key_padding_mask: [B, N], bool, True at padding; values of `hidden` at padding are ignored.
            log_alpha: [B, N], log pseudo-counts of the layer below, added to those of this layer; None for the first
                layer.
            causal: if True, position i attends only to the components of positions up to i and to component 0.

        Returns:
            The output [B, N, D], and the posterior of N+1 components, with `log_alpha` included.

        Raises:
            ValueError: if a shape or the dtype of the mask is wrong, or if a text has no real token.
        """
        posterior = self.nvib.posterior(hidden, key_padding_mask)
        # A query with arbitrary values at padding would be harmless, but its gradient would not.
        hidden = hidden.masked_fill(key_padding_mask.unsqueeze(-1), 0.0)
        if log_alpha is not None:
            check_shape("log_alpha", log_alpha, tuple(hidden.shape[:2]))
            posterior = _carry(posterior, log_alpha)
        if self.training:
            mixture, draws = posterior.sample(self.nvib.kappa), self.nvib.kappa
        else:
            mixture, draws = posterior.mean(self.nvib.alpha_threshold), 1
        future = causal_mask(hidden.shape[1], draws, hidden.device) if causal else None
        attended, _ = self.self_attn(hidden, mixture, attn_mask=future)
        x = self.norm1(hidden + self.dropout(attended))
        return self.norm2(x + self.dropout(self.linear2(self.dropout(F.relu(self.linear1(x)))))), posterior


class NVIBEncoder(nn.Module):
    """A stack of `NVIBEncoderLayer`; each layer passes its log pseudo-counts to the next.

    Behjati, Fehr & Henderson (2023). The regulariser is the sum of the divergences of all layers:
    `sum(kl_gaussian(p, prior).mean() + kl_dirichlet(p, prior).mean() for p in posteriors)`.

    Args:
        num_layers: number of layers, at least 1.
        dim, num_heads, dim_feedforward, dropout, prior, kappa, alpha_threshold, alpha_activation: arguments of every
            layer; see `NVIBEncoderLayer`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> encoder = NVIBEncoder(num_layers=2, dim=8, num_heads=2)
        >>> hidden, posteriors = encoder(torch.randn(2, 5, 8), torch.zeros(2, 5, dtype=torch.bool), causal=True)
        >>> hidden.shape, len(posteriors)
        (torch.Size([2, 5, 8]), 2)
    """

    def __init__(
        self,
        num_layers: int,
        dim: int,
        num_heads: int,
        dim_feedforward: int | None = None,
        dropout: float = 0.1,
        prior: Prior = Prior(),  # noqa: B008 (frozen, so sharing it is safe)
        kappa: int = 1,
        alpha_threshold: float = 0.1,
        alpha_activation: str = "exp",
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        self.layers = nn.ModuleList(
            NVIBEncoderLayer(dim, num_heads, dim_feedforward, dropout, prior, kappa, alpha_threshold, alpha_activation)
            for _ in range(num_layers)
        )

    def forward(
        self, hidden: Tensor, key_padding_mask: Tensor, causal: bool = False
    ) -> tuple[Tensor, tuple[Posterior, ...]]:
        """Apply all layers (Behjati, Fehr & Henderson 2023).

        Args:
            hidden: [B, N, D], embeddings with positions added.
            key_padding_mask: [B, N], bool, True at padding; values of `hidden` at padding are ignored.
            causal: if True, position i attends only to the components of positions up to i and to component 0.

        Returns:
            The output [B, N, D] and the posterior of every layer.

        Raises:
            ValueError: if a shape or the dtype of the mask is wrong, or if a text has no real token.
        """
        posteriors: list[Posterior] = []
        log_alpha = None
        for layer in self.layers:
            hidden, posterior = layer(hidden, key_padding_mask, log_alpha, causal)
            posteriors.append(posterior)
            log_alpha = posterior.log_alpha[:, 1:]
        return hidden, tuple(posteriors)


def causal_mask(length: int, kappa: int = 1, device: torch.device | str | None = None) -> Tensor:
    """Create the attention mask that hides the components of later positions; component 0 is visible to every position.

    The mask makes the self-attention of Behjati, Fehr & Henderson (2023) causal: position i attends to component 0 and
    to the components of positions 0 to i.

    Args:
        length: N, number of positions.
        kappa: draws per component; the draws of a component are adjacent.
        device: device of the mask.

    Returns:
        [N, kappa (N+1)], bool, True where a position must not attend to a component; for `attn_mask`.

    Raises:
        ValueError: if `kappa` is below 1.
    """
    check_kappa(kappa)
    component = torch.arange(length + 1, device=device)
    later = component > torch.arange(length, device=device).unsqueeze(1) + 1  # position i has component i+1
    return later.repeat_interleave(kappa, dim=1)


def _carry(posterior: Posterior, log_alpha: Tensor) -> Posterior:
    """Add `log_alpha` [B, N] to the log pseudo-counts of the tokens; -inf stays -inf."""
    total = posterior.log_alpha[:, 1:] + log_alpha
    absent = total == -math.inf
    # The sum over many layers of the same sign would leave the range of the sampler and of the digamma function.
    bounded = soft_bound(total.masked_fill(absent, 0.0), low=-6.0, high=60.0, slack=5.0)
    log_alpha = torch.cat([posterior.log_alpha[:, :1], bounded.masked_fill(absent, -math.inf)], dim=1)
    return Posterior(posterior.mu, posterior.logvar, log_alpha, posterior.key_padding_mask)
