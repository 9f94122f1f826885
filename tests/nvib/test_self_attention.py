"""Stacks of NVIB self-attention: carried pseudo-counts, causal masks, padding and training."""

import math

import pytest
import torch

import nvib

DIM, HEADS, BATCH, LENGTH = 16, 2, 2, 6
PADDING = torch.arange(LENGTH) >= torch.tensor([[LENGTH], [4]])


def encoder(**settings) -> nvib.NVIBEncoder:
    """Two layers whose pseudo-counts depend on the input."""
    stack = nvib.NVIBEncoder(2, DIM, HEADS, dropout=0.0, **settings)
    for layer in stack.layers:
        torch.nn.init.normal_(layer.nvib.alpha.weight, std=0.3)
    return stack


def test_log_pseudo_counts_add_up_over_the_layers():
    stack, hidden = encoder().eval(), torch.randn(BATCH, LENGTH, DIM)
    _, (first, second) = stack(hidden, PADDING)
    middle, _ = stack.layers[0](hidden, PADDING)
    for below, vectors, layer, posterior in (
        (0.0, hidden, stack.layers[0], first),
        (first.log_alpha[:, 1:], middle, stack.layers[1], second),
    ):
        expected = layer.nvib.alpha(vectors).squeeze(-1) + below
        assert (expected[~PADDING] > -6).all()
        torch.testing.assert_close(posterior.log_alpha[:, 1:][~PADDING], expected[~PADDING])
        assert (posterior.log_alpha[:, 0] == 0).all()
        assert (posterior.log_alpha[:, 1:][PADDING] == -math.inf).all()


def test_a_layer_attends_to_the_bottleneck_of_its_input():
    layer, hidden = encoder().layers[0].eval(), torch.randn(BATCH, LENGTH, DIM)
    attended, _ = layer.self_attn(hidden, layer.nvib(hidden, PADDING)[1])
    x = layer.norm1(hidden + attended)
    expected = layer.norm2(x + layer.linear2(layer.linear1(x).relu()))
    torch.testing.assert_close(layer(hidden, PADDING)[0][~PADDING], expected[~PADDING])


@pytest.mark.parametrize("kappa", [1, 3])
def test_a_causal_stack_does_not_see_later_tokens(kappa: int):
    stack, hidden = encoder(kappa=kappa).eval(), torch.randn(1, LENGTH, DIM)
    padding, later = torch.zeros(1, LENGTH, dtype=torch.bool), hidden.clone()
    later[:, 3:] += 5 * torch.randn_like(later[:, 3:])
    found, expected = (stack(h, padding, causal=True)[0] for h in (later, hidden))
    torch.testing.assert_close(found[:, :3], expected[:, :3])
    assert (found[:, 3:] - expected[:, 3:]).abs().max() > 0.1
    assert (stack(later, padding)[0] - stack(hidden, padding)[0])[:, :3].abs().max() > 1e-3


@pytest.mark.parametrize("kappa", [1, 3])
def test_no_gradient_of_a_sample_reaches_later_tokens(kappa: int):
    """Draws differ between calls, so causality in training is read from the gradients of one call."""
    hidden = torch.randn(1, LENGTH, DIM, requires_grad=True)
    # The common normalisation of the weights leaves rounding noise in the gradient.
    output, _ = encoder(kappa=kappa).double()(hidden.double(), torch.zeros(1, LENGTH, dtype=torch.bool), causal=True)
    (output[:, 2] * torch.randn(DIM)).sum().backward()
    assert hidden.grad[:, 3:].abs().max() < 1e-6 * hidden.grad[:, :3].abs().max()


def test_the_causal_mask_shows_component_zero_to_every_query():
    visible = (~nvib.causal_mask(3, kappa=2)).int().tolist()
    assert visible == [[1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]]


def test_permuting_the_tokens_permutes_the_output():
    stack, hidden = encoder().eval(), torch.randn(1, LENGTH, DIM)
    padding, order = torch.zeros(1, LENGTH, dtype=torch.bool), torch.randperm(LENGTH)
    torch.testing.assert_close(stack(hidden[:, order], padding)[0], stack(hidden, padding)[0][:, order])


