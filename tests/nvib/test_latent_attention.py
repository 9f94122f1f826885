"""Cross-attention of Hugging Face decoders to mixtures, against the denoising attention of this package."""

from typing import Any

import pytest
import torch

from nvib import DenoisingMultiheadAttention, DiscreteMixture, GaussianMixture

transformers: Any = pytest.importorskip("transformers", reason="the extra pretrained is not installed")

from nvib import latent_attention, rotary_attention  # noqa: E402 (after the check that transformers is there)
from nvib.attention_layouts import projections  # noqa: E402

WIDTH, HEADS, NOISE = 32, 4, 8.0**0.5
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def bart() -> Any:
    layers = {"layers": 2, "attention_heads": HEADS, "ffn_dim": 48}
    both = {f"{stack}_{name}": value for stack in ("encoder", "decoder") for name, value in layers.items()}
    config = transformers.BartConfig(vocab_size=40, d_model=WIDTH, max_position_embeddings=32, init_std=0.3, **both)
    return transformers.BartModel(config)


def t5(heads: int = 6) -> Any:
    config = transformers.T5Config(
        vocab_size=40, d_model=WIDTH, d_kv=8, d_ff=48, num_layers=2, num_heads=heads, initializer_factor=2.0
    )
    return transformers.T5Model(config)


def converted(model: Any) -> tuple[Any, list[torch.nn.Module]]:
    decoder = model.eval().get_decoder()
    given = {"input_ids": torch.zeros(1, 1, dtype=torch.long), "encoder_hidden_states": torch.zeros(1, 1, WIDTH)}
    return decoder, latent_attention.convert(model, decoder, lambda: decoder(**given, use_cache=False))


def mixtures() -> tuple[DiscreteMixture, GaussianMixture]:
    """Mixtures of 5 and 3 components, of unequal weights and variances."""
    generator = torch.Generator().manual_seed(1)
    mu, logvar = (torch.randn(2, 5, WIDTH, generator=generator) for _ in range(2))
    mask = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    log_pi = torch.randn(2, 5, generator=generator).masked_fill(mask, -torch.inf).log_softmax(dim=-1)
    return DiscreteMixture(mu, log_pi, mask), GaussianMixture(mu, logvar - 1.0, log_pi, mask)


def attended(decoder: Any, modules: list[torch.nn.Module], mixture: Any) -> list[dict[str, torch.Tensor]]:
    """Query, result and weights of every module in a call of the decoder."""
    found: list[dict[str, torch.Tensor]] = [{} for _ in modules]
    names = [("q_proj", "out_proj") if hasattr(module, "q_proj") else ("q", "o") for module in modules]
    hooks = []
    for module, (query, output), seen in zip(modules, names, found, strict=True):
        keep = lambda _, __, out, seen=seen: seen.update(query=out)  # noqa: E731
        hooks.append(getattr(module, query).register_forward_hook(keep))
        keep = lambda _, args, seen=seen: seen.update(output=args[0])  # noqa: E731
        hooks.append(getattr(module, output).register_forward_pre_hook(keep))
    keys = latent_attention.prepare(mixture, modules, NOISE)
    tokens = torch.tensor([[1, 5, 7, 3], [2, 9, 4, 8]])
    with latent_attention.reading(modules, keys, record=True) as weights:
        decoder(input_ids=tokens, encoder_hidden_states=keys.vectors, encoder_attention_mask=keys.bias)
    for hook in hooks:
        hook.remove()
    for seen, each in zip(found, weights, strict=True):
        seen["weights"] = each
    return found


