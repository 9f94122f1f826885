"""Random mixtures and attention modules for the tests of attention, in float64 by default."""

import torch
from torch import Tensor

import nvib

BATCH, QUERIES, KEYS, DIM = 2, 3, 5, 8


def discrete(dtype: torch.dtype = torch.float64) -> nvib.DiscreteMixture:
    mask = torch.zeros(BATCH, KEYS, dtype=torch.bool)
    mask[1, 3:] = True
    log_pi = torch.randn(BATCH, KEYS, dtype=dtype).log_softmax(-1)
    return nvib.DiscreteMixture(torch.randn(BATCH, KEYS, DIM, dtype=dtype), log_pi, mask)


def gaussian(components: int = 3, spread: float = 1.0, dtype: torch.dtype = torch.float64) -> nvib.GaussianMixture:
    return nvib.GaussianMixture(
        torch.randn(1, components, DIM, dtype=dtype),
        spread * torch.randn(1, components, DIM, dtype=dtype),
        torch.randn(1, components, dtype=dtype).log_softmax(-1),
        torch.zeros(1, components, dtype=torch.bool),
    )


def vector_name(mixture: nvib.DiscreteMixture | nvib.GaussianMixture) -> str:
    return "z" if isinstance(mixture, nvib.DiscreteMixture) else "mu"


def vectors(mixture: nvib.DiscreteMixture | nvib.GaussianMixture) -> Tensor:
    return getattr(mixture, vector_name(mixture))


def attention(heads: int, bias: bool = False) -> nvib.DenoisingMultiheadAttention:
    module = nvib.DenoisingMultiheadAttention(DIM, heads, bias=bias).double().eval()
    if bias:
        for parameter in (module.in_proj_bias, module.out_proj.bias):
            torch.nn.init.normal_(parameter)
    return module
