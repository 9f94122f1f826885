"""Padding, attention masks, biases and weights of zero in denoising attention."""

import math

import pytest
import torch
from torch import Tensor

import nvib
from tests.nvib.attention_cases import BATCH, DIM, KEYS, QUERIES, attention, discrete, gaussian, vector_name, vectors


@pytest.mark.parametrize("kind", [discrete, gaussian])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("need_weights", [False, True])
def test_a_weight_of_zero_removes_its_component_exactly(kind, heads: int, need_weights: bool):
    module, full = attention(heads), kind()
    log_pi = full.log_pi.clone()
    log_pi[:, 1] = -math.inf
    log_pi.requires_grad_()
    fields = {**vars(full), "log_pi": log_pi}
    query = torch.randn(log_pi.shape[0], QUERIES, DIM).double()
    output, weights = module(query, type(full)(**fields), need_weights)
    others = [k for k in range(log_pi.shape[1]) if k != 1]
    expected, _ = module(query, type(full)(**{name: value[:, others] for name, value in fields.items()}))
    torch.testing.assert_close(output, expected)
    if need_weights:
        assert (weights[..., 1] == 0).all()
    far = {**fields, vector_name(full): vectors(full).index_fill(1, torch.tensor([1]), 1e6)}
    assert torch.equal(module(query, type(full)(**far), need_weights)[0], output), "not exactly zero"
    (gradient,) = torch.autograd.grad(output.sum(), log_pi)
    assert gradient.isfinite().all()
    assert (gradient[:, 1] == 0).all()


@pytest.mark.parametrize("kind", [discrete, gaussian])
@pytest.mark.parametrize("rubbish", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("need_weights", [False, True])
def test_values_of_a_masked_component_change_neither_output_nor_gradients(kind, rubbish: float, need_weights: bool):
    """And the masked component receives no gradient."""
    module, mixture = attention(2), kind()
    query = torch.randn(mixture.log_pi.shape[0], QUERIES, DIM).double().requires_grad_()
    direction = torch.randn(mixture.log_pi.shape[0], QUERIES, DIM).double()

    def answer(fields: dict[str, Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        leaves = [value.requires_grad_() for value in fields.values() if value.dtype != torch.bool]
        output, _ = module(query, type(mixture)(**fields), need_weights=need_weights)
        gradients = torch.autograd.grad((output * direction).sum(), [query, *module.parameters(), *leaves])
        count = 1 + len(list(module.parameters()))
        return output, list(gradients[:count]), list(gradients[count:])

    fields = vars(mixture)
    padded = {name: torch.cat([v, torch.full_like(v[:, :1], rubbish)], dim=1) for name, v in fields.items()}
    padded["key_padding_mask"][:, -1] = True
    output, others, own = answer(padded)
    expected, expected_others, expected_own = answer(fields)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(others, expected_others)
    torch.testing.assert_close([gradient[:, :-1] for gradient in own], expected_own)
    assert all((gradient[:, -1] == 0).all() for gradient in own)


@pytest.mark.parametrize("kind", [discrete, gaussian])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("per_sentence", [False, True])
def test_attn_mask_removes_components_from_single_queries(kind, heads: int, need_weights: bool, per_sentence: bool):
    module, mixture = attention(heads), kind()
    batch, count = mixture.log_pi.shape
    query = torch.randn(batch, QUERIES, DIM).double().requires_grad_()
    hidden = torch.rand(batch if per_sentence else 1, QUERIES, count) < 0.5
    hidden[..., 0] = False  # as component 0, which every query sees
    output, weights = module(query, mixture, need_weights, hidden if per_sentence else hidden[0])
    for b in range(batch):
        for t in range(QUERIES):
            seen = ~hidden[b if per_sentence else 0, t]
            rest = type(mixture)(*(value[b : b + 1, seen] for value in vars(mixture).values()))
            expected, expected_weights = module(query[b : b + 1, t : t + 1], rest, need_weights=True)
            torch.testing.assert_close(output[b, t], expected[0, 0])
            if need_weights:
                torch.testing.assert_close(weights[b, :, t, seen], expected_weights[0, :, 0])
                assert (weights[b, :, t, ~seen] == 0).all()
    output.sum().backward()
    assert query.grad.isfinite().all()


@pytest.mark.parametrize("kind", [discrete, gaussian])
@pytest.mark.parametrize("shape", ["BHTK", "1HTK", "BH1K", "11TK"])
def test_attn_bias_is_added_to_the_logits_of_every_head(kind, shape: str):
    module, mixture = attention(2), kind()
    full = {"B": mixture.log_pi.shape[0], "H": 2, "T": QUERIES, "K": mixture.log_pi.shape[1], "1": 1}
    attn_bias = torch.randn(*(full[name] for name in shape)).double()
    query = torch.randn(full["B"], QUERIES, DIM).double()
    _, weights = module(query, mixture, need_weights=True)
    output, shifted = module(query, mixture, need_weights=True, attn_bias=attn_bias)
    expected = weights * attn_bias.exp()
    torch.testing.assert_close(shifted, expected / expected.sum(-1, keepdim=True))
    torch.testing.assert_close(module(query, mixture, attn_bias=attn_bias)[0], output)


def test_a_wrong_attn_bias_is_refused():
    query = torch.randn(BATCH, QUERIES, DIM).double()
    with pytest.raises(ValueError, match=r"attn_bias must have shape \[2, 2, 3, 5\] .*, got \[2, 3, 5\]"):
        attention(2)(query, discrete(), attn_bias=torch.zeros(2, 3, 5))


def test_a_wrong_attn_mask_is_refused():
    module, mixture, query = attention(2), discrete(), torch.randn(BATCH, QUERIES, DIM).double()
    with pytest.raises(
        ValueError, match="attn_mask must be boolean, True where a query must not attend to a component"
    ):
        module(query, mixture, attn_mask=torch.zeros(QUERIES, KEYS))
    with pytest.raises(ValueError, match=r"attn_mask must have shape \[3, 5\], got \[5, 3\]"):
        module(query, mixture, attn_mask=torch.zeros(KEYS, QUERIES, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"attn_mask must have shape \[2, 3, 5\], got \[1, 3, 5\]"):
        module(query, mixture, attn_mask=torch.zeros(1, QUERIES, KEYS, dtype=torch.bool))
    blind = torch.zeros(QUERIES, KEYS, dtype=torch.bool)
    blind[1, :3] = True  # the other two are padding in row 1
    with pytest.raises(ValueError, match="got none for query 1 of text 1"):
        module(query, mixture, attn_mask=blind)


def test_a_mixture_of_padding_alone_is_refused():
    mixture = discrete()
    nothing = nvib.DiscreteMixture(mixture.z, mixture.log_pi, torch.ones_like(mixture.key_padding_mask))
    with pytest.raises(ValueError, match="at least one real position in every text"):
        attention(1)(torch.randn(BATCH, QUERIES, DIM).double(), nothing)


@pytest.mark.parametrize("kind", [discrete, gaussian])
def test_a_mixture_without_any_weight_is_refused(kind):
    fields = vars(kind())
    nothing = {**fields, "log_pi": torch.full_like(fields["log_pi"], -math.inf)}
    with pytest.raises(
        ValueError, match="log_pi must leave at least one real position in every text, got none in text 0"
    ):
        attention(1)(torch.randn(len(fields["log_pi"]), QUERIES, DIM).double(), type(kind())(**nothing))
