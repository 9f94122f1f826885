"""Nonparametric Variational Information Bottleneck (NVIB) for Transformers.

NVIB treats the vectors that attention reads as a mixture distribution with a Dirichlet process prior. Its regulariser
limits the number of vectors that a text keeps and the information in each vector.

    posterior, mixture = nvib.NVIB(dim)(hidden, key_padding_mask)
    output, _ = nvib.DenoisingMultiheadAttention(dim, num_heads)(query, mixture)
    loss = nvib.kl_gaussian(posterior, prior).mean() + nvib.kl_dirichlet(posterior, prior).mean()

Sources: Henderson & Fehr, ICLR 2023 (arXiv 2207.13529); Behjati, Fehr & Henderson, EMNLP Findings
2023 (arXiv 2310.17284); Fehr & Henderson, COLM 2024 (arXiv 2312.00662).
"""

from nvib.attention import DenoisingMultiheadAttention
from nvib.conversion import VariationalMultiheadAttention, convert, estimate_prior, regularise
from nvib.dirichlet_process import Posterior, Prior
from nvib.divergence import kl_dirichlet, kl_gaussian
from nvib.identity import IdentityNVIB
from nvib.layer import NVIB
from nvib.mixture import DiscreteMixture, GaussianMixture, interpolate
from nvib.self_attention import NVIBEncoder, NVIBEncoderLayer, causal_mask

__all__ = [
    "NVIB",
    "DenoisingMultiheadAttention",
    "DiscreteMixture",
    "GaussianMixture",
    "IdentityNVIB",
    "NVIBEncoder",
    "NVIBEncoderLayer",
    "Posterior",
    "Prior",
    "VariationalMultiheadAttention",
    "causal_mask",
    "convert",
    "estimate_prior",
    "interpolate",
    "kl_dirichlet",
    "kl_gaussian",
    "regularise",
]
