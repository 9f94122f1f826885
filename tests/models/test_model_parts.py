"""Parts of the models: schedules of the regulariser, loss, dropout, nucleus sampling."""

import pytest
import torch
import torch.nn.functional as F

import models.loss
from models.annealing import anneal
from models.decoding import nucleus
from models.dropout import Dropout
from models.loss import token_loss
from tests.models.tiny_models import VOCABULARY


def test_schedules_are_those_of_the_method():
    assert [anneal("constant", p) for p in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]
    assert anneal("monotonic", 0.0) == 0.0
    assert anneal("monotonic", 0.125) == pytest.approx(0.5)
    assert [anneal("monotonic", p) for p in (0.25, 0.7, 1.0)] == [1.0, 1.0, 1.0]
    for cycle in range(4):
        start = cycle / 4
        assert anneal("cyclic", start) == pytest.approx(0.0)
        assert anneal("cyclic", start + 1 / 16) == pytest.approx(0.5)
        assert anneal("cyclic", start + 1 / 8) == anneal("cyclic", start + 0.2) == pytest.approx(1.0)
    assert anneal("cyclic", 1.0) == 1.0
    assert [anneal("constant", p, warmup=0.2) for p in (0.0, 0.19, 0.2)] == [0.0, 0.0, 1.0]
    assert anneal("monotonic", 0.2 + 0.8 * 0.125, warmup=0.2) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="must be one of constant, monotonic, cyclic, got 'linear'"):
        anneal("linear", 0.5)


@pytest.mark.parametrize("spare", [0, 16])  # vectors without a token, which count for nothing
@pytest.mark.parametrize("chunk", [7, 8, 64])
def test_the_chunked_loss_is_the_plain_one_and_so_is_its_gradient(chunk: int, spare: int, monkeypatch):
    monkeypatch.setitem(models.loss.CHUNK, "cpu", chunk)
    inputs = [torch.randn(30 + spare, 16), torch.randn(VOCABULARY, 16), torch.randn(VOCABULARY)]
    target = torch.randint(0, VOCABULARY, (30,))
    for tensor in inputs:
        tensor.requires_grad_()
    loss = token_loss(*inputs, target)
    logits = F.linear(inputs[0][:30], *inputs[1:])
    plain = F.cross_entropy(logits, target)
    torch.testing.assert_close(loss.mean, plain, rtol=1e-5, atol=0)
    torch.testing.assert_close(loss.each, F.cross_entropy(logits, target, reduction="none"))
    for own, expected in zip(
        torch.autograd.grad(3 * loss.mean, inputs), torch.autograd.grad(3 * plain, inputs), strict=True
    ):
        torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-6)


def test_the_loss_of_impossible_tokens_is_large_and_finite():
    hidden, weight = torch.tensor([[200.0]]), torch.tensor([[1.0], [-1.0]])
    loss = token_loss(hidden, weight, torch.zeros(2), torch.tensor([1]))
    assert loss.mean.item() == pytest.approx(400.0)


def test_dropout_drops_its_share_and_keeps_the_mean():
    dropout, ones = Dropout(0.1), torch.ones(1000, 1001)
    dropped = dropout(ones)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.1, abs=0.002)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.002)
    assert torch.equal(dropout.eval()(ones), ones)
    assert not torch.equal(dropout.train()(ones), dropped)


def test_nucleus_sampling_keeps_to_the_smallest_likely_set():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(5000, 4)
    drawn = nucleus(top_p=0.75)(logits)
    assert set(drawn.tolist()) == {0, 1}
    assert (drawn == 0).float().mean().item() == pytest.approx(0.5 / 0.8, abs=0.03)
    assert set(nucleus(top_p=1e-6)(logits).tolist()) == {0}
    cold = nucleus(temperature=0.01)(logits)
    assert set(cold.tolist()) == {0}
    first, second = (nucleus(generator=torch.Generator().manual_seed(1))(logits) for _ in range(2))
    assert torch.equal(first, second)
