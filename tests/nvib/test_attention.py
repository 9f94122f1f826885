"""Denoising attention against its definition, an integral and ordinary attention."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import nvib
from nvib.attention import _columns

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


def by_definition(module: nvib.DenoisingMultiheadAttention, query: Tensor, mixture: nvib.DiscreteMixture) -> Tensor:
    """The definition, a query, a head and a key at a time."""
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
def test_attention_over_a_discrete_mixture_is_the_definition(heads: int, bias: bool, need_weights: bool):
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
def test_a_weight_of_zero_leaves_its_component_out_exactly(kind, heads: int, need_weights: bool):
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
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("need_weights", [False, True])
def test_gradients_are_those_of_finite_differences(kind, heads: int, need_weights: bool):
    """With padding, a weight of zero and a hidden component."""
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
def test_attention_is_ordinary_attention_for_the_weights_that_make_it_so(heads: int, bias: bool):
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
    """The integral over the mixture, estimated with draws from it, each weighed by its likelihood."""
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
    """The output where every head reads the vector `read(u)` for its query `u`."""
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


def test_equal_draws_from_the_mean_measure_converge_to_the_evaluation_answer():
    module, mixture = attention(2), gaussian(spread=0.5)
    query = torch.randn(1, QUERIES, DIM).double()
    expected, _ = module(query, mixture)

    def error(draws: int) -> float:
        component = torch.multinomial(mixture.log_pi.exp().repeat(8, 1), draws, replacement=True)  # 8 repetitions
        mu, std = mixture.mu[0, component], (0.5 * mixture.logvar[0, component]).exp()
        z = mu + std * torch.randn_like(mu)
        points = nvib.DiscreteMixture(z, torch.zeros(8, draws).double(), torch.zeros(8, draws, dtype=torch.bool))
        return (module(query.repeat(8, 1, 1), points)[0] - expected).square().mean().sqrt().item()

    few, many = error(400), error(40_000)
    assert 4 < few / many < 25  # 1/√draws: a factor of ten
    assert many < 0.02


def test_a_sample_s_vectors_converge_to_the_gaussian_answer_with_its_own_shares():
    """The error falls as 1/√draws. The shares are one sample's, random whatever the draws, and evenly divided."""
    few, many = (_distance(kappa, pseudo_count=3.0, evenly=True) for kappa in (100, 10_000))
    assert math.log(many / few, 100) == pytest.approx(-0.5, abs=0.08)
    assert many < 0.02


def test_a_sample_s_weights_and_vectors_converge_to_the_gaussian_answer_with_its_own_shares():
    """As above with the weights as they were drawn, pseudo-counts growing with the draws.

    With fixed pseudo-counts a component's draws are a Dirichlet process, a few heavy atoms: see the next test.
    """
    few, many = (_distance(kappa, pseudo_count=float(kappa)) for kappa in (100, 10_000))
    assert math.log(many / few, 100) == pytest.approx(-0.5, abs=0.08)
    assert many < 0.02


def test_a_sample_with_fixed_pseudo_counts_stays_discrete_whatever_the_draws():
    few, many = (_distance(kappa, pseudo_count=3.0) for kappa in (100, 10_000))
    assert many > 0.5 * few > 0.02


def _distance(kappa: int, pseudo_count: float, evenly: bool = False) -> float:
    """Between the answer over a posterior sample and the Gaussian one with the sample's own shares, over 64 samples.

    Evenly: each component's share is divided among its draws, not split by the sample's own weights.
    """
    torch.manual_seed(0)
    n, module, samples = 3, attention(2), 64
    fields = torch.randn(1, n, DIM).double(), 0.5 * torch.randn(1, n, DIM).double(), 0.3 * torch.randn(1, n).double()
    query = torch.randn(1, 10, DIM).double().expand(samples, -1, -1)
    mu, logvar, log_alpha = (value.repeat(samples, *[1] * (value.dim() - 1)) for value in fields)
    mask = torch.zeros(samples, n, dtype=torch.bool)
    with torch.no_grad():
        drawn = nvib.Posterior(mu, logvar, log_alpha + math.log(pseudo_count), mask).sample(kappa)
        shares = drawn.log_pi.view(samples, n, kappa).logsumexp(-1)
        if evenly:
            even = (shares - math.log(kappa)).repeat_interleave(kappa, dim=1)
            drawn = nvib.DiscreteMixture(drawn.z, even, drawn.key_padding_mask)
        expected, _ = module(query, nvib.GaussianMixture(mu, logvar, shares, mask))
        return (module(query, drawn)[0] - expected).square().mean().sqrt().item()


@pytest.mark.parametrize("kind", [discrete, gaussian])
def test_permuting_components_permutes_weights_and_leaves_the_output(kind):
    module, mixture = attention(2), kind()
    order = torch.randperm(mixture.log_pi.shape[1])
    permuted = type(mixture)(*(value[:, order] for value in vars(mixture).values()))
    query = torch.randn(mixture.log_pi.shape[0], QUERIES, DIM).double()
    output, weights = module(query, mixture, need_weights=True)
    output_permuted, weights_permuted = module(query, permuted, need_weights=True)
    torch.testing.assert_close(output_permuted, output)
    torch.testing.assert_close(weights_permuted, weights[..., order])


@pytest.mark.parametrize("kind", [discrete, gaussian])
@pytest.mark.parametrize("rubbish", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("need_weights", [False, True])
def test_a_masked_component_changes_nothing_whatever_it_holds(kind, rubbish: float, need_weights: bool):
    """Neither the output nor a gradient, and it has none itself."""
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
def test_a_hidden_component_is_as_if_it_were_not_there(kind, heads: int, need_weights: bool, per_sentence: bool):
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


@pytest.mark.parametrize("log_pi_dtype", [torch.float32, torch.float64])
def test_large_norms_that_log_pi_cancels_leave_ordinary_attention(log_pi_dtype: torch.dtype):
    """In float32, with `||z||^2 / 2 s0` of ten thousand: exact where log pi is in double precision."""
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
def test_a_bias_in_the_keys_keeps_its_precision_and_its_gradient(dtype: torch.dtype):
    """A product of the key with ones sums its columns, in float32: bfloat16 alone would keep 8 bits of 24."""
    bias = (-100 * torch.rand(3, 50)).requires_grad_()
    columns = _columns(bias, dtype, head_dim=8)
    torch.testing.assert_close(columns.to(dtype).float().sum(-1), bias, rtol=2**-16, atol=0.0)
    torch.testing.assert_close(torch.autograd.grad(columns.sum(), bias)[0], torch.ones_like(bias))


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


@pytest.mark.parametrize("kind", [discrete, gaussian])
def test_a_mixture_in_float32_serves_a_module_in_float64(kind):
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
