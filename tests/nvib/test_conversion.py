"""Converted modules: equal outputs, then regularised ones."""

import itertools
import math

import pytest
import torch
from torch import nn

import nvib

DIM, HEADS, BATCH, QUERIES, KEYS = 16, 4, 3, 5, 7
PADDING = torch.arange(KEYS) >= torch.tensor([[KEYS], [4], [1]])
CLOSE = {"rtol": 0.0, "atol": 1e-5}


def multihead(**settings) -> nn.MultiheadAttention:
    module = nn.MultiheadAttention(DIM, HEADS, **settings)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def masks(kind: str) -> dict[str, torch.Tensor]:
    """Mask arguments of a call; every query sees the first key."""
    draw = torch.rand(BATCH * HEADS, QUERIES, KEYS) < 0.4
    draw[..., 0] = False
    return {
        "none": {},
        "padding": {"key_padding_mask": PADDING},
        "float padding": {"key_padding_mask": torch.randn(BATCH, KEYS).masked_fill(PADDING, -math.inf)},
        "bool": {"attn_mask": draw[0], "key_padding_mask": PADDING},
        "float": {"attn_mask": torch.randn(QUERIES, KEYS).masked_fill(draw[0], -math.inf)},
        "bool per head": {"attn_mask": draw, "key_padding_mask": PADDING},
        "float per head": {"attn_mask": torch.randn_like(draw, dtype=torch.float)},
    }[kind]


@pytest.mark.parametrize(
    "kind", ["none", "padding", "float padding", "bool", "float", "bool per head", "float per head"]
)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("batch_first", "bias"), [(True, True), (False, False)])
@pytest.mark.parametrize("weights", ["none", "averaged", "per head"])
@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask and attn_mask")
def test_a_converted_attention_module_keeps_its_output(
    kind: str, training: bool, batch_first: bool, bias: bool, weights: str
):
    original = multihead(batch_first=batch_first, bias=bias).train(training)
    converted = nvib.convert(original, kappa=2)
    query, key = torch.randn(BATCH, QUERIES, DIM), torch.randn(BATCH, KEYS, DIM)
    if not batch_first:
        query, key = query.transpose(0, 1), key.transpose(0, 1)
    settings = {"need_weights": weights != "none", "average_attn_weights": weights != "per head", **masks(kind)}
    found, expected = (module(query, key, key, **settings) for module in (converted, original))
    torch.testing.assert_close(found, expected, **CLOSE)


def test_a_converted_module_takes_vectors_without_a_batch():
    original, query, key = multihead(), torch.randn(QUERIES, DIM), torch.randn(KEYS, DIM)
    converted = nvib.convert(original)
    for padding in (None, PADDING[1]):
        found, expected = (module(query, key, key, padding) for module in (converted, original))
        torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_converted_transformer_keeps_its_output(training: bool, norm_first: bool, batch_first: bool):
    original = nn.Transformer(DIM, HEADS, 2, 2, 32, dropout=0.0, norm_first=norm_first, batch_first=batch_first).train(
        training
    )
    source, target = torch.randn(BATCH, KEYS, DIM), torch.randn(BATCH, QUERIES, DIM)
    if not batch_first:
        source, target = source.transpose(0, 1), target.transpose(0, 1)
    causal = nn.Transformer.generate_square_subsequent_mask(QUERIES)
    call = {
        "tgt_mask": causal,
        "src_key_padding_mask": torch.zeros(PADDING.shape).masked_fill(PADDING, -math.inf),
        "memory_key_padding_mask": PADDING,
        "tgt_is_causal": True,
    }
    expected = original(source, target, **call)
    paths = {path for path, part in original.named_modules() if isinstance(part, nn.MultiheadAttention)}
    assert len(paths) == 6
    assert nvib.convert(original) is original
    assert {p for p, m in original.named_modules() if isinstance(m, nvib.VariationalMultiheadAttention)} == paths
    torch.testing.assert_close(original(source, target, **call), expected, **CLOSE)


