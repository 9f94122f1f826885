"""`VTP`: the variational Transformer whose latent is one vector, pooled."""

import torch
from torch import Tensor

from models.variational import VariationalTransformer


class VariationalTransformerPooled(VariationalTransformer):
    """The encoder's output is pooled over a text's real tokens, to its mean or its largest values."""

    def keep(self, hidden: Tensor, key_padding_mask: Tensor) -> tuple[Tensor, Tensor]:
        """One."""
        padding = key_padding_mask.unsqueeze(-1)
        if self.settings.pooling == "max":
            pooled = hidden.masked_fill(padding, -torch.inf).amax(dim=1, keepdim=True)
        else:
            pooled = hidden.masked_fill(padding, 0.0).sum(dim=1, keepdim=True) / (~padding).sum(dim=1, keepdim=True)
        return pooled, torch.zeros_like(key_padding_mask[:, :1])

    def count_kept(self, lengths: Tensor) -> Tensor:
        """One."""
        return torch.ones_like(lengths)
