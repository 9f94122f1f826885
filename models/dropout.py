"""Dropout that draws one 64-bit random number for four elements on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 1 << 16  # an element's 16 random bits


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014), faster on a CPU than `torch.nn.Dropout`.

    In training each element is set to zero with probability `p`, and the others are scaled by `1 / (1 - p)`. On a CPU
    torch draws a random number for each element on one thread, which takes a tenth of a training step. This layer
    draws 64 bits for four elements, so that it rounds `p` to a multiple of 1/65,536. Elsewhere it calls `F.dropout`.

    Args:
        probability: p, in [0, 1).
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, hidden: Tensor) -> Tensor:
        """Apply dropout in training; return the input unchanged in evaluation.

        Args:
            hidden: any shape.

        Returns:
            The same shape.
        """
        if not self.training or self.probability == 0.0:
            return hidden
        if hidden.device.type != "cpu":
            return F.dropout(hidden, self.probability)
        dropped = min(round(self.probability * LEVELS), LEVELS - 1)
        draws = torch.empty((hidden.numel() + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
        # A comparison that writes the type of the vectors saves a pass over booleans, which are slow to convert.
        kept = torch.empty(hidden.shape, dtype=hidden.dtype)
        torch.ge(draws.view(torch.int16)[: hidden.numel()].view(hidden.shape), dropped - LEVELS // 2, out=kept)
        return hidden * kept.mul_(LEVELS / (LEVELS - dropped))

    def extra_repr(self) -> str:
        """Return the probability, for `print(model)`."""
        return f"probability={self.probability}"