@pytest.mark.parametrize("padding", [None, PADDING])
def test_the_fused_path_of_torch_does_not_bypass_the_bottleneck(padding: torch.Tensor | None):
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(DIM, HEADS, 32, 0.0, batch_first=True), 2).eval()
    hidden = torch.randn(BATCH, KEYS, DIM)
    real = torch.ones(BATCH, KEYS, dtype=torch.bool) if padding is None else ~padding
    with torch.no_grad():
        expected = encoder(hidden, src_key_padding_mask=padding)[real]
        nvib.convert(encoder)
        torch.testing.assert_close(encoder(hidden, src_key_padding_mask=padding)[real], expected, **CLOSE)
        nvib.regularise(encoder, alpha_tau=0.0)
        assert (encoder(hidden, src_key_padding_mask=padding)[real] - expected).abs().max() > 1e-2


def test_the_prior_has_the_moments_of_the_attended_vectors():
    module = nn.Transformer(DIM, HEADS, 1, 1, 32, dropout=0.5, batch_first=True)
    source, target = 3 + torch.randn(4, BATCH, KEYS, DIM), torch.randn(4, BATCH, QUERIES, DIM)
    loader = [
        {"src": s, "tgt": t, "src_key_padding_mask": PADDING, "memory_key_padding_mask": PADDING}
        for s, t in zip(source, target, strict=True)
    ]
    found = nvib.estimate_prior(module, loader, alpha=2.0, delta=0.5)
    assert module.training
    module.eval()
    memory = torch.stack([module.encoder(s, src_key_padding_mask=PADDING) for s in source])
    for path, vectors in (
        ("encoder.layers.0.self_attn", source[:, ~PADDING].flatten(0, 1)),
        ("decoder.layers.0.self_attn", target.flatten(0, 2)),
        ("decoder.layers.0.multihead_attn", memory[:, ~PADDING].flatten(0, 1)),
    ):
        torch.testing.assert_close(found[path].mu, vectors.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[path].var, vectors.var(0, correction=0), rtol=1e-4, atol=1e-5)
        assert (found[path].alpha, found[path].delta) == (2.0, 0.5)
    nvib.convert(module, found)
    assert (module.encoder.layers[0].self_attn.nvib.prior_mu == found["encoder.layers.0.self_attn"].mu).all()


@pytest.mark.parametrize("control", ["mu_tau", "stdev_tau", "alpha_tau"])
def test_a_control_below_one_moves_the_output_continuously(control: str):
    module, hidden = nvib.convert(multihead(batch_first=True)).eval(), torch.randn(BATCH, KEYS, DIM)
    expected, distances = module(hidden, hidden, hidden)[0], []
    for distance in (0.0, 1e-4, 1e-2, 0.1, 1.0):
        nvib.regularise(module, **{control: 1.0 - distance})
        distances.append((module(hidden, hidden, hidden)[0] - expected).abs().max().item())
    assert distances[0] == 0.0
    assert distances[1] < 1e-3
    assert distances == sorted(distances)
    assert distances[-1] > 1e-2


