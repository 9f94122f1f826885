"""The NVIB layer: its outputs, its initial state, padding and extreme inputs."""

import math

import pytest
import torch

import nvib

DIM = 8


def masks(*lengths: int) -> torch.Tensor:
    return torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)


def test_training_samples_and_evaluation_takes_the_mean():
    layer, hidden, mask = nvib.NVIB(DIM, kappa=3), torch.randn(2, 5, DIM), masks(5, 3)
    posterior, mixture = layer(hidden, mask)
    assert isinstance(mixture, nvib.DiscreteMixture)
    assert mixture.z.shape == (2, 3 * 6, DIM)
    posterior, mixture = layer.eval()(hidden, mask)
    assert isinstance(mixture, nvib.GaussianMixture)
    assert mixture.mu.shape == posterior.mu.shape == (2, 6, DIM)
    assert posterior.lengths.tolist() == [5, 3]


def test_component_zero_is_the_prior():
    prior = nvib.Prior(mu=0.5, var=2.0, alpha=1.5)
    posterior, _ = nvib.NVIB(DIM, prior)(torch.randn(2, 5, DIM), masks(5, 3))
    torch.testing.assert_close(posterior.mu[:, 0], torch.full((2, DIM), 0.5))
    torch.testing.assert_close(posterior.logvar[:, 0], torch.full((2, DIM), math.log(2.0)))
    torch.testing.assert_close(posterior.alpha[:, 0], torch.full((2,), 1.5))


@pytest.mark.parametrize("var", [1e-12, 1e6])
def test_the_variance_of_the_prior_is_not_clamped(var: float):
    posterior, _ = nvib.NVIB(DIM, nvib.Prior(var=var))(torch.randn(2, 5, DIM), masks(5, 3))
    torch.testing.assert_close(posterior.logvar[:, 0], torch.full((2, DIM), math.log(var)))


def test_a_new_layer_has_small_variances_and_equal_pseudo_counts_for_any_input():
    posterior, _ = nvib.NVIB(DIM)(100 * torch.randn(2, 5, DIM), masks(5, 5))
    assert (posterior.logvar[:, 1:] < -2).all()
    assert (posterior.alpha[:, 1:].log().abs() <= 1.0).all()
    assert posterior.log_alpha[:, 1:].std() == 0


def test_relu_gives_exact_zeros():
    layer = nvib.NVIB(DIM, alpha_activation="relu")
    torch.nn.init.normal_(layer.alpha.weight)
    hidden = torch.randn(4, 20, DIM)
    posterior, mixture = layer(hidden, masks(20, 20, 20, 20))
    score = layer.alpha(hidden).squeeze(-1)
    torch.testing.assert_close(posterior.alpha[:, 1:], score.relu())
    assert (posterior.alpha == 0).any()
    assert (mixture.log_pi.exp()[:, 1:][score <= 0] == 0).all()
    (mixture.z.sum() + mixture.log_pi.exp().square().sum()).backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters() if p.grad is not None)


@pytest.mark.parametrize("training", [True, False])
def test_padding_reaches_neither_the_output_nor_a_gradient(training: bool):
    layer, hidden, mask = nvib.NVIB(DIM).train(training), torch.randn(2, 5, DIM), masks(5, 3)
    attention, query = nvib.DenoisingMultiheadAttention(DIM, 2), torch.randn(2, 4, DIM)
    results = []
    for filler in (0.0, float("nan")):
        torch.manual_seed(1)
        leaf = hidden.masked_fill(mask.unsqueeze(-1), filler).requires_grad_()
        posterior, mixture = layer(leaf, mask)
        output = attention(query, mixture)[0]
        kl = nvib.kl_gaussian(posterior, nvib.Prior()) + nvib.kl_dirichlet(posterior, nvib.Prior())
        leaves = [leaf, *layer.parameters(), *attention.parameters()]
        results.append((output, kl, torch.autograd.grad(output.square().sum() + kl.sum(), leaves)))
    torch.testing.assert_close(results[1], results[0])
    assert (results[1][2][0][mask] == 0).all()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("activation", ["exp", "relu"])
