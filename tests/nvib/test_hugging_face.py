"""Hugging Face models converted through their attention interface: equal outputs, then regularised ones."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
import transformers
from transformers import PreTrainedModel

import nvib
import nvib.hugging_face

WORDS, WIDTH, HEADS = 50, 32, 4
TOKENS = torch.randint(3, WORDS, (2, 9), generator=torch.Generator().manual_seed(1))
RIGHT = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
LEFT = RIGHT.flip(1)
ENCODED = {"input_ids": TOKENS, "attention_mask": RIGHT}
PAIRED = {**ENCODED, "decoder_input_ids": TOKENS[:, :5]}
CLOSE = {"rtol": 0.0, "atol": 1e-5}
GREEDY = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def gpt2() -> PreTrainedModel:
    config = transformers.GPT2Config(
        vocab_size=WORDS, n_positions=32, n_embd=WIDTH, n_layer=2, n_head=HEADS, **SPECIAL, initializer_range=0.3
    )
    return transformers.GPT2LMHeadModel(config)


def bart() -> PreTrainedModel:
    layers = {"layers": 2, "attention_heads": HEADS, "ffn_dim": 64}
    both = {f"{stack}_{name}": value for stack in ("encoder", "decoder") for name, value in layers.items()}
    config = transformers.BartConfig(
        vocab_size=WORDS,
        d_model=WIDTH,
        max_position_embeddings=32,
        init_std=0.2,
        forced_eos_token_id=None,
        **SPECIAL,
        **both,
    )
    return transformers.BartForConditionalGeneration(config)


def t5() -> PreTrainedModel:
    config = transformers.T5Config(
        vocab_size=WORDS,
        d_model=WIDTH,
        d_kv=WIDTH // HEADS,
        d_ff=64,
        num_layers=2,
        num_heads=HEADS,
        decoder_start_token_id=0,
    )
    return transformers.T5ForConditionalGeneration(config)


def bert() -> PreTrainedModel:
    config = transformers.BertConfig(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=64,
        initializer_range=0.3,
    )
    return transformers.BertForMaskedLM(config)


MODELS = [(gpt2, ENCODED, 2), (bart, PAIRED, 6), (t5, PAIRED, 6), (bert, ENCODED, 2)]


def logits(model: PreTrainedModel, inputs: dict) -> torch.Tensor:
    """Logits of the positions that are not padding."""
    with torch.no_grad():
        found = model(**inputs).logits
    return found if "decoder_input_ids" in inputs else found[inputs["attention_mask"].bool()]


@pytest.mark.parametrize(("build", "inputs", "count"), MODELS)
def test_a_converted_model_keeps_its_logits_until_it_is_regularised(build: Callable, inputs: dict, count: int):
    model = build().eval()
    expected = logits(model, inputs)
    priors = nvib.hugging_face.estimate_prior(model, [inputs])
    assert len(priors) == count
    assert nvib.hugging_face.convert(model, priors) is model
    torch.testing.assert_close(logits(model, inputs), expected, **CLOSE)
    distances = []
    for distance in (1e-4, 1e-2, 0.5):
        nvib.regularise(model, 1.0 - distance, 1.0 - distance, 1.0 - distance)
        distances.append((logits(model, inputs) - expected).abs().max().item())
    assert distances[0] < 1e-2 * expected.abs().max()
    assert distances == sorted(distances)
    assert distances[-1] > 1e-2
    nvib.regularise(model)
    torch.testing.assert_close(logits(model, inputs), expected, **CLOSE)


@pytest.mark.parametrize(("build", "inputs", "count"), MODELS)
def test_a_converted_model_keeps_its_logits_in_training_and_trains(build: Callable, inputs: dict, count: int):
    model = build()
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        elif isinstance(getattr(part, "dropout", None), float):
            part.dropout = 0.0
    expected = logits(model.train(), inputs)
    nvib.hugging_face.convert(model, kappa=2)
    torch.testing.assert_close(logits(model, inputs), expected, **CLOSE)
    nvib.regularise(model, 0.9, 0.9, 0.9)
    model(**inputs).logits.square().mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    bottlenecks = [part for part in model.modules() if isinstance(part, nvib.hugging_face.Bottleneck)]
    assert len(bottlenecks) == count
    assert all(b.layer.mu.weight.grad.abs().max() > 0 for b in bottlenecks)


@pytest.mark.parametrize(("build", "prompt"), [(gpt2, LEFT), (bart, RIGHT)])
def test_generation_with_a_cache_equals_generation_without(build: Callable, prompt: torch.Tensor):
    model = build().eval()
    expected = model.generate(TOKENS, attention_mask=prompt, **GREEDY)
    nvib.hugging_face.convert(model)
    assert model.generate(TOKENS, attention_mask=prompt, **GREEDY).tolist() == expected.tolist()
    nvib.regularise(model, 0.8, 0.8, 0.8)
    settings = {**GREEDY, "attention_mask": prompt, "output_scores": True, "return_dict_in_generate": True}
    cached, whole = (model.generate(TOKENS, use_cache=use_cache, **settings) for use_cache in (True, False))
    torch.testing.assert_close(torch.stack(cached.scores), torch.stack(whole.scores), rtol=1e-4, atol=1e-4)


def test_weights_are_returned_on_request():
    model = gpt2().eval()
    nvib.hugging_face.convert(model)
    weights = model(TOKENS, output_attentions=True).attentions
    assert len(weights) == 2
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(2, HEADS, 9), **CLOSE)
    assert (weights[0].triu(1) == 0).all()
    nvib.regularise(model, alpha_tau=0.0)
    assert (model(TOKENS, output_attentions=True).attentions[0] == 0).all()


def test_the_prior_has_the_moments_of_the_attended_vectors():
    model = gpt2().eval()
    found = nvib.hugging_face.estimate_prior(model, [ENCODED, ENCODED])["transformer.h.0.attn"]
    block = model.transformer
    with torch.no_grad():
        vectors = block.h[0].ln_1(block.wte(TOKENS) + block.wpe(torch.arange(9)))[RIGHT.bool()]
    torch.testing.assert_close(found.mu, vectors.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.var, vectors.var(0, correction=0), rtol=1e-4, atol=1e-5)


def test_a_regularised_model_sees_neither_later_tokens_nor_padding():
    model = gpt2().eval()
    nvib.hugging_face.convert(model, mu_tau=0.8, stdev_tau=0.8, alpha_tau=0.8)
    later = TOKENS.clone()
    later[:, 5:] = 7
    with torch.no_grad():
        torch.testing.assert_close(model(later).logits[:, :5], model(TOKENS).logits[:, :5], **CLOSE)
        padded = model(**ENCODED).logits[1, :6]
        torch.testing.assert_close(padded, model(TOKENS[1:, :6]).logits[0], rtol=1e-4, atol=1e-4)


def test_logit_scaling_by_layer_is_kept():
    config = gpt2().config
    config.scale_attn_by_inverse_layer_idx = True
    model = transformers.GPT2LMHeadModel(config).eval()
    expected = logits(model, ENCODED)
    nvib.hugging_face.convert(model)
    torch.testing.assert_close(logits(model, ENCODED), expected, **CLOSE)


def test_bfloat16_logits_stay_within_5_percent():
    model = gpt2().eval().bfloat16()
    expected = logits(model, ENCODED).float()
    nvib.hugging_face.convert(model)
    found = logits(model, ENCODED).float()
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_an_unsupported_model_is_refused():
    headless = bert()
    del headless.bert.encoder.layer[0].attention.self.num_attention_heads
    with pytest.raises(
        ValueError, match=r"0.attention.self cannot be converted, got no number of heads in num_heads, "
    ):
        nvib.hugging_face.convert(headless)
    with pytest.raises(ValueError, match="model must contain attention with a supported layout, got none in Linear"):
        nvib.hugging_face.convert(torch.nn.Linear(2, 2))
    model = gpt2().eval()
    with pytest.raises(ValueError, match=r"empirical_prior must contain a prior for 'transformer\.h\.0\.attn'"):
        nvib.hugging_face.convert(model, {})
    with pytest.raises(ValueError, match=r"alpha_tau must be in \[0, 1\], got 2"):
        nvib.hugging_face.convert(model, alpha_tau=2)
    assert model.config._attn_implementation != "nvib"
    nvib.hugging_face.convert(model)
    with pytest.raises(ValueError, match=r"is already converted: change its controls with nvib\.regularise"):
        nvib.hugging_face.convert(model)


def test_an_unsupported_call_of_a_converted_model_is_refused():
    model = gpt2().eval()
    plain = copy.deepcopy(model)
    cache = plain(TOKENS[:, :4]).past_key_values
    nvib.hugging_face.convert(model)
    with pytest.raises(ValueError, match="beam search needs use_cache=False"):
        model.generate(TOKENS, num_beams=3, **GREEDY)
    assert model.generate(TOKENS, num_beams=3, use_cache=False, **GREEDY).shape == (2, 15)
    with pytest.raises(ValueError, match="got 9 keys and 5 vectors: start from an empty, growing cache"):
        model(TOKENS[:, 4:], past_key_values=cache)
    plain.config._attn_implementation = "nvib"
    with pytest.raises(ValueError, match="GPT2Attention must be converted with"):
        plain(TOKENS)


def test_keys_that_are_no_projection_of_the_vectors_are_refused():
    """As in families with keys that nvib.rotary_attention does not know."""
    model = gpt2().eval()
    nvib.hugging_face.convert(model)
    attention, original = model.transformer.h[0].attn, transformers.AttentionInterface()["nvib"]
    attention.nvib.enter(torch.randn(1, 3, WIDTH), None, False)
    q, k, v = torch.randn(3, 1, HEADS, 3, WIDTH // HEADS)
    with pytest.raises(ValueError, match=r"transformer\.h\.0\.attn must have keys that are projections"):
        original(attention, q, k, v, None, scaling=1 / math.sqrt(WIDTH // HEADS))