@pytest.mark.parametrize("activation", ["exp", "relu"])
@pytest.mark.parametrize("causal", [True, False])
def test_padding_changes_neither_output_nor_gradients(activation: str, causal: bool):
    stack, hidden = encoder(alpha_activation=activation).eval(), torch.randn(BATCH, LENGTH, DIM)
    results = []
    for filler in (0.0, math.nan):
        stack.zero_grad()
        output, posteriors = stack(hidden.masked_fill(PADDING.unsqueeze(-1), filler), PADDING, causal)
        kl = sum(nvib.kl_gaussian(p, nvib.Prior()).mean() for p in posteriors)
        (output[~PADDING].square().mean() + kl).backward()
        results.append((output[~PADDING], [p.grad for p in stack.parameters() if p.grad is not None]))
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.slow
@pytest.mark.parametrize("causal", [True, False])
def test_a_stack_learns_to_copy_the_token_before(causal: bool):
    """Only attention can read the token before a position; the first position is free."""
    words, prior = 5, nvib.Prior(delta=0.3)
    embedding, head = torch.nn.Embedding(words, DIM), torch.nn.Linear(DIM, words)
    place, stack = torch.nn.Parameter(torch.randn(LENGTH, DIM)), nvib.NVIBEncoder(2, DIM, HEADS, 32, 0.0, prior)
    modules = torch.nn.ModuleList([embedding, head, stack])
    optimizer = torch.optim.Adam([place, *modules.parameters()], lr=1e-2)
    losses = []
    for _ in range(100):
        tokens = torch.randint(words, (16, LENGTH))
        hidden, posteriors = stack(embedding(tokens) + place, torch.zeros(16, LENGTH, dtype=torch.bool), causal)
        kl = sum(nvib.kl_gaussian(p, prior).mean() + nvib.kl_dirichlet(p, prior).mean() for p in posteriors)
        error = torch.nn.functional.cross_entropy(head(hidden)[:, 1:].flatten(0, 1), tokens[:, :-1].flatten())
        optimizer.zero_grad()
        (error + 1e-3 * kl).backward()
        assert all(p.grad.isfinite().all() for p in modules.parameters())
        optimizer.step()
        losses.append(error.item())
    assert sum(losses[:5]) / 5 > 1.5
    assert sum(losses[-5:]) / 5 < 0.5


def test_many_layers_of_extreme_pseudo_counts_stay_finite():
    stack = nvib.NVIBEncoder(12, DIM, HEADS)
    for bias in (-50.0, 100.0):
        for layer in stack.layers:
            torch.nn.init.constant_(layer.nvib.alpha.bias, bias)
        stack.zero_grad()
        output, posteriors = stack(torch.randn(BATCH, LENGTH, DIM), PADDING)
        kl = sum(nvib.kl_dirichlet(p, nvib.Prior()).mean() for p in posteriors)
        (output.square().mean() + 1e-30 * kl).backward()
        assert output.isfinite().all()
        assert kl.isfinite()
        assert all(p.grad.isfinite().all() for p in stack.parameters() if p.grad is not None)


@pytest.mark.slow
def test_the_whole_stack_compiles_to_one_graph():
    stack, hidden = encoder().eval(), torch.randn(BATCH, LENGTH, DIM)
    compiled = torch.compile(lambda h: stack(h, PADDING, causal=True)[0], fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(hidden), stack(hidden, PADDING, causal=True)[0])


def test_wrong_arguments_are_named():
    stack = encoder()
    with pytest.raises(ValueError, match=r"hidden must have shape \[any, any, 16\], got \[2, 6, 9\]"):
        stack(torch.randn(BATCH, LENGTH, 9), PADDING)
    with pytest.raises(ValueError, match="key_padding_mask must be boolean"):
        stack(torch.randn(BATCH, LENGTH, DIM), PADDING.int())
    with pytest.raises(ValueError, match="got none in text 0"):
        stack(torch.randn(BATCH, LENGTH, DIM), torch.ones_like(PADDING))
    with pytest.raises(ValueError, match=r"log_alpha must have shape \[2, 6\], got \[2, 7\]"):
        stack.layers[0](torch.randn(BATCH, LENGTH, DIM), PADDING, torch.zeros(BATCH, LENGTH + 1))
    with pytest.raises(ValueError, match="kappa must be an integer of at least 1, got 0"):
        nvib.causal_mask(LENGTH, 0)
    with pytest.raises(ValueError, match="num_layers must be at least 1, got 0"):
        nvib.NVIBEncoder(0, DIM, HEADS)
