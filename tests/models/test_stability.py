"""Layer, attention and both divergences stay finite at the extremes."""

import os
import shutil

import pytest
import torch
from torch import Tensor, nn

import nvib

DIM, HEADS = 8, 2
PRIOR = nvib.Prior(delta=0.5)
ACTIVATIONS = ("exp", "relu")


def masks(*lengths: int) -> Tensor:
    return torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)


class Memory(nn.Module):
    """A bottleneck, attention to its mixture, and both divergences of the objective."""

    def __init__(self, activation: str = "exp", kappa: int = 1, wild: bool = True) -> None:
        super().__init__()
        self.bottleneck = nvib.NVIB(DIM, PRIOR, kappa=kappa, alpha_activation=activation)
        self.attention = nvib.DenoisingMultiheadAttention(DIM, HEADS, bias=True)
        if wild:
            for parameter in self.bottleneck.parameters():
                nn.init.normal_(parameter)

    def forward(self, hidden: Tensor, key_padding_mask: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        posterior, mixture = self.bottleneck(hidden, key_padding_mask)
        output, _ = self.attention(query, mixture)
        return output, nvib.kl_gaussian(posterior, PRIOR) + nvib.kl_dirichlet(posterior, PRIOR)


def assert_finite(module: nn.Module, inputs: list[Tensor], output: Tensor, kl: Tensor) -> None:
    """Check outputs and divergences, and the gradients of inputs and parameters."""
    assert output.isfinite().all()
    assert kl.isfinite().all()
    assert (kl >= 0).all()
    (output.float().square().mean() + kl.mean()).backward()
    for name, value in [*module.named_parameters(), *((f"input {i}", value) for i, value in enumerate(inputs))]:
        assert value.grad is None or value.grad.isfinite().all(), name
    assert inputs[0].grad is not None


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("mode", ["float32", "bfloat16 autocast", "bfloat16", "float64"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("wild", [True, False])
def test_hidden_states_of_any_scale(scale: float, activation: str, mode: str, training: bool, wild: bool):
    """Texts of 1 and of 100 tokens, with initial weights and with wild weights."""
    dtype = {"float64": torch.float64, "bfloat16": torch.bfloat16}.get(mode, torch.float32)
    module = Memory(activation, wild=wild).to(dtype).train(training)
    hidden = (scale * torch.randn(2, 100, DIM)).to(dtype).requires_grad_()
    query = torch.randn(2, 7, DIM).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=mode == "bfloat16 autocast"):
        output, kl = module(hidden, masks(1, 100), query)
    assert_finite(module, [hidden, query], output, kl)
    assert output.dtype == (torch.bfloat16 if "bfloat16" in mode else dtype)


@pytest.mark.parametrize("logvar", [-30.0, 0.0, 20.0])
@pytest.mark.parametrize("log_alpha", [-13.8, 0.0, 13.8])  # pseudo-counts of a millionth and of a million
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kappa", [0, 1, 3])
def test_posteriors_at_the_extremes(logvar: float, log_alpha: float, dtype: torch.dtype, kappa: int):
    """Texts of 1 and of 100 tokens; here kappa = 0 is evaluation."""
    mask = masks(1, 100)
    leaves = [torch.randn(2, 100, DIM), torch.full((2, 100, DIM), logvar), torch.full((2, 100), log_alpha)]
    leaves = [leaf.to(dtype).requires_grad_() for leaf in leaves]
    posterior = nvib.Posterior(*leaves, mask)
    mixture = posterior.sample(kappa) if kappa else posterior.mean(alpha_threshold=0.0)
    attention = nvib.DenoisingMultiheadAttention(DIM, HEADS).to(dtype)
    output, _ = attention(torch.randn(2, 3, DIM, dtype=dtype), mixture)
    kl = nvib.kl_gaussian(posterior, PRIOR, kappa or 1) + nvib.kl_dirichlet(posterior, PRIOR, kappa or 1)
    assert_finite(attention, leaves, output, kl)
    assert mixture.log_pi.dtype == kl.dtype == dtype


def test_extremes_side_by_side_in_one_text():
    """One mixture has variances and pseudo-counts of all sizes, one of them zero."""
    logvar = torch.linspace(-30, 20, 6).expand(DIM, 6).T.unsqueeze(0).clone().requires_grad_()
    log_alpha = torch.tensor([[0.0, -13.8, 13.8, -torch.inf, 50.0, -50.0]])
    for kappa in (0, 2):
        posterior = nvib.Posterior(torch.randn(1, 6, DIM), logvar, log_alpha, torch.zeros(1, 6, dtype=torch.bool))
        mixture = posterior.sample(kappa) if kappa else posterior.mean(alpha_threshold=0.0)
        attention = nvib.DenoisingMultiheadAttention(DIM, HEADS)
        output, _ = attention(torch.randn(1, 3, DIM), mixture)
        kl = nvib.kl_gaussian(posterior, PRIOR) + nvib.kl_dirichlet(posterior, PRIOR)
        assert_finite(attention, [logvar], output, kl)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_vector_whose_norm_overflows_has_no_weight(need_weights: bool, autocast: bool):
    z = torch.randn(1, 3, DIM)
    z[:, 1] = 1e20
    z.requires_grad_()
    attention, query = nvib.DenoisingMultiheadAttention(DIM, HEADS), torch.randn(1, 2, DIM)
    mask = torch.zeros(1, 3, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output, _ = attention(query, nvib.DiscreteMixture(z, torch.zeros(1, 3), mask), need_weights)
        others = nvib.DiscreteMixture(z[:, ::2], torch.zeros(1, 2), mask[:, ::2])
        torch.testing.assert_close(output, attention(query, others)[0], rtol=0.02, atol=0.02)
    output.sum().backward()
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("module_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_sampling_and_divergences_are_never_in_less_than_float32(module_dtype: torch.dtype, training: bool):
    bottleneck = nvib.NVIB(DIM, PRIOR).to(module_dtype).train(training)
    hidden = torch.randn(2, 5, DIM, dtype=module_dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=module_dtype == torch.float32):
        posterior, mixture = bottleneck(hidden, masks(5, 3))
        kls = nvib.kl_gaussian(posterior, PRIOR), nvib.kl_dirichlet(posterior, PRIOR)
    values = [value for thing in (posterior, mixture) for value in vars(thing).values() if value.dtype != torch.bool]
    assert {value.dtype for value in (*values, *kls)} == {torch.float32}


@pytest.mark.parametrize("training", [True, False])
def test_autocast_agrees_with_float32(training: bool):
    """The difference is the rounding of the projections to bfloat16; the biases of the logits are not rounded."""
    hidden, mask, query = 3 * torch.randn(2, 9, DIM), masks(9, 4), torch.randn(2, 5, DIM)
    module = Memory(wild=False).train(training)
    torch.manual_seed(1)
    expected, expected_kl = module(hidden, mask, query)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        output, kl = module(hidden, mask, query)
    torch.testing.assert_close(output.float(), expected, rtol=0.05, atol=0.05)
    torch.testing.assert_close(kl, expected_kl, rtol=0.02, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
def test_compiled_in_one_graph_it_gives_the_same(training: bool):
    """The backend aot_eager tests the graph alone, with gradients and the same random draws."""
    module = Memory().train(training)
    hidden, mask, query = torch.randn(2, 5, DIM, requires_grad=True), masks(5, 3), torch.randn(2, 3, DIM)
    torch.manual_seed(1)
    expected, expected_kl = module(hidden, mask, query)
    torch.manual_seed(1)
    output, kl = torch.compile(module, fullgraph=True, backend="aot_eager")(hidden, mask, query)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(kl, expected_kl)
    wanted = torch.autograd.grad(expected.square().sum() + expected_kl.sum(), [hidden, *module.parameters()])
    got = torch.autograd.grad(output.square().sum() + kl.sum(), [hidden, *module.parameters()])
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
def test_layer_and_attention_compile_each_alone(training: bool):
    """Posteriors and mixtures are arguments and results of compiled functions."""
    module = Memory().train(training)
    layer, attention = (
        torch.compile(part, fullgraph=True, backend="aot_eager") for part in (module.bottleneck, module.attention)
    )
    posterior, mixture = layer(torch.randn(2, 5, DIM), masks(5, 3))
    assert isinstance(posterior, nvib.Posterior)
    query = torch.randn(2, 3, DIM)
    torch.testing.assert_close(attention(query, mixture)[0], module.attention(query, mixture)[0])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="inductor needs a C++ compiler")
@pytest.mark.timeout(900)  # seconds on an idle machine, minutes on a busy one
def test_inductor_compiles_a_training_step_s_forward_in_one_graph():
    """Inductor draws other random numbers, so the test compares distributions: distances of vectors from means."""
    layer, hidden, mask = nvib.NVIB(DIM, PRIOR), torch.randn(64, 5, DIM), masks(*[5] * 32, *[3] * 32)
    with torch.no_grad():
        posterior, mixture = torch.compile(layer, fullgraph=True)(hidden, mask)
        expected = layer.posterior(hidden, mask)
    torch.testing.assert_close(vars(posterior), vars(expected))
    noise = ((mixture.z - posterior.mu) * (-0.5 * posterior.logvar).exp())[~posterior.key_padding_mask]
    assert abs(noise.mean()) < 0.1
    assert abs(noise.std() - 1.0) < 0.1
    torch.testing.assert_close(mixture.log_pi.exp().sum(-1), torch.ones(64))


@pytest.mark.slow
def test_evaluation_is_exported_for_any_sizes():
    module = Memory().eval()
    dynamic = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    arguments = torch.randn(2, 5, DIM), masks(5, 3), torch.randn(2, 3, DIM)
    exported = torch.export.export(module, arguments, dynamic_shapes=(dynamic, dynamic, dynamic)).module()
    others = torch.randn(3, 9, DIM), masks(9, 1, 4), torch.randn(3, 4, DIM)
    for case in (arguments, others):
        torch.testing.assert_close(exported(*case), module(*case))


@pytest.mark.slow
def test_layer_and_attention_are_exported_each_alone():
    """Posteriors and mixtures are arguments and results of exported programs."""
    module = Memory().eval()
    hidden, mask, query = torch.randn(2, 5, DIM), masks(5, 3), torch.randn(2, 3, DIM)
    posterior, mixture = torch.export.export(module.bottleneck, (hidden, mask)).module()(hidden, mask)
    torch.testing.assert_close(vars(posterior), vars(module.bottleneck(hidden, mask)[0]))
    attention = torch.export.export(module.attention, (query, mixture)).module()
    torch.testing.assert_close(attention(query, mixture)[0], module.attention(query, mixture)[0])
