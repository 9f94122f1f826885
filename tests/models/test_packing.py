"""Packing of padded sentences to their real tokens, and padding of packed tokens."""

import pytest
import torch

from models.packing import Packing

MASK = torch.arange(5) >= torch.tensor([[5], [2], [3]])


def test_packing_keeps_the_real_tokens_in_order_and_padding_brings_them_back():
    padded = torch.randn(3, 5, 4)
    packing = Packing.of(MASK)
    assert torch.equal(packing.pack(padded), padded[~MASK])
    assert torch.equal(packing.pad(packing.pack(padded)), padded.masked_fill(MASK.unsqueeze(-1), 0.0))
    assert packing.positions.tolist() == [0, 1, 2, 3, 4, 0, 1, 0, 1, 2]


@pytest.mark.parametrize("name", ["pack", "pad"])
def test_the_gradients_are_those_of_finite_differences(name: str):
    shape = (3, 5, 2) if name == "pack" else (10, 2)
    value = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(getattr(Packing.of(MASK), name), value)


def test_values_at_padding_have_no_effect_and_no_gradient():
    padded = torch.randn(3, 5, 2).masked_fill(MASK.unsqueeze(-1), float("nan")).requires_grad_()
    Packing.of(MASK).pack(padded).sum().backward()
    assert torch.equal(padded.grad, (~MASK).float().unsqueeze(-1).expand(3, 5, 2))
