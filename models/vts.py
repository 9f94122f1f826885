"""`VTS`: the variational Transformer that drops a fixed share of its vectors."""

import torch
from torch import Tensor

from models.settings import VTSSettings
from models.variational import Variational, VariationalTransformer


class EvenlySpaced(Variational[VTSSettings]):
    """Variational autoencoder that drops vectors by position, whatever the text.

    The vectors kept are evenly spaced over the real tokens.
    """

    def keep(self, hidden: Tensor, key_padding_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Divide the n tokens of a text into k equal parts, and keep the middle vector of each part."""
        lengths = (~key_padding_mask).sum(dim=-1)
        counts = self.count_kept(lengths)
        slots = torch.arange(int(counts.max()), device=hidden.device)  # [K]
        # Vector j of k is at (j + 1/2) n / k, rounded down, in integers: floats could round differently.
        positions = (2 * slots + 1) * lengths.unsqueeze(1) // (2 * counts.unsqueeze(1))  # [B, K]
        dropped = slots >= counts.unsqueeze(1)
        index = positions.masked_fill(dropped, 0).unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
        return hidden.gather(1, index), dropped

    def count_kept(self, lengths: Tensor) -> Tensor:
        """Return the share `1 - STRIDE_PERC` of the tokens, rounded, at least one."""
        return (lengths * (1.0 - self.settings.stride_perc)).round().long().clamp_min(1)


class VariationalTransformerStride(EvenlySpaced, VariationalTransformer[VTSSettings]):
    """Variational Transformer that drops vectors by position."""
