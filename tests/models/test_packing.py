"""Packing of padded sentences to their real tokens, and padding of packed tokens."""

import pytest
import torch

from models.packing import Packing, round_number

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


@pytest.mark.parametrize(
    ("count", "expected"), [(1, 16), (16, 16), (17, 32), (512, 512), (513, 576), (900, 960), (1024, 1024), (1025, 1152)]
)
def test_the_next_round_number_is_near(count: int, expected: int):
    assert round_number(count) == expected


def lowered() -> Packing:
    with torch.autocast("cpu", torch.bfloat16):
        return Packing.of(MASK)


def test_zeros_follow_the_real_tokens_in_bfloat16():
    padded = torch.randn(3, 5, 4)
    packed = lowered().pack(padded)
    assert torch.equal(packed[:10], padded[~MASK])
    assert torch.equal(packed[10:], torch.zeros(6, 4))
    assert torch.equal(lowered().pad(packed), padded.masked_fill(MASK.unsqueeze(-1), 0.0))
    assert lowered().positions.tolist() == [0, 1, 2, 3, 4, 0, 1, 0, 1, 2] + 6 * [0]


@pytest.mark.parametrize(("name", "shape"), [("pack", (3, 5, 2)), ("pad", (16, 2)), ("pad", (10, 2))])
def test_zeros_have_no_effect_and_no_gradient(name: str, shape: tuple[int, ...]):
    value = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(getattr(lowered(), name), value)
    spare = torch.randn(16, 2, requires_grad=True)
    lowered().pad(spare).sum().backward()
    assert torch.equal(spare.grad[10:], torch.zeros(6, 2))
