"""Dropout whose random numbers are drawn four at a time on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 1 << 16


class Dropout(nn.Module):
    """Zeroes each element with a probability in training and scales the others up (Srivastava et al. 2014).

    On a CPU torch draws one random number for each element on one thread, a tenth of a training step. Here
    a draw of 64 bits serves four elements, so that the probability is kept to 1 in 65,536.

    Args:
        probability: in [0, 1).
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, hidden: Tensor) -> Tensor:
        """Any shape to the same shape."""
        if not self.training or self.probability == 0.0:
            return hidden
        if hidden.device.type != "cpu":
            return F.dropout(hidden, self.probability)
        dropped = min(round(self.probability * LEVELS), LEVELS - 1)
        draws = torch.empty((hidden.numel() + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
        # Comparing into the type of the vectors saves a pass over booleans, which are slow to convert.
        kept = torch.empty(hidden.shape, dtype=hidden.dtype)
        torch.ge(draws.view(torch.int16)[: hidden.numel()].view(hidden.shape), dropped - LEVELS // 2, out=kept)
        return hidden * kept.mul_(LEVELS / (LEVELS - dropped))

    def extra_repr(self) -> str:
        """The probability, for print."""
        return f"probability={self.probability}"
