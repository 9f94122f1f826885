"""`VTP`: the variational Transformer with one pooled vector."""

import torch
from torch import Tensor

from models.settings import VTPSettings
from models.variational import VariationalTransformer


class VariationalTransformerPooled(VariationalTransformer[VTPSettings]):
    """Variational Transformer that pools the encoder's output over the real tokens, to its mean or its maximum."""

    def keep(self, hidden: Tensor, key_padding_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Pool each text to one vector: [B, 1, D]."""
        padding = key_padding_mask.unsqueeze(-1)
        if self.settings.pooling == "max":
            pooled = hidden.masked_fill(padding, -torch.inf).amax(dim=1, keepdim=True)
        else:
            pooled = hidden.masked_fill(padding, 0.0).sum(dim=1, keepdim=True) / (~padding).sum(dim=1, keepdim=True)
        return pooled, torch.zeros_like(key_padding_mask[:, :1])

    def count_kept(self, lengths: Tensor) -> Tensor:
        """Return one vector for each text."""
        return torch.ones_like(lengths)
