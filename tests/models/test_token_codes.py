"""Codes of tokens: their norms, the expectation against a dense computation, and gradients in pieces."""

import math

import pytest
import torch

from models import token_codes
from models.token_codes import TokenCodes, whitened

DIM, TOKENS = 16, 90


def embeddings(seed: int = 0) -> torch.Tensor:
    """Embeddings with a large mean and a few long directions, as pretrained ones have."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(TOKENS, DIM, generator=generator)
    return 3.0 + drawn @ torch.diag(torch.logspace(0.5, -0.5, DIM)) @ torch.randn(DIM, DIM, generator=generator)


def trained(more: int = 5) -> TokenCodes:
    """Codes with weights as after training."""
    codes = TokenCodes(embeddings(), more, 0.7)
    for parameter in codes.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return codes


def test_every_code_has_the_norm_of_the_width():
    codes = TokenCodes(embeddings(), 5, 1.0).codes
    assert codes.shape == (TOKENS + 5, DIM)
    torch.testing.assert_close(codes.norm(dim=1), torch.full((TOKENS + 5,), math.sqrt(DIM)))


def test_whitened_embeddings_have_no_mean_and_no_long_direction():
    white = whitened(embeddings())
    torch.testing.assert_close(white.mean(dim=0), torch.zeros(DIM), rtol=0, atol=1e-4)
    torch.testing.assert_close(white.t() @ white / TOKENS, torch.eye(DIM), rtol=0, atol=2e-2)
    cosines = torch.nn.functional.normalize(embeddings()) @ torch.nn.functional.normalize(embeddings()).t()
    white = torch.nn.functional.normalize(white)
    spread = (white @ white.t() - torch.eye(TOKENS)).square().mean()
    assert spread < 0.3 * (cosines - torch.eye(TOKENS)).square().mean()


def test_a_direction_without_variance_is_not_amplified():
    flat = embeddings()
    flat[:, 0] = 3.0
    assert whitened(flat).isfinite().all()


def test_the_expectation_is_that_of_the_gaussian_model_of_the_codes():
    """Bayes' rule with the density of each vector under each token, in float64."""
    codes = trained()
    scale = 0.7
    token_codes.scaled_identity(codes.query.weight, scale)
    vectors, table = torch.randn(7, DIM), torch.randn(TOKENS + 5, DIM)
    known = codes.codes.double()
    densities = -0.5 * (vectors.double().unsqueeze(1) - scale * known).square().sum(dim=-1)  # norms are equal
    posterior = (densities + codes.log_frequency.double()).exp()
    posterior = posterior / posterior.sum(dim=1, keepdim=True)
    expected = posterior @ table.double() + vectors.double() @ codes.rest.weight.double().t()
    torch.testing.assert_close(codes(vectors, table).double(), expected, rtol=1e-4, atol=1e-4)


def test_in_pieces_the_result_and_the_gradients_are_the_same(monkeypatch: pytest.MonkeyPatch):
    found = []
    for at_once in (2**26, 3 * (TOKENS + 5)):
        monkeypatch.setattr(token_codes, "AT_ONCE", at_once)
        torch.manual_seed(1)
        codes = trained()
        vectors, table = torch.randn(8, DIM, requires_grad=True), torch.randn(TOKENS + 5, DIM, requires_grad=True)
        made = codes(vectors, table)
        made.square().sum().backward()
        found.append([made, vectors.grad, table.grad, *(parameter.grad for parameter in codes.parameters())])
    for whole, pieces in zip(*found, strict=True):
        assert whole is not None
        assert whole.abs().amax() > 0
        torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-4)


def test_frequencies_of_the_training_text_are_the_prior_of_a_token():
    codes = TokenCodes(embeddings(), 0, 1e-6)  # a vector says nothing
    counts = torch.randint(0, 50, (TOKENS,))
    counts[3] = 0
    codes.start_with(counts)
    share = (counts.double() + 0.1) / (counts.double() + 0.1).sum()
    torch.testing.assert_close(codes.log_frequency.softmax(dim=0), share.float())
    assert codes.log_frequency.isfinite().all()
    expected = share.float() @ embeddings()
    torch.testing.assert_close(codes(torch.zeros(1, DIM), embeddings())[0], expected, rtol=1e-3, atol=1e-3)
