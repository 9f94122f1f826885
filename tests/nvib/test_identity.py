"""The identity-initialised layer: ordinary attention at 1, the prior at 0, continuous between them."""

import math

import pytest
import torch
import torch.nn.functional as F

import nvib

DIM, HEADS, BATCH, LENGTH = 16, 2, 2, 7
PADDING = torch.arange(LENGTH) >= torch.tensor([[LENGTH], [4]])
PRIOR = nvib.Prior(mu=torch.linspace(-1, 1, DIM), var=torch.linspace(0.5, 2, DIM))


def ordinary(attention: nvib.DenoisingMultiheadAttention, query: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Multi-head attention of torch with the same weights."""
    output, _ = F.multi_head_attention_forward(
        query.transpose(0, 1),
        hidden.transpose(0, 1),
        hidden.transpose(0, 1),
        DIM,
        HEADS,
        attention.in_proj_weight,
        attention.in_proj_bias,
        None,
        None,
        False,
        0.0,
        attention.out_proj.weight,
        attention.out_proj.bias,
        key_padding_mask=PADDING,
        need_weights=False,
    )
    return output.transpose(0, 1)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kappa", [1, 2])
def test_the_layer_leaves_ordinary_attention_to_float_precision(scale: float, training: bool, kappa: int):
    layer = nvib.IdentityNVIB(DIM, HEADS, PRIOR, kappa=kappa).train(training)
    attention = nvib.DenoisingMultiheadAttention(DIM, HEADS, bias=True)
    torch.nn.init.normal_(attention.in_proj_bias)
    attention.in_proj_bias.data[:DIM] /= scale  # so that the logits are of unit scale, and no weight is 0 or 1
    hidden, query = scale * torch.randn(BATCH, LENGTH, DIM), torch.randn(BATCH, 5, DIM) / scale
    output, weights = attention(query, layer(hidden, PADDING)[1], need_weights=True)
    torch.testing.assert_close(output, ordinary(attention, query, hidden), rtol=2e-5, atol=2e-6 * max(scale, 1.0))
    assert (weights.view(BATCH, HEADS, 5, LENGTH + 1, -1)[..., 0, :] == 0).all()


def test_large_norms_cancel_in_float64():
    layer = nvib.IdentityNVIB(DIM, HEADS, PRIOR).double().eval()
    attention = nvib.DenoisingMultiheadAttention(DIM, HEADS).double()
    hidden, query = (1e3 * torch.randn(BATCH, n, DIM, dtype=torch.float64) for n in (LENGTH, 5))
    output, _ = attention(query, layer(hidden, PADDING)[1])
    torch.testing.assert_close(output, ordinary(attention, query, hidden), rtol=1e-7, atol=1e-7)


def test_the_posterior_follows_its_equations():
    mu_tau, stdev_tau, alpha_tau = 0.7, 0.4, 0.9
    layer = nvib.IdentityNVIB(DIM, HEADS, PRIOR, mu_tau, stdev_tau, alpha_tau)
    hidden = torch.randn(BATCH, LENGTH, DIM)
    posterior = layer.posterior(hidden, PADDING)
    torch.testing.assert_close(posterior.mu[:1, 1:], 0.3 * PRIOR.mu + 0.7 * hidden[:1])
    torch.testing.assert_close((0.5 * posterior.logvar[0, 1]).exp(), 0.6 * PRIOR.var.sqrt())
    norm = hidden[0].double().square().sum(-1) / (2 * math.sqrt(DIM / HEADS))
    torch.testing.assert_close(posterior.log_alpha[0, 1:], 0.9 * (norm + 40) - 0.1 * 40, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(posterior.alpha[:, 0], torch.full((BATCH,), 0.1, dtype=torch.float64))


@pytest.mark.parametrize("training", [True, False])
def test_an_alpha_tau_of_zero_leaves_tokens_no_share(training: bool):
    layer = nvib.IdentityNVIB(DIM, HEADS, PRIOR, alpha_tau=0.0).train(training)
    _, mixture = layer(torch.randn(BATCH, LENGTH, DIM), PADDING)
    torch.testing.assert_close(mixture.log_pi[:, 0].exp(), torch.ones(BATCH, dtype=torch.float64))
    if not training:
        assert mixture.key_padding_mask[:, 1:].all()


def test_taus_of_zero_give_the_mean_and_deviation_of_the_prior():
    posterior = nvib.IdentityNVIB(DIM, HEADS, PRIOR, 0.0, 0.0).posterior(torch.randn(BATCH, LENGTH, DIM), PADDING)
    torch.testing.assert_close(posterior.mu[0, 1:], PRIOR.mu.expand(LENGTH, DIM))
    torch.testing.assert_close(posterior.logvar[0, 1:].exp(), PRIOR.var.expand(LENGTH, DIM))


@pytest.mark.parametrize("control", ["mu_tau", "stdev_tau", "alpha_tau"])
def test_each_control_moves_the_output_continuously(control: str):
    layer = nvib.IdentityNVIB(DIM, HEADS, PRIOR).eval()
    attention = nvib.DenoisingMultiheadAttention(DIM, HEADS)
    hidden, query = torch.randn(BATCH, LENGTH, DIM), torch.randn(BATCH, 5, DIM)
    expected = ordinary(attention, query, hidden)
    distances = []
    for distance in (0.0, 1e-4, 1e-2, 0.1, 1.0):
        layer.regularise(**{control: 1.0 - distance})
        distances.append((attention(query, layer(hidden, PADDING)[1])[0] - expected).abs().max().item())
    assert distances[0] < 1e-6
    assert distances[1] < 1e-3
    assert distances == sorted(distances)
    assert distances[-1] > 1e-2


@pytest.mark.parametrize("mode", ["float32", "bfloat16 autocast", "float64"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_a_new_layer_has_finite_gradients_and_a_divergence_of_at_least_zero(mode: str, training: bool, scale: float):
    dtype = torch.float64 if mode == "float64" else torch.float32
    layer = nvib.IdentityNVIB(DIM, HEADS, PRIOR, 0.9, 0.9, 0.9).to(dtype).train(training)
    attention = nvib.DenoisingMultiheadAttention(DIM, HEADS, bias=True).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=mode == "bfloat16 autocast"):
        posterior, mixture = layer(scale * torch.randn(BATCH, LENGTH, DIM, dtype=dtype), PADDING)
        output, _ = attention(torch.randn(BATCH, 5, DIM, dtype=dtype), mixture)
    kl = nvib.kl_gaussian(posterior, PRIOR) + nvib.kl_dirichlet(posterior, PRIOR)
    assert kl.isfinite().all()
    assert (kl >= 0).all()
    (output.float().square().mean() + kl.mean()).backward()
    assert all(p.grad.isfinite().all() for m in (layer, attention) for p in m.parameters() if p.grad is not None)
    assert layer.mu.weight.grad.abs().sum() > 0
    if training or scale < 1:
        assert layer.alpha_square.weight.grad.isfinite().all()


def test_a_state_dict_restores_the_layer_and_padding_changes_nothing():
    layer = nvib.IdentityNVIB(DIM, HEADS, PRIOR, 0.8, 0.7, 0.6).eval()
    hidden = torch.randn(BATCH, LENGTH, DIM)
    expected = layer(hidden, PADDING)[1]
    other = nvib.IdentityNVIB(DIM, HEADS, PRIOR).eval()
    other.load_state_dict(layer.state_dict())
    found = other(hidden.masked_fill(PADDING.unsqueeze(-1), math.nan), PADDING)[1]
    for name in ("mu", "logvar", "log_pi"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


@pytest.mark.slow
def test_the_whole_layer_compiles_to_one_graph():
    layer = nvib.IdentityNVIB(DIM, HEADS, PRIOR, 0.9, 0.9, 0.9).eval()
    attention = nvib.DenoisingMultiheadAttention(DIM, HEADS)

    def run(query: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return attention(query, layer(hidden, PADDING)[1])[0]

    query, hidden = torch.randn(BATCH, 5, DIM), torch.randn(BATCH, LENGTH, DIM)
    compiled = torch.compile(run, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(query, hidden), run(query, hidden))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="num_heads must divide dim, got 3 and 16"):
        nvib.IdentityNVIB(DIM, 3)
    with pytest.raises(ValueError, match=r"stdev_tau must be in \[0, 1\], got 1.5"):
        nvib.IdentityNVIB(DIM, HEADS, stdev_tau=1.5)
    layer = nvib.IdentityNVIB(DIM, HEADS)
    with pytest.raises(ValueError, match=r"hidden must have shape \[any, any, 16\], got \[2, 5, 9\]"):
        layer(torch.randn(2, 5, 9), PADDING)
    with pytest.raises(ValueError, match="key_padding_mask must be boolean"):
        layer(torch.randn(BATCH, LENGTH, DIM), PADDING.float())
    with pytest.raises(ValueError, match="got none in text 0"):
        layer(torch.randn(BATCH, LENGTH, DIM), torch.ones_like(PADDING))


def test_the_width_of_a_head_need_not_follow_from_the_width_of_the_vectors():
    layer = nvib.IdentityNVIB(DIM, 3, head_dim=9)
    assert layer.noise == 3.0
    with pytest.raises(ValueError, match="num_heads must divide dim, got 3 and 16"):
        nvib.IdentityNVIB(DIM, 3)
    with pytest.raises(ValueError, match="head_dim must be at least 1, got 0"):
        nvib.IdentityNVIB(DIM, 3, head_dim=0)