@pytest.mark.parametrize("kind", [0, 1], ids=["discrete", "Gaussian"])
@pytest.mark.parametrize("build", [bart, t5])
@torch.no_grad()
def test_every_layer_attends_to_the_mixture_by_denoising_attention(build: Any, kind: int):
    """Against `rotary_attention.attend`, which takes any number of heads, without rotations."""
    decoder, modules = converted(build())
    mixture = mixtures()[kind]
    calls = attended(decoder, modules, mixture)
    assert len(calls) == 2
    for module, call in zip(modules, calls, strict=True):
        query = torch.unflatten(call["query"], -1, (-1, 8)).transpose(1, 2)
        scaling = 8**-0.5 if build is bart else 1.0
        expected, weights = rotary_attention.attend(query * (NOISE * scaling), mixture, projections(module), None)
        torch.testing.assert_close(call["output"], expected.transpose(1, 2).flatten(-2), **CLOSE)
        torch.testing.assert_close(call["weights"], weights, **CLOSE)


@torch.no_grad()
def test_the_integral_is_that_of_denoising_multihead_attention():
    decoder, modules = converted(bart())
    mixture = mixtures()[1]
    for module, call in zip(modules, attended(decoder, modules, mixture), strict=True):
        own: Any = module
        attention = DenoisingMultiheadAttention(WIDTH, HEADS, bias=True)
        eye, nothing = torch.eye(WIDTH), torch.zeros(WIDTH)
        attention.in_proj_weight.copy_(torch.cat([eye, own.k_proj.weight, own.v_proj.weight]))
        assert attention.in_proj_bias is not None
        attention.in_proj_bias.copy_(torch.cat([nothing, own.k_proj.bias, own.v_proj.bias]))
        attention.out_proj.weight.copy_(eye)
        attention.out_proj.bias.copy_(nothing)
        torch.testing.assert_close(call["output"], attention(call["query"], mixture)[0], **CLOSE)


@pytest.mark.parametrize("kind", [0, 1], ids=["discrete", "Gaussian"])
@torch.no_grad()
def test_recording_changes_no_output_and_ends_with_the_block(kind: int):
    decoder, modules = converted(bart())
    keys = latent_attention.prepare(mixtures()[kind], modules, NOISE)
    tokens = torch.tensor([[1, 5, 7], [2, 9, 4]])
    given = {"encoder_hidden_states": keys.vectors, "encoder_attention_mask": keys.bias}
    outputs = []
    for record in (False, True):
        with latent_attention.reading(modules, keys, record) as weights:
            outputs.append(decoder(input_ids=tokens, **given).last_hidden_state)
        assert len(weights) == (2 if record else 0)
    torch.testing.assert_close(*outputs, **CLOSE)
    decoder(input_ids=tokens, **given)
    assert len(weights) == 2


@torch.no_grad()
def test_attention_to_vectors_and_self_attention_are_unchanged():
    model = t5().eval()
    given = {"input_ids": torch.tensor([[1, 5, 7, 3]]), "decoder_input_ids": torch.tensor([[2, 9]])}
    expected = model(**given).last_hidden_state
    converted(model)
    torch.testing.assert_close(model(**given).last_hidden_state, expected, **CLOSE)


def test_gradients_reach_means_variances_and_weights_of_a_mixture():
    decoder, modules = converted(t5())
    for mixture in mixtures():
        parts = [
            mixture.log_pi,
            *((mixture.z,) if isinstance(mixture, DiscreteMixture) else (mixture.mu, mixture.logvar)),
        ]
        for part in parts:
            part.requires_grad_()
        keys = latent_attention.prepare(mixture, modules, NOISE)
        given = {"encoder_hidden_states": keys.vectors, "encoder_attention_mask": keys.bias}
        with latent_attention.reading(modules, keys):
            decoder(input_ids=torch.tensor([[1, 5], [2, 9]]), **given).last_hidden_state.square().sum().backward()
        for part in parts:
            assert part.grad is not None
            assert part.grad.isfinite().all()
            assert part.grad.abs().max() > 0
            part.grad = None


def test_a_decoder_without_cross_attention_is_refused():
    config = transformers.GPT2Config(vocab_size=40, n_positions=32, n_embd=WIDTH, n_layer=1, n_head=HEADS)
    model = transformers.GPT2Model(config)
    with pytest.raises(ValueError, match="GPT2Model has no cross-attention of a layout that can be converted"):
        latent_attention.convert(model, model, lambda: model(input_ids=torch.tensor([[1, 2]])))
