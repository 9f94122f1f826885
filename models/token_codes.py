"""Codes of a pretrained model's tokens, and the tokens that a noisy vector can mean."""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils import checkpoint

LEAST = 1e-4  # smallest variance of the embeddings that whitening scales up, relative to the largest
AT_ONCE = 2**26  # weights of vectors over the vocabulary that are kept for the backward pass; more are recomputed


class TokenCodes(nn.Module):
    """A code for each token: its embedding, centred, whitened and scaled to the norm √D.

    Pretrained embeddings share a large mean and a few long directions. Without these, the codes of two tokens are
    nearly as far apart as random vectors, and Gaussian noise of the prior's variance confuses few of them: with
    SmolLM2's embeddings at 25 nats a vector, one token in a hundred.

    `forward` is the expectation of the embedding given a vector, under the model `p(v) N(z; s c_v, I)` with codes
    `c_v`: attention over the vocabulary with the scores `s z·c_v − ½ s² |c_v|² + ln p(v)`. The scale s, as a matrix,
    and ln p(v) are trained.

    Args:
        embeddings: [V, D], pretrained embeddings of the tokens.
        more: further tokens, which have random codes.
        scale: s at first.
    """

    codes: Tensor

    def __init__(self, embeddings: Tensor, more: int, scale: float) -> None:
        super().__init__()
        dim = embeddings.shape[1]
        codes = whitened(embeddings.detach())
        drawn = torch.randn(more, dim, generator=torch.Generator().manual_seed(0))
        codes = torch.cat([codes, drawn])
        norms = codes.square().sum(dim=1, keepdim=True).sqrt().clamp_min(1e-6)
        self.register_buffer("codes", codes * (math.sqrt(dim) / norms), persistent=False)
        self.query = nn.Linear(dim, dim, bias=False)
        self.rest = nn.Linear(dim, dim, bias=False)
        self.log_frequency = nn.Parameter(torch.zeros(codes.shape[0]))
        scaled_identity(self.query.weight, scale)
        nn.init.zeros_(self.rest.weight)

    @torch.no_grad()
    def start_with(self, counts: Tensor) -> None:
        """Set `ln p(v)` to smoothed relative frequencies.

        Args:
            counts: [V], occurrences of each token in the training text.
        """
        smoothed = counts.double() + 0.1
        # Relative to the mean, so that the trained values begin near 0.
        self.log_frequency.copy_((smoothed / smoothed.mean()).log())

    def forward(self, vectors: Tensor, embeddings: Tensor) -> Tensor:
        """Compute the expected embedding of each vector, and add what a linear map reads from the vector.

        Args:
            vectors: [M, D].
            embeddings: [V, D].

        Returns:
            [M, D].
        """
        queries = self.query(vectors)
        rows = max(1, AT_ONCE // len(self.codes))
        again = len(queries) > rows and torch.is_grad_enabled()
        parts = [self._maybe_again(again, part, embeddings) for part in queries.split(rows)]
        return torch.cat(parts) + self.rest(vectors)

    def _maybe_again(self, again: bool, queries: Tensor, embeddings: Tensor) -> Tensor:
        """Compute the expected embeddings; with `again`, the backward pass recomputes them, and stores no weights."""
        if not again:
            return self._expected(queries, embeddings)
        made = checkpoint.checkpoint(self._expected, queries, embeddings, use_reentrant=False)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] not annotated
        return cast(Tensor, made)

    def _expected(self, queries: Tensor, embeddings: Tensor) -> Tensor:
        scores = queries @ self.codes.t() + self.log_frequency
        return scores.softmax(dim=-1).to(embeddings.dtype) @ embeddings


@torch.no_grad()
def scaled_identity(weight: Tensor, scale: float) -> None:
    """Set a square weight to a multiple of the identity."""
    nn.init.eye_(weight).mul_(scale)


def whitened(embeddings: Tensor) -> Tensor:
    """Centre embeddings [V, D] and scale their principal directions to variance 1."""
    centred = embeddings - embeddings.mean(dim=0)
    found = torch.linalg.eigh(centred.t() @ centred / len(centred))  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] not annotated
    values, directions = cast(tuple[Tensor, Tensor], found)
    values = values.clamp_min(float(values.amax()) * LEAST)
    return centred @ (directions * values.rsqrt()) @ directions.t()
