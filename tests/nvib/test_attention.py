"""Denoising attention against its definition, an integral and ordinary attention."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import nvib
from nvib.attention import _columns
from tests.nvib.attention_cases import BATCH, DIM, KEYS, QUERIES, attention, discrete, gaussian


def by_definition(module: nvib.DenoisingMultiheadAttention, query: Tensor, mixture: nvib.DiscreteMixture) -> Tensor:
    """Sum over the keys as the definition does, for one query and one head at a time."""
    d = DIM // module.num_heads
    s0 = math.sqrt(d)
    w_q, w_k, w_v = module.in_proj_weight.split(DIM)
    b_q, b_k, b_v = (
        torch.zeros(3, DIM).double() if module.in_proj_bias is None else module.in_proj_bias.view(3, DIM)
    ).unbind()
    out = torch.zeros_like(query)
    for b in range(query.shape[0]):
        for t in range(query.shape[1]):
            heads = []
            for h in range(module.num_heads):
                rows = slice(h * d, (h + 1) * d)
                q = w_q[rows] @ query[b, t] + b_q[rows]
                weights, values = [], []
                for k in range(mixture.z.shape[1]):
                    if mixture.key_padding_mask[b, k]:
                        continue
                    z = mixture.z[b, k]
                    logit = q @ (w_k[rows] @ z + b_k[rows]) / s0 - z @ z / (2 * s0)
                    weights.append(mixture.log_pi[b, k].exp() * logit.exp())
                    values.append(w_v[rows] @ z + b_v[rows])
                total = sum(weights)
                heads.append(sum(w * v for w, v in zip(weights, values, strict=True)) / total)
            out[b, t] = module.out_proj(torch.cat(heads))
    return out


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_discrete_attention_matches_its_definition(heads: int, bias: bool, need_weights: bool):
    module, mixture = attention(heads, bias), discrete()
    query = torch.randn(BATCH, QUERIES, DIM).double()
    output, weights = module(query, mixture, need_weights=need_weights)
    torch.testing.assert_close(output, by_definition(module, query, mixture))
    if need_weights:
        assert weights.shape == (BATCH, heads, QUERIES, KEYS)
        torch.testing.assert_close(weights.sum(-1), torch.ones(BATCH, heads, QUERIES).double())
        assert (weights[1, :, :, 3:] == 0).all()
    else:
        assert weights is None


@pytest.mark.parametrize("kind", [discrete, gaussian])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("need_weights", [False, True])
def test_gradients_match_finite_differences(kind, heads: int, need_weights: bool):
    """The mixture has padding, a weight of zero and a hidden component."""
    module, mixture = attention(heads, bias=True), kind()
    mixture.log_pi[0, 1] = -math.inf
    leaves = [value.clone().requires_grad_() for value in vars(mixture).values() if value.dtype != torch.bool]
    query = torch.randn(mixture.log_pi.shape[0], 2, DIM).double().requires_grad_()
    hidden = torch.zeros(2, mixture.log_pi.shape[1], dtype=torch.bool)
    hidden[1, 2] = True

    def outputs(query: Tensor, weight: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        memory = type(mixture)(*values[:-1], torch.where(mixture.log_pi.isinf(), -math.inf, values[-1]), mask)
        parameters = {"in_proj_weight": weight}
        result = torch.func.functional_call(module, parameters, (query, memory, need_weights, hidden))
        return tuple(value for value in result if value is not None)

    mask = mixture.key_padding_mask
    leaves[-1] = leaves[-1].detach().nan_to_num(neginf=0.0).requires_grad_()
    assert torch.autograd.gradcheck(outputs, (query, module.in_proj_weight, *leaves))


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_weights_that_cancel_the_norms_give_ordinary_attention(heads: int, bias: bool):
    module = attention(heads, bias)
    ordinary = torch.nn.MultiheadAttention(DIM, heads, bias=bias, batch_first=True).double()
    ordinary.load_state_dict(module.state_dict())
    mixture = discrete()
    log_pi = mixture.z.square().sum(-1) / (2 * math.sqrt(DIM // heads))
    query = torch.randn(BATCH, QUERIES, DIM).double()
    output, _ = module(query, nvib.DiscreteMixture(mixture.z, log_pi, mixture.key_padding_mask))
    expected, _ = ordinary(query, mixture.z, mixture.z, key_padding_mask=mixture.key_padding_mask)
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("heads", [1, 2])
def test_evaluation_attention_agrees_with_monte_carlo(heads: int):
    """Draws from the mixture, weighed by their likelihood, estimate the integral over it."""
    module, mixture = attention(heads), gaussian()
    query = torch.randn(1, QUERIES, DIM).double()
    output, _ = module(query, mixture)
    d, draws = DIM // heads, 1_000_000
    s0 = math.sqrt(d)
    w_q, w_k, w_v = module.in_proj_weight.split(DIM)
    component = torch.multinomial(mixture.log_pi[0].exp(), draws, replacement=True)
    noise = torch.randn(draws, DIM).double()
    v = mixture.mu[0, component] + (0.5 * mixture.logvar[0, component]).exp() * noise
    for t in range(QUERIES):
        means, variances = [], []
        for h in range(heads):
            rows = slice(h * d, (h + 1) * d)
            u = w_k[rows].T @ (w_q[rows] @ query[0, t])
            log_likelihood = -(u - v).square().sum(-1) / (2 * s0)
            weight = (log_likelihood - log_likelihood.max()).exp()
            values = v @ w_v[rows].T
            mean = (weight[:, None] * values).sum(0) / weight.sum()
            # The delta method's variance of a ratio of means.
            variances.append((weight[:, None] * (values - mean)).square().sum(0) / weight.sum() ** 2)
            means.append(mean)
        expected = module.out_proj(torch.cat(means))
        error = (module.out_proj.weight.square() @ torch.cat(variances)).sqrt()
        assert error.max() < 0.02, "the estimate is too rough to test anything"
        assert ((output[0, t] - expected).abs() < 5 * error).all()


@pytest.mark.parametrize("heads", [1, 2])
def test_gaussian_attention_becomes_discrete_as_the_variances_vanish(heads: int):
    module, mixture = attention(heads, bias=True), gaussian()
    query = torch.randn(1, QUERIES, DIM).double()
    narrow = nvib.GaussianMixture(
        mixture.mu, torch.full_like(mixture.mu, -40.0), mixture.log_pi, mixture.key_padding_mask
    )
    points = nvib.DiscreteMixture(mixture.mu, mixture.log_pi, mixture.key_padding_mask)
    torch.testing.assert_close(module(query, narrow)[0], module(query, points)[0])


def per_head(module: nvib.DenoisingMultiheadAttention, query: Tensor, read: Callable[[Tensor], Tensor]) -> Tensor:
    """Output if every head retrieves the vector `read(u)` for its query `u`."""
    w_q, w_k, w_v = (weight.chunk(module.num_heads) for weight in module.in_proj_weight.split(DIM))
    heads = [read(query @ q.T @ k) @ v.T for q, k, v in zip(w_q, w_k, w_v, strict=True)]
    return module.out_proj(torch.cat(heads, dim=-1))


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("components", [1, 3])
def test_gaussian_attention_returns_the_query_as_the_variances_grow(heads: int, components: int):
    module, mixture = attention(heads), gaussian(components)
    query = torch.randn(1, QUERIES, DIM).double()
    wide = nvib.GaussianMixture(mixture.mu, torch.full_like(mixture.mu, 40.0), mixture.log_pi, mixture.key_padding_mask)
    torch.testing.assert_close(module(query, wide)[0], per_head(module, query, lambda u: u))


@pytest.mark.parametrize("heads", [1, 2])
def test_one_component_gives_the_gaussian_posterior_mean(heads: int):
    module, mixture = attention(heads), gaussian(components=1)
    query = torch.randn(1, QUERIES, DIM).double()
    var, s0 = mixture.logvar.exp(), math.sqrt(DIM // heads)
    expected = per_head(module, query, lambda u: (u / s0 + mixture.mu / var) / (1 / s0 + 1 / var))
    torch.testing.assert_close(module(query, mixture)[0], expected)


@pytest.mark.parametrize("kind", [discrete, gaussian])
def test_permuting_components_permutes_the_weights_and_keeps_the_output(kind):
    module, mixture = attention(2), kind()
    order = torch.randperm(mixture.log_pi.shape[1])
    permuted = type(mixture)(*(value[:, order] for value in vars(mixture).values()))
    query = torch.randn(mixture.log_pi.shape[0], QUERIES, DIM).double()
    output, weights = module(query, mixture, need_weights=True)
    output_permuted, weights_permuted = module(query, permuted, need_weights=True)
    torch.testing.assert_close(output_permuted, output)
    torch.testing.assert_close(weights_permuted, weights[..., order])


@pytest.mark.parametrize("log_pi_dtype", [torch.float32, torch.float64])
def test_large_norms_cancel_against_log_pi(log_pi_dtype: torch.dtype):
    """In float32, with `||z||^2 / 2 s0` of about 10,000; the result is exact if log pi is in float64."""
    module, z = attention(2).float(), 100 * torch.randn(BATCH, KEYS, DIM)
    log_pi = (z.double().square().sum(-1) / (2 * math.sqrt(DIM // 2))).to(log_pi_dtype)
    query = 0.01 * torch.randn(BATCH, QUERIES, DIM)
    mixture = nvib.DiscreteMixture(z, log_pi, torch.zeros(BATCH, KEYS, dtype=torch.bool))
    narrow = nvib.GaussianMixture(z, torch.full_like(z, -60.0), log_pi, mixture.key_padding_mask)
    expected, _ = nvib.DenoisingMultiheadAttention.forward(
        module.double(), query.double(), nvib.DiscreteMixture(z.double(), log_pi.double(), mixture.key_padding_mask)
    )
    module.float()
    error = 1e-4 if log_pi_dtype == torch.float64 else 0.1
    for memory in (mixture, narrow):
        assert (module(query, memory)[0] - expected).abs().max() < error * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bias_in_the_keys_keeps_its_precision_and_gradient(dtype: torch.dtype):
    """The columns sum to the bias in float32; a single bfloat16 column would keep 8 of 24 bits."""
    bias = (-100 * torch.rand(3, 50)).requires_grad_()
    columns = _columns(bias, dtype, head_dim=8)
    torch.testing.assert_close(columns.to(dtype).float().sum(-1), bias, rtol=2**-16, atol=0.0)
    torch.testing.assert_close(torch.autograd.grad(columns.sum(), bias)[0], torch.ones_like(bias))


@pytest.mark.parametrize("kind", [discrete, gaussian])
def test_a_module_in_float64_takes_a_mixture_in_float32(kind):
    module, mixture = attention(2), kind()
    half = type(mixture)(*(v.float() if v.is_floating_point() else v for v in vars(mixture).values()))
    query = torch.randn(mixture.log_pi.shape[0], QUERIES, DIM).double()
    torch.testing.assert_close(module(query, half)[0].double(), module(query, mixture)[0], rtol=1e-5, atol=1e-5)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="mixture must be a DiscreteMixture or a GaussianMixture, got Tensor"):
        attention(1)(torch.randn(BATCH, QUERIES, DIM).double(), torch.randn(BATCH, KEYS, DIM))
    with pytest.raises(ValueError, match="query must be a tensor, got NoneType"):
        attention(1)(None, discrete())
    with pytest.raises(ValueError, match="embed_dim must be a multiple of num_heads, got 8 and 3"):
        nvib.DenoisingMultiheadAttention(8, 3)
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), got 1.0"):
        nvib.DenoisingMultiheadAttention(8, 2, dropout=1.0)
    with pytest.raises(ValueError, match=r"query must have shape"):
        attention(1)(torch.randn(BATCH, DIM).double(), discrete())
    with pytest.raises(ValueError, match=r"mixture.z must have shape \[any, any, 8\]"):
        wide = torch.randn(BATCH, KEYS, 9).double()
        mixture = discrete()
        attention(1)(
            torch.randn(BATCH, 1, DIM).double(), nvib.DiscreteMixture(wide, mixture.log_pi, mixture.key_padding_mask)
        )
