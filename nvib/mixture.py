"""Mixture distributions over vectors, which denoising attention reads."""

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from nvib._check import check_mask, check_shape


@dataclass(frozen=True)
class DiscreteMixture:
    """A mixture of weighted point masses, `F = sum_k pi_k delta(z_k)`: a sample from a posterior or a prior.

    Henderson & Fehr (2023), section on training.

    Args:
        z: [B, K, D], vectors.
        log_pi: [B, K], log weights; -inf is a weight of zero. The weights need not sum to one, because attention is
            invariant to a common factor of the weights of a text.
        key_padding_mask: [B, K], bool, True at padding; values at padding are ignored.

    Raises:
        ValueError: if a shape or the dtype of the mask is wrong.
    """

    z: Tensor
    log_pi: Tensor
    key_padding_mask: Tensor

    def __post_init__(self) -> None:
        check_shape("z", self.z, (None, None, None))
        check_shape("log_pi", self.log_pi, tuple(self.z.shape[:2]))
        check_mask("key_padding_mask", self.key_padding_mask, tuple(self.z.shape[:2]))

    def __len__(self) -> int:
        """Return B, the number of texts."""
        return self.z.shape[0]

    def select(self, rows: Tensor) -> "DiscreteMixture":
        """Select the mixtures of some of the B texts.

        Args:
            rows: [S], int, indices of texts; or [B], bool.

        Returns:
            S mixtures, in the order of `rows`.

        Raises:
            IndexError: if an index or the length of `rows` is out of range.
        """
        return DiscreteMixture(self.z[rows], self.log_pi[rows], self.key_padding_mask[rows])


@dataclass(frozen=True)
class GaussianMixture:
    """A mixture of Gaussians, `F = sum_i pi_i N(mu_i, diag sigma_i^2)`: the mean measure of a posterior.

    Henderson & Fehr (2023), section on evaluation.

    Args:
        mu: [B, K, D], means.
        logvar: [B, K, D], log variances.
        log_pi: [B, K], log weights; -inf is a weight of zero.
        key_padding_mask: [B, K], bool, True at padding and at dropped components.

    Raises:
        ValueError: if a shape or the dtype of the mask is wrong.
    """

    mu: Tensor
    logvar: Tensor
    log_pi: Tensor
    key_padding_mask: Tensor

    def __post_init__(self) -> None:
        check_shape("mu", self.mu, (None, None, None))
        check_shape("logvar", self.logvar, tuple(self.mu.shape))
        check_shape("log_pi", self.log_pi, tuple(self.mu.shape[:2]))
        check_mask("key_padding_mask", self.key_padding_mask, tuple(self.mu.shape[:2]))

    def __len__(self) -> int:
        """Return B, the number of texts."""
        return self.mu.shape[0]

    def select(self, rows: Tensor) -> "GaussianMixture":
        """Select the mixtures of some of the B texts.

        Args:
            rows: [S], int, indices of texts; or [B], bool.

        Returns:
            S mixtures, in the order of `rows`.

        Raises:
            IndexError: if an index or the length of `rows` is out of range.
        """
        return GaussianMixture(self.mu[rows], self.logvar[rows], self.log_pi[rows], self.key_padding_mask[rows])


# torch.export accepts and returns only registered dataclasses.
torch.export.register_dataclass(DiscreteMixture, serialized_type_name="nvib.DiscreteMixture")
torch.export.register_dataclass(GaussianMixture, serialized_type_name="nvib.GaussianMixture")

Mixture = TypeVar("Mixture", DiscreteMixture, GaussianMixture)


def interpolate(a: Mixture, b: Mixture, tau: float) -> Mixture:
    """Compute the mixture `(1 - tau) a + tau b`: the components of both, with scaled weights.

    Henderson & Fehr (2023), section on interpolation: a mixture of two mixtures is a mixture.

    Args:
        a: B mixtures whose weights sum to one, as the weights of samples and means do.
        b: B mixtures of the same type and width; the number of components may differ.
        tau: weight of `b`, in [0, 1].

    Returns:
        A mixture of the same type with K_a + K_b components; `a` itself at 0 and `b` itself at 1.

    Raises:
        ValueError: if `tau` is outside [0, 1], or if the types, batch sizes or widths differ.
    """
    if not 0.0 <= tau <= 1.0:
        raise ValueError(f"tau must be in [0, 1], got {tau}")
    if type(a) is not type(b):
        raise ValueError(f"a and b must be mixtures of the same type, got {type(a).__name__} and {type(b).__name__}")
    first, second = (m.z if isinstance(m, DiscreteMixture) else m.mu for m in (a, b))
    if first.shape[0] != second.shape[0] or first.shape[2] != second.shape[2]:
        given = f"{list(first.shape)} and {list(second.shape)}"
        raise ValueError(f"a and b must have the same batch size and width, got vectors of shape {given}")
    if tau == 0.0:
        return a
    if tau == 1.0:
        return b
    log_pi = torch.cat([a.log_pi + math.log1p(-tau), b.log_pi + math.log(tau)], dim=1)
    mask = torch.cat([a.key_padding_mask, b.key_padding_mask], dim=1)
    if isinstance(a, DiscreteMixture):
        assert isinstance(b, DiscreteMixture)  # for the type checker: the types are equal
        return DiscreteMixture(torch.cat([a.z, b.z], dim=1), log_pi, mask)
    assert isinstance(b, GaussianMixture)
    logvar = torch.cat([a.logvar, b.logvar], dim=1)
    return GaussianMixture(torch.cat([a.mu, b.mu], dim=1), logvar, log_pi, mask)