@pytest.mark.parametrize("taus", [(0.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.0, 0.0, 0.0)])
def test_taus_of_zero_give_attention_over_the_prior(taus: tuple[float, float, float]):
    """Denoising attention over one Gaussian is its posterior mean, for any attended vectors."""
    original = multihead(batch_first=True).double().eval()
    mu, var = torch.randn(DIM, dtype=torch.float64), torch.rand(DIM, dtype=torch.float64) + 0.5
    converted = nvib.convert(original, nvib.Prior(mu, var), *taus)
    hidden = torch.randn(BATCH, KEYS, DIM, dtype=torch.float64)
    q = nn.functional.linear(hidden, original.in_proj_weight[:DIM], original.in_proj_bias[:DIM])
    heads, noise = q.unflatten(-1, (HEADS, -1)), math.sqrt(DIM / HEADS)
    per_head = []
    for h, (w_k, w_v) in enumerate(
        zip(*(original.in_proj_weight[i * DIM : (i + 1) * DIM].split(DIM // HEADS) for i in (1, 2)), strict=True)
    ):
        u = heads[:, :, h] @ w_k
        per_head.append((u * var / (noise + var) + noise * mu / (noise + var)) @ w_v.T)
    expected = original.out_proj(torch.cat(per_head, -1) + original.in_proj_bias[2 * DIM :])
    torch.testing.assert_close(converted(hidden, hidden, hidden)[0], expected, rtol=1e-5, atol=1e-6)


def test_a_smaller_alpha_tau_moves_weight_from_the_vectors_to_the_prior():
    module, hidden = nvib.convert(multihead(batch_first=True), alpha_tau=0.5).eval(), torch.randn(BATCH, KEYS, DIM)
    shares = []
    for alpha_tau in (1.0, 0.7, 0.6, 0.5, 0.0):
        nvib.regularise(module, alpha_tau=alpha_tau)
        shares.append(module(hidden, hidden, hidden)[1].sum(-1).mean().item())
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == pytest.approx(1.0)
    assert shares[-1] == 0.0


def test_a_converted_module_has_gradients_and_exposes_its_posteriors():
    module, hidden, posteriors = nvib.convert(multihead(batch_first=True), mu_tau=0.9, alpha_tau=0.9), None, []
    module.train().nvib.register_forward_hook(lambda m, i, output: posteriors.append(output[0]))
    hidden = torch.randn(BATCH, KEYS, DIM)
    output = module(hidden, hidden, hidden, PADDING)[0]
    (output.square().mean() + nvib.kl_gaussian(posteriors[0], module.nvib.prior).mean()).backward()
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)
    assert module.nvib.mu.weight.grad.abs().max() > 0


def test_a_module_shared_by_two_layers_stays_shared():
    shared = multihead(batch_first=True)
    module = nvib.convert(nn.ModuleDict({"a": nn.Sequential(shared), "b": shared}))
    assert module["a"][0] is module["b"]


@pytest.mark.slow
def test_the_whole_module_compiles_to_one_graph():
    module, hidden = nvib.convert(multihead(batch_first=True), mu_tau=0.9).eval(), torch.randn(BATCH, KEYS, DIM)
    compiled = torch.compile(lambda h: module(h, h, h, PADDING)[0], fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(hidden), module(hidden, hidden, hidden, PADDING)[0])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"kdim": 8, "vdim": 8}, "kdim 8 and vdim 8 where embed_dim is 16"),
        ({"add_bias_kv": True}, "add_bias_kv=True"),
        ({"add_zero_attn": True}, "add_zero_attn=True"),
    ],
)
def test_an_unsupported_module_is_named_and_nothing_is_changed(settings: dict, reason: str):
    module = nn.ModuleDict({"plain": multihead(), "deep": nn.Sequential(nn.MultiheadAttention(DIM, HEADS, **settings))})
    with pytest.raises(ValueError, match=rf"^deep\.0 cannot be converted, got {reason}$"):
        nvib.convert(module)
    assert isinstance(module["plain"], nn.MultiheadAttention)


def test_wrong_arguments_are_named():
    module, hidden = nvib.convert(multihead(batch_first=True)), torch.randn(BATCH, KEYS, DIM)
    for call, message in (
        ({"value": hidden + 1}, "value must equal key"),
        ({"key_padding_mask": PADDING.int()}, "key_padding_mask must be boolean"),
        ({"key_padding_mask": PADDING[:, 1:]}, r"key_padding_mask must have shape \[3, 7\], got \[3, 6\]"),
        ({"key_padding_mask": torch.ones_like(PADDING)}, "got none in text 0"),
        ({"attn_mask": torch.ones(KEYS, KEYS).int()}, "attn_mask must be boolean or float, got torch.int32"),
        ({"attn_mask": torch.ones(2, KEYS, KEYS)}, r"attn_mask must have shape \[12, 7, 7\], got \[2, 7, 7\]"),
        ({"is_causal": True}, "attn_mask must be given if is_causal is True, got None"),
        ({"query": hidden[..., 1:]}, r"query must have shape \[any, any, 16\], got \[3, 7, 15\]"),
    ):
        with pytest.raises(ValueError, match=message):
            module(**{"query": hidden, "key": hidden, "value": hidden, **call})
    for call, message in (
        (lambda: nvib.convert(nn.Linear(2, 2)), "module must contain a torch.nn.MultiheadAttention, got none"),
        (lambda: nvib.convert(multihead(), {}), r"empirical_prior must contain a prior for '', got \[\]"),
        (lambda: nvib.convert(multihead(), mu_tau=-1), r"mu_tau must be in \[0, 1\], got -1"),
        (lambda: nvib.regularise(nn.Linear(2, 2)), "module must contain an IdentityNVIB layer, got none"),
        (
            lambda: nvib.estimate_prior(multihead(), itertools.chain()),
            "loader must supply a real vector to every attention module, got none for ''",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