@pytest.mark.parametrize("mode", ["float32", "bfloat16 autocast", "float64"])
@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_stay_finite(scale: float, activation: str, mode: str, training: bool):
    """For texts of 1 and 100 tokens in one batch, with large random weights."""
    dtype = torch.float64 if mode == "float64" else torch.float32
    prior = nvib.Prior(delta=0.5)
    layer = nvib.NVIB(DIM, prior, alpha_activation=activation).to(dtype).train(training)
    attention = nvib.DenoisingMultiheadAttention(DIM, 2, bias=True).to(dtype).train(training)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    hidden = (scale * torch.randn(2, 100, DIM, dtype=dtype)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=mode == "bfloat16 autocast"):
        posterior, mixture = layer(hidden, masks(1, 100))
        output, _ = attention(torch.randn(2, 7, DIM, dtype=dtype), mixture)
        kl = nvib.kl_gaussian(posterior, prior) + nvib.kl_dirichlet(posterior, prior)
    assert mixture.log_pi.dtype == kl.dtype == dtype
    torch.testing.assert_close(mixture.log_pi.logsumexp(-1).exp(), torch.ones(2, dtype=dtype))
    assert (kl >= 0).all()
    (output.float().square().mean() + kl.mean()).backward()
    assert output.isfinite().all()
    assert kl.isfinite().all()
    assert hidden.grad.isfinite().all()
    for module in (layer, attention):
        assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize("activation", ["exp", "relu"])
def test_pseudo_counts_are_as_precise_under_autocast(activation: str):
    """A bias and a product that nearly cancel, as after training with few pseudo-counts."""
    layer = nvib.NVIB(DIM, alpha_activation=activation)
    torch.nn.init.constant_(layer.alpha.weight, -7.31 / DIM)
    torch.nn.init.constant_(layer.alpha.bias, 7.43)
    hidden, mask = 1.0 + 1e-3 * torch.randn(2, 5, DIM), masks(3, 5)
    expected = layer.posterior(hidden, mask).log_alpha
    with torch.autocast("cpu", torch.bfloat16):
        found = layer.posterior(hidden, mask).log_alpha
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("logvar", [-30.0, 20.0])
@pytest.mark.parametrize("log_alpha", [-13.8, 13.8])
@pytest.mark.parametrize("training", [True, False])
def test_attention_over_an_extreme_posterior_is_finite_and_its_weights_sum_to_one(
    logvar: float, log_alpha: float, training: bool
):
    leaves = [torch.randn(2, 6, DIM), torch.full((2, 6, DIM), logvar), torch.full((2, 6), log_alpha)]
    for leaf in leaves:
        leaf.requires_grad_()
    posterior = nvib.Posterior(*leaves, torch.zeros(2, 6, dtype=torch.bool))
    mixture = posterior.sample(2) if training else posterior.mean(0.0)
    attention = nvib.DenoisingMultiheadAttention(DIM, 2)
    output, weights = attention(torch.randn(2, 3, DIM), mixture, need_weights=True)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 3))
    (output.square().mean() + nvib.kl_gaussian(posterior, nvib.Prior()).mean()).backward()
    assert output.isfinite().all()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


def test_wrong_arguments_are_named():
    layer = nvib.NVIB(DIM)
    with pytest.raises(ValueError, match=r"hidden must have shape \[any, any, 8\], got \[2, 5, 9\]"):
        layer(torch.randn(2, 5, 9), masks(5, 5))
    with pytest.raises(ValueError, match="key_padding_mask must be boolean"):
        layer(torch.randn(2, 5, DIM), torch.zeros(2, 5))
    with pytest.raises(ValueError, match="key_padding_mask must be boolean, True at padding, got NoneType"):
        layer(torch.randn(2, 5, DIM), None)
    with pytest.raises(ValueError, match="got none in text 1"):
        layer(torch.randn(2, 5, DIM), masks(5, 0))
    with pytest.raises(ValueError, match="alpha_activation must be 'exp' or 'relu', got 'gelu'"):
        nvib.NVIB(DIM, alpha_activation="gelu")
    with pytest.raises(ValueError, match="kappa must be an integer of at least 1, got 0"):
        nvib.NVIB(DIM, kappa=0)
    with pytest.raises(ValueError, match="alpha_threshold must not be negative, got -1"):
        nvib.NVIB(DIM, alpha_threshold=-1)
