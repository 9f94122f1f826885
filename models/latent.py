"""The latent that a decoder attends to: its protocol, and the plain vectors of T, VTV, VTP and VTS."""

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

import nvib
from nvib import DiscreteMixture, GaussianMixture


class Latent(Protocol):
    """Latents of B texts: up to K vectors or components for each, which a decoder attends to.

    `Memory`, `Draws`, `Placed`, `nvib.DiscreteMixture` and `nvib.GaussianMixture` are latents. A model reads the types
    that it makes. A language model has no latent: where a function takes latents of any model, its argument is
    `Latent | None`.
    """

    @property
    def key_padding_mask(self) -> Tensor:
        """[B, K], bool, True at padding and at dropped vectors."""
        ...

    def __len__(self) -> int:
        """Return B, the number of texts."""
        ...

    def select(self, rows: Tensor) -> Self:
        """Select the latents of some of the B texts.

        Args:
            rows: [S], int, indices of texts; or [B], bool.

        Returns:
            S latents, in the order of `rows`.
        """
        ...


@dataclass(frozen=True)
class Memory:
    """A set of vectors to attend to, for each of B texts.

    Args:
        vectors: [B, N, D].
        key_padding_mask: [B, N], bool, True at padding.
    """

    vectors: Tensor
    key_padding_mask: Tensor

    def __len__(self) -> int:
        """Return B, the number of texts."""
        return self.vectors.shape[0]

    def select(self, rows: Tensor) -> "Memory":
        """Select the memories of some of the B texts; see `Latent.select`."""
        return Memory(self.vectors[rows], self.key_padding_mask[rows])


@dataclass(frozen=True)
class Draws:
    """Several latents of each of B texts, over which the decoder's next-token probabilities are averaged.

    `TextModel.score`, `start` and `step` take the mean.

    Args:
        latents: one or more, of B texts each, with equal masks.
    """

    latents: tuple[Latent, ...]

    @property
    def key_padding_mask(self) -> Tensor:
        """[B, K], the mask of every draw."""
        return self.latents[0].key_padding_mask

    def __len__(self) -> int:
        """Return B, the number of texts."""
        return len(self.latents[0])

    def select(self, rows: Tensor) -> "Draws":
        """Select the draws of some of the B texts; see `Latent.select`."""
        return Draws(tuple(latent.select(rows) for latent in self.latents))


@dataclass(frozen=True)
class Placed:
    """Mixtures whose vectors have positions of their own, for a decoder that reads a latent in order.

    Without this, the position of a vector is its index. The draws of one component share a position, and so do the
    i-th components of two mixtures that are interpolated.

    Args:
        mixture: of B texts, K vectors each.
        positions: [B, K], int.
        shares: [B, K], part that each vector is of a component: 1 / kappa for one of kappa draws.
    """

    mixture: DiscreteMixture | GaussianMixture
    positions: Tensor
    shares: Tensor

    @staticmethod
    def of(latent: "DiscreteMixture | GaussianMixture | Placed", kappa: int = 1) -> "Placed":
        """Place the `kappa` draws of the i-th component at position i; a placed latent is returned unchanged."""
        if isinstance(latent, Placed):
            return latent
        index = torch.arange(latent.log_pi.shape[1], device=latent.log_pi.device)
        return Placed(
            latent,
            (index // kappa).expand(latent.log_pi.shape),
            torch.full_like(latent.log_pi, 1.0 / kappa, dtype=torch.float32),
        )

    @property
    def key_padding_mask(self) -> Tensor:
        """[B, K], the mask of the mixture."""
        return self.mixture.key_padding_mask

    def __len__(self) -> int:
        """Return B, the number of texts."""
        return len(self.mixture)

    def select(self, rows: Tensor) -> "Placed":
        """Select the mixtures of some of the B texts; see `Latent.select`."""
        return Placed(self.mixture.select(rows), self.positions[rows], self.shares[rows])

    def joined(self, other: "Placed", tau: float) -> "Placed":
        """Compute the mixture `(1 - tau) self + tau other`, whose vectors keep their positions.

        Returns:
            A mixture with the vectors of both; `self` at 0 and `other` at 1.
        """
        if tau in (0.0, 1.0):
            return other if tau else self
        a, b = self.mixture, other.mixture
        if type(a) is not type(b):
            raise TypeError(f"a and b must be mixtures of one type, got {type(a).__name__} and {type(b).__name__}")
        # Any: the type checker does not know that the types are equal.
        mixture = cast(DiscreteMixture | GaussianMixture, nvib.interpolate(cast(Any, a), cast(Any, b), tau))
        return Placed(
            mixture,
            torch.cat([self.positions, other.positions], dim=1),
            torch.cat([(1.0 - tau) * self.shares, tau * other.shares], dim=1),
        )


def each_draw(latent: Latent | None) -> tuple[Latent | None, ...]:
    """Return the latents that a decoder reads one by one: the draws, or the latent alone."""
    return latent.latents if isinstance(latent, Draws) else (latent,)


Own = TypeVar("Own", bound=Latent)


def hidden(latent: Own, key_padding_mask: Tensor) -> Own:
    """Return latents with another mask; the weights of a mixture are zero where it is True.

    Args:
        latent: memories, mixtures or draws of B texts.
        key_padding_mask: [B, K], bool, True at padding and at every vector to hide.
    """
    if isinstance(latent, Draws):
        return cast(Own, Draws(tuple(hidden(own, key_padding_mask) for own in latent.latents)))
    if isinstance(latent, Placed):
        return cast(Own, replace(latent, mixture=hidden(latent.mixture, key_padding_mask)))
    changes = {"key_padding_mask": key_padding_mask}
    if isinstance(latent, (DiscreteMixture, GaussianMixture)):
        changes["log_pi"] = latent.log_pi.masked_fill(key_padding_mask, -math.inf)
    elif not isinstance(latent, Memory):
        raise TypeError(f"the latent must be a memory or a mixture, got {type(latent).__name__}")
    return replace(latent, **changes)


def interpolate_by_position(a: Latent, b: Latent, tau: float) -> Memory:
    """Compute `(1 - tau) a + tau b`, vector by vector; the shorter memory is padded with zeros.

    Args:
        a: memory of B texts.
        b: memory of B texts.
        tau: in [0, 1].

    Returns:
        A memory with as many vectors as the longer of the two; `a` itself at 0 and `b` itself at 1.

    Raises:
        TypeError: `a` or `b` is no memory.
    """
    if not isinstance(a, Memory) or not isinstance(b, Memory):
        raise TypeError(f"a and b must be memories, got {type(a).__name__} and {type(b).__name__}")
    if tau in (0.0, 1.0):
        return b if tau else a
    width = max(a.vectors.shape[1], b.vectors.shape[1])
    vectors: list[Tensor] = []
    masks: list[Tensor] = []
    for memory in (a, b):
        missing = width - memory.vectors.shape[1]
        zeroed = memory.vectors.masked_fill(memory.key_padding_mask.unsqueeze(-1), 0.0)
        vectors.append(F.pad(zeroed, (0, 0, 0, missing)))
        masks.append(F.pad(memory.key_padding_mask, (0, missing), value=True))
    return Memory((1.0 - tau) * vectors[0] + tau * vectors[1], masks[0] & masks[1])
